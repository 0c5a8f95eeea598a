"""The results of a sweep as tables of text, the same ones for the terminal and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tfbnas.report.trained import signed
from tfbnas.report.values import duration, mib, percent, size
from tfbnas.tables import table as lines


@dataclass(frozen=True)
class Column:
    """A column of a table.

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
    """A cell for each column, and whether the row stands out."""

    cells: tuple[str, ...]
    marked: bool


@dataclass(frozen=True)
class Table:
    """Columns that have something in them, and the rows."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def text(self) -> str:
        """The table as lines for a terminal."""
        shown = [index for index, column in enumerate(self.columns) if column.short]
        heads = [self.columns[index].short for index in shown]
        align = "".join(">" if self.columns[index].number else "<" for index in shown)
        return lines([heads, *([row.cells[index] for index in shown] for row in self.rows)], align)


def _table(columns: Mapping[str, Column], rows: list[dict[str, str]]) -> Table:
    """A table of the columns of which a row has something; rows that have `marked` stand out."""
    shown = [key for key in columns if any(row[key] for row in rows)]
    return Table(
        tuple(columns[key] for key in shown),
        tuple(Row(tuple(row[key] for key in shown), bool(row["marked"])) for row in rows),
    )


def networks(content: Mapping[str, Any]) -> Table:
    """Every network of sweep.json's content: for each point the one that was found, then those beside it."""
    unit, every = content["unit"], [one for point in content["points"] for one in point["networks"]]
    has_file = any(one["file"] for one in every)
    priced = (content["cost"] or "cost").replace("_", " ").capitalize()
    bytes_of = Column("File", ".tflite", "file") if has_file else Column("Memory", "deployed, MiB")
    columns = {
        "point": Column("Point", "what varies", "point", number=False),
        "label": Column("Network", "found, or beside it", "network", number=False),
        "seeds": Column("Seeds", "", "seeds"),
        "cost": Column(priced, unit, unit),
        "accuracy": Column("Accuracy", "test, %", "test accuracy, %"),
        "validation_accuracy": Column("Accuracy", "held-out, %", "held-out images, %"),
        "memory": Column("Memory", "paper’s count, MiB", "memory, MiB"),
        "file" if has_file else "deployed": bytes_of,
        "milliseconds": Column("Time", "predicted, ms", "ms"),
        "seconds": Column("Time", "search, training"),
        "marked": Column("Front", "", "front", number=False),
    }
    if content["cost"] == "memory":
        del columns["memory"]
    if content["front_by"] != "validation_accuracy":
        del columns["validation_accuracy"]
    return _table(columns, list(_networks(content)))


def _networks(content: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    several, seeded = len(content["points"]) > 1, len(content["seeds"]) > 1
    for point in content["points"]:
        for network in point["networks"]:
            found = network["role"] == "searched"
            yield {
                **{name: spread(network[name], text) for name, text in _TEXTS.items()},
                "point": point["label"] if found and several else "",
                "label": network["label"],
                "seeds": str(len(network["seeds"])) if seeded else "",
                "marked": "on it" if found and several and point["name"] in content["front"] else "",
            }


_TEXTS: dict[str, Callable[[float], str]] = {
    "cost": lambda value: f"{value:.4f}" if value < 1 else f"{value:.4g}",
    "accuracy": percent,
    "validation_accuracy": percent,
    "memory": mib,
    "deployed": mib,
    "file": size,
    "milliseconds": lambda value: f"{value:.2f}",
    "seconds": duration,
}


def spread(values: Mapping[str, Any] | None, text: Callable[[float], str]) -> str:
    """Mean and deviation; no deviation where it is less than a thousandth of the mean. "" for nothing."""
    if values is None:
        return ""
    mean, deviation = values["mean"], values["deviation"]
    return text(mean) + (f" ± {text(deviation)}" if deviation and deviation >= abs(mean) / 1000 else "")


def differences(content: Mapping[str, Any]) -> Table:
    """How the network found at each point compares with that of the first point, and with those beside it."""
    columns = {
        "point": Column("Found at", "", "found at", number=False),
        "label": Column("Compared with", "", "compared with", number=False),
        "value": Column("Difference", "points of test accuracy", "difference"),
        "interval": Column("Interval", "95 %", "95 % interval"),
        "verdict": Column("It is", "", "it is", number=False),
        "seeds": Column("Seeds", "of both", "seeds"),
    }
    return _table(columns, list(_differences(content)))


def _differences(content: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    labels = {point["name"]: point["label"] for point in content["points"]}
    for point in content["points"]:
        for network in point["networks"]:
            found = network["difference"]
            if found:
                value, low, high = (signed(100 * found[name]) for name in ("value", "low", "high"))
                yield {
                    "point": point["label"] if len(labels) > 1 else "",
                    "label": labels[found["to"]] if found["to"] else network["label"],
                    "value": value,
                    "interval": f"{low} to {high}",
                    "verdict": found["verdict"],
                    "seeds": str(found["seeds"]) if len(content["seeds"]) > 1 else "",
                    "marked": "",
                }


def summary(content: Mapping[str, Any]) -> str:
    """What a sweep of one point found, in a sentence; "" while there is nothing."""
    point = content["points"][0]
    found = next((one for one in point["networks"] if one["role"] == "searched" and one["accuracy"]), None)
    if found is None:
        return ""
    text = f"Over {len(found['seeds'])} seeds {found['label']} has {spread(found['accuracy'], percent)} % of the test "
    text += "images right"
    said = [
        f"{row.cells[1]} points to “{row.cells[0]}” (95 % interval {row.cells[2]}: {row.cells[3]})"
        for row in differences(content).rows
    ]
    return f"{text}." + (f" The difference is {' and '.join(said)}." if said else "")


def notes(content: Mapping[str, Any]) -> list[str]:
    """How to read the tables, in sentences."""
    counts = {
        one["difference"]["seeds"] for point in content["points"] for one in point["networks"] if one["difference"]
    }
    said = ["± is the standard deviation over the seeds, where it is more than a thousandth."]
    if len(content["seeds"]) < 2:
        said = []
    if counts - {1}:
        said.append(
            "A difference is the mean over the seeds that both networks have, each paired with the same seed; its "
            "interval is Student’s t over these seeds."
        )
    if 1 in counts:
        said.append(
            "The interval of a difference of one seed is that of the test images; training again with another seed "
            "moves it, too."
        )
    return said
