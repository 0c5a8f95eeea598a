"""The run in a few words and numbers: title, opening sentences, tiles, stages, commands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tfbnas.report import exported, forms, latency, trained
from tfbnas.report.history import expected
from tfbnas.report.methods import Method
from tfbnas.report.reading import Run
from tfbnas.report.values import amount, cost_name, count, duration, mib, number, percent, shown, size

_NETWORKS = {"resnet18": "ResNet-18", "vgg11": "VGG-11", "resnet_fabric": "ResNet Fabric", "cnf": "CNF"}
# A search that has not begun has no result: then the recipe's name tells the network.
_NETWORKS |= {"cnf_segmentation": "CNF", "resnet20": "ResNet-20", "vgg_small": "VGG-small", "cells": "Cells"}
_NETWORKS |= {"resnet18_interactions": "ResNet-18"}
_NETWORKS |= {"quicknet": "QuickNet", "quicknet_blocks": "QuickNet"}
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
    """What was searched, how, and on which data."""
    network = _NETWORKS.get(run.network, run.network) or "A network"
    data = data_name(run.dataset)
    how = f"searched with {method.label}" if run.has_search else "trained"
    return f"{network}, {how}" + (f" on {data}" if data else "")


def data_name(name: str) -> str:
    """A data set's name as written in sentences."""
    return _DATASETS.get(name, name)


def lead(run: Run, method: Method) -> str:
    """The result in two sentences, and why it leaves budget; "" while there is none."""
    searched = run.searched
    if searched is None or "accuracy" not in searched.test:
        return ""
    who = f"{method.title} found a network that" if run.has_search else "The network"
    text = f"{who} classifies {percent(searched.test['accuracy'])} % of the test "
    text += f"{trained.classified(run)} correctly"
    if "mean_iou" in searched.test:
        text += f" (mean IoU {percent(searched.test['mean_iou'])} %)"
    found = [] if _limits_memory(run) or "paper" not in searched.memory else [f"{mib(searched.memory['paper'])} MiB"]
    for cost in run.costs[:1]:
        if (value := _closed_cost(run)) is not None:
            model = f"{latency.on_device(run)}, as a model of the device predicts" if cost.name == "latency" else ""
            used = f"{100 * value / cost.limit:.0f} % of its budget of {amount(cost, cost.limit)}"
            found.append(f"{amount(cost, value)}{model}, {used}")
    text += f" in {' and '.join(found)}" if found else ""
    beside = forms.beside(run)
    text = f"{text}{beside}. {forms.won(run)}".rstrip()
    parts: list[str] = []
    for gain in trained.gains(run)[:2]:
        more = "more" if gain.points >= 0 else "less"
        points = f"{abs(gain.points):.1f} {'percentage points ' if not parts else ''}{more}"
        limited = gain.other.costs.get("memory") if _limits_memory(run) else None
        memory = limited or gain.other.memory.get("paper")
        known = "; ".join(filter(None, (f"{mib(memory)} MiB" if memory else "", gain.interval)))
        parts.append(f"{points} than “{gain.other.label}”{f' ({known})' if known else ''}")
    text += f" {'The network found has' if beside else 'That is'} {' and '.join(parts)}." if parts else ""
    unspent = run.search.unspent.replace("`", "") if run.search else ""
    return f"{text} {unspent}".rstrip()


def tiles(run: Run) -> list[Tile]:
    """Accuracy, the cost against its budget, memory, size of the file and time, as far as they are known."""
    found = []
    searched = run.searched
    if searched and "accuracy" in searched.test:
        note = f"of the test {trained.classified(run)}"
        for gain in trained.gains(run)[:1]:
            note = f"{'+' if gain.points >= 0 else '−'}{abs(gain.points):.1f} points over “{gain.other.label}”"
            note += f", {gain.difference.verdict}" if gain.difference else ""
        found.append(Tile("Test accuracy", percent(searched.test["accuracy"]), "%", note))
        if "mean_iou" in searched.test:
            found.append(Tile("Mean IoU", percent(searched.test["mean_iou"]), "%", "of the test images, over classes"))
    for cost in run.costs[:1]:
        closed = _closed_cost(run)
        value = closed if closed is not None else next(iter(expected(run, cost)[1][-1:]), None)
        if value is not None:
            kind = "Expected " if closed is None else "Predicted " if cost.name == "latency" else ""
            name = f"{kind}{cost_name(cost)}"
            note = f"budget {shown(cost, cost.limit)} {cost.unit}, {100 * value / cost.limit:.0f} % used"
            unit = cost.unit if cost.unit != cost.name else ""
            found.append(Tile(name[:1].upper() + name[1:], shown(cost, value), unit, note))
    if searched and "paper" in searched.memory and not _limits_memory(run):
        found.append(Tile("Memory", mib(searched.memory["paper"]), "MiB", "as the paper counts"))
    elif (time := latency.headline(run)) is not None:
        found.append(Tile(*time))
    stored = exported.file_size(run)
    if stored:
        value_text, _, unit = size(stored).partition(" ")
        found.append(Tile("model.tflite", value_text, unit, "audited and verified" if run.export else ""))
    search = run.search.seconds if run.search else 0.0
    training = sum(one.seconds for one in run.trainings)
    if search or training:
        parts = [f"search {duration(search)}"] if search else []
        parts += [f"training {duration(training)}"] if training else []
        note = ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)
        found.append(Tile("Time", duration(search + training), "", note))
    return found


def _limits_memory(run: Run) -> bool:
    return bool(run.costs) and run.costs[0].name == "memory"


def _closed_cost(run: Run) -> float | None:
    """What the network found costs, in the own unit of the first limited cost."""
    cost = run.costs[0]
    return run.price(run.searched, cost) if run.searched else cost.found


def stages(run: Run, method: Method) -> list[Stage]:
    """Search, training and export."""
    trained_ones = count(len(run.trainings), "network") if run.trainings else "" if run.in_training else "not yet"
    for one in run.in_training:
        trained_ones += f"{', ' * bool(trained_ones)}{one.label} after {count(len(one.history), 'epoch')}"
    searched = count(len(run.history), method.epoch) if run.search else "not yet"
    if "search" in run.running:
        planned = number(run.group("search").get(method.epochs))
        searched += f" of {planned:.0f} so far" if planned else " so far"
    search = [Stage("Search", run.search is not None and "search" not in run.running, searched)]
    return [
        *(search if run.has_search else []),
        Stage("Training", run.searched is not None, trained_ones),
        Stage("Export", bool(run.export), "verified" if run.export else "not yet"),
    ]


@dataclass(frozen=True)
class Commands:
    """Commands to paste into a shell."""

    repeat: str
    resume: str
    benchmark: str
    predict: str
    report: str


BENCHMARK = "lce_benchmark_model_aarch64"
"""Larq Compute Engine's program for boards with a 64-bit system, as its releases name it."""


def commands(run: Run) -> Commands | None:
    """How to repeat and how to resume the run; None where nothing tells which program made it."""
    if not run.recipe:
        return None
    program = f"python -m tfbnas.recipes.{shlex.quote(run.recipe)}"
    return Commands(
        repeat=f"{program} --config {shlex.quote(str(run.path / 'settings.yaml'))}",
        resume=f"{program} --run_dir {shlex.quote(str(run.path))}",
        benchmark=f"python -m tfbnas.device benchmark {shlex.quote(str(run.path / 'model.tflite'))} "
        f"--target ssh:pi@raspberrypi --binary {BENCHMARK} --profile "
        f"--json {shlex.quote(str(run.path / 'benchmark.json'))}",
        predict=f"python -m tfbnas.predict {shlex.quote(str(run.path))} photo.jpg",
        report=f"python -m tfbnas.report {shlex.quote(str(run.path))}",
    )
