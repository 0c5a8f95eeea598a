"""Adversarial pruning (RBCN) in the report: masks over time, filters cut, discriminators, accuracy along the path."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure as Canvas

from tfbnas.report import style
from tfbnas.report.bars import largest, stacked
from tfbnas.report.choices import choices
from tfbnas.report.figure import Figure
from tfbnas.report.methods import Method
from tfbnas.report.reading import Run
from tfbnas.report.values import count, number, series
from tfbnas.report.widths import widths
from tfbnas.results import Limited

Verdicts = Mapping[str, tuple[list[float], list[float]]]
"""Epochs and values of "real" and "fake"."""


def masks(run: Run) -> dict[str, list[tuple[float, np.ndarray]]]:
    """Of each width: epochs behind the warm-up, and all masks after each."""
    found: dict[str, list[tuple[float, np.ndarray]]] = {}
    for index, row in enumerate(run.history, start=1):
        for name, choice in choices(row).items() if row.get("warm_up") is not True else ():
            values = [number(value) for value in choice.get("masks") or []]
            known = np.array([value for value in values if value is not None])
            if known.size:
                found.setdefault(name, []).append((number(row.get("epoch")) or index, known))
    return found


def verdicts(rows: Sequence[Mapping]) -> Verdicts:
    """What discriminators made of a teacher and of the network, where a history has both."""
    behind = [row for row in rows if row.get("warm_up") is not True]
    found = {name: series(behind, name) for name in ("real", "fake")}
    return found if all(x for x, _ in found.values()) else {}


def figures(run: Run) -> Sequence[Figure]:
    """What the run has of them."""
    found = []
    if shown := masks(run):
        caption = (
            "The masks of each width over the epochs behind the warm-up: the line is the median, the band holds the "
            "middle four fifths. On the right is how many are exactly 0 in the end."
        )
        found.append(Figure("masks", "Masks during the search", caption, lambda narrow: over_time(run, shown, narrow)))
    if shown and (known := widths(run)):
        left, whole = (sum(pair[place] for pair in known.values()) for place in (0, 1))
        caption = (
            f"Filters of each width that are left and that were cut out. Of {count(int(whole), 'filter')} {left:.0f} "
            f"are left, {100 * left / whole:.0f} %. Filters whose outputs are added are cut together and count once."
        )
        found.append(Figure("cut", "Filters cut out", caption, lambda narrow: by_layer(run, narrow)))
    if len(path(run)[0]) > 1:
        cost = run.costs[0]
        caption = (
            f"Accuracy of the network with the filters left after each epoch, over its {cost.name.replace('_', ' ')}. "
            "The path begins on the right, with all filters; its end is marked."
        )
        found.append(Figure("path", "Accuracy along the path", caption, lambda narrow: along(run, cost, narrow)))
    judged = {"The search": verdicts(run.history)}
    judged |= {one.label: verdicts(one.history) for one in [*run.trainings, *run.in_training]}
    judged = {name: one for name, one in judged.items() if one}
    if judged:
        caption = (
            "Probability, by the discriminators, that features are the teacher's: of the teacher's own and of the "
            "network's. Both near one half: they cannot be told apart. Far apart: the discriminators win."
        )
        found.append(Figure("verdicts", "Discriminators", caption, lambda narrow: judgements(judged, narrow)))
    return found


def over_time(run: Run, shown: Mapping[str, list[tuple[float, np.ndarray]]], narrow: bool) -> Canvas:
    """Median and middle of the masks, a panel for each width."""
    columns = min(len(shown), 2 if narrow else 4)
    lines = math.ceil(len(shown) / columns)
    figure, axes = style.canvas(narrow, 60 + 150 * lines, nrows=lines, ncols=columns, sharex=True, sharey=True)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    titles = style.labels(list(shown), longest=20)
    for place, (axis, title, name) in enumerate(zip(axes, titles, shown, strict=False)):
        epochs, values = [epoch for epoch, _ in shown[name]], [row for _, row in shown[name]]
        low, middle, high = (np.array([np.quantile(row, q) for row in values]) for q in (0.1, 0.5, 0.9))
        axis.fill_between(epochs, low, high, color=style.COLORS["wash"], lw=0, gid=f"band:{name}")
        style.line(axis, epochs, middle.tolist(), "accent", gid=f"median:{name}", lw=1.8)
        zeros = int((values[-1] == 0).sum())
        axis.set_title(title, fontsize=11, fontweight="normal", pad=5, loc="left")
        axis.set_title(f"{zeros} of {len(values[-1])}", loc="right", fontsize=11, pad=5, color=style.COLORS["accent"])
        if place % columns == 0:
            axis.set_ylabel("Mask")
        if place + columns >= len(shown):
            axis.tick_params(axis="x", labelbottom=True)
            axis.set_xlabel("Epoch")
    axes[0].set_ylim(bottom=0)  # of all: only when all is drawn is it known how high they reach
    style.whole_numbers(axes[0])
    return figure


def by_layer(run: Run, narrow: bool) -> Canvas:
    """Bars of what is left and what was cut."""
    parts = {name: ({"left": own, "cut": max(0.0, base - own)},) for name, (own, base) in widths(run).items()}
    shown = {name: panel for name, (panel,) in largest(parts).items()}
    figure, (axis,) = style.canvas(narrow, 90 + 26 * len(shown))
    stacked(
        axis,
        shown,
        [("left", "accent", "Left"), ("cut", "bar", "Cut out")],
        text=lambda value: f"{value:.0f}",
        room=1.12,
        longest=20 if narrow else 34,
    )
    axis.set_xlabel("Filters")
    style.below(figure, axis, columns=2)
    return figure


def path(run: Run) -> tuple[list[float], list[float]]:
    """Cost in the own unit and accuracy in percent, after each epoch behind the warm-up."""
    if not run.costs:
        return [], []
    rows = [row for row in run.history if row.get("warm_up") is not True]
    name = "validation_accuracy" if any(number(row.get("validation_accuracy")) for row in rows) else "accuracy"
    points = [(number(row.get("cost")), number(row.get(name))) for row in rows]
    known = [(cost, accuracy) for cost, accuracy in points if cost is not None and accuracy is not None]
    return [cost for cost, _ in known], [100 * accuracy for _, accuracy in known]


def along(run: Run, cost: Limited, narrow: bool) -> Canvas:
    """A line from the whole network to what is left."""
    values, accuracies = path(run)
    figure, (axis,) = style.canvas(narrow, 260 if narrow else 300)
    x = [value / cost.scale for value in values]
    axis.plot(x, accuracies, "-o", ms=4, lw=1.4, color=style.COLORS["accent"], gid="path")
    axis.plot(x[-1:], accuracies[-1:], "D", ms=7, color=style.COLORS["ink"], gid="end", label="End of the search")
    axis.axvline(cost.limit / cost.scale, color=style.COLORS["second"], lw=1.2, ls="--", gid="budget", label="Budget")
    axis.set_xlabel(f"{cost.name.replace('_', ' ').capitalize()} ({cost.unit})")
    axis.set_ylabel("Accuracy (%)")
    style.below(figure, axis, columns=2)
    return figure


def judgements(judged: Mapping[str, Verdicts], narrow: bool) -> Canvas:
    """A panel for each history that has discriminators."""
    figure, axes = style.canvas(narrow, 40 + 210 * len(judged), nrows=len(judged), ncols=1)
    for axis, (label, found) in zip(axes, judged.items(), strict=False):
        for name, color, said in (("real", "second", "Of the teacher's"), ("fake", "accent", "Of the network's")):
            style.line(axis, *found[name], color, said, gid=f"{name}:{label}", lw=1.8)
        axis.axhline(0.5, color=style.COLORS["faint"], lw=0.9, ls=(0, (1, 2)))
        axis.set_ylim(0, 1)
        axis.set_title(style.clean(label), fontsize=11, fontweight="normal", loc="left")
        axis.set_ylabel("Probability")
        style.epochs(axis, "epoch", 0)
    style.below(figure, axes[-1], columns=2)
    return figure


METHOD = Method(
    epochs="epochs",
    axes={
        "data_loss": "Distance to unpruned logits",
        "real": "D of the unpruned network",
        "fake": "D of the pruned network",
        "filters": "Share of filters left",
        "sparsity": "Weight of the L1 norm",
    },
    curves=("filters", "data_loss"),
    captions={
        "choices": "It is the share of filters whose mask is above 0. All are there in the warm-up.",
        "cost": "It is what the network with the filters left costs; no network is drawn.",
    },
    figures=figures,
)
