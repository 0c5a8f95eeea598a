"""The run in a few words and numbers: title, opening sentences, tiles, stages, commands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tfbnas.report import exported, latency, results
from tfbnas.report.parts import Method
from tfbnas.report.reading import Run, mapping, number

_NETWORKS = {"resnet18": "ResNet-18", "vgg11": "VGG-11", "resnet_fabric": "ResNet Fabric", "cnf": "CNF"}
# A search that still runs has no architecture: then the recipe's name tells the network.
_NETWORKS |= {"cnf_segmentation": "CNF"}
_DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet2012": "ImageNet", "mnist": "MNIST"}
_DATASETS |= {"cifar10-quick": "a small part of CIFAR-10", "cifar10-shapes": "shapes drawn on CIFAR-10"}
_DATASETS |= {"part_labels": "Part Labels"}


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
    data = data_name(run.dataset)
    return f"{network}, searched with {method.name}" + (f" on {data}" if data else "")


def data_name(name: str) -> str:
    """A data set's name as written in sentences."""
    return _DATASETS.get(name, name)


def lead(run: Run, method: Method) -> str:
    """The result in two sentences; "" while there is none."""
    searched = run.training("searched")
    if searched is None or searched.accuracy is None:
        return ""
    text = f"{method.title} found a network that classifies {results.percent(searched.accuracy)} % of the test "
    text += f"{results.classified(run)} correctly"
    if searched.mean_iou is not None:
        text += f" (mean IoU {results.percent(searched.mean_iou)} %)"
    if searched.memory is not None:
        text += f" in {results.mib(searched.memory)} MiB"
    goal = run.goal
    cost = _closed_cost(run)
    if goal.name == "latency" and cost is not None:
        text += f" and {latency.rough(cost)} ms{latency.on_device(run)}, as a model of the device predicts"
    if cost is not None and goal.limit:
        text += f", {100 * cost / goal.limit:.0f} % of its budget of {goal.limit / goal.scale:.3g} {goal.unit}"
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
        note = f"of the test {results.classified(run)}"
        for gain, other in results.gains(run)[:1]:
            note = f"{'+' if gain >= 0 else '−'}{abs(gain):.1f} points over {results.described(other)}"
        found.append(Tile("Test accuracy", results.percent(searched.accuracy), "%", note))
        if searched.mean_iou is not None:
            found.append(Tile("Mean IoU", results.percent(searched.mean_iou), "%", "of the test images, over classes"))
    goal = run.goal
    closed = _closed_cost(run)
    cost = closed if closed is not None else _expected_cost(run)
    if cost is not None:
        note = f"budget {goal.limit / goal.scale:.3g} {goal.unit}, " if goal.limit else ""
        note += f"{100 * cost / goal.limit:.0f} % used" if goal.limit else ""
        kind = (
            "Predicted" if goal.name == "latency" and closed is not None else "" if closed is not None else "Expected"
        )
        name = {"multiply_adds": "multiply-adds"}.get(goal.name, goal.name.replace("_", " "))
        found.append(Tile(f"{kind} {name}".strip().capitalize(), goal.text(cost), goal.unit, note))
    if goal.name != "memory" and searched and searched.memory:
        found.append(Tile("Memory", results.mib(searched.memory), "MiB", "as the paper counts"))
    elif (time := latency.headline(run)) is not None:
        found.append(Tile(*time))
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


def _closed_cost(run: Run) -> float | None:
    """What the network found costs, in the unit of the budget in the files."""
    searched = run.training("searched")
    if run.goal.name == "memory" and searched and searched.memory:
        return searched.memory
    return run.goal.found


def _expected_cost(run: Run) -> float | None:
    known = [cost for cost in run.expected_cost if cost is not None]
    return known[-1] if known else None


def stages(run: Run) -> list[Stage]:
    """Search, training and export."""
    rounds, networks = len(run.rounds), len(run.trainings)
    trained = f"{networks} network{'s' * (networks != 1)}" if networks else "" if run.in_training else "not yet"
    for training in run.in_training:
        going = f"{training.label} after {len(training.history)} epoch{'s' * (len(training.history) != 1)}"
        trained += f"{', ' * bool(trained)}{going}"
    searched = f"{rounds} round{'s' * (rounds != 1)}" if run.search else "not yet"
    if "search" in run.running:
        planned = number(mapping(run.settings.get("search")).get("rounds"))
        searched += f" of {planned:.0f} so far" if planned else " so far"
    return [
        Stage("Search", bool(run.search) and "search" not in run.running, searched),
        Stage("Training", run.training("searched") is not None, trained),
        Stage("Export", bool(run.export), "verified" if run.export else "not yet"),
    ]


@dataclass(frozen=True)
class Commands:
    """Commands to paste into a shell."""

    repeat: str
    resume: str
    benchmark: str
    report: str


def commands(run: Run) -> Commands | None:
    """How to repeat and how to resume the run; None where nothing tells which program made it."""
    if not run.recipe:
        return None
    program = f"python -m tfbnas.recipes.{shlex.quote(run.recipe)}"
    return Commands(
        repeat=f"{program} --config {shlex.quote(str(run.path / 'settings.yaml'))}",
        resume=f"{program} --run_dir {shlex.quote(str(run.path))}",
        benchmark=f"python -m tfbnas.device benchmark {shlex.quote(str(run.path / 'model.tflite'))} "
        f"--target ssh:user@board --profile --json {shlex.quote(str(run.path / 'benchmark.json'))}",
        report=f"python -m tfbnas.report {shlex.quote(str(run.path))}",
    )
