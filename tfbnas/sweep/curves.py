"""How the searches of each point went: mean and deviation over the seeds of what a method's report draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from tfbnas.report import style
from tfbnas.report.figure import Figure
from tfbnas.report.history import expected
from tfbnas.report.methods import method_named
from tfbnas.report.reading import Run
from tfbnas.report.values import cost_name, series

COST = "cost"
_COLORS = ("accent", "second", "third", "stone", "ink")
_DASHES = ("solid", (0, (5, 2)), (0, (2, 2)), (0, (1, 2)))


def labels(run: Run) -> dict[str, str]:
    """The curves of a search and what they are, for an axis; none for a run that searched nothing."""
    if run.search is None:
        return {}
    method = method_named(run.method)
    found = {}
    if run.costs:
        found[COST] = f"Expected {cost_name(run.costs[0])} ({run.costs[0].unit})"
    return found | {key: method.axes.get(key, key.replace("_", " ").capitalize()) for key in method.curves}


def over_seeds(runs: Sequence[Run]) -> dict[str, dict[str, list[float]]]:
    """For each curve of the runs of one point: the epochs that all have, and mean and deviation in each.

    Epochs of a warm-up are left out, since no architecture is trained in them. The deviation is that of the sample; of
    one run there is none.
    """
    found = {}
    for key in labels(runs[0]) if runs else ():
        known = [dict(zip(*_series(run, key), strict=True)) for run in runs]
        epochs = sorted(set.intersection(*map(set, known)))
        values = np.array([[one[epoch] for epoch in epochs] for one in known])
        if epochs:
            deviation = np.std(values, axis=0, ddof=1).tolist() if len(runs) > 1 else []
            found[key] = {"epochs": epochs, "mean": np.mean(values, axis=0).tolist(), "deviation": deviation}
    return found


def _series(run: Run, key: str) -> tuple[list[float], list[float]]:
    if key == COST:
        epochs, values = expected(run, run.costs[0])
        return epochs, [value / run.costs[0].scale for value in values]
    return series([row for row in run.history if row.get("warm_up") is not True], key)


def figures(content: Mapping[str, Any]) -> list[Figure]:
    """One figure with a panel for each curve that a point has."""
    shown = {
        key: label for key, label in content["curves"].items() if any(key in p["curves"] for p in content["points"])
    }
    if not shown:
        return []
    band = " The line is the mean over the seeds, the band is one standard deviation on either side."
    return [
        Figure(
            "search",
            "The searches",
            "What the searches recorded of each epoch, a warm-up left out."
            + (band if len(content["seeds"]) > 1 else ""),
            lambda narrow: draw(content, shown, narrow),
        )
    ]


def draw(content: Mapping[str, Any], shown: Mapping[str, str], narrow: bool) -> Canvas:
    """Small panels, with a line for each point."""
    points = [point for point in content["points"] if point["curves"]]
    columns = 1 if narrow else min(2, len(shown))
    lines = math.ceil(len(shown) / columns)
    below = 22 * math.ceil(len(points) / (1 if narrow else 2)) if len(points) > 1 else 0
    figure, axes = style.canvas(narrow, 30 + 230 * lines + below, nrows=lines, ncols=columns)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    for axis, (key, label) in zip(axes, shown.items(), strict=False):
        for place, point in enumerate(points):
            color, dashes = _COLORS[place % len(_COLORS)], _DASHES[place // len(_COLORS) % len(_DASHES)]
            if curve := point["curves"].get(key):
                x, mean, deviation = (np.array(curve[name]) for name in ("epochs", "mean", "deviation"))
                if deviation.size:
                    low, high = mean - deviation, mean + deviation
                    axis.fill_between(x, low, high, color=style.COLORS[color], alpha=0.15, lw=0, gid=f"band:{key}")
                name = style.clean(point["label"], longest=40)
                style.line(axis, x.tolist(), mean.tolist(), color, name, ls=dashes, gid=f"{key}:{point['name']}")
        axis.set_title(style.clean(label, longest=40))
        style.epochs(axis, content["epoch"], 0)
    style.below(figure, axes, columns=1 if narrow else 2)
    return figure
