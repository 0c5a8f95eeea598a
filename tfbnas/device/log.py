"""Reads what TFLite's benchmark tool prints, in the shapes that its versions give it.

Lines come bare, behind "INFO: ", or behind logcat's date and process; columns of the table of operators come with and
without [start]; statistics come with and without percentiles. Columns are found by their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tfbnas.device.target import DeviceError, tail

_PREFIX = re.compile(
    r"^(?:\d\d-\d\d \d\d:\d\d:\d\d\.\d+\s+\d+\s+\d+\s+[VDIWEF]\s+\S+\s*:\s?)?(?:(?:INFO|WARN|WARNING|ERROR):\s?)?"
)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_COUNT = re.compile(r"^\s*count=(\d+)\b(.*)$")
_STATISTIC = re.compile(rf"\b(first|curr|min|max|avg|std|p5|median|p95)=\s*({_NUMBER})")
_TIMINGS = re.compile(rf"Init:\s*({_NUMBER}).*Inference \(avg\):\s*({_NUMBER})")
_MEMORY = re.compile(rf"emory footprint.*\(MB\):\s*init=\s*({_NUMBER})\s+overall=\s*({_NUMBER})")
_PEAK = re.compile(rf"Overall peak memory footprint \(MB\).*:\s*({_NUMBER})\s*$")
_TABLE = re.compile(r"^=+ (.+?) =+$")
_RUN_ORDER = "Run Order"


@dataclass(frozen=True)
class OperatorTime:
    """Mean time of one operator.

    Attributes:
      type: Name of the operator, for instance "LceBconv2d".
      name: Name of the tensor or layer that it computes; may be empty.
      milliseconds: Mean time of a call, times the calls of one inference.
    """

    type: str
    name: str
    milliseconds: float


@dataclass(frozen=True)
class Measurement:
    """A parsed log. Times in milliseconds, memory in MB; None is what the log does not say.

    Attributes:
      count: Runs that the statistics are of.
      mean: Mean time of an inference.
      deviation: Standard deviation.
      minimum: Shortest run.
      maximum: Longest run.
      median: Median run.
      first: First inference ever, warm-up included.
      initialization: Loading the model and making the session.
      memory: Growth of the tool's memory over the whole run; its peak where the log tells that.
      operators: In the order in which they run; empty without profiling.
    """

    count: int
    mean: float
    deviation: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    median: float | None = None
    first: float | None = None
    initialization: float | None = None
    memory: float | None = None
    operators: tuple[OperatorTime, ...] = ()

    @property
    def spread(self) -> float | None:
        """Standard deviation relative to the mean."""
        return None if self.deviation is None or not self.mean else self.deviation / self.mean


def parse(text: str) -> Measurement:
    """Reads a log.

    Args:
      text: Standard output and standard error of the tool, merged.

    Raises:
      DeviceError: It tells of a failure, has no statistics, or its parts contradict each other.
    """
    lines = [_PREFIX.sub("", line) for line in text.replace("\r", "").splitlines()]
    if any("Benchmarking failed" in line for line in lines):
        raise DeviceError(f"The benchmark program failed: {_complaint(lines)}.")
    # A table of operators closes with a "count=" line of its own, behind "Timings (microseconds):".
    counts = [found for line in lines if (found := _COUNT.match(line))]
    timings = _last(_TIMINGS, lines)
    memory, peak = _last(_MEMORY, lines), _last(_PEAK, lines)
    common: dict[str, Any] = {
        "initialization": float(timings[1]) / 1e3 if timings else None,
        "memory": float(peak[1]) if peak else float(memory[2]) if memory else None,
        "operators": operators(lines),
    }
    if not counts:
        raise DeviceError(f"The benchmark program printed no timings: {_complaint(lines)}.")
    count = int(counts[-1][1])
    if count == 0:
        raise DeviceError("The benchmark program made no runs (count=0); raise --repetitions or the time it may take.")
    values = {name: float(value) for name, value in _STATISTIC.findall(counts[-1][2])}
    if "curr" in values and ("(all same)" in counts[-1][2] or set(values) == {"curr"}):
        values = {name: values["curr"] for name in ("min", "max", "avg", "median", "first")} | {"std": 0.0} | values
    if "avg" not in values:
        raise DeviceError(f"The log of the benchmark program is damaged: no mean in {counts[-1][0].strip()!r}.")
    if timings and abs(float(timings[2]) - values["avg"]) > 0.01 * values["avg"] + 1:
        raise DeviceError(
            f"The log of the benchmark program is damaged: mean {values['avg']:g} µs of the last runs, but "
            f"{float(timings[2]):g} µs in the summary."
        )
    first = re.search(rf"first=\s*({_NUMBER})", counts[0][2])
    milliseconds = {name: value / 1e3 for name, value in values.items()}
    return Measurement(
        count,
        milliseconds["avg"],
        milliseconds.get("std"),
        milliseconds.get("min"),
        milliseconds.get("max"),
        milliseconds.get("median"),
        float(first[1]) / 1e3 if first else milliseconds.get("first"),
        **common,
    )


def operators(lines: list[str]) -> tuple[OperatorTime, ...]:
    """The last table "Run Order" of a log: the first may be that of the initialisation."""
    tables: list[list[OperatorTime]] = []
    columns: list[str] | None = None
    inside = False
    for line in lines:
        title = _TABLE.match(line.strip())
        if title:
            inside, columns = title[1] == _RUN_ORDER, None
            if inside:
                tables.append([])
        elif inside and columns is None:
            columns = [name.lower() for name in re.findall(r"\[([^\]]+)\]", line)] or None
        elif inside and columns is not None:
            row = _row(line, columns)
            if row is None:
                inside = False
            else:
                tables[-1].append(row)
    # An initialisation without a table of the runs behind it is no profile of an inference.
    regular = any("Regular Benchmark Runs" in line for line in lines)
    started = any("Profiling Info for Benchmark Initialization" in line for line in lines)
    if not tables or (started and not regular and len(tables) < 2):
        return ()
    return tuple(tables[-1])


def _row(line: str, columns: list[str]) -> OperatorTime | None:
    cells = [cell.strip() for cell in line.strip().split("\t")]
    if len(cells) < len(columns) - 1:
        cells = re.split(r"\s{2,}", line.strip())
    if len(cells) < len(columns) - 1:
        return None
    values = dict(zip(columns, cells, strict=False))
    name = "\t".join(cells[len(columns) - 1 :])
    try:
        mean = float(values["avg ms"])
        calls = float(values.get("times called", 1))
    except (KeyError, ValueError):
        return None
    found = re.match(r"^\[(.*)\](?::\d+)?$", name)
    return OperatorTime(values["node type"], found[1] if found else name, mean * max(1.0, calls))


def _last(pattern: re.Pattern, lines: list[str]) -> re.Match | None:
    matches: Iterator[re.Match] = (found for line in reversed(lines) if (found := pattern.search(line)))
    return next(matches, None)


def _complaint(lines: list[str]) -> str:
    said = [line for line in lines if line.strip() and "Benchmarking failed" not in line]
    blame = [line for line in said if re.search(r"error|fail|not found|no such|cannot|denied|unresolved", line, re.I)]
    return tail("\n".join(blame or said), 2) or "it printed nothing"
