"""The recipes of rectified networks from end to end: a user's own model pruned; a training with a teacher."""

from __future__ import annotations

import json
import sys

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas import data, metrics
from tfbnas.architecture import Architecture
from tfbnas.costs import MIB, Memory
from tfbnas.errors import UserError
from tfbnas.recipes import teaching
from tfbnas.recipes.families import KerasModelSettings
from tfbnas.recipes.options import TrainSettings
from tfbnas.recipes.recipe import Recipe
from tfbnas.search.registry import METHODS
from tfbnas.training.adversarial import Adversarial
from tfbnas.training.distillation import Distillation

layers = tf.keras.layers
SHARED = {
    "data.image_size": 8,
    "train.epochs": 1,
    "train.batch_size": 8,
    "train.recipe": "adam",
    "train.learning_rate": 1e-3,
    "export.images": 8,
    "precision": "float32",
}


def larq_model():
    signs = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    inputs = tf.keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(inputs)
    x = layers.BatchNormalization(name="first_bn")(x)
    y = lq.layers.QuantConv2D(12, 3, padding="same", pad_values=1.0, use_bias=False, name="inner", **signs)(x)
    y = layers.BatchNormalization(name="inner_bn")(y)
    y = lq.layers.QuantConv2D(8, 3, padding="same", pad_values=1.0, use_bias=False, name="outer", **signs)(y)
    x = layers.Add(name="sum")([x, layers.BatchNormalization(name="outer_bn")(y)])
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return tf.keras.Model(inputs, layers.Dense(2, name="logits")(x))


def run(recipe, directory, folder, **changes):
    values = {"data.name": folder, "run_dir": directory, **SHARED, **changes}
    arguments = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [recipe.name])
        with pytest.raises(SystemExit) as ended:
            recipe.main(arguments)
    return ended.value.code


PRUNE = {
    "search.epochs": 1,
    "search.batch_size": 8,
    "search.mask_interval": 1,
    "search.recipe": "adam",
    "search.learning_rate": 1e-3,
    "search.warm_up_epochs": 0,
    "baselines.ratios": "[]",
}


@pytest.fixture(scope="module")
def pruned(tmp_path_factory, image_folder, randomised):
    """A run that prunes a user's own model to seven tenths of its memory."""
    place = tmp_path_factory.mktemp("rbcn")
    tf.keras.utils.set_random_seed(0)
    larq_model().save(place / "my.keras")
    whole = Memory().of(Architecture("", "keras_model", {}, (8, 8, 3), 2, {"file": str(place / "my.keras")}))
    changes = {"network.model": place / "my.keras", "budget.memory": 0.7 * whole / MIB, **PRUNE}
    assert not run(Recipe("rbcn_prune", family="keras_model"), place / "run", image_folder, **changes)
    return place / "run", 0.7 * whole


def result(run, stage):
    return json.loads((run / f"stages/{stage}.json").read_text())


def test_a_users_own_model_is_pruned_cut_fine_tuned_and_exported(pruned):
    directory, limit = pruned
    for name in ("architecture.json", "model.keras", "model.tflite", "export.json", "report.html", "plots/masks.svg"):
        assert (directory / name).exists(), name
    found = Architecture.load(directory / "architecture.json")
    assert set(found.choices) == {"first", "inner"} and sum(found.choices.values()) < 20
    assert 0.8 * limit < Memory().of(found) <= limit
    parity = json.loads((directory / "export.json").read_text())["parity"]
    assert parity["error"] <= parity["tolerance"]
    exported = tf.keras.models.load_model(directory / "model.keras", compile=False)
    assert {layer.name: layer.filters for layer in exported.layers if hasattr(layer, "filters")} == {
        "first": found.choices["first"], "inner": found.choices["inner"], "outer": found.choices["first"]
    }  # fmt: skip


def test_the_given_model_is_tested_as_it_is(pruned, image_folder):
    directory, limit = pruned
    given = result(directory, "train-given")
    model = tf.keras.models.load_model(directory.parent / "my.keras")
    images = data.load(image_folder, image_size=8)
    assert given["test"]["accuracy"] == metrics.evaluate(model, images.test)["accuracy"]
    assert given["epochs"] == 0 and given["memory"]["paper"] == pytest.approx(limit / 0.7)
    assert "as given" in (directory / "report.html").read_text(encoding="utf-8")


def test_fine_tuning_starts_from_what_the_search_leaves(pruned):
    directory, _ = pruned
    reader = tf.train.load_checkpoint(str(directory / "checkpoints/search/step-000001/variables"))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("network/") and "kernel/" in name]
    whole = [reader.get_tensor(name) for name in names]
    tuned = tf.train.load_checkpoint(str(directory / "checkpoints/train-searched/step-000001/variables"))
    kept = [
        tuned.get_tensor(name)
        for name in tuned.get_variable_to_shape_map()
        if name.startswith("layers/") and "kernel/.ATTR" in name
    ]
    inner = next(kernel for kernel in kept if kernel.ndim == 4 and kernel.shape[2] not in (3,))
    source = next(kernel for kernel in whole if kernel.ndim == 4 and kernel.shape[2:] in ((8, 12), (12, 8)))
    # Each filter that is left is, up to a few steps of the fine-tuning, a slice of one before.
    assert inner.size < source.size
    apart = np.abs(inner.reshape(-1, 1) - source.reshape(1, -1)).min(axis=1)
    assert np.median(apart) < 1e-2


def test_the_model_and_the_budget_must_be_named(image_folder, tmp_path, capsys):
    assert run(Recipe("rbcn_prune", family="keras_model"), tmp_path / "run", image_folder, **{"budget.memory": 1}) == 2
    assert "Expected `network.model` to be a Keras file" in capsys.readouterr().err
    assert (
        run(
            Recipe("rbcn_prune", family="keras_model"),
            tmp_path / "run",
            image_folder,
            **{"network.model": "none.keras"},
        )
        == 2
    )
    assert "Expected `budget.memory`" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_training_with_a_teacher_and_a_pruning_that_starts_from_it(image_folder, tmp_path):
    network = {"network.family": "test-small", "network.options": "{binarisation: rectified}"}
    teacher = {"train.teacher": "full_precision", "train.follows": "discriminators", "train.normalization_epochs": 1}
    assert not run(Recipe("rbcn_resnet18", searches=False), tmp_path / "a", image_folder, **network, **teacher)
    stages = {file.stem for file in (tmp_path / "a/stages").iterdir()}
    assert stages == {"train-float-searched-weights", "train-searched-weights", "train-searched", "export"}
    weights, last = (result(tmp_path / "a", f"train-{key}") for key in ("searched-weights", "searched"))
    assert {"real", "fake", "held"} <= weights["history"][0].keys() and last["history"][0]["flips"] == 0.0
    text = (tmp_path / "a/report.html").read_text()
    assert "Discriminators" in text and "not finished its first" not in text and "searched with" not in text
    limit = 0.8 * Memory().of(Architecture("", "test-small", {}, (8, 8, 3), 2))
    start = {"search.start": tmp_path / "a", "budget.memory": limit / MIB}
    assert not run(
        Recipe("rbcn_prune_resnet18", family="resnet18"), tmp_path / "b", image_folder, **network, **PRUNE, **start
    )
    found = Architecture.load(tmp_path / "b/architecture.json")
    assert Memory().of(found) <= limit


def test_a_run_goes_on_from_any_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert KerasModelSettings(model="my.keras").absolute().builder_options() == {"file": str(tmp_path / "my.keras")}
    assert TrainSettings(teacher="t.keras").absolute().teacher == str(tmp_path / "t.keras")
    assert TrainSettings(teacher="full_precision").absolute().teacher == "full_precision"
    assert METHODS["rbcn"].settings(start="runs/a").absolute().start == str(tmp_path / "runs/a")


@pytest.mark.parametrize("follows", ["logits", "features", "discriminators"])
def test_what_is_followed_decides_the_trainer(follows):
    settings = TrainSettings(teacher="full_precision", follows=follows, teacher_weight=0.25)
    trainer = teaching.trainer(settings, 0, larq_model)(larq_model())
    assert type(trainer) is (Adversarial if follows == "discriminators" else Distillation)
    expected = {"logits": "share", "features": "feature_weight", "discriminators": "weight"}[follows]
    assert getattr(trainer, expected) == 0.25


def test_a_teacher_from_a_file_sees_the_images_that_it_was_made_for(tmp_path, randomised):
    model = randomised(larq_model())
    inputs = tf.keras.Input((8, 8, 3))
    pixels = tf.keras.Model(inputs, model(layers.Rescaling(1 / 127.5, -1.0)(inputs)))
    for name, saved in (("plain", model), ("pixels", pixels)):
        saved.save(tmp_path / f"{name}.keras")
        settings = TrainSettings(teacher=str(tmp_path / f"{name}.keras"))
        settings.check()
        trainer = teaching.trainer(settings, 0, larq_model)(larq_model())
        images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)
        (found,) = tf.nest.flatten(trainer._teacher(images))
        np.testing.assert_allclose(found, model(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"teacher": "none.keras"}, "`train.teacher` to be full_precision or a Keras file. Received: 'none.keras'"),
        ({"teacher_weight": 1.5}, "teacher_weight"),
        ({"normalization_epochs": -1}, "normalization_epochs"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_refusals(changes, text):
    with pytest.raises(UserError, match=text):
        TrainSettings(**changes).check()
    TrainSettings(follows="features", teacher_weight=1.5).check()
