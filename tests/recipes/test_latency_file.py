"""latency.json of a run, and what is said of a file above its budget."""

import json

import pytest

from tfbnas.costs import Latency
from tfbnas.costs.latency import devices
from tfbnas.recipes.exporting import above, predicted_latencies


def network():
    import tensorflow as tf

    inputs = tf.keras.Input((8, 8, 3))
    x = tf.keras.layers.Conv2D(4, 3, name="stem")(inputs)
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(2, name="logits")(x))


def test_the_times_of_every_operator_are_the_tables(tmp_path):
    terms = {
        "convolution": {"products": 1e-3},  # 6 x 6 pixels, 3 x 3 window, 3 channels in, 4 out: 3888
        "global_pool": {"reads": 1e-3},  # 6 x 6 pixels, 4 channels: 144
        "dense": {"calls": 0.5, "products": 1e-2},  # 4 inputs, 2 outputs: 8
    }
    operators = {name: {"terms": values, "mean_error": 0.1, "points": 7} for name, values in terms.items()}
    table = {"format": 1, "name": "own", "device": "ours", "label": "measured", "sources": ["us"]}
    table |= {"milliseconds_per_unit": 2.0, "operators": operators}
    (tmp_path / "own.json").write_text(json.dumps(table))
    content = json.loads(json.dumps(predicted_latencies(network(), [str(tmp_path / "own.json")])))
    own, *shipped = content["predictions"]
    rows = [(row["layer"], row["operator"], row["milliseconds"]) for row in own["operators"]]
    assert rows == [
        ("stem", "convolution", pytest.approx(2 * 3.888)),
        ("pool", "global_pool", pytest.approx(2 * 0.144)),
        ("logits", "dense", pytest.approx(2 * 0.58)),
    ]
    assert own["milliseconds"] == pytest.approx(9.224)
    assert {name: own[name] for name in ("name", "device", "label", "sources")} == {
        name: table[name] for name in ("name", "device", "label", "sources")
    }
    assert all((row["mean_error"], row["points"], row["largest_error"]) == (0.1, 7, None) for row in own["operators"])
    assert [entry["name"] for entry in shipped] == ["pixel1", "raspberry_pi_4b"] and not content["left_out"]
    for entry in shipped:
        times = [row["milliseconds"] for row in entry["operators"]]
        assert [row["layer"] for row in entry["operators"]] == ["stem", "pool", "logits"]
        assert entry["milliseconds"] == pytest.approx(sum(times)) and min(times) > 0
        assert "not a measurement" in entry["label"] and entry["sources"]


def test_a_table_that_lacks_an_operator_is_left_out(tmp_path):
    table = {**Latency("pixel1").table, "name": "poor", "operators": {}}
    (tmp_path / "poor.json").write_text(json.dumps(table))
    content = predicted_latencies(network(), [str(tmp_path / "poor.json")])
    assert "convolution" in content["left_out"]["poor"]
    assert [entry["name"] for entry in content["predictions"]] == devices()


def test_a_file_above_its_budget_is_told():
    assert above(62914, 62914) == ""
    text = above(63649, 62914)
    assert text.startswith("model.tflite has 63649 bytes, 1.2 % more than the budget of 62914")
