"""What a search chooses, over its epochs: the value of each choice, its band, and its candidates."""

from __future__ import annotations

import functools
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from tfbnas.report import style
from tfbnas.report.figure import Figure
from tfbnas.report.methods import Method
from tfbnas.report.reading import Run
from tfbnas.report.values import mapping, number

_MOST_PANELS = 60
Course = list[tuple[float, float, float, float]]
"""A choice over the epochs: epoch, value, and the band around it; without one the band is the value."""


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


def courses(run: Run) -> dict[str, Course]:
    """The course of each choice."""
    found: dict[str, Course] = {name: [] for name in last(run)}
    for i, row in enumerate(run.history, start=1):
        for name, choice in choices(row).items():
            value = float(choice["value"])
            band = (number(choice.get(key)) for key in ("low", "high"))
            low, high = (value if edge is None else edge for edge in band)
            found.setdefault(name, []).append((number(row.get("epoch")) or i, value, low, high))
    return found


def _label(run: Run) -> str:
    return (run.search.choice_label if run.search else "") or "Value"


def figures(run: Run, method: Method) -> list[Figure]:
    """The value of every choice over the epochs, drawn as it reads best."""
    shown = courses(run)
    if not shown:
        return []
    points = [point for course in shown.values() for point in course]
    modules = all(isinstance(closed(run).get(name), bool) for name in shown)
    if modules and all(value in (0, 1) for _, value, _, _ in points):
        draw, said = _switches, "A row for each choice, from the image to the classes: blue where it is kept."
    elif modules or len(shown) > _MOST_PANELS:
        draw, said = _lines, "A line for each choice."
        said += " Blue ones are part of the network that was found." if modules else ""
    else:
        band = " with its band" if any(low < high for _, _, low, high in points) else ""
        draw, said = _panels, f"Each choice over the {method.epoch}s{band}. The number is the last value."
    label = _label(run)
    caption = f"{label} of every choice, after each {method.epoch}. {said}"
    return [Figure("choices", f"{label} during the search", caption, functools.partial(draw, run, method, shown))]


def _panels(run: Run, method: Method, shown: Mapping[str, Course], narrow: bool) -> Canvas:
    """Small multiples."""
    columns = min(len(shown), 2 if narrow else min((5, 4), key=lambda n: -len(shown) % n))
    lines = math.ceil(len(shown) / columns)
    peaks = [max(high for *_, high in course) for course in shown.values()]
    alike = max(peaks) <= 5 * min(peaks)  # then one scale serves all
    figure, axes = style.canvas(narrow, 50 + 140 * lines, nrows=lines, ncols=columns, sharex=True, sharey=alike)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    names = style.labels(list(shown), longest=20)
    for i, (axis, title, name) in enumerate(zip(axes, names, shown, strict=False)):
        axis.set_title(title, fontsize=11, fontweight="normal", pad=5)
        _band(axis, name, shown[name])
        _neutral(axis, method)
        if i + columns >= len(shown):  # the lowest axes of its column carries the labels of the shared axis
            axis.tick_params(axis="x", labelbottom=True)
            axis.set_xlabel(method.epoch.capitalize())
        if i % columns == 0:
            axis.set_ylabel(textwrap.fill(_label(run), 16))
        axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
    style.whole_numbers(axes[0])
    return figure


def _band(axis: Axes, name: str, course: Course) -> None:
    epochs, values, low, high = (list(column) for column in zip(*course, strict=True))
    look: dict[str, Any] = {"color": style.COLORS["wash"], "gid": f"band:{name}"}
    if low != high and len(epochs) > 1:
        axis.fill_between(epochs, low, high, lw=0, **look)
    elif low != high:
        axis.vlines(epochs, low, high, lw=7, **look)
    style.line(axis, epochs, values, "accent", gid=f"value:{name}", lw=1.8)
    text = f"{values[-1]:.0f}" if values[-1] == int(values[-1]) else f"{values[-1]:.2f}"
    axis.set_title(text, loc="right", fontsize=11, pad=5, color=style.COLORS["accent"])


def _neutral(axis: Axes, method: Method) -> None:
    if method.neutral is not None:
        axis.axhline(method.neutral, color=style.COLORS["faint"], lw=0.9, ls=(0, (1, 2)))


def _lines(run: Run, method: Method, shown: Mapping[str, Course], narrow: bool) -> Canvas:
    """A line for each choice in one panel, those that are kept over the others."""
    figure, (axis,) = style.canvas(narrow, 270 if narrow else 320)
    final = closed(run)
    for kept, color, label in ((False, "bar", "Left out"), (True, "accent", "Kept")):
        names = [name for name in shown if (final.get(name) is not False) is kept]
        for i, name in enumerate(names):
            epochs, values, _, _ = zip(*shown[name], strict=True)
            look = {"lw": 1.3 if len(shown) <= 60 else 0.7, "gid": f"value:{name}"}
            style.line(axis, epochs, values, color, None if i else label, **look)
    _neutral(axis, method)
    if all(0 <= value <= 1 for course in shown.values() for _, value, _, _ in course):
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
        cells = [(epoch - 0.5, 1) for epoch, value, _, _ in course if value]
        axis.broken_barh(cells, (row - 0.4, 0.8), color=style.COLORS["accent"], gid=f"value:{name}")
    axis.set_ylim(len(shown) - 0.5, -0.5)
    if height >= 12:
        axis.set_yticks(range(len(shown)), style.labels(list(shown), longest=18 if narrow else 34))
    else:
        axis.set_yticks([])
        axis.set_ylabel(f"{len(shown)} choices")
    axis.grid(visible=False)
    style.epochs(axis, method.epoch, run.warm_up)
    axis.set_xlim(0.5, max(course[-1][0] for course in shown.values()) + 0.5)
    return figure


def weighed(choice: Mapping[str, Any]) -> list[tuple[Any, float, Any]]:
    """The candidates with their probabilities and, for widths, channels, as the search stored them."""
    kept = [choice.get(key) for key in ("candidates", "probabilities", "candidate_channels")]
    candidates, probabilities, channels = (value if isinstance(value, list) else [] for value in kept)
    known = zip(candidates, map(number, probabilities), channels or [None] * len(candidates), strict=False)
    return [(candidate, probability, own) for candidate, probability, own in known if probability is not None]


def most_moved(run: Run) -> str:
    """The choice with candidates whose value is furthest from where it was after the first epoch; "" without one."""
    first = choices(run.history[0]) if run.history else {}
    known = {name: choice for name, choice in last(run).items() if weighed(choice)}
    return max(known, key=lambda name: abs(known[name]["value"] - first.get(name, known[name])["value"]), default="")


def candidates(run: Run, method: Method) -> list[Figure]:
    """The candidates of one choice, where the search stores them."""
    name = most_moved(run)
    if not name:
        return []
    caption = (
        f"{_label(run)} of {name}, the choice that moved most, after the first and the last {method.epoch}. Each bar "
        "is a candidate, as high as it is probable. The triangle is the value of the choice, grey its band."
    )
    draw = functools.partial(draw_candidates, run, method, name)
    return [Figure("candidates", "Candidates and their probabilities", caption, draw)]


def draw_candidates(run: Run, method: Method, name: str, narrow: bool) -> Canvas:
    """Bars of the candidates in the first and in the last epoch that has them."""
    rows = [(i, row) for i, row in enumerate(run.history, start=1) if weighed(choices(row).get(name, {}))]
    ends = [rows[0], rows[-1]][: len(rows)]
    shape = {"nrows": len(ends), "ncols": 1} if narrow else {"nrows": 1, "ncols": len(ends)}
    figure, axes = style.canvas(narrow, 50 + 210 * len(ends) if narrow else 290, sharex=True, sharey=True, **shape)
    for axis, (i, row) in zip(axes, ends, strict=True):
        choice = choices(row)[name]
        _bars(axis, choice)
        axis.set_title(f"{method.epoch.capitalize()} {row.get('epoch', i)}: {choice['value']:.2f}")
        axis.set_xlabel(_label(run))
        axis.tick_params(labelbottom=True)
        if narrow or axis is axes[0]:
            axis.set_ylabel("Probability")
    axes[0].set_ylim(0, 1.3 * max(p for _, row in ends for _, p, _ in weighed(choices(row)[name])))
    return figure


def _bars(axis: Axes, choice: Mapping[str, Any]) -> None:
    known = weighed(choice)
    numeric = all(number(candidate) is not None for candidate, _, _ in known)
    places = [float(candidate) if numeric else i for i, (candidate, _, _) in enumerate(known)]
    gaps = [b - a for a, b in zip(sorted(places), sorted(places)[1:], strict=False) if b > a]
    if numeric:
        low, high = number(choice.get("low")), number(choice.get("high"))
        if low is not None and high is not None:
            axis.axvspan(low, high, color=style.COLORS["rule"], lw=0, zorder=0)
        axis.plot(choice["value"], 0, "^", color=style.COLORS["ink"], ms=8, clip_on=False, zorder=4, gid="value")
    else:
        names = [style.clean(candidate, longest=14) for candidate, _, _ in known]
        side_by_side = len(names) <= 4
        axis.set_xticks(places, names, rotation=0 if side_by_side else 30, ha="center" if side_by_side else "right")
    look: dict[str, Any] = {"color": style.COLORS["wash"], "ec": style.COLORS["accent"], "lw": 0.8}
    width = 0.8 * min(gaps, default=1.0)
    for i, (place, (_, probability, channels)) in enumerate(zip(places, known, strict=True)):
        axis.bar(place, probability, width, gid=f"candidate:{i}", **look)
        # Labels of narrow bars at the ends stand outside them, so that they keep apart.
        side, aligned = (
            (1, "right") if i == 0 < len(known) - 1 else (-1, "left") if i == len(known) - 1 else (0, "center")
        )
        text = f"{probability:.2f}" + (f"\n{channels} ch." if channels else "")
        point = (place + side * width / 2, probability)
        note = axis.annotate(text, point, (0, 3), textcoords="offset points", ha=aligned, va="bottom")
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
