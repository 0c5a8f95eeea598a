"""Wrong input to a recipe: one sentence, exit code 2, no traceback, and nothing trained or left behind."""

from __future__ import annotations

import json
import shutil

import pytest

from tfbnas.checkpoints import Checkpoints
from tfbnas.recipes.recipe import Recipe
from tfbnas.recipes.settings import parse, preset_files


@pytest.fixture
def refused(command, capsys, tmp_path):
    """Runs a command line in this process and returns the one line of its error."""

    def run(*arguments: str, network: str = "vgg11", run_dir=None, **settings) -> str:
        argv = command(run_dir or tmp_path / "run", *arguments, **settings)[3:]
        with pytest.raises(SystemExit) as exit_code:
            Recipe(f"dms_{network}").main(argv)
        assert exit_code.value.code == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1
        return lines[0]

    return run


def test_unknown_setting_names_the_nearest(refused, tmp_path):
    assert "--search.rounds" in refused("--search.round", "3")
    assert not (tmp_path / "run").exists()


def test_unknown_preset_names_the_nearest(refused):
    assert "Did you mean 'quick'" in refused("--preset", "quik")


@pytest.mark.parametrize("budget", [0, -3])
def test_budget_that_is_not_positive(refused, budget, tmp_path):
    message = refused(budget__memory=budget)
    assert "budget.memory" in message and str(budget) in message
    assert not (tmp_path / "run").exists()


def test_budget_below_the_smallest_network(refused, tmp_path):
    message = refused(budget__memory=0.001)
    assert "smallest" in message and "0.001" in message
    assert not (tmp_path / "run").exists()


def test_a_latency_table_that_is_none_is_refused_before_anything_is_searched(refused, tmp_path):
    message = refused(export__fast_on="pixel")
    assert "`export.fast_on`" in message and "Did you mean 'pixel1'" in message
    assert not (tmp_path / "run").exists()


def test_missing_data_name_the_quick_set_and_the_tool(refused, tmp_path):
    message = refused(data__name="cifar10", data__data_dir=str(tmp_path))
    assert "cifar10-quick" in message and "prepare_cifar.py" in message


def test_images_too_small_for_the_network(refused):
    message = refused(data__image_size=16)
    assert "32x32" in message and "16x16" in message


def test_a_batch_larger_than_the_data(refused, tmp_path):
    assert "batch_size=64" in refused(train__batch_size=64)
    assert "batch_size=20" in refused(search__batch_size=20)
    assert not (tmp_path / "run").exists()


def test_an_empty_class_folder(refused, image_folder, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(image_folder, folder)
    for split in ("train", "test"):
        (folder / split / "third").mkdir()
    assert "third" in refused(data__name=folder)


def test_a_corrupted_image(refused, image_folder, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(image_folder, folder)
    (folder / "train" / "dark" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert "3.png" in refused(data__name=folder)


def test_sigma_that_would_rise(refused):
    assert "final_sigma" in refused(search__final_sigma=0.9)


SMALL = {"network__family": "test-small", "budget__memory": 0.002}  # VGG-11 takes five times as long to trace
EXPLODING = SMALL | {"search__learning_rate": 1e30, "search__final_learning_rate": 1e30}


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory):
    """Directory of a run that a test leaves behind the search's first steps, for those that go on from there."""
    return tmp_path_factory.mktemp("broken_off") / "run"


def test_rates_that_explode_stop_with_the_step_and_keep_the_last_checkpoint(refused, broken_off):
    message = refused(run_dir=broken_off, **EXPLODING)
    assert "step" in message and "learning rate" in message
    assert not Checkpoints(broken_off / "checkpoints" / "search").steps()


def test_run_directory_of_other_settings(refused, broken_off):
    assert broken_off.exists(), "needs the run of the test above"
    message = refused(run_dir=broken_off, search__rounds=3, **SMALL)
    assert "search.rounds was 2, now 3" in message


def test_damaged_checkpoint(refused, broken_off):
    assert broken_off.exists(), "needs the run of the test above"
    checkpoints = Checkpoints(broken_off / "checkpoints" / "search")
    path = checkpoints.save(1, {"history": [], "choices": []})
    (path / "state.json").write_text(json.dumps({"history": "other"}))
    message = refused(run_dir=broken_off, **EXPLODING)
    assert "damaged" in message and "step-000001" in message


BUILDER = """
import tensorflow as tf
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D


def network(choose, *, input_shape, classes, ends_in="softmax"):
    inputs = tf.keras.Input(input_shape)
    x = BatchNormalization()(FloatConv2D(choose("stem", 8), 3)(inputs))
    x = Dense(classes, dtype="float32")(tf.keras.layers.GlobalAveragePooling2D()(x))
    return tf.keras.Model(inputs, tf.keras.layers.Activation(ends_in, name="end")(x))
"""


def test_a_builder_of_ones_own_that_ends_in_a_softmax(refused, tmp_path, monkeypatch):
    (tmp_path / "my_builder.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    message = refused(network__family="my_builder:network", budget__memory=0.01)
    assert "ends in logits" in message and "softmax, by its layer 'end'" in message
    message = refused(network__family="my_builder:networks")
    assert "my_builder has no function 'networks'" in message
    message = refused(network__family="my_builder:network", network__options="{ends: linear}")
    assert "unexpected keyword argument 'ends'" in message
    assert not (tmp_path / "run").exists()


def test_a_cost_without_expectation_where_one_is_needed(refused, tmp_path):
    message = refused(budget__cost="measured_latency", budget__limit=5, budget__target="host")
    assert "whose expectation is differentiable" in message and "MeasuredLatency" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", ["dms_resnet18", "dms_vgg11"])
def test_every_preset_is_complete_and_right(recipe):
    presets = preset_files(recipe)
    wanted = {"quick", "cpu", "long", "paper_a", "paper_b"}
    wanted |= {"imagenet_a", "imagenet_b"} if "resnet" in recipe else set()
    assert set(presets) == wanted
    for name in presets:
        found = parse(
            Recipe(recipe).settings_class, ["--preset", name], program=recipe, description="", presets=presets
        )
        assert found.preset == name and found.recipe == recipe


def test_a_latency_budget_needs_milliseconds_and_a_known_device(refused):
    assert "budget.latency" in refused(budget__cost="latency")
    assert "raspberry_pi_4b" in refused(budget__cost="latency", budget__latency=1.0, budget__device="raspberry_pi_4")
    message = refused(budget__cost="latency", budget__latency=0.001)
    assert "at least" in message and "ms" in message
