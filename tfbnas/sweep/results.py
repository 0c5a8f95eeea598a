"""What the trials of a sweep came to, read from their run directories: sweep.json and front/."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfbnas.errors import UserError
from tfbnas.files import atomic_write, read_json, write_json
from tfbnas.report.methods import method_named
from tfbnas.report.reading import Run, read
from tfbnas.report.values import mapping
from tfbnas.results import Limited, TrainingResult
from tfbnas.sweep import curves, seeds
from tfbnas.sweep.front import pareto_front
from tfbnas.sweep.grid import Trial
from tfbnas.sweep.options import Sweep
from tfbnas.sweep.seeds import Network, Outcome
from tfbnas.units import UNITS

RESULTS = "sweep.json"
FORMAT = 2
FRONT = "front"
RECIPE_SETTINGS = "recipe.yaml"
REPORT = "report.html"
LABELS = "labels.txt"
MODELS = ("model.tflite", "model.keras")
MEMORY = Limited("memory", UNITS["memory"].name, UNITS["memory"].scale, 0.0)
"""What the networks of a recipe are compared by that searches under no budget."""


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
    return {name: metrics(outcome) for name, outcome in known.items() if outcome.accuracy is not None}


def metrics(outcome: Outcome) -> dict[str, float]:
    """Accuracy and cost, as far as they are known: what KerasTuner is told."""
    known = {"accuracy": outcome.accuracy, "cost": outcome.cost}
    return {name: value for name, value in known.items() if value is not None}


def _outcome(run: Run, training: TrainingResult) -> Outcome:
    limited = _limited(run)
    cost = training.memory.get("paper") if limited is MEMORY else run.price(training, limited)
    search = run.search.seconds if run.search and training is run.searched else 0.0
    return Outcome(
        cost=cost / limited.scale if cost is not None else None,
        accuracy=training.test.get("accuracy"),
        validation_accuracy=training.validation.get("accuracy"),
        memory=training.memory.get("paper"),
        deployed=training.memory.get("deployed"),
        file=training.file or training.memory.get("file"),
        milliseconds=training.milliseconds or None,
        seconds=training.seconds + search or None,
    )


def _limited(run: Run) -> Limited:
    """The cost that networks are compared by: what the search limits first, or the memory where nothing is searched."""
    return run.costs[0] if run.costs else MEMORY


def collect(sweep: Sweep, statuses: Mapping[str, str]) -> dict[str, Any]:
    """The content of sweep.json.

    Args:
      sweep: The sweep.
      statuses: For each trial's name "finished", "failed", "running" or "waiting".

    Returns:
      JSON values: what was asked, a row for each trial with its status and the found network's `Outcome`, the points
      with their networks over the seeds (see `seeds.points`) and their curves (see `curves.over_seeds`), and the names
      of the points on the front. The front is that of the mean validation accuracy where every point has one, so that
      it is not chosen by the test images; else that of the mean test accuracy.
    """
    rows: list[dict[str, Any]] = []
    trained: dict[str, list[Network]] = {}
    runs: dict[str, list[Run]] = {}
    limited = MEMORY if not sweep.unit else None
    for trial in sweep.trials:
        status = statuses.get(trial.name, "waiting")
        row = {"name": trial.name, "point": trial.point.name, "seed": trial.seed, "status": status}
        row |= {"run_dir": f"trials/{trial.name}", "reason": _reason(sweep, trial) if status == "failed" else None}
        run = read(sweep.path(trial)) if status == "finished" else None
        if run:
            limited = limited or _limited(run)
            runs.setdefault(trial.point.name, []).append(run)
            trained[trial.name] = [Network(one, _outcome(run, one), str(row["run_dir"])) for one in run.trainings]
        outcome = next((_outcome(run, run.searched) for run in [run] if run and run.searched), Outcome())
        rows.append({**row, **vars(outcome)})
    points = [
        {**point, "curves": curves.over_seeds(runs.get(point["name"], []))}
        for point in seeds.points(sweep.points, _networks(sweep, trained))
    ]
    any_run = next((own[0] for own in runs.values()), None)
    candidates = {point["name"]: found for point in points if (found := searched(point)) and found["cost"]}
    by = "validation_accuracy" if candidates and all(map(_validated, candidates.values())) else "accuracy"
    known = {name: (one["cost"]["mean"], one[by]["mean"]) for name, one in candidates.items() if one[by]}
    front = [list(known)[index] for index in pareto_front(list(known.values()))]
    return {
        "format": FORMAT,
        **sweep.to_dict()["sweep"],
        "seeds": list(dict.fromkeys(trial.seed for trial in sweep.trials)),
        "preset": sweep.preset,
        "data": mapping(sweep.settings.get("data")).get("name"),
        "cost": limited.name if limited else None,
        "unit": limited.unit if limited else sweep.unit,
        "trials": rows,
        "points": points,
        "curves": curves.labels(any_run) if any_run else {},
        "epoch": method_named(any_run.method).epoch if any_run else "epoch",
        "front_by": by,
        "front": front,
        "command": sweep.again,
    }


def searched(point: Mapping[str, Any]) -> dict[str, Any] | None:
    """The network of a point that was found, over its seeds; None while there is none."""
    return next((network for network in point["networks"] if network["role"] == "searched"), None)


def _networks(sweep: Sweep, trained: Mapping[str, list[Network]]) -> dict[str, dict[int | None, list[Network]]]:
    """The networks of each point and seed: those that its trial trained, and those that another one did for it."""
    found: dict[str, dict[int | None, list[Network]]] = {}
    for trial in sweep.trials:
        own = trained.get(trial.name, [])
        keys = {network.training.key for network in own}
        shared = [network for network in trained.get(trial.common or "", []) if network.training.key not in keys]
        if own:
            found.setdefault(trial.point.name, {})[trial.seed] = [*own, *shared]
    return found


def _validated(network: Mapping[str, Any]) -> bool:
    return network["validation_accuracy"] is not None


def _reason(sweep: Sweep, trial: Trial) -> str:
    try:
        return str(mapping(read_json(failure_file(sweep.run_dir, trial.name))).get("reason"))
    except UserError:
        return f"unknown, see trials/{trial.name}.log"


def write(run_dir: Path, content: Mapping[str, Any]) -> None:
    """Writes sweep.json, and the front's models into front/, named by their trials; each whole or not at all.

    Of each point on the front it is the model of every seed: to take the best by the test images would flatter it.

    The class names, which are those of all trials, lie beside the models.
    """
    write_json(run_dir / RESULTS, content)
    with atomic_write(run_dir / FRONT) as folder:
        folder.mkdir()
        for name in [trial["name"] for trial in content["trials"] if trial["point"] in content["front"]]:
            for model in MODELS:
                source = run_dir / "trials" / name / model
                if source.is_file():
                    shutil.copy2(source, folder / f"{name}{source.suffix}")
            labels = run_dir / "trials" / name / LABELS
            if labels.is_file():
                shutil.copy2(labels, folder / LABELS)
