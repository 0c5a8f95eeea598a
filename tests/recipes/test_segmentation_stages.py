"""The shared stages with a class for each pixel: train, test, go on, export."""

import json

import numpy as np
import pytest

import tfbnas  # noqa: F401
from tfbnas import data, metrics, training
from tfbnas.architecture import Architecture
from tfbnas.recipes import stages
from tfbnas.recipes.options import ExportSettings, TrainSettings
from tfbnas.run import RunDirectory


@pytest.fixture(scope="module")
def images():
    """Bright or dark squares on grey: pixels that a few steps learn."""
    chance = np.random.default_rng(0)
    labels = chance.integers(0, 3, (64, 2, 2), np.uint8).repeat(4, 1).repeat(4, 2)
    pixels = (np.array([128, 230, 20])[labels][..., None] + chance.integers(-20, 20, (64, 8, 8, 3))).astype(np.uint8)
    train, test = (data.MemorySplit(pixels[part], labels[part], name="squares") for part in (slice(48), slice(48, 64)))
    return data.ImageData(
        "squares", (8, 8, 3), 3, ["grey", "bright", "dark"], train, test, validation=test.take(8, seed=0)
    )


def test_a_network_that_classifies_pixels(images, tmp_path):
    options = {"columns": 2, "scales": 2, "filters": 32, "segmentation": True, "binary": True}
    architecture = Architecture("plain", "cnf", {}, (8, 8, 3), 3, options)
    settings = TrainSettings(epochs=4, batch_size=8, learning_rate=0.05)
    with RunDirectory(tmp_path / "run", {}) as run:

        def train():
            return stages.train_stage(
                run, "searched", "small", lambda: architecture, images, settings, precision="float32", seed=0
            )

        result = train()
        network, checkpoints = stages._model(run, "searched", architecture, images, settings, "float32", 0)
        checkpoints.restore()
        again = metrics.evaluate(training.plain(network, architecture), images.test)
        assert {name: result[name] for name in again} == pytest.approx(again)
        assert result["accuracy"] > 0.6 and 0.4 < result["mean_iou"] < result["accuracy"]
        assert {"validation_accuracy", "validation_mean_iou"} <= set(result)
        assert result["history"][-1]["accuracy"] > result["history"][0]["accuracy"]
        assert train() == result  # from the file
        own = ExportSettings(images=16)
        stages.export_stage(run, "searched", images, settings, own, precision="float32")
        written = json.loads((run.path / "export.json").read_text())
        assert written["parity"]["pixels"] == 16 * 64
        assert written["parity"]["accuracy"] == pytest.approx(result["accuracy"])
