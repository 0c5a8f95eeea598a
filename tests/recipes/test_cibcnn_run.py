"""The recipe of channel interactions from end to end: what is kept of the search, what is trained beside it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs import EdgeCount
from tfbnas.recipes.recipe import Recipe

TINY = {
    "data.image_size": 8,
    "network.n": 1,
    "budget.cost": "edges",
    "budget.limit": 9,
    "search.epochs": 2,
    "search.warm_up_epochs": 1,
    "search.batch_size": 8,
    "search.interval": 1,
    "search.rollouts": 2,
    "search.rollout_steps": 2,
    "search.recipe": "adam",
    "train.epochs": 1,
    "train.batch_size": 8,
    "baselines.random": "true",
    "baselines.thresholds": "true",
    "export.images": 8,
    "precision": "float32",
}


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    return tmp_path_factory.mktemp("cibcnn") / "run"


@pytest.fixture(scope="module")
def output(run_directory, image_folder):
    """Of a whole run, in this process."""
    values = {"data.name": image_folder, "run_dir": run_directory, **TINY}
    arguments = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cibcnn_resnet20"])
        with pytest.raises(SystemExit) as ended:
            Recipe("cibcnn_resnet20").main(arguments)
    assert not ended.value.code
    return run_directory


def result(run, stage):
    return json.loads((run / f"stages/{stage}.json").read_text())


def test_a_run_leaves_what_is_promised(output):
    for name in ("architecture.json", "model.keras", "model.tflite", "export.json", "report.html", "plots/graph.svg"):
        assert (output / name).exists(), name
    found = Architecture.load(output / "architecture.json")
    assert EdgeCount().of(found) == result(output, "search")["costs"][0]["found"]
    assert 0 < EdgeCount().of(found) <= 9
    parity = json.loads((output / "export.json").read_text())["parity"]
    assert parity["error"] <= parity["tolerance"] == 1e-4 and parity["images"] == 8


def test_the_weights_of_the_search_stay_and_only_batch_normalisation_is_trained(output):
    searched, plain = (result(output, f"train-{key}")["history"] for key in ("searched", "plain"))
    assert [row["flips"] for row in searched] == [0.0] and plain[0]["flips"] > 0
    variables = str(output / "checkpoints/search/step-000002/variables")
    stem = tf.train.load_variable(variables, "network/layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE")
    model = tf.keras.models.load_model(output / "model.keras", compile=False)
    np.testing.assert_array_equal(model.get_layer("stem").kernel, stem)


def test_the_random_graph_has_the_edges_of_the_one_found(output):
    found, drawn = (result(output, f"train-{key}")["architecture"]["choices"] for key in ("searched", "random-graph"))
    assert found.keys() == drawn.keys() and found != drawn
    for name in found:
        assert sorted(edge[2] for edge in found[name]) == sorted(edge[2] for edge in drawn[name])
    roles = {key: result(output, f"train-{key}")["role"] for key in ("random-graph", "plain", "thresholds")}
    assert roles == {"random-graph": "control", "plain": "reference", "thresholds": "reference"}
    assert result(output, "train-thresholds")["architecture"]["options"]["thresholds"] is True
    assert [result(output, f"train-{key}")["epochs"] for key in ("searched", "plain")] == [1, 1]
