"""The drawings of a search by budgeted super networks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import FancyArrowPatch

from tfbnas.report import style
from tfbnas.report.reading import Run, mapping, number, numbers

_CHOICE = re.compile(r"group(\d+)/block(\d+)/(body|skip|from_input|from\d+)")


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
    """The budget, None where the run does not tell it."""
    content = mapping(run.search.get("limit"))
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


def modules(run: Run) -> dict[str, tuple[int, int, str, float]]:
    """Group and block (from 0), kind, and final probability of each module that can be drawn."""
    found = {}
    for name, values in probabilities_of(run.rounds[-1:]).items():
        match = _CHOICE.fullmatch(name)
        if match:
            found[name] = (int(match[1]) - 1, int(match[2]), match[3], values[-1][1])
    return found


def architecture(run: Run, narrow: bool) -> Canvas:
    """The fabric as rows of blocks, with what was kept (figure 6)."""
    drawn = modules(run)
    rows = 1 + max(group for group, _, _, _ in drawn.values())
    columns = 1 + max(block for _, block, _, _ in drawn.values())
    figure, (axis,) = style.canvas(narrow, (95 if narrow else 120) * rows)
    # What was kept is drawn last, over what was left out.
    for name, (group, block, kind, probability) in sorted(drawn.items(), key=lambda item: _kept(run, item[0])):
        end = (block + 1.0, -float(group))
        if kind in ("body", "skip"):
            start, bend = (float(block), end[1]), 0.0 if kind == "body" else -0.45
        else:
            source = 0.0 if kind == "from_input" else float(kind.removeprefix("from")) + 1.0
            start, bend = (source, end[1] + 1.0), 0.0
        _edge(axis, name, start, end, bend, probability, kept=_kept(run, name))
    for group in range(rows):
        x = [float(block) for block in range(columns + 1)]
        axis.plot(x, [-float(group)] * len(x), "o", ms=5, color=style.COLORS["ink"], zorder=3, gid=f"nodes:{group}")
        if group:  # a row begins with what the row above ends with
            ends = ([float(columns), 0.0], [1.0 - group, -float(group)])
            axis.plot(*ends, color=style.COLORS["faint"], lw=0.9, ls=(0, (1, 2)), zorder=0)
    axis.set_yticks([-float(group) for group in range(rows)], [f"Group {group + 1}" for group in range(rows)])
    axis.set_xticks([])
    axis.set_xlim(-0.25, columns + 0.25)
    axis.set_ylim(0.4 - rows, 0.6)
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure


def _edge(
    axis: Axes,
    name: str,
    start: tuple[float, float],
    end: tuple[float, float],
    bend: float,
    probability: float,
    *,
    kept: bool,
) -> None:
    arrow = FancyArrowPatch(
        start,
        end,
        connectionstyle=f"arc3,rad={bend}",
        arrowstyle="-",
        color=style.COLORS["accent" if kept else "rule"],
        lw=0.8 + 3.2 * probability if kept else 1.2,
        zorder=2 if kept else 1,
    )
    arrow.set_gid(f"{'kept' if kept else 'left'}:{name}")
    axis.add_patch(arrow)


def probabilities(run: Run, narrow: bool) -> Canvas:
    """A line for each module."""
    figure, (axis,) = style.canvas(narrow, 270 if narrow else 320)
    labelled: set[bool] = set()
    lines = sorted(probabilities_of(run.rounds).items(), key=lambda item: _kept(run, item[0]))
    for name, values in lines:
        kept = _kept(run, name)
        label = None if kept in labelled else "Kept" if kept else "Left out"
        labelled.add(kept)
        x, y = [epoch for epoch, _ in values], [probability for _, probability in values]
        color, dots = style.COLORS["accent" if kept else "bar"], "o" if len(x) < 3 else None
        axis.plot(x, y, color=color, lw=1.2, marker=dots, ms=4, label=label, gid=f"probability:{name}")
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
        axis.axvline(epochs + 0.5, color=style.COLORS["rule"], lw=1.2, gid="warm-up")


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
