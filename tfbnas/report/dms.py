"""Differentiable dimension search (DMS) in the report: the paper's table, and best-effort initialisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure as Canvas

from tfbnas.report import style
from tfbnas.report.figure import Figure
from tfbnas.report.methods import Method, Published
from tfbnas.report.reading import Run
from tfbnas.report.values import MIB, rows_of, series
from tfbnas.results import Role

WITHOUT = "search-no-bei"
# Test accuracy on CIFAR-10 in percent and parameters in MiB, as printed in table 1 of the paper.
TABLE = {
    "vgg11": {
        "Full precision": (88.10, 2.20),
        "BNN 1×": (78.31, 0.08),
        "BNN 2×": (85.37, 0.29),
        "BNN 3×": (88.17, 0.65),
        "BNN 4×": (88.68, 1.14),
        "DMS-A": (84.16, 0.08),
        "DMS-B": (89.10, 0.64),
    },
    "resnet18": {
        "Full precision": (92.75, 2.67),
        "BNN 1×": (85.33, 0.09),
        "BNN 2×": (90.25, 0.40),
        "BNN 3×": (92.25, 0.98),
        "BNN 4×": (93.01, 1.92),
        "DMS-A": (89.32, 0.10),
        "DMS-B": (92.70, 0.84),
    },
}
# The trained networks that stand beside a row.
KEYS = {f"BNN {ratio}×": f"uniform-{ratio}.00" for ratio in (1, 2, 3, 4)}
# Memory_target in MiB, appendix B.2.1 of the paper.
BUDGETS = {"DMS-A": 0.12, "DMS-B": 1.0}


def published(run: Run) -> list[Published]:
    """The paper's rows for the run's network; the run's search stands beside the row of the nearer budget."""
    data = run.dataset.replace("-", "").lower()
    if "cifar10" not in data or "cifar100" in data:
        return []
    limits = [cost.limit / MIB for cost in run.costs[:1] if cost.name == "memory"] or [BUDGETS["DMS-A"]]
    nearest = min(BUDGETS, key=lambda name: abs(math.log(max(limits[0], 1e-9) / BUDGETS[name])))
    keys = KEYS | {nearest: "searched"}
    rows = [
        Published(label, _role(label), *values, key=keys.get(label, ""))
        for label, values in TABLE.get(run.network, {}).items()
    ]
    return sorted(rows, key=lambda row: (row.label != nearest, row.memory))


def _role(label: str) -> Role:
    return "searched" if label in BUDGETS else "baseline" if label in KEYS else "reference"


def remarks(run: Run) -> list[str]:
    """How to read the paper's numbers beside the run's."""
    if not published(run):
        return []
    said = [
        "The paper trains on all 50 000 images for 300 epochs; where this run trained for less, compare the order "
        "of the networks and the gaps between them, not the level."
    ]
    if run.network == "resnet18":
        said.append(
            "The paper's memory of ResNet-18 at 2×, 3× and 4× (0.40, 0.98, 1.92 MiB) follows from no count of its "
            "weights that we know of; the same count that gives its 0.09 MiB at 1× gives 0.35, 0.77 and 1.36 MiB."
        )
    return said


def figures(run: Run) -> Sequence[Figure]:
    """The training error, as far as the history has it."""
    if not errors(run.history)[0]:
        return []
    other = (
        "With best-effort initialisation the common channels keep their weights; without it every round starts anew."
        if WITHOUT in run.searches
        else "Best-effort initialisation keeps the weights of the common channels from round to round."
    )
    lines = "Pale vertical lines mark where a new round changes the widths. " if boundaries(run.history) else ""
    caption = "Error on the training half, as the mean over each epoch while the weights were trained. "
    return [
        Figure(
            "training-error",
            "Training error during the search",
            f"{caption}{lines}{other} Mirrors figure 3 of the paper.",
            lambda narrow: training_error(run, narrow),
        )
    ]


def errors(history: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float], list[float]]:
    """Epochs of the weights from 1, training error in percent, and the epoch after which each round ended."""
    x: list[float] = []
    y: list[float] = []
    ends = [0.0]
    for row in history:
        epochs = rows_of(row.get("epochs")) or [{**row, "epoch": 1}]
        at, accuracy = series([{**one, "epoch": i} for i, one in enumerate(epochs, start=1)], "accuracy")
        x += [ends[-1] + epoch for epoch in at]
        y += [100 * (1 - value) for value in accuracy]
        ends.append(ends[-1] + len(epochs))
    return x, y, ends[1:]


def boundaries(history: Sequence[Mapping[str, Any]]) -> list[float]:
    """Epochs after which the widths change, where lines at them are neither everywhere nor too dense."""
    ends = errors(history)[2]
    return ends[:-1] if 1 < len(ends) <= 60 and ends[-1] > len(ends) else []


def training_error(run: Run, narrow: bool) -> Canvas:
    """Training error over the epochs of weights, with and without best-effort initialisation (figure 3)."""
    figure, (axis,) = style.canvas(narrow, 260 if narrow else 300)
    for end in boundaries(run.history):
        axis.axvline(end + 0.5, color=style.COLORS["rule"], lw=0.8)
    for stage, color, word in ((WITHOUT, "second", "Without"), ("search", "accent", "With")):
        if stage in run.searches:
            x, y, _ = errors(run.searches[stage].history)
            style.line(axis, x, y, color, f"{word} best-effort initialisation", gid=f"error:{stage}")
    axis.set_xlabel("Epoch of weights" if any(row.get("epochs") for row in run.history) else "Round")
    axis.set_ylabel("Training error (%)")
    style.whole_numbers(axis)
    style.below(figure, axis, columns=1 if narrow else 2, last_first=True)
    return figure


METHOD = Method(
    epochs="rounds",
    neutral=1.0,
    captions={
        "channels": "Mirrors figure 4 of the paper.",
        "choices": "The band is μ ± σ: the distribution narrows as σ is deflated. The dotted line is the width of the "
        "uniform network (1×).",
        "cost": "The penalty acts only above the budget. The paper has no such figure.",
        "candidates": "The candidates are μ − 0.8σ, μ and μ + 0.8σ. Mirrors figure 1 of the paper.",
    },
    figures=figures,
    published=published,
    table="table 1",
    remarks=remarks,
)
