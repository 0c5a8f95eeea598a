"""The command line of a sweep. TensorFlow is not imported here, so that `--help` and mistakes are answered at once."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbnas.errors import UserError
from tfbnas.recipes.settings import default_run_dir
from tfbnas.sweep import axes
from tfbnas.sweep import recipe as recipes
from tfbnas.sweep.grid import Point, Trial, grid
from tfbnas.sweep.recipe import Recipe

PROGRAM = "python -m tfbnas.sweep"
OPTIONS = {
    "budgets": ("NUMBER", "Limits of the cost, in the unit of the recipe's budget. (default: the recipe's own)"),
    "penalty-weights": ("NUMBER", "Values of budget.penalty_weight. (default: the recipe's own)"),
    "seeds": ("INTEGER", "Values of seed: every point is run once with each. (default: the recipe's own)"),
    "vary": ("SETTING VALUE", "Values of any setting of the recipe. Given several times, all are combined."),
    "case": ("NAME SETTING=VALUE", "Settings that have these values together, under a name. Given once for each case."),
    "workers": ("N", "Trials that run at once on this machine. (default: 1)"),
    "run_dir": (
        "DIR",
        "Directory of the sweep; an existing one goes on. (default: runs/sweep-RECIPE/PRESET-DATE-TIME)",
    ),
    "chief": ("HOST:PORT", "Hand out trials to workers on other machines, and run none here."),
    "worker": ("HOST:PORT", "Run trials for the chief at that address; --run_dir lies on storage that all share."),
}
HELD_OUT = "data.held_out"
_MANY = ("budgets", "penalty-weights", "seeds", "vary", "case")
_REPEATED = ("vary", "case")
_ENVIRONMENT = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


@dataclass(frozen=True)
class Sweep:
    """What a command line asks for.

    Attributes:
      recipe: The recipe to run.
      preset: Its preset.
      settings: The recipe's complete settings, of which each trial changes a few.
      trials: The grid, in the order in which it is run.
      unit: Of the budgets, in words; "" for a recipe without a budget.
      run_dir: The sweep's directory.
      workers: Trials at once in this process.
      role: "alone", "chief" or "worker".
      address: Host and port of the chief.
      tuner_id: Of this process among those of a sweep on several machines.
      again: Command that goes on with the sweep.
    """

    recipe: Recipe
    preset: str
    settings: dict[str, Any]
    trials: tuple[Trial, ...]
    unit: str
    run_dir: Path
    workers: int
    role: str
    address: tuple[str, str]
    tuner_id: str
    again: str

    def to_dict(self) -> dict[str, Any]:
        """What decides the sweep's results, as JSON values: the content of its settings.yaml.

        The seeds are not in it: a sweep goes on with further ones.
        """
        points = self.points
        grid = {
            "budgets": list(dict.fromkeys(point.budget for point in points)),
            "penalty_weights": list(dict.fromkeys(point.penalty_weight for point in points)),
            "points": [point.name for point in points],
        }
        return {"sweep": {"recipe": self.recipe.module, **grid}, "recipe": self.settings}

    @property
    def points(self) -> tuple[Point, ...]:
        """The points of the grid, each once."""
        return tuple({trial.point.name: trial.point for trial in self.trials}.values())

    def path(self, trial: Trial) -> Path:
        """The trial's run directory."""
        return self.run_dir / "trials" / trial.name


def help_text() -> str:
    """The text of `--help`."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} RECIPE [--budgets B [B ...]] [--seeds N [N ...]] [--vary SETTING VALUE [VALUE ...]]... "
        "[--case NAME [SETTING=VALUE ...]]... [--penalty-weights W [W ...]] [--workers N] [--run_dir DIR] "
        "[--chief HOST:PORT | --worker HOST:PORT] "
        "[--any.setting VALUE ...]",
        description="Runs a recipe once for each combination of budgets, penalty weights, varied settings, cases and "
        "seeds.\nDIR/sweep.html has the means over the seeds, what is better with its interval, and the front of cost "
        "and accuracy.\nA tenth of the training images is held out and chooses the front, unless --data.held_out says "
        "otherwise.\nThe same command goes on after an interruption, also with further seeds; failed trials are tried "
        "again.",
        epilog="All other options are the recipe's: --preset, --config and its settings; "
        "python -m tfbnas.recipes.RECIPE --help lists them.\nOn several machines, with the same directory on shared "
        "storage: the same command with --chief on one, with\n--worker on the others. KerasTuner's own variables "
        f"({', '.join(_ENVIRONMENT)}) do as well.",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=40),
        add_help=False,
    )
    parser.add_argument("recipe", metavar="RECIPE", help=f"One of {', '.join(recipes.known())}.")
    for name, (metavar, text) in OPTIONS.items():
        parser.add_argument(f"--{name}", metavar=metavar, nargs="+" if name in _MANY else None, help=text)
    parser.add_argument("--help", action="store_true", help="Show this and exit.")
    return parser.format_help()


def parse(argv: Sequence[str]) -> Sweep:
    """Reads the command line, and checks all that can be checked before anything is written or trained.

    Raises:
      UserError: Something is missing or wrong.
    """
    if not argv or argv[0].startswith("-"):
        raise UserError(
            f"Expected a recipe's name first, one of {', '.join(recipes.known())}. "
            f"Received: {argv[0] if argv else 'nothing'}."
        )
    recipe = recipes.load(argv[0])
    own, repeated, passed = _split(argv[1:], recipe)
    once = (own.get("budgets"), own.get("penalty-weights"), own.get("seeds"))
    texts = axes.Texts(*once, repeated["vary"], repeated["case"])
    workers = _workers(own.get("workers", ["1"])[0])
    role, address = _role({name: own[name][0] for name in ("chief", "worker") if name in own})
    if HELD_OUT not in texts.settings:
        passed = [*_held_out(recipe.parse(passed, checked=False).settings, passed), *passed]
    command = recipe.parse(passed, checked=False)
    trials = grid(recipe, passed, axes.read(texts, recipe, passed))
    if role == "worker" and "run_dir" not in own:
        raise UserError("Expected `--run_dir` of a worker to be the chief's, on shared storage. Received: none.")
    run_dir = Path(own["run_dir"][0]) if "run_dir" in own else default_run_dir(f"sweep-{recipe.name}", command.preset)
    again = [*argv, *([] if "run_dir" in own else ["--run_dir", str(run_dir)])]
    # KerasTuner takes a process for the chief whose id has the word in it.
    worker = (os.environ.get("KERASTUNER_TUNER_ID") or socket.gethostname()).replace("chief", "c")
    return Sweep(
        recipe=recipe,
        preset=command.preset,
        settings=command.to_dict(),
        trials=tuple(trials),
        unit=getattr(getattr(command.settings, "budget", None), "unit", ""),
        run_dir=run_dir,
        workers=workers,
        role=role,
        address=address,
        tuner_id="chief" if role == "chief" else re.sub(r"[^\w.-]", "_", worker),
        again=f"{PROGRAM} {shlex.join(again)}",
    )


def _held_out(settings: Any, passed: Sequence[str]) -> list[str]:
    """Options that hold training images out where nobody said anything: test images choose no front."""
    data = getattr(settings, "data", None)
    is_said = any(token.partition("=")[0] == f"--{HELD_OUT}" for token in passed)
    if is_said or getattr(data, "held_out", None) != 0 or getattr(data, "validation_split", None):
        return []
    return [f"--{HELD_OUT}", "0.1"]


def _split(tokens: Sequence[str], recipe: Recipe) -> tuple[dict[str, list[str]], dict[str, list[list[str]]], list[str]]:
    """The sweep's own options with their texts, those that may be repeated, and the tokens that are the recipe's."""
    rest, own, passed = list(tokens), dict[str, list[str]](), list[str]()
    repeated: dict[str, list[list[str]]] = {name: [] for name in _REPEATED}
    while rest:
        token = rest.pop(0)
        name, equals, text = token.removeprefix("--").partition("=")
        name = {option.replace("-", "_"): option for option in OPTIONS}.get(name.replace("-", "_"), name)
        values = [text] if equals else []
        while rest and not equals and not rest[0].startswith("--"):
            values.append(rest.pop(0))
        if not token.startswith("--"):
            raise UserError(f"Expected options of the form --name value after the recipe's name. Received: {token!r}.")
        if name not in OPTIONS and not recipe.knows(name):
            recipe.unknown(name, list(OPTIONS))
        if name not in OPTIONS:
            passed += [token] if equals else [token, *values]
            continue
        if name in own or not values or (len(values) > 1 and name not in _MANY):
            wanted = "values" if name in _MANY else "one value"
            twice = "it twice" if name in own else " ".join(values) or "nothing"
            raise UserError(f"Expected {wanted} after --{name}, once. Received: {twice}.")
        if name in repeated:
            repeated[name].append(values)
        else:
            own[name] = values
    return own, repeated, passed


def _workers(text: str) -> int:
    if not re.fullmatch(r"\d+", text) or int(text) < 1:
        raise UserError(f"Expected `--workers` to be an integer of at least 1. Received: {text}.")
    return int(text)


def _role(given: Mapping[str, str]) -> tuple[str, tuple[str, str]]:
    """What this process is, and the chief's host and port; from the options, or from KerasTuner's variables."""
    if len(given) > 1:
        raise UserError("Expected either --chief or --worker. Received: both.")
    if given:
        ((role, text),) = given.items()
        host, _, port = text.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise UserError(f"Expected `--{role}` to be HOST:PORT, for instance 192.168.1.5:8000. Received: {text}.")
        return role, (host, port)
    set_ones = [name for name in _ENVIRONMENT if os.environ.get(name)]
    if "KERASTUNER_ORACLE_IP" not in set_ones:
        return "alone", ("", "")
    missing = [name for name in _ENVIRONMENT if name not in set_ones]
    if missing:
        raise UserError(f"Expected the environment variable {missing[0]} beside KERASTUNER_ORACLE_IP. Received: none.")
    role = "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"
    return role, (os.environ["KERASTUNER_ORACLE_IP"], os.environ["KERASTUNER_ORACLE_PORT"])
