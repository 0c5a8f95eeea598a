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
    assert [trial.name for trial in sweep.trials] == [f"{name}_seed-0" for name in names]
    assert [trial.common for trial in sweep.trials] == [None] + 3 * [sweep.trials[0].name]
    first, *others = (trial.options for trial in sweep.trials)
    assert first == {"budget.limit": 14.5, "budget.penalty_weight": 2.0, "seed": 0}
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
    assert sweep.trials[0].options == {name: 3.0, "budget.penalty_weight": 0.3, "seed": 0}
    # The network of equal memory is another one in each trial.
    assert sweep.trials[1].options == {**sweep.trials[0].options, name: 2.0, "baselines.ratios": []}
    assert sweep.unit == unit
    settings = recipe.load("dms_vgg11").parse([*options, *sweep.trials[1].arguments()]).settings
    assert settings.baselines.ratios == [] and next(iter(settings.budget.limits.values())) == 2.0


@pytest.mark.parametrize("name", recipe.known())
def test_every_recipe_can_be_swept_and_under_budgets_where_it_searches(name):
    needed = ["--network.model", "my.keras"] if name == "rbcn_prune" else []
    if name != "rbcn_prune":  # whose preset has no budget
        sweep = parse([name, "--seeds", "1", "2"])
        assert [trial.options["seed"] for trial in sweep.trials] == [1, 2]
    arguments = [name, *needed, "--budgets", "1", "2"]
    if not importlib.import_module(f"tfbnas.recipes.{name}").RECIPE.searches:
        with pytest.raises(UserError, match="a recipe that searches under a budget"):
            parse(arguments)
        return
    sweep = parse(arguments)
    assert len(sweep.trials) == 2 and sweep.recipe.module == f"tfbnas.recipes.{name}"


def test_the_ablation_of_two_settings_over_seeds_is_one_sweep():
    varied = ["--vary", "search.distance_weight", "0", "5e-3", "--vary", "search.reconstruction_weight", "0", "0.2"]
    sweep = parse(["dcpnas_cifar10", *varied, "--seeds", "3", "5"])
    settings = [sweep.recipe.parse(trial.arguments()).settings for trial in sweep.trials]
    found = [(one.seed, one.search.distance_weight, one.search.reconstruction_weight) for one in settings]
    four = [(0.0, 0.0), (0.0, 0.2), (0.005, 0.0), (0.005, 0.2)]  # neither, one, the other, both
    assert found == [(seed, *pair) for seed in (3, 5) for pair in four]
    assert [trial.name for trial in sweep.trials][2] == "distance_weight-0.005_reconstruction_weight-0_seed-3"
    assert [point.label for point in sweep.points][1] == "distance_weight 0, reconstruction_weight 0.2"
    # What the search does not change is trained once for each seed.
    assert [one.baselines.plain for one in settings] == 2 * [True, False, False, False]
    assert {one.budget.memory for one in settings} == {0.03}  # the preset's own


@pytest.mark.parametrize(
    ("recipe", "setting", "values", "plain"),
    [
        ("dcpnas_cifar10", "train.recipe", ["sgd", "adam_sgd"], [True, True]),
        ("dcpnas_cifar10", "baselines.plain", ["true", "false"], [True, False]),
        ("bsn_resnet_fabric", "search.epochs", ["12", "13"], [True, False]),
        ("rbcn_prune_resnet18", "search.epochs", ["12", "13"], [[1.0], [1.0]]),  # which fine-tunes what it found
        ("rbcn_prune_resnet18", "budget.counting", ["paper", "file"], [[1.0], [1.0]]),
    ],
)
def test_trials_share_networks_only_where_the_varied_setting_does_not_change_them(recipe, setting, values, plain):
    ratios = ["--baselines.ratios", "[1.0]"] if recipe.startswith("rbcn") else []
    sweep = parse([recipe, "--vary", setting, *values, *ratios])
    settings = [sweep.recipe.parse([*ratios, *trial.arguments()]).settings.baselines for trial in sweep.trials]
    assert [one.ratios if ratios else one.plain for one in settings] == plain


def test_varied_values_may_be_texts_lists_and_nothing():
    sweep = parse(
        ["dms_vgg11", "--vary", "baselines.ratios", "[1.0,2]", "[]", "--vary", "train.kernel_bound", "null", "1"]
    )
    assert [trial.point.varied for trial in sweep.trials] == [
        {"baselines.ratios": ratios, "train.kernel_bound": bound}
        for ratios in ([1.0, 2.0], [])
        for bound in (None, 1.0)
    ]
    names = [trial.name for trial in sweep.trials]
    assert names[0] == "ratios-1.0-2.0_kernel_bound-null_seed-0" and len(set(names)) == 4
    again = [sweep.recipe.parse(trial.arguments()).settings for trial in sweep.trials]
    assert [(one.baselines.ratios, one.train.kernel_bound) for one in again][1:3] == [([1.0, 2.0], 1.0), ([], None)]


def test_a_ladder_of_cases():
    teacher = ["network.binarisation=rectified", "train.teacher=full_precision"]
    cases = ["--case", "Bi-Real", "--case", "+ RBConv", teacher[0], "--case", "+ teacher", *teacher]
    base = ["--network.binarisation", "sign", "--train.teacher", "null"]
    sweep = parse(["rbcn_resnet18", *base, *cases, "--vary", "train.epochs", "2", "3"])
    names = [trial.name for trial in sweep.trials]
    assert names[:3] == ["Bi-Real_epochs-2_seed-0", "Bi-Real_epochs-3_seed-0", "RBConv_epochs-2_seed-0"]
    assert [point.label for point in sweep.points][2] == "+ RBConv, epochs 2"
    settings = [sweep.recipe.parse([*base, *trial.arguments()]).settings for trial in sweep.trials]
    found = [(one.network.binarisation, one.train.teacher, one.train.epochs) for one in settings]
    three = [("sign", None), ("rectified", None), ("rectified", "full_precision")]
    assert found == [(*case, epochs) for case in three for epochs in (2, 3)]


def test_settings_that_end_alike_have_their_whole_names():
    sweep = parse(["dms_vgg11", "--vary", "train.batch_size", "2", "--vary", "search.batch_size", "3"])
    assert sweep.trials[0].name == "train.batch_size-2_search.batch_size-3_seed-0"


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
        ("dms_vgg11", "`--budgets`, `--seeds`, `--vary` or `--case`"),
        ("dms_vgg11 --seeds", "--seeds"),
        ("dms_vgg11 --seeds 1 2 1", "Received: 1 twice"),
        ("dms_vgg11 --seeds 1.5", "integers of at least 0 after `--seeds`. Received: 1.5"),
        ("dms_vgg11 --seeds 1 2 --seed 3", "--seeds"),
        ("dms_vgg11 --vary", "--vary"),
        ("dms_vgg11 --vary search.rounds", "values after `--vary search.rounds`"),
        ("dms_vgg11 --vary search.round 2", "`search.round` after `--vary`. Did you mean 'search.rounds'"),
        ("dms_vgg11 --vary search 2", "group of settings"),
        ("dms_vgg11 --vary search.rounds 2 many", "integer. Received: 'many'"),
        ("dms_vgg11 --vary search.rounds 2 3 2", "Received: 2 twice"),
        ("dms_vgg11 --vary search.rounds 2 -1", "search.rounds"),
        ("dms_vgg11 --vary search.rounds 2 --search.rounds 3", "`search.rounds` once"),
        ("dms_vgg11 --vary search.rounds 2 --vary search.rounds 3", "`search.rounds` once"),
        ("dms_vgg11 --case", "--case"),
        ("dms_vgg11 --case search.rounds=2", "a name first after --case"),
        ("dms_vgg11 --case a search.rounds", "SETTING=VALUE after `--case a`"),
        ("dms_vgg11 --case a search.round=2", "`search.round` after `--case`"),
        ("dms_vgg11 --case a search.rounds=many", "Received: 'many'"),
        ("dms_vgg11 --case a search.rounds=2 search.rounds=3", "each setting once after `--case a`"),
        ("dms_vgg11 --case a --case a search.rounds=3", "different names after --case"),
        ("dms_vgg11 --case a budget.memory=3", "--budgets"),
        ("dms_vgg11 --case a search.rounds=3 --vary search.rounds 2", "`search.rounds` once"),
        ("dms_vgg11 --vary preset quick cpu", "`preset` after `--vary`"),
        ("dms_vgg11 --vary seed 1 2", "--seeds"),
        ("dms_vgg11 --vary budget.memory 1 2", "--budgets"),
        ("dms_vgg11 --vary budget.penalty_weight 1 2", "--penalty-weights"),
        ("dms_vgg11 --vary budget.cost memory latency", "one `budget.cost`"),
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
