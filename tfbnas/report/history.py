"""A search over its epochs: each cost against its budget, and every number that the history has."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from tfbnas.report import style
from tfbnas.report.figure import Figure
from tfbnas.report.methods import Method
from tfbnas.report.reading import Run
from tfbnas.report.values import cost_name, series, shown
from tfbnas.results import Limited, cost_keys

_AXES = {"loss": "Loss (nats)", "accuracy": "Accuracy (%)", "best_accuracy": "Best accuracy (%)"}
_HELD_OUT = "validation_"
_OTHERS = ("epoch", "seconds")


def expected(run: Run, cost: Limited) -> tuple[list[float], list[float]]:
    """Epochs, and the expected cost after each, in the cost's own unit."""
    return series(run.history, cost_keys(len(run.costs))[run.costs.index(cost)])


def costs(run: Run, method: Method) -> list[Figure]:
    """A figure for each cost that the search limits, as far as its history has it."""
    model = ", as the device's latency table predicts it (a model, not a measurement)"
    return [
        Figure(
            "cost" if cost is run.costs[0] else f"cost-{cost.name.replace('_', '-')}",
            f"Expected {cost_name(cost)} against the budget",
            f"What a network costs on average that the search would draw after each {method.epoch}"
            f"{model if cost.name == 'latency' else ''}. The axis need not begin at zero.",
            functools.partial(cost_over_epochs, run, method, cost),
        )
        for cost in run.costs
        if expected(run, cost)[0]
    ]


def cost_over_epochs(run: Run, method: Method, cost: Limited, narrow: bool) -> Canvas:
    """Expected cost after each epoch, the budget, the networks to compare with, and the one that came out."""
    figure, (axis,) = style.canvas(narrow, 260 if narrow else 300)
    epochs, values = expected(run, cost)
    y = [value / cost.scale for value in values]
    name = cost_name(cost)
    style.line(axis, epochs, y, "accent", f"Expected {name}", gid="cost", lw=1.8)
    limit = cost.limit / cost.scale
    style.limit(axis, limit, f"Budget, {shown(cost, cost.limit)} {cost.unit}")
    seen = [*y, 0.9 * limit, 1.1 * limit]  # nothing within a tenth of the budget is made to look far from it
    for other in run.compared:
        if other.role == "reference" and cost.name in other.costs:
            seen.append(other.costs[cost.name] / cost.scale)
            _reference(axis, seen[-1], other.label)
    if cost.found is not None:
        seen.append(cost.found / cost.scale)
        label = f"Network found, {shown(cost, cost.found)} {cost.unit}"
        axis.plot(epochs[-1:], seen[-1:], "D", ms=6, color=style.COLORS["ink"], gid="found", label=label)
    low, high = min(seen), max(seen)
    low = 0.0 if low < 0.4 * high else low - 0.08 * (high - low)
    axis.set_ylim(low, high + 0.08 * (high - low) or 1)
    style.epochs(axis, method.epoch, run.warm_up)
    axis.set_ylabel(f"{name.capitalize()} ({cost.unit})" if name != cost.unit else name.capitalize())
    style.below(figure, axis, columns=1 if narrow else 3)
    return figure


def _reference(axis: Axes, value: float, label: str) -> None:
    axis.axhline(value, color=style.COLORS["faint"], lw=1.0, ls=(0, (1, 2)), gid=f"reference:{label}")
    style.note(axis, label, (1, value), (0, 3), xycoords=("axes fraction", "data"), ha="right", va="bottom")


def keys(run: Run) -> list[str]:
    """Numbers of the history that move, loss and accuracy first; what is held out stands beside its twin."""
    left_out = {*_OTHERS, *cost_keys(len(run.costs))}
    known = {key: series(run.history, key)[1] for row in run.history for key in row if key not in left_out}
    moving = [key for key, values in known.items() if values and (len(values) == 1 or len(set(values)) > 1)]
    own = [key for key in moving if key.removeprefix(_HELD_OUT) == key or key.removeprefix(_HELD_OUT) not in moving]
    return sorted(own, key=lambda key: (list(_AXES).index(key) if key in _AXES else len(_AXES), key))


def numbers(run: Run, method: Method) -> list[Figure]:
    """One figure with a panel for each number of the history."""
    shown_keys = keys(run)
    if not shown_keys:
        return []
    held_out = any(series(run.history, _HELD_OUT + key)[0] for key in shown_keys)
    pale = " Orange: on images that the weights were not trained on." if held_out else ""
    return [
        Figure(
            "history",
            f"The search, {method.epoch} by {method.epoch}",
            f"What the search recorded of each {method.epoch}, the mean over its steps.{pale}",
            lambda narrow: history(run, method, narrow),
        )
    ]


def history(run: Run, method: Method, narrow: bool) -> Canvas:
    """Small panels, one for each number."""
    names = keys(run)
    columns = 1 if narrow else min(3, len(names))
    lines = math.ceil(len(names) / columns)
    figure, axes = style.canvas(narrow, 30 + 200 * lines, nrows=lines, ncols=columns)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    for axis, key in zip(axes, names, strict=False):
        for name, color in ((_HELD_OUT + key, "second"), (key, "accent")):
            _plot(axis, run.history, name, color, 100.0 if key.endswith("accuracy") else 1.0)
        label = {**_AXES, **method.axes}.get(key, key.replace("_", " ").capitalize())
        axis.set_title(style.clean(label, longest=30))
        low, high = axis.get_ylim()
        if 0 < low < 0.5 * high:
            axis.set_ylim(bottom=0)
        style.epochs(axis, method.epoch, run.warm_up, said=False)
    return figure


def _plot(axis: Axes, rows: Sequence[Mapping[str, Any]], key: str, color: str, scale: float) -> None:
    x, y = series(rows, key)
    if x:
        style.line(axis, x, [scale * value for value in y], color, gid=key)
