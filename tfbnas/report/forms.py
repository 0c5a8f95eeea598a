"""The network that was found beside its forms in int8 and float32, and beside the int8 networks that were trained."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tfbnas.paired import Difference
from tfbnas.report import exported, latency, trained
from tfbnas.report.figure import Figure
from tfbnas.report.reading import Run
from tfbnas.report.trained import Panel
from tfbnas.report.values import number, percent, rows_of, size
from tfbnas.results import TrainingResult

_NAMES = {"binary": "Found, binary", "int8": "The same widths, int8", "float32": "The same widths, float32"}
_BESIDE = {"int8-equal-memory": "at the same size", "int8-equal-latency": "at the same time"}
_KIB = 1024


@dataclass(frozen=True)
class Row:
    """One line of the table of forms, as text: the form, its bytes and its predicted time."""

    name: str
    cells: list[str]


def table(run: Run) -> list[Row]:
    """The network that was found in binary, int8 and float32, each with how many times more it takes."""
    rows = [row for row in rows_of(run.forms.get("forms")) if row.get("form") in _NAMES]
    if len(rows) < 2:
        return []
    first = rows[0]
    return [
        Row(
            _NAMES[str(row["form"])],
            [
                size(number(row.get("bytes"))),
                _times(row, first, "bytes"),
                latency.rough(number(row.get("milliseconds"))),
                _times(row, first, "milliseconds"),
            ],
        )
        for row in rows
    ]


def _times(row: dict[str, Any], first: dict[str, Any], key: str) -> str:
    value, one = number(row.get(key)), number(first.get(key))
    return "" if row is first or not value or not one else f"{value / one:.1f} ×"


def beside(run: Run) -> str:
    """What int8 networks of the same size and of the same time come to, to end a sentence with; "" for none."""
    parts = []
    for key, how in _BESIDE.items():
        if one := _named(run, key):
            amount = size(one.file) if key == "int8-equal-memory" else f"{latency.rough(one.milliseconds)} ms"
            parts.append(f"{how} an int8 network ({amount}) classifies {percent(one.test['accuracy'])} %")
    return "; " + ", ".join(parts) if parts else ""


def _named(run: Run, key: str) -> TrainingResult | None:
    return next((one for one in run.trainings if one.key == key and "accuracy" in one.test), None)


def won(run: Run) -> str:
    """Where int8 wins by more than chance, in a sentence; "" where it does not, or no int8 network was trained."""
    lost = [how for how, points, found in _compared(run) if (found.verdict == "better" if found else points > 0)]
    return f"int8 wins here {' and '.join(lost)}." if lost else ""


def verdict(run: Run) -> str:
    """Who wins at the same size and at the same time, in sentences; "" where no int8 network was trained."""
    said = [
        f"{how} int8 has {abs(points):.1f} points {'more' if points >= 0 else 'less'}"
        f"{f' ({trained.interval(found)})' if found else ''}"
        for how, points, found in _compared(run)
    ]
    text = f"{'; '.join(said)}." if said else ""
    text = text[:1].upper() + text[1:]
    return f"{text} So {won(run)} {_from_which_width(run)}".rstrip() if won(run) else text


def _compared(run: Run) -> Iterator[tuple[str, float, Difference | None]]:
    """In what an int8 network is equal, by how many points it is better, and what chance leaves open of that."""
    searched = run.searched
    if searched is None or "accuracy" not in searched.test:
        return
    for key, how in _BESIDE.items():
        if one := _named(run, key):
            points = 100 * (one.test["accuracy"] - searched.test["accuracy"])
            yield how, points, trained.paired(one, searched)


def _from_which_width(run: Run) -> str:
    """From which width on a uniform binary network is faster by the table than the int8 one of the same widths."""
    rows = [(number(r.get("channels")), number(r.get("binary")), number(r.get("int8"))) for r in _widths(run)]
    known = [(int(width), binary, int8) for width, binary, int8 in rows if width and binary and int8]
    slower = [i for i, (_, binary, int8) in enumerate(known) if binary >= int8]
    first = slower[-1] + 1 if slower else 0
    if first >= len(known):
        return "By the table binary is nowhere faster at the same widths." if known else ""
    text = f"By the table binary is faster at the same widths from {known[first][0]} channels of the first layer on"
    told = [(w, int8 / binary, _as_fast(known, binary)) for w, binary, int8 in known if w in (16, 64)]
    parts = [f"with {width} channels {more:.1f} times, as fast as int8 with {other}" for width, more, other in told]
    return f"{text}{': ' * bool(parts)}{'; '.join(parts)}. It wins where those channels are worth more than the bits."


def _as_fast(known: list[tuple[int, float, float]], milliseconds: float) -> int:
    """The most channels that an int8 network has in that time, at least the fewest that are known."""
    return max([width for width, _, int8 in known if int8 <= milliseconds], default=known[0][0])


def _widths(run: Run) -> list[dict[str, Any]]:
    return rows_of(run.forms.get("widths"))


def figures(run: Run) -> list[Figure]:
    """Accuracy against bytes of the files and against predicted times, where an int8 network was trained."""
    if not any(one.form == "int8" for one in run.trainings):
        return []
    caption = (
        "Test accuracy over the bytes of the .tflite file and over the predicted time of one inference; higher and "
        "further left is better. Of binary networks that were not exported the bytes are predicted."
    )
    draw = functools.partial(trained.accuracy_against, run, panels(run), ())
    return [Figure("accuracy-deployed", "Accuracy once deployed, against int8", caption, draw)]


def panels(run: Run) -> list[Panel]:
    """The bytes of the files, and the predicted times, of the trained networks."""
    known = [one for one in run.trainings if "accuracy" in one.test]
    files = {one.key: exported.file_of(run, one) / _KIB for one in known if exported.file_of(run, one)}
    times = {one.key: time for one in known if (time := exported.time_of(run, one))}
    found = [Panel("Bytes of the file", "Size", "KiB", files, None), Panel("Predicted time", "Time", "ms", times, None)]
    return [panel for panel in found if panel.values]
