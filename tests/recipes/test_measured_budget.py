"""A budget on measured latency: what the recipe refuses, and a search under what a stand-in program measures."""

from __future__ import annotations

import json

import pytest

from tfbnas.recipes import runner, searching
from tfbnas.recipes.budget import BudgetSettings
from tfbnas.recipes.devices import Devices
from tfbnas.recipes.pricing import measuring
from tfbnas.recipes.recipe import Recipe
from tfbnas.recipes.settings import parse, preset_files

TINY = {
    "network.n": 1,
    "network.base": 4,
    "budget.cost": "measured_latency",
    "budget.limit": 1000,
    "search.epochs": 2,
    "search.warm_up_epochs": 1,
    "search.batch_size": 16,
    "search.groups": 1,
    "search.initial_logit": 20,  # always the whole network: few are converted
    "train.batch_size": 16,
    "precision": "float32",
}

# Milliseconds that say which file was measured: its size in thousands of bytes.
PROGRAM = """#!/bin/sh
size=$(wc -c < "${1#--graph=}")
echo called >> ASKED
echo "count=50 first=$size curr=$size min=$size max=$size avg=$size std=0"
echo "Inference timings in us: Init: 1, First inference: $size, Warmup (avg): $size, Inference (avg): $size"
"""


@pytest.fixture
def arguments(image_folder, tmp_path):
    def make(**settings) -> list[str]:
        values = {"data.name": image_folder, **TINY, **{k.replace("__", "."): v for k, v in settings.items()}}
        options = [text for name, value in values.items() for text in (f"--{name}", str(value))]
        return ["--run_dir", str(tmp_path / "run"), *options]

    return make


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "Expected `budget.target` to say where measured_latency is measured"),
        ({"budget__cost": "steps", "budget__also": "{measured_latency: 2}"}, "Expected `budget.target`"),
        ({"budget__target": "toaster"}, "Expected `target` to be host, ssh:user@host, adb"),
        ({"budget__target": "host", "budget__binary": "/nowhere/lce"}, "no /nowhere/lce, neither on this machine nor"),
        ({"budget__target": "host", "budget__binary": "lce_not_here"}, "pass it as --budget.binary"),
        ({"budget__target": "host", "budget__binary": __file__}, "Expected `binary` to be the program"),
        ({"budget__target": "ssh:"}, "Expected a target like ssh:user@host"),
    ],
)
def test_refusals(settings, expected, arguments, capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_code:
        Recipe("bsn_resnet_fabric").main(arguments(**settings))
    assert exit_code.value.code == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_search_measures_on_the_target(arguments, tmp_path):
    program, asked = tmp_path / "lce_benchmark_model", tmp_path / "asked"
    program.write_text(PROGRAM.replace("ASKED", str(asked)))
    argv = arguments(budget__target="host", budget__binary=program, budget__also="{steps: 9}")
    recipe, presets = Recipe("bsn_resnet_fabric"), preset_files("bsn_resnet_fabric")
    command = parse(recipe.settings_class, argv, program=recipe.name, description="", presets=presets)
    images = runner.load_data(command.settings.data)
    template = runner.whole(recipe.method, command.settings, images)
    searching.check_feasible(recipe.method, template, images, command.settings)
    assert not asked.exists()
    with runner.open_run(command, recipe.method, images, template, Devices()) as context:
        searching.search_stage(context)
    latency, steps = json.loads((tmp_path / "run/stages/search.json").read_text())["costs"]
    assert (latency["name"], latency["unit"], steps["name"], steps["found"]) == ("measured_latency", "ms", "steps", 9)
    # The whole network is what was drawn each time.
    assert latency["expected"] == pytest.approx(latency["found"], rel=1e-4)
    # Two steps of two epochs, the greedy baseline in two of them, 64 draws for the expectation, the one at the end.
    assert len(asked.read_text().split()) >= 4 + 2 + 64 + 1


def test_this_machine_measures_with_the_interpreter():
    with measuring(BudgetSettings(cost="measured_latency", limit=5.0, target="host")) as prepare:
        assert callable(prepare)
    with measuring(BudgetSettings(memory=1.0, device="no such table")) as prepare:
        assert prepare is None
