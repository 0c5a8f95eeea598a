"""The results of a sweep as rows of text, the same for the terminal and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tfbnas.report.trained import signed
from tfbnas.report.values import duration, mib, percent, size
from tfbnas.tables import table as lines

Spread = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
      head: On the page.
      note: The small print below it.
      short: The head in a terminal; "" for a column that only the page has.
      number: Whether it holds numbers.
    """

    head: str
    note: str = ""
    short: str = ""
    number: bool = True


@dataclass(frozen=True)
class Row:
    """A network of a point: a cell for each column, whether it was found, and whether it is on the front."""

    cells: tuple[str, ...]
    searched: bool
    on_front: bool


@dataclass(frozen=True)
class Table:
    """Columns that have something in them, and the rows."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def table(content: Mapping[str, Any]) -> Table:
    """The table of sweep.json's content: for each point the network found, then those it is compared with."""
    unit, validated = content["unit"], content["front_by"] == "validation_accuracy"
    has_file = any(network["file"] for point in content["points"] for network in point["networks"])
    priced = (content["cost"] or "cost").replace("_", " ").capitalize()
    bytes_of = Column("File", ".tflite", "file") if has_file else Column("Memory", "deployed, MiB")
    interval = "points of accuracy, 95 % interval"
    columns = {
        "point": Column("Point", "what varies", "point", number=False),
        "label": Column("Network", "found, or beside it", "network", number=False),
        "seeds": Column("Seeds", "mean ± deviation", "seeds"),
        "cost": Column(priced, unit, unit),
        "accuracy": Column("Accuracy", "test, %", "test accuracy, %"),
        "validation_accuracy": Column("Accuracy", "held-out, %", "held-out images, %"),
        "memory": Column("Memory", "paper’s count, MiB", "memory, MiB"),
        "file" if has_file else "deployed": bytes_of,
        "milliseconds": Column("Time", "predicted, ms", "ms"),
        "seconds": Column("Time", "search, training"),
        "difference": Column("Found − this", interval, "found − this, 95 % interval", number=False),
        "first": Column("This − first", interval, "this − first, 95 % interval", number=False),
        "front": Column("Front", "", "front", number=False),
    }
    if content["cost"] == "memory":
        del columns["memory"]
    if not validated:
        del columns["validation_accuracy"]
    rows = list(_rows(content))
    shown = [key for key in columns if any(row[key] for row in rows)]
    return Table(
        tuple(columns[key] for key in shown),
        tuple(Row(tuple(row[key] for key in shown), bool(row["searched"]), bool(row["front"])) for row in rows),
    )


def terminal(content: Mapping[str, Any]) -> str:
    """The same table as lines."""
    found = table(content)
    shown = [index for index, column in enumerate(found.columns) if column.short]
    heads = [found.columns[index].short for index in shown]
    align = "".join(">" if found.columns[index].number else "<" for index in shown)
    return lines([heads, *([row.cells[index] for index in shown] for row in found.rows)], align)


def _rows(content: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    several, seeded = len(content["points"]) > 1, len(content["seeds"]) > 1
    for point in content["points"]:
        for network in point["networks"]:
            found = network["role"] == "searched"
            known = {name: spread(network[name], text) for name, text in _TEXTS.items()}
            yield {
                **known,
                "point": point["label"] if found and several else "",
                "label": network["label"],
                "seeds": str(len(network["seeds"])) if seeded else "",
                "difference": "" if found else difference(network["difference"]),
                "first": difference(network["difference"]) if found else "",
                "front": "on it" if found and several and point["name"] in content["front"] else "",
                "searched": "yes" if found else "",
            }


_TEXTS: dict[str, Callable[[float], str]] = {
    "cost": lambda value: f"{value:.4g}",
    "accuracy": percent,
    "validation_accuracy": percent,
    "memory": mib,
    "deployed": mib,
    "file": size,
    "milliseconds": lambda value: f"{value:.3g}",
    "seconds": duration,
}


def spread(values: Spread | None, text: Callable[[float], str]) -> str:
    """Mean and deviation; no deviation where there is one value, or all are equal. "" for nothing."""
    if values is None:
        return ""
    deviation = values["deviation"]
    return text(values["mean"]) + (f" ± {text(deviation)}" if deviation else "")


def difference(found: Mapping[str, Any] | None) -> str:
    """A difference in percentage points with its interval, and what it says; "" for none."""
    if found is None:
        return ""
    value, low, high = (signed(100 * found[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high}) {found['verdict']}"


def notes(content: Mapping[str, Any]) -> list[str]:
    """How to read the table, in sentences."""
    networks = [network for point in content["points"] for network in point["networks"]]
    counts = {one["difference"]["seeds"] for one in networks if one["difference"]}
    said = []
    if any(len(network["seeds"]) > 1 for network in networks):
        said.append("± is the standard deviation over the seeds.")
    if counts - {1}:
        said.append(
            "A difference is the mean over the seeds of both networks, each with the same seed; its 95 % interval is "
            "Student’s t over the seeds."
        )
    if 1 in counts:
        said.append(
            "The interval of a difference of one seed is that of the test images; training again with another seed "
            "moves it, too."
        )
    return said
