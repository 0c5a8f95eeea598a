"""The drawings of a search by budgeted super networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from tfbnas.report import style
from tfbnas.report.reading import Run, mapping, number, numbers


@dataclass(frozen=True)
class Limit:
    """What the budget limits; values in the unit of the cost, shown divided by `scale`."""

    unit: str
    scale: float
    value: float
    found: float | None
    references: dict[str, float]

    def shown(self, value: float) -> str:
        return f"{value / self.scale:.4g}"

    def text(self, value: float) -> str:
        return f"{self.shown(value)} {self.unit}"


def limit(run: Run) -> Limit | None:
    """The budget, the first one of several; None where the run does not tell it."""
    return _limit(mapping(run.search.get("limit")))


def further_limits(run: Run) -> list[Limit]:
    """The budgets beside the first."""
    others = mapping(mapping(run.search.get("limit")).get("also")).values()
    return [found for other in others if (found := _limit(mapping(other))) is not None]


def _limit(content: Mapping[str, Any]) -> Limit | None:
    value, scale = number(content.get("limit")), number(content.get("scale"))
    if value is None or not scale:
        return None
    known = {str(label): number(cost) for label, cost in mapping(content.get("references")).items()}
    references = {label: cost for label, cost in known.items() if cost is not None}
    return Limit(str(content.get("unit") or ""), scale, value, number(content.get("found")), references)


def probabilities_of(history: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """For each choice its probabilities, with the epochs counted from 1."""
    found: dict[str, list[tuple[int, float]]] = {}
    for epoch, row in enumerate(history, start=1):
        for name, value in mapping(row.get("choices")).items():
            if (probability := number(value)) is not None:
                found.setdefault(str(name), []).append((epoch, probability))
    return found


def _kept(run: Run, name: str) -> bool:
    return mapping(run.found.get("choices")).get(name) is True


def probabilities(run: Run, narrow: bool) -> Canvas:
    """A line for each module."""
    figure, (axis,) = style.canvas(narrow, 270 if narrow else 320)
    labelled: set[bool] = set()
    lines = sorted(probabilities_of(run.rounds).items(), key=lambda item: _kept(run, item[0]))
    width = 1.3 if len(lines) <= 60 else 0.7
    for name, values in lines:
        kept = _kept(run, name)
        label = None if kept in labelled else "Kept" if kept else "Left out"
        labelled.add(kept)
        x, y = [epoch for epoch, _ in values], [probability for _, probability in values]
        color, dots = style.COLORS["accent" if kept else "bar"], "o" if len(x) < 3 else None
        axis.plot(x, y, color=color, lw=width, marker=dots, ms=4, label=label, gid=f"probability:{name}")
    axis.axhline(0.5, color=style.COLORS["faint"], lw=0.9, ls=(0, (1, 2)))
    _warm_up(run, axis)
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlabel("Epoch")
    axis.set_ylabel("Probability to keep")
    style.whole_numbers(axis)
    style.below(figure, axis, columns=2, last_first=True)
    return figure


def _warm_up(run: Run, axis: Axes) -> None:
    epochs = number(run.search.get("warm_up_epochs"))
    if epochs:
        axis.axvline(epochs + 0.5, color=style.COLORS["faint"], lw=0.9, gid="warm-up")
        axis.annotate(
            "Warm-up",
            (epochs + 0.5, 0),
            (-5, 6),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right",
            fontsize=11,
            color=style.COLORS["muted"],
        )


def cost(run: Run, narrow: bool) -> Canvas:
    """Mean cost of what was drawn, the budget, and the networks to compare with."""
    figure, (axis,) = style.canvas(narrow, 260 if narrow else 300)
    budget = limit(run)
    scale = budget.scale if budget else 1.0
    at, values = numbers(run.rounds, "cost")
    x, y = [i + 1 for i in at], [value / scale for value in values]
    dots = "o" if len(x) < 3 else None
    axis.plot(x, y, color=style.COLORS["accent"], marker=dots, label="Drawn networks, mean", gid="cost")
    top = max(y)
    if budget:
        line = axis.axhline(budget.value / scale, color=style.COLORS["second"], lw=1.3, ls=(0, (5, 3)), gid="budget")
        line.set_label(f"Budget, {budget.shown(budget.value)}")
        for label, value in budget.references.items():
            rest = axis.axhline(value / scale, color=style.COLORS["faint"], lw=1.0, ls=(0, (1, 2)))
            rest.set_gid(f"reference:{label}")
            axis.annotate(
                label,
                (1, value / scale),
                (0, 3),
                xycoords=("axes fraction", "data"),
                ha="right",
                textcoords="offset points",
                fontsize=11,
                color=style.COLORS["muted"],
            )
        top = max(top, budget.value / scale, *(value / scale for value in budget.references.values()), 0.0)
        if budget.found is not None:
            (point,) = axis.plot([x[-1]], [budget.found / scale], "D", ms=6, color=style.COLORS["ink"], gid="found")
            point.set_label(f"Network found, {budget.shown(budget.found)}")
    _warm_up(run, axis)
    axis.set_ylim(0, 1.12 * top or 1)
    axis.set_xlabel("Epoch")
    axis.set_ylabel(f"Cost ({budget.unit})" if budget else "Cost")
    style.whole_numbers(axis)
    style.below(figure, axis, columns=1 if narrow else 3)
    return figure


def entropy(run: Run, narrow: bool) -> Canvas:
    """Mean entropy of the gates."""
    figure, (axis,) = style.canvas(narrow, 210 if narrow else 230)
    at, values = numbers(run.rounds, "entropy")
    dots = "o" if len(at) < 3 else None
    axis.plot([i + 1 for i in at], values, color=style.COLORS["accent"], marker=dots, gid="entropy")
    _warm_up(run, axis)
    axis.set_ylim(0, max(1.05 * max(values), 0.1))
    axis.set_xlabel("Epoch")
    axis.set_ylabel("Entropy (bits)")
    style.whole_numbers(axis)
    return figure
