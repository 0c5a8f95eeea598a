"""A budget on measured latency: what the recipe refuses, and a search under what a stand-in program measures."""

from __future__ import annotations

import json

import pytest

from tfbnas.recipes import bsn, stages
from tfbnas.recipes.bsn_settings import BudgetSettings, FabricRecipe
from tfbnas.recipes.settings import parse, preset_files, run_main

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
        run_main(bsn.run, FabricRecipe, recipe="bsn_resnet_fabric", description="", argv=arguments(**settings))
    assert exit_code.value.code == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_search_measures_on_the_target(arguments, tmp_path):
    program, asked = tmp_path / "lce_benchmark_model", tmp_path / "asked"
    program.write_text(PROGRAM.replace("ASKED", str(asked)))
    argv = arguments(budget__target="host", budget__binary=program, budget__also="{steps: 9}")
    presets = preset_files("bsn_resnet_fabric")
    command = parse(FabricRecipe, argv, program="bsn_resnet_fabric", description="", presets=presets)
    images = stages.load_data(command.settings.data)
    bsn.check_feasible(images, command.settings)
    assert not asked.exists()
    with stages.open_run(command) as directory:
        bsn.search_stage(directory, images, command.settings)
    limit = json.loads((tmp_path / "run/stages/search.json").read_text())["limit"]
    assert (limit["cost"], limit["unit"], limit["also"]["steps"]["found"]) == ("measured_latency", "ms", 9)
    # Fewer modules are a smaller file, and the whole network is what was drawn each time.
    assert 0 < limit["references"]["ResNet-8"] < limit["references"]["whole fabric"] == limit["found"]
    assert limit["expected"] == pytest.approx(limit["found"], rel=1e-4)
    # Two steps of two epochs, the greedy baseline in two of them, 64 draws for the expectation, the three at the end.
    assert len(asked.read_text().split()) >= 4 + 2 + 64 + 3


def test_this_machine_measures_with_the_interpreter():
    with bsn.measuring(BudgetSettings(cost="measured_latency", target="host")) as prepare:
        assert callable(prepare)
    with bsn.measuring(BudgetSettings(device="no such table")) as prepare:
        assert prepare is None
