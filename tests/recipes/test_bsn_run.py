"""The BSN recipe from end to end, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Distributed
from tfbnas.recipes.pricing import budgets, prices
from tfbnas.recipes.recipe import Recipe
from tfbnas.recipes.settings import parse, preset_files

TINY = {
    "network.n": 1,
    "network.base": 4,
    "budget.limit": 6,
    "search.epochs": 3,
    "search.warm_up_epochs": 1,
    "search.batch_size": 8,
    "search.groups": 2,
    "train.epochs": 1,
    "train.batch_size": 8,
    "export.images": 8,
    "precision": "float32",
}
INT8 = {"baselines__int8": "[equal_memory, equal_latency]"}


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    return tmp_path_factory.mktemp("bsn") / "run"


@pytest.fixture
def arguments(image_folder):
    def make(run_dir: Path, **settings) -> list[str]:
        values = {"data.name": image_folder, **TINY, **{k.replace("__", "."): v for k, v in settings.items()}}
        return [
            "--run_dir",
            str(run_dir),
            *(text for name, value in values.items() for text in (f"--{name}", str(value))),
        ]

    return make


def test_a_run_leaves_everything_that_is_promised(run_directory, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        Recipe("bsn_resnet_fabric").main(arguments(run_directory, **INT8))
    output, error = capsys.readouterr()
    assert ended.value.code == 0, error
    expected = "settings.yaml log.jsonl tensorboard checkpoints architecture.json model.keras saved_model model.tflite"
    for name in (*expected.split(), "export.json", "report.html", "plots/architecture.svg", "plots/cost.svg"):
        assert (run_directory / name).exists(), name
    assert output.strip().splitlines()[-1] == str(run_directory)
    assert "BSN" in output and "ResNet-8" in output
    search = json.loads((run_directory / "stages" / "search.json").read_text())
    assert [entry["epoch"] for entry in search["history"]] == [1, 2, 3]
    found = Architecture.load(run_directory / "architecture.json")
    assert found.to_dict() == search["architecture"] and set(search["history"][-1]["choices"]) == set(found.choices)
    (cost,) = search["costs"]
    assert (cost["name"], cost["unit"], cost["limit"]) == ("steps", "steps", 6)
    assert Distributed(2).of(found) == cost["found"] <= 6
    plain = json.loads((run_directory / "stages" / "train-plain.json").read_text())
    assert (plain["label"], plain["role"], plain["costs"]) == ("ResNet-8", "reference", {"steps": 8.0})
    assert networks.build(found).output_shape == (None, 2)
    assert len(list((run_directory / "int8").iterdir())) == 2


@pytest.mark.slow
def test_killed_again_and_again_it_comes_out_the_same(arguments, start, kill_again_and_again, results, tmp_path):
    undisturbed, killed = (
        [sys.executable, "-m", "tfbnas.recipes.bsn_resnet_fabric", *arguments(tmp_path / name, **INT8)]
        for name in ("undisturbed", "killed")
    )
    process = start(undisturbed)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    kill_again_and_again(killed, tmp_path / "killed", 7)
    assert results(tmp_path / "killed") == results(tmp_path / "undisturbed")


def test_rerunning_a_finished_run_repeats_nothing(run_directory, arguments):
    before = {file: file.stat().st_mtime_ns for file in (run_directory / "stages").iterdir()}
    with pytest.raises(SystemExit) as exit_code:
        Recipe("bsn_resnet_fabric").main(arguments(run_directory, **INT8))
    assert exit_code.value.code == 0
    assert before == {file: file.stat().st_mtime_ns for file in (run_directory / "stages").iterdir()}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"budget__limit": 2}, "at least 5 steps, the cost of the cheapest path"),
        ({"budget__also": "{memory: 0.0001}"}, "`budget.also.memory` to be at least"),
        ({"budget__also": "{binary_memory: 0.000001}"}, "`budget.also.binary_memory` to be at least"),
        ({"budget__also": "{float_memory: 0.0001}"}, "`budget.also.float_memory` to be at least"),
        ({"budget__also": "{latency: 0.001}"}, "`budget.also.latency` to be at least"),
        ({"budget__also": "{flops: 1}"}, "flops"),
        ({"data__held_out": 10000}, "hold out"),
        ({"budget__limit": 0}, "budget.limit"),
        ({"budget__limit": "nan"}, "budget.limit"),
        ({"budget__cost": "flops"}, "flops"),
        ({"budget__machines": 0}, "budget.machines"),
        ({"search__groups": 3}, "groups=3, batch_size=8"),
        ({"search__warm_up_epochs": 3}, "3 of 3"),
        ({"search__batch_size": 64, "search__groups": 1}, "batch_size=64"),
        ({"network__n": 0}, "network.n"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_refusals(settings, expected, arguments, capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_code:
        Recipe("bsn_resnet_fabric").main(arguments(tmp_path / "run", **settings))
    assert exit_code.value.code == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("recipe", "name", "expected"),
    [
        ("bsn_resnet_fabric", "cifar10-shapes", "a class for each image. Received: data.name='cifar10-sh"),
        ("bsn_cnf_segmentation", "cifar10-quick", "a class for each pixel. Received: data.name="),
    ],
)
def test_labels_of_the_other_kind(recipe, name, expected, capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_code:
        Recipe(recipe).main(["--data.name", name, "--run_dir", str(tmp_path / "run")])
    assert exit_code.value.code == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


PAPER = {"paper_steps", "paper_multiply_adds", "paper_memory"}


@pytest.mark.parametrize(
    ("recipe", "papers"),
    [("bsn_resnet_fabric", PAPER), ("bsn_cnf", PAPER), ("bsn_cnf_segmentation", {"paper"})],
)
def test_every_preset_is_complete_and_fits_its_network(recipe, papers):
    presets = preset_files(recipe)
    assert {"quick", "cpu"} | papers == set(presets)
    for name in presets:
        found = parse(
            Recipe(recipe).settings_class, ["--preset", name], program=recipe, description="", presets=presets
        )
        assert found.preset == name and found.recipe == recipe
        settings = found.settings
        size = settings.data.image_size or (256 if settings.data.name == "part_labels" else 32)
        options = settings.network.builder_options()
        whole = Architecture("t", settings.network.family, {}, (size, size, 3), 10, options)
        limited = budgets(settings.budget)
        for cost, price in prices(whole, limited).items():
            # There is something to cut, and not nearly everything.
            assert 0.2 < limited[cost].limit / price < 0.8, name


@pytest.mark.slow
def test_a_neural_fabric_in_full_precision_under_two_budgets(arguments, start, tmp_path):
    settings = {"network.columns": 2, "network.scales": 2, "network.filters": 4, "network.binarisation": "float"}
    argv = arguments(tmp_path / "run", budget__limit=9, budget__also="{memory: 0.02}")
    skip = argv.index("--network.n"), argv.index("--network.base")
    argv = [text for index, text in enumerate(argv) if index not in {*skip, *(i + 1 for i in skip)}]
    argv += [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    process = start([sys.executable, "-m", "tfbnas.recipes.bsn_cnf", *argv])
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    assert "CNF W=1" in output
    search = json.loads((tmp_path / "run" / "stages" / "search.json").read_text())
    steps, memory = search["costs"]
    assert steps["found"] <= steps["limit"] == 9 and memory["name"] == "memory"
    assert memory["found"] <= memory["limit"] == 0.02 * 2**20
    assert (tmp_path / "run" / "model.tflite").exists()
