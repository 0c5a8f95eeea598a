"""What the trials of a sweep came to, read from their run directories: sweep.json and front/."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbnas.errors import UserError
from tfbnas.files import atomic_write, read_json, write_json
from tfbnas.report.reading import Run, read
from tfbnas.report.values import mapping
from tfbnas.results import Limited, TrainingResult
from tfbnas.sweep.front import pareto_front
from tfbnas.sweep.options import Sweep, Trial

RESULTS = "sweep.json"
FRONT = "front"
RECIPE_SETTINGS = "recipe.yaml"
REPORT = "report.html"
LABELS = "labels.txt"
MODELS = ("model.tflite", "model.keras")


@dataclass(frozen=True)
class Outcome:
    """What one trained network came to; None where nothing tells it.

    Attributes:
      cost: In the unit of the budget.
      accuracy: On the test images, 0 to 1.
      validation_accuracy: On the held-out training images, 0 to 1.
      memory: Bytes as the paper counts, and `deployed` with batch normalisation.
      seconds: Search and training of this network.
    """

    cost: float | None = None
    accuracy: float | None = None
    validation_accuracy: float | None = None
    memory: float | None = None
    deployed: float | None = None
    seconds: float | None = None


def failure_file(run_dir: Path, name: str) -> Path:
    """Where the reason stands why a trial failed."""
    return run_dir / "trials" / f"{name}.failed.json"


def measured(run_dir: Path) -> Outcome:
    """What the run in a directory came to, as far as it has got."""
    run = read(run_dir) if run_dir.is_dir() else None
    return _outcome(run, run.searched) if run and run.searched else Outcome()


def finished(sweep: Sweep) -> dict[str, dict[str, float]]:
    """Accuracy and cost by name of the trials that earlier processes finished, whose results are still there."""
    file = sweep.run_dir / RESULTS
    rows = read_json(file)["trials"] if file.exists() else []
    names = {row["name"] for row in rows if row["status"] == "finished"}
    known = {trial.name: measured(sweep.path(trial)) for trial in sweep.trials if trial.name in names}
    return {
        name: {"accuracy": outcome.accuracy, "cost": outcome.cost}
        for name, outcome in known.items()
        if outcome.accuracy is not None and outcome.cost is not None
    }


def _outcome(run: Run, training: TrainingResult) -> Outcome:
    limited = run.costs[0] if run.costs else None
    cost = run.price(training, limited) if limited else None
    search = run.search.seconds if run.search and training is run.searched else 0.0
    return Outcome(
        cost=cost / limited.scale if limited and cost is not None else None,
        accuracy=training.test.get("accuracy"),
        validation_accuracy=training.validation.get("accuracy"),
        memory=training.memory.get("paper"),
        deployed=training.memory.get("deployed"),
        seconds=training.seconds + search or None,
    )


def collect(sweep: Sweep, statuses: Mapping[str, str]) -> dict[str, Any]:
    """The content of sweep.json.

    Args:
      sweep: The sweep.
      statuses: For each trial's name "finished", "failed", "running" or "waiting".

    Returns:
      JSON values: what was asked, a row for each trial with its status and `Outcome`, the networks to compare with,
      and the names of the trials on the front. The front is that of the validation accuracy where every finished trial
      has one, so that it is not chosen by the test images; else that of the test accuracy.
    """
    rows: list[dict[str, Any]] = []
    compared: dict[str, dict[str, Any]] = {}
    limited: tuple[Limited, ...] = ()
    for trial in sweep.trials:
        status = statuses.get(trial.name, "waiting")
        directory = sweep.path(trial)
        run = read(directory) if directory.is_dir() else None
        outcome = _outcome(run, run.searched) if run and run.searched and status == "finished" else Outcome()
        row = {"name": trial.name, "budget": trial.budget, "penalty_weight": trial.penalty_weight, "status": status}
        row |= {"run_dir": f"trials/{trial.name}", "reason": _reason(sweep, trial) if status == "failed" else None}
        rows.append({**row, **vars(outcome)})
        if run is None:
            continue
        limited = limited or run.costs
        for training in run.compared:
            about = {"label": training.label, "key": training.key, "run_dir": f"trials/{trial.name}"}
            compared.setdefault(repr(training.architecture), {**about, **vars(_outcome(run, training))})
    candidates = [row for row in rows if row["cost"] is not None and row["accuracy"] is not None]
    by = "validation_accuracy" if candidates and all(_validated(row) for row in candidates) else "accuracy"
    front = [candidates[index]["name"] for index in pareto_front([(row["cost"], row[by]) for row in candidates])]
    return {
        "format": 1,
        **sweep.to_dict()["sweep"],
        "preset": sweep.preset,
        "data": mapping(sweep.settings.get("data")).get("name"),
        "cost": limited[0].name if limited else None,
        "unit": limited[0].unit if limited else sweep.unit,
        "trials": rows,
        "baselines": list(compared.values()),
        "front_by": by,
        "front": front,
        "command": sweep.again,
    }


def _validated(row: Mapping[str, Any]) -> bool:
    return row["validation_accuracy"] is not None


def _reason(sweep: Sweep, trial: Trial) -> str:
    try:
        return str(mapping(read_json(failure_file(sweep.run_dir, trial.name))).get("reason"))
    except UserError:
        return f"unknown, see trials/{trial.name}.log"


def write(run_dir: Path, content: Mapping[str, Any]) -> None:
    """Writes sweep.json, and the front's models into front/, named by their trials; each whole or not at all.

    The class names, which are those of all trials, lie beside the models.
    """
    write_json(run_dir / RESULTS, content)
    with atomic_write(run_dir / FRONT) as folder:
        folder.mkdir()
        for name in content["front"]:
            for model in MODELS:
                source = run_dir / "trials" / name / model
                if source.is_file():
                    shutil.copy2(source, folder / f"{name}{source.suffix}")
            labels = run_dir / "trials" / name / LABELS
            if labels.is_file():
                shutil.copy2(labels, folder / LABELS)
