"""A recipe that searches nothing: it waits, fails where it is told to, and leaves the files of a BSN run.

Network found: 90 % of the budget; the larger, the more accurate, and 1 point less for each unit of penalty weight.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tfbnas.errors import UserError
from tfbnas.recipes.settings import Command, parse
from tfbnas.results import Limited, Result, SearchResult, TrainingResult
from tfbnas.run import RunDirectory

PRESETS = {"quick": Path(__file__).with_name("search_quick.yaml")}


@dataclass
class Budget:
    """Budget.

    Attributes:
      cost: Its name.
      limit: In steps.
      other: Another limit, which must be given where the cost asks for it.
      penalty_weight: Of the penalty.
    """

    cost: Literal["steps", "other"] = "steps"
    limit: float = 20.0
    other: float | None = None
    penalty_weight: float = 2.0

    @property
    def limit_option(self) -> str:
        return "limit" if self.cost == "steps" else "other"

    @property
    def unit(self) -> str:
        return "steps"

    def check(self) -> None:
        if self.cost == "other" and self.other is None:
            raise UserError("Expected `budget.other`.")
        if self.limit > 1000:
            raise UserError("Expected `budget.limit` to be at most 1000.")


@dataclass
class Baselines:
    """Networks to compare with.

    Attributes:
      plain: Whether there is one.
    """

    plain: bool = True

    def without_common(self) -> Baselines:
        return Baselines(plain=False)


@dataclass
class Settings:
    """Settings.

    Attributes:
      seed: The network is so many tenths of a percentage point more accurate.
      bonus: And so many points.
      seconds: Of each of the two stages.
      refuse: Budgets that are refused.
      kill: Budgets at which the process is killed.
      crash: Budgets at which it raises an error.
      validated: Whether there is a validation accuracy.
    """

    seed: int = 0
    bonus: float | None = None
    seconds: float = 0.0
    refuse: list[float] = field(default_factory=list)
    kill: list[float] = field(default_factory=list)
    crash: list[float] = field(default_factory=list)
    validated: bool = False
    budget: Budget = field(default_factory=Budget)
    baselines: Baselines = field(default_factory=Baselines)


def main(command: Command[Settings]) -> None:
    """Does both stages that are not done; each begin is a line in the log."""
    settings, budget = command.settings, command.settings.budget
    if budget.limit in settings.refuse:
        raise UserError(f"Expected `budget.limit` to be more. Received: {budget.limit:g}.")
    with RunDirectory(command.run_dir, command.to_dict()) as run:
        found = 0.9 * budget.limit
        costs = (Limited("steps", "steps", 1.0, budget.limit, found, found),)
        rows = [{"epoch": e, "cost": found * (1 + 1 / e), "entropy": e + settings.seed} for e in (1, 2, 3)]
        rows[0]["warm_up"] = True
        result = SearchResult("bsn", "mine", "Probability", costs, {"method": "bsn"}, 2.0, rows)
        _stage(run, "search", result, settings)
        if budget.limit in settings.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if budget.limit in settings.crash:
            raise RuntimeError("something broke")
        accuracy = (50 + found - budget.penalty_weight + (settings.bonus or 0) + settings.seed / 10) / 100
        searched = _training("searched", "BSN", accuracy, found, budget.limit, settings)
        _stage(run, "train-searched", searched, settings)
        if settings.baselines.plain:
            _stage(run, "train-plain", _training("plain", "ResNet-8", 0.6, 8.0, 8.0, settings), settings)
        for name in ("model.tflite", "model.keras", "labels.txt", "report.html"):
            (run.path / name).write_text(f"{name} of {budget.limit:g}")


def _training(key: str, label: str, accuracy: float, steps: float, size: float, settings: Settings) -> TrainingResult:
    return TrainingResult(
        key,
        label,
        "searched" if key == "searched" else "reference",
        int(key != "searched"),
        {"size": size},
        costs={"steps": steps},
        memory={"paper": 1000 * size, "deployed": 1100 * size},
        test={"accuracy": accuracy},
        # Held-out images see it the other way round, so that one can tell by which the front was chosen.
        validation={"accuracy": 1 - accuracy} if settings.validated else {},
        epochs=1,
        seconds=3.0,
    )


def _stage(run: RunDirectory, name: str, result: Result, settings: Settings) -> None:
    if not run.finished(name):
        run.log(event="stage begins", stage=name, process=os.getpid())
        time.sleep(settings.seconds)
        run.finish(name, result.to_dict())


if __name__ == "__main__":
    try:
        main(parse(Settings, sys.argv[1:], program="python -m standins.search", description="", presets=PRESETS))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
