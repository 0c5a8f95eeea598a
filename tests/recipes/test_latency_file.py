"""latency.json of an exported network: the tables' own figures, by the names of the audit's layers."""

import json

import pytest

from tfbnas.costs import Latency, trace
from tfbnas.costs.latency import devices
from tfbnas.recipes.exporting import predicted_latencies


def network():
    import tensorflow as tf

    inputs = tf.keras.Input((8, 8, 3))
    x = tf.keras.layers.Conv2D(4, 3, name="stem")(inputs)
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(2, name="logits")(x))


def test_every_shipped_table_predicts_every_operator():
    model = network()
    content = json.loads(json.dumps(predicted_latencies(model)))
    assert [entry["name"] for entry in content["predictions"]] == devices() and not content["left_out"]
    for entry in content["predictions"]:
        cost = Latency(entry["name"])
        rows = [(row["layer"], row["operator"], row["milliseconds"]) for row in entry["operators"]]
        assert rows == [(row.layer, row.operator, row.milliseconds) for row in cost.operators(trace(model))]
        assert entry["milliseconds"] == pytest.approx(sum(time for _, _, time in rows))
        assert [row[0] for row in rows] == ["stem", "pool", "logits"]
        assert entry["label"] == cost.table["label"] and entry["sources"] == cost.table["sources"]


def test_a_table_that_lacks_an_operator_is_left_out(tmp_path):
    table = {**Latency("pixel1").table, "name": "poor", "operators": {}}
    (tmp_path / "poor.json").write_text(json.dumps(table))
    content = predicted_latencies(network(), [str(tmp_path / "poor.json")])
    assert "convolution" in content["left_out"]["poor"]
    assert [entry["name"] for entry in content["predictions"]] == devices()
