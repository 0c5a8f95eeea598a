"""What a search chooses, over its epochs: the value of each choice, its band, and its candidates."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from tfbnas.report import style
from tfbnas.report.figure import Figure
from tfbnas.report.methods import Method
from tfbnas.report.reading import Run
from tfbnas.report.values import mapping, number

_MOST_PANELS = 60


def choices(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The choices of one epoch that have a finite value, in the order of the layers."""
    known = {str(name): mapping(choice) for name, choice in mapping(row.get("choices")).items()}
    return {name: known[name] for name in ordered(list(known)) if number(known[name].get("value")) is not None}


def last(run: Run) -> dict[str, dict[str, Any]]:
    """The choices of the last epoch."""
    return choices(run.history[-1]) if run.history else {}


def closed(run: Run) -> dict[str, Any]:
    """What each choice is closed to: in the architecture that was found, or before there is one by now."""
    now = {name: choice.get("closed") for name, choice in last(run).items()}
    return {**now, **mapping(run.found.get("choices"))}


@dataclass(frozen=True)
class Course:
    """A choice over the epochs: epochs, values, and the band around them; without one, `low` and `high` are values."""

    epochs: list[float]
    values: list[float]
    low: list[float]
    high: list[float]


def courses(run: Run) -> dict[str, Course]:
    """The course of each choice."""
    found = {name: Course([], [], [], []) for name in last(run)}
    for epoch, row in enumerate(run.history, start=1):
        for name, choice in choices(row).items():
            if name in found:
                value = float(choice["value"])
                low, high = number(choice.get("low")), number(choice.get("high"))
                found[name].epochs.append(number(row.get("epoch")) or epoch)
                found[name].values.append(value)
                found[name].low.append(value if low is None else low)
                found[name].high.append(value if high is None else high)
    return found


def figures(run: Run, method: Method) -> list[Figure]:
    """The value of every choice over the epochs, drawn as it reads best."""
    shown = courses(run)
    if not shown or run.search is None:
        return []
    label = run.search.choice_label or "Value"
    modules = all(isinstance(closed(run).get(name), bool) for name in shown)
    if modules and all(value in (0, 1) for course in shown.values() for value in course.values):
        draw, said = _switches, "A row for each choice, from the image to the classes: blue where it is kept."
    elif modules:
        draw, said = _lines, "A line for each choice. Blue ones are part of the network that was found."
    elif len(shown) > _MOST_PANELS:
        draw, said = _lines, "A line for each choice."
    else:
        band = " with its band" if any(course.low != course.values for course in shown.values()) else ""
        draw, said = _panels, f"Each choice over the {method.epoch}s{band}. The number is the last value."
    return [
        Figure(
            "choices",
            f"{label} during the search",
            f"{label} of every choice, after each {method.epoch}. {said}",
            lambda narrow: draw(run, method, shown, narrow),
        )
    ]


def _label(run: Run) -> str:
    return (run.search.choice_label if run.search else "") or "Value"


def _panels(run: Run, method: Method, shown: Mapping[str, Course], narrow: bool) -> Canvas:
    """Small multiples."""
    columns = min(len(shown), 2 if narrow else min((5, 4), key=lambda n: -len(shown) % n))
    lines = math.ceil(len(shown) / columns)
    peaks = [max(course.high) for course in shown.values()]
    alike = max(peaks) <= 5 * min(peaks)  # then one scale serves all
    figure, axes = style.canvas(narrow, 50 + 140 * lines, nrows=lines, ncols=columns, sharex=True, sharey=alike)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    names = style.labels(list(shown), longest=20)
    for i, (axis, title, (name, course)) in enumerate(zip(axes, names, shown.items(), strict=False)):
        axis.set_title(title, fontsize=11, fontweight="normal", pad=5)
        _band(axis, name, course, method)
        if i + columns >= len(shown):  # the lowest axes of its column carries the labels of the shared axis
            axis.tick_params(axis="x", labelbottom=True)
            axis.set_xlabel(method.epoch.capitalize())
        if i % columns == 0:
            axis.set_ylabel(textwrap.fill(_label(run), 16))
        if not alike:
            axis.set_ylim(0, 1.15 * max(*course.high, 1e-9))
    style.whole_numbers(axes[0])
    if alike:
        axes[0].set_ylim(bottom=min(0.0, axes[0].get_ylim()[0]))
    return figure


def _band(axis: Axes, name: str, course: Course, method: Method) -> None:
    _neutral(axis, method)
    look: dict[str, Any] = {"color": style.COLORS["wash"], "gid": f"band:{name}"}
    if course.low != course.values and len(course.epochs) > 1:
        axis.fill_between(course.epochs, course.low, course.high, lw=0, **look)
    elif course.low != course.values:
        axis.vlines(course.epochs, course.low, course.high, lw=7, **look)
    style.line(axis, course.epochs, course.values, "accent", gid=f"value:{name}", lw=1.8)
    final = course.values[-1]
    text = f"{final:.0f}" if final == int(final) else f"{final:.2f}"
    axis.set_title(text, loc="right", fontsize=11, pad=5, color=style.COLORS["accent"])


def _neutral(axis: Axes, method: Method) -> None:
    if method.neutral is not None:
        axis.axhline(method.neutral, color=style.COLORS["faint"], lw=0.9, ls=(0, (1, 2)))


def _lines(run: Run, method: Method, shown: Mapping[str, Course], narrow: bool) -> Canvas:
    """A line for each choice in one panel, those that are kept over the others."""
    figure, (axis,) = style.canvas(narrow, 270 if narrow else 320)
    kept = {name: closed(run).get(name) is not False for name in shown}
    two = len(set(kept.values())) > 1
    labelled: set[bool] = set()
    for name in sorted(shown, key=lambda name: kept[name]):
        label = None if kept[name] in labelled or not two else "Kept" if kept[name] else "Left out"
        labelled.add(kept[name])
        color, width = "accent" if kept[name] else "bar", 1.3 if len(shown) <= 60 else 0.7
        style.line(axis, shown[name].epochs, shown[name].values, color, label, lw=width, gid=f"value:{name}")
    _neutral(axis, method)
    if all(0 <= value <= 1 for course in shown.values() for value in course.values):
        axis.set_ylim(-0.03, 1.03)
    axis.set_ylabel(_label(run))
    style.epochs(axis, method.epoch, run.warm_up)
    style.below(figure, axis, columns=2, last_first=True)
    return figure


def _switches(run: Run, method: Method, shown: Mapping[str, Course], narrow: bool) -> Canvas:
    """Rows of cells: a choice in each row, an epoch in each column."""
    height = max(3.0, min(16.0, 900 / len(shown)))
    figure, (axis,) = style.canvas(narrow, 70 + height * len(shown))
    for row, (name, course) in enumerate(shown.items()):
        on = [epoch for epoch, value in zip(course.epochs, course.values, strict=True) if value]
        axis.broken_barh([(epoch - 0.5, 1) for epoch in on], (row - 0.4, 0.8), color=style.COLORS["accent"])
        axis.collections[-1].set_gid(f"value:{name}")
    axis.set_xlim(0.5, max(max(course.epochs) for course in shown.values()) + 0.5)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    if height >= 12:
        axis.set_yticks(range(len(shown)), style.labels(list(shown), longest=18 if narrow else 34))
    else:
        axis.set_yticks([])
        axis.set_ylabel(f"{len(shown)} choices")
    axis.grid(visible=False)
    style.epochs(axis, method.epoch, run.warm_up)
    return figure


def most_moved(run: Run) -> str:
    """The choice with candidates whose value is furthest from where it was after the first epoch; "" without one."""
    first = choices(run.history[0]) if run.history else {}
    known = {name: choice for name, choice in last(run).items() if _weighed(choice)}
    return max(known, key=lambda name: abs(known[name]["value"] - first.get(name, known[name])["value"]), default="")


def _weighed(choice: Mapping[str, Any]) -> list[tuple[Any, float]]:
    """The candidates with their probabilities, as the search stored them."""
    candidates, probabilities = choice.get("candidates"), choice.get("probabilities")
    if not isinstance(candidates, list) or not isinstance(probabilities, list):
        return []
    known = [(candidate, number(p)) for candidate, p in zip(candidates, probabilities, strict=False)]
    return [(candidate, p) for candidate, p in known if p is not None]


def candidates(run: Run, method: Method) -> list[Figure]:
    """The candidates of one choice, where the search stores them."""
    name = most_moved(run)
    if not name:
        return []
    return [
        Figure(
            "candidates",
            "Candidates and their probabilities",
            f"{_label(run)} of {name}, the choice that moved most, after the first and the last {method.epoch}. Each "
            "bar is a candidate, as high as it is probable. The line is the value of the choice, in its band.",
            lambda narrow: draw_candidates(run, method, name, narrow),
        )
    ]


def draw_candidates(run: Run, method: Method, name: str, narrow: bool) -> Canvas:
    """Bars of the candidates in the first and in the last epoch that has them."""
    rows = [(i, row) for i, row in enumerate(run.history, start=1) if _weighed(choices(row).get(name, {}))]
    ends = [rows[0], rows[-1]][: len(rows)]
    shape = {"nrows": len(ends), "ncols": 1} if narrow else {"nrows": 1, "ncols": len(ends)}
    height = 50 + 210 * len(ends) if narrow else 290
    figure, axes = style.canvas(narrow, height, sharex=True, sharey=True, **shape)
    for axis, (i, row) in zip(axes, ends, strict=True):
        choice = choices(row)[name]
        _bars(axis, choice)
        axis.set_title(f"{method.epoch.capitalize()} {row.get('epoch', i)}: {choice['value']:.2f}")
        axis.set_xlabel(_label(run))
        axis.tick_params(labelbottom=True)
    for axis in axes if narrow else axes[:1]:
        axis.set_ylabel("Probability")
    axes[0].set_ylim(0, 1.12)
    return figure


def _bars(axis: Axes, choice: Mapping[str, Any]) -> None:
    weighed = _weighed(choice)
    numeric = [number(candidate) for candidate, _ in weighed]
    places = list(range(len(weighed))) if None in numeric else [float(place or 0) for place in numeric]
    gaps = [b - a for a, b in zip(sorted(places), sorted(places)[1:], strict=False) if b > a]
    width = 0.8 * min(gaps, default=1.0)
    if None in numeric:
        axis.set_xticks(places, [style.clean(candidate, longest=14) for candidate, _ in weighed])
    else:
        low, high = number(choice.get("low")), number(choice.get("high"))
        if low is not None and high is not None:
            axis.axvspan(low, high, color=style.COLORS["rule"], lw=0, zorder=0)
        axis.axvline(choice["value"], color=style.COLORS["accent"], lw=1.6, gid="value")
    for i, (place, (_, probability)) in enumerate(zip(places, weighed, strict=True)):
        (bar,) = axis.bar(place, probability, width, color=style.COLORS["wash"], ec=style.COLORS["accent"], lw=0.8)
        bar.set_gid(f"candidate:{i}")
        text, base = f"{probability:.2f}", number(choice.get("base"))
        if base and None not in numeric:
            text += f"\n{max(1, round(place * base)):d} ch."
        note = axis.annotate(text, (place, probability), (0, 3), textcoords="offset points", ha="center", va="bottom")
        note.set(fontsize=10.5, color=style.COLORS["muted"])


def ordered(names: Sequence[str]) -> list[str]:
    """Names of choices in the order of the layers.

    Files with sorted keys lose the order; then names without a number come first (stem), numbers count as numbers
    (conv2 before conv10), and a short name (stage2/stream) comes before the longer ones of the same stage.
    """
    names = list(names)
    return sorted(names, key=_layer_key) if names == sorted(names) else names


def _layer_key(name: str) -> tuple[Any, ...]:
    head, *rest = name.split("/")
    return re.search(r"\d", head) is not None, _natural(head), len(rest), [_natural(part) for part in rest]


def _natural(text: str) -> list[tuple[int, int, str]]:
    pieces = filter(None, re.split(r"([0-9]+)", text))
    return [(1, int(piece), "") if piece.isdigit() else (0, 0, piece) for piece in pieces]
