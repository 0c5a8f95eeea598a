"""The command line of a sweep: the grid it means, what it refuses, and that it answers at once."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tfbnas.errors import UserError
from tfbnas.sweep import recipe
from tfbnas.sweep.__main__ import main
from tfbnas.sweep.options import parse


def test_the_grid_begins_with_the_largest_budget_and_only_that_trial_trains_what_all_share():
    grid = ["--budgets", "12", "14.5", "--penalty-weights", "5", "2"]
    arguments = ["bsn_resnet_fabric", *grid, "--run_dir", "d", "--search.epochs=9"]
    sweep = parse(arguments)
    names = ["budget-14.5_weight-2", "budget-14.5_weight-5", "budget-12_weight-2", "budget-12_weight-5"]
    assert [trial.name for trial in sweep.trials] == names
    first, *others = (trial.options for trial in sweep.trials)
    assert first == {"budget.limit": 14.5, "budget.penalty_weight": 2.0}
    assert all(options["baselines.plain"] is False for options in others)
    assert sweep.settings["search"]["epochs"] == 9 and sweep.settings["preset"] == "quick"
    assert sweep.unit == "steps" and sweep.role == "alone" and sweep.workers == 1
    settings = recipe.load("bsn_resnet_fabric").parse(sweep.trials[-1].arguments()).settings
    assert (settings.budget.limit, settings.budget.penalty_weight, settings.baselines.plain) == (12.0, 5.0, False)


@pytest.mark.parametrize(
    ("options", "name", "unit"),
    [([], "budget.memory", "MiB"), (["--budget.cost", "latency"], "budget.latency", "ms")],
)
def test_the_recipe_says_which_setting_is_the_budget(options, name, unit):
    sweep = parse(
        [
            "dms_vgg11",
            "--budgets",
            "2",
            "3",
            *options,
            "--baselines.equal_memory",
            "true",
            "--baselines.ratios",
            "[1.0]",
        ]
    )
    assert sweep.trials[0].options == {name: 3.0, "budget.penalty_weight": 0.3}
    # The network of equal memory is another one in each trial.
    assert sweep.trials[1].options == {name: 2.0, "budget.penalty_weight": 0.3, "baselines.ratios": []}
    assert sweep.unit == unit
    settings = recipe.load("dms_vgg11").parse([*options, *sweep.trials[1].arguments()]).settings
    assert settings.baselines.ratios == [] and next(iter(settings.budget.limits.values())) == 2.0


@pytest.mark.parametrize("name", recipe.known())
def test_every_recipe_that_searches_can_be_swept(name):
    needed = ["--network.model", "my.keras"] if name == "rbcn_prune" else []
    arguments = [name, *needed, "--budgets", "1", "2"]
    if not importlib.import_module(f"tfbnas.recipes.{name}").RECIPE.searches:
        with pytest.raises(UserError, match="a recipe that searches under a budget"):
            parse(arguments)
        return
    sweep = parse(arguments)
    assert len(sweep.trials) == 2 and sweep.recipe.module == f"tfbnas.recipes.{name}"


def test_a_sweep_holds_training_images_out_unless_told_otherwise():
    def held_out(*arguments):
        return parse([*arguments, "--budgets", "1"]).settings["data"]["held_out"]

    assert held_out("dms_vgg11") == held_out("bsn_cnf_segmentation") == 0.1
    assert held_out("dms_vgg11", "--data.held_out", "0") == 0 and held_out("dms_vgg11", "--data.held_out=280") == 280
    assert held_out("bsn_cnf", "--preset", "cpu") == 5000  # what the preset says
    assert held_out("bsn_cnf_segmentation", "--preset", "cpu") == 0  # which has a split for it


def test_a_recipe_is_an_object_or_a_function_with_a_type(standins, monkeypatch):
    module = importlib.import_module(standins)
    settings = recipe.load(standins).settings_class
    assert settings is module.Settings
    monkeypatch.delattr(module, "main")
    monkeypatch.setattr(module, "RECIPE", SimpleNamespace(settings_class=settings), raising=False)
    assert recipe.load(standins).settings_class is settings


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "recipe's name first"),
        ("--budgets 3", "recipe's name first"),
        ("bsn_resnet_fabrik --budgets 3", "Did you mean 'bsn_resnet_fabric'"),
        ("no.such.module --budgets 3", "no.such.module"),
        ("tfbnas.files --budgets 3", "main(command"),
        ("dms_vgg11", "--budgets"),
        ("dms_vgg11 --budgets", "--budgets"),
        ("dms_vgg11 --budgets 1 0", "positive numbers after `--budgets`. Received: 0"),
        ("dms_vgg11 --budgets 1 -3", "Received: -3"),
        ("dms_vgg11 --budgets nan", "Received: nan"),
        ("dms_vgg11 --budgets few", "Received: few"),
        ("dms_vgg11 --budgets 2 3 2.0", "Received: 2.0 twice"),
        ("dms_vgg11 --budgets 2 --penalty-weights 1 -1", "at least 0"),
        ("dms_vgg11 --budgets 2 --penalty_weights 1 1", "twice"),
        ("dms_vgg11 --budgets 2 --workers 0", "--workers"),
        ("dms_vgg11 --budgets 2 --workers 1.5", "--workers"),
        ("dms_vgg11 --budgets 2 --workers 1 --workers 2", "twice"),
        ("dms_vgg11 --budget 2", "Did you mean '--budgets'"),
        ("dms_vgg11 --budgets 2 --rounds 3", "--search.rounds"),
        ("dms_vgg11 --budgets 2 --search.round 3", "--search.rounds"),
        ("dms_vgg11 --budgets 2 --search.rounds many", "search.rounds"),
        ("dms_vgg11 --budgets 2 --preset quik", "quick"),
        ("dms_vgg11 --budgets 2 --budget.memory 3", "--budgets"),
        ("dms_vgg11 --budgets 2 --budget.penalty_weight=3", "--penalty-weights"),
        ("dms_vgg11 --budgets 2 --chief localhost", "HOST:PORT"),
        ("dms_vgg11 --budgets 2 --chief a:1 --worker a:1", "both"),
        ("dms_vgg11 --budgets 2 --worker a:1", "--run_dir"),
        ("dms_vgg11 --budgets 2 --chief 203.0.113.7:80", "203.0.113.7:80"),
        ("standins.search --budgets 2 2000", "at most 1000"),
    ],
)
def test_refusals_are_one_sentence_before_anything_is_written(
    arguments, expected, standins, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and expected in lines[0]
    assert not list(tmp_path.iterdir())


def test_kerastuners_variables_say_the_role(monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "10.0.0.1")
    with pytest.raises(ValueError, match="KERASTUNER_TUNER_ID"):
        parse(["dms_vgg11", "--budgets", "2"])
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "8000")
    sweep = parse(["dms_vgg11", "--budgets", "2"])
    assert (sweep.role, sweep.address) == ("chief", ("10.0.0.1", "8000"))
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "third")
    sweep = parse(["dms_vgg11", "--budgets", "2", "--run_dir", "d"])
    assert (sweep.role, sweep.tuner_id) == ("worker", "third")


def test_help_does_without_tensorflow():
    code = "import sys; from tfbnas.sweep.__main__ import main; main(['--help']); print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("False")
    for word in ("--budgets", "--penalty-weights", "--workers", "--chief", "--worker", "dms_resnet18"):
        assert word in done.stdout


def test_a_setting_that_was_renamed_is_refused_with_its_new_name(capsys):
    """Also where another one has a name that is near to the old one."""
    assert main(["bsn_resnet_fabric", "--budgets", "2", "--network.binary", "true"]) == 2
    assert "give `--network.binarisation` (zero_alpha for true" in capsys.readouterr().err
