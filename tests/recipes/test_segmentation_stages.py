"""The shared stages with a class for each pixel: train, test, go on, export."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import tfbnas  # noqa: F401
from tfbnas import data, metrics
from tfbnas.architecture import Architecture
from tfbnas.recipes.baselines import ModuleBaselines
from tfbnas.recipes.budget import BudgetSettings
from tfbnas.recipes.context import Context
from tfbnas.recipes.devices import Devices
from tfbnas.recipes.exporting import export_stage
from tfbnas.recipes.options import ExportSettings, TrainSettings
from tfbnas.recipes.training import Training, train_stage, trained
from tfbnas.run import RunDirectory
from tfbnas.search.registry import METHODS


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
    options = {"columns": 2, "scales": 2, "filters": 32, "segmentation": True, "binarisation": "zero_alpha"}
    architecture = Architecture("plain", "cnf", {}, (8, 8, 3), 3, options)
    settings = SimpleNamespace(
        seed=0,
        precision="float32",
        train=TrainSettings(epochs=4, batch_size=8, learning_rate=0.05),
        export=ExportSettings(images=16),
        budget=BudgetSettings(memory=1.0),
        baselines=ModuleBaselines(),
    )
    task = Training("searched", "small", "searched", 0, lambda: architecture)
    with RunDirectory(tmp_path / "run", {}) as run:
        context = Context(run, settings, images, architecture, METHODS["bsn"], {}, Devices())
        result = train_stage(context, task)
        again = metrics.evaluate(trained(context, task), images.test)
        assert result.test == pytest.approx(again)
        assert result.test["accuracy"] > 0.6 and 0.4 < result.test["mean_iou"] < result.test["accuracy"]
        assert set(result.validation) == {"accuracy", "mean_iou"}
        assert result.history[-1]["accuracy"] > result.history[0]["accuracy"]
        assert train_stage(context, task) == result  # from the file
        export_stage(context, task)
        written = json.loads((run.path / "export.json").read_text())
        assert written["parity"]["pixels"] == 16 * 64 and written["input"]["range"] == "0..255"
        assert written["class_names"] == ["grey", "bright", "dark"]
        (run.path / "stages" / "export.json").unlink()
        settings.export = ExportSettings(images=16, input="normalised")
        export_stage(context, task)
        again = json.loads((run.path / "export.json").read_text())
        assert again["input"]["range"] == "-1..1" and again["class_names"] == written["class_names"]
        assert [row["layer"] for row in written["audit"]] == ["pixels", "pixels", *(r["layer"] for r in again["audit"])]
        assert written["parity"]["accuracy"] == pytest.approx(result.test["accuracy"])
