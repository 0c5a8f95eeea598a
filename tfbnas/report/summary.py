"""The run in a few words and numbers: title, opening sentences, tiles, stages, commands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tfbnas.report import exported, results
from tfbnas.report.parts import Method
from tfbnas.report.reading import MIB, Run, number

_NETWORKS = {"resnet18": "ResNet-18", "vgg11": "VGG-11"}
_DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet2012": "ImageNet", "mnist": "MNIST"}


@dataclass(frozen=True)
class Tile:
    """One number on top of the page."""

    name: str
    value: str
    unit: str
    note: str


@dataclass(frozen=True)
class Stage:
    """How far one stage of the run has got."""

    name: str
    done: bool
    note: str


def title(run: Run, method: Method) -> str:
    network = _NETWORKS.get(run.network, run.network) or "A network"
    data = _DATASETS.get(run.dataset, run.dataset)
    return f"{network}, searched with {method.name}" + (f" on {data}" if data else "")


def lead(run: Run, method: Method) -> str:
    """The result in two sentences; "" while there is none."""
    searched = run.training("searched")
    if searched is None or searched.accuracy is None:
        return ""
    text = f"{method.title} found a network that classifies {results.percent(searched.accuracy)} % of the test images "
    text += "correctly"
    if searched.memory is not None:
        text += f" in {results.mib(searched.memory)} MiB"
        if run.budget:
            text += f", {100 * searched.memory / run.budget:.0f} % of its budget of {run.budget / MIB:.3g} MiB"
    text += "."
    parts: list[str] = []
    for gain, other in results.gains(run)[:2]:
        points = f"{abs(gain):.1f} {'percentage points ' if not parts else ''}{'more' if gain >= 0 else 'less'}"
        memory = f" ({results.mib(other.memory)} MiB)" if other.memory is not None else ""
        parts.append(f"{points} than {results.described(other)}{memory}")
    return text + (f" That is {' and '.join(parts)}." if parts else "")


def tiles(run: Run) -> list[Tile]:
    """Accuracy, memory against the budget, size of the file and time, as far as they are known."""
    found = []
    searched = run.training("searched")
    if searched and searched.accuracy is not None:
        note = "of the test images"
        for gain, other in results.gains(run)[:1]:
            note = f"{'+' if gain >= 0 else '−'}{abs(gain):.1f} points over {results.described(other)}"
        found.append(Tile("Test accuracy", results.percent(searched.accuracy), "%", note))
    closed = searched.memory if searched else None
    memory = closed or _expected_memory(run)
    if memory is not None:
        note = f"budget {run.budget / MIB:.3g} MiB, {100 * memory / run.budget:.0f} % used" if run.budget else ""
        found.append(Tile("Memory" if closed else "Expected memory", results.mib(memory), "MiB", note))
    stored = exported.file_size(run)
    if stored:
        value, _, unit = results.size(stored).partition(" ")
        found.append(Tile("model.tflite", value, unit, "audited and verified" if run.export else ""))
    search = number(run.search.get("seconds"))
    training = [t.seconds for t in run.trainings if t.seconds is not None]
    if search or training:
        parts = [f"search {results.duration(search)}"] if search is not None else []
        parts += [f"training {results.duration(sum(training))}"] if training else []
        note = ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)
        found.append(Tile("Time", results.duration((search or 0.0) + sum(training)), "", note))
    return found


def _expected_memory(run: Run) -> float | None:
    known = [memory for row in run.rounds if (memory := number(row.get("memory"))) is not None]
    return known[-1] if known else None


def stages(run: Run) -> list[Stage]:
    """Search, training and export."""
    rounds, networks = len(run.rounds), len(run.trainings)
    trained = f"{networks} network{'s' * (networks != 1)}" if networks else "not yet"
    return [
        Stage("Search", bool(run.search), f"{rounds} round{'s' * (rounds != 1)}" if run.search else "not yet"),
        Stage("Training", run.training("searched") is not None, trained),
        Stage("Export", bool(run.export), "verified" if run.export else "not yet"),
    ]


@dataclass(frozen=True)
class Commands:
    """Commands to paste into a shell."""

    repeat: str
    resume: str


def commands(run: Run) -> Commands | None:
    """How to repeat and how to resume the run; None where nothing tells which program made it."""
    if not run.recipe:
        return None
    program = f"python -m tfbnas.recipes.{shlex.quote(run.recipe)}"
    return Commands(
        repeat=f"{program} --config {shlex.quote(str(run.path / 'settings.yaml'))}",
        resume=f"{program} --run_dir {shlex.quote(str(run.path))}",
    )
