"""What the benchmarks share: tasks that take turns, facts of the machine, tables."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

REST = 0.005
"""Seconds before each turn, in which threads that still spin for the task before go to sleep."""


def take_turns(tasks: Sequence[Callable[[], object]], turns: int, *, warm_up: int = 2) -> list[list[float]]:
    """Times tasks in one process run after the other, so that whatever else the machine does meets all of them.

    Args:
      tasks: Each must have finished its work when it returns.
      turns: Of each task. Every turn begins with another task, so that none always runs behind the same one.
      warm_up: Turns before these that are not timed: they trace, compile and allocate. Default: 2.

    Returns:
      Seconds of each turn, for each task.
    """
    for _ in range(warm_up):
        for task in tasks:
            task()
    times: list[list[float]] = [[] for _ in tasks]
    for turn in range(turns):
        for index in range(len(tasks)):
            index = (index + turn) % len(tasks)
            time.sleep(REST)
            start = time.perf_counter()
            tasks[index]()
            times[index].append(time.perf_counter() - start)
    return times


def median_seconds(tasks: Sequence[Callable[[], object]], turns: int, *, warm_up: int = 2) -> list[float]:
    """The median turn of each task; the arguments are those of `take_turns`."""
    return [float(np.median(own)) for own in take_turns(tasks, turns, warm_up=warm_up)]


def threads() -> int:
    """Processors that this process may use: by default TensorFlow takes a thread for each."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory(*, peak: bool = False) -> float | None:
    """MiB that the process holds now, or the most it ever held; `None` where the system does not say (not Linux).

    getrusage would not do: the peak that it tells begins with that of the process which started this one.
    """
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            lines = dict(line.split(":", 1) for line in file)
    except OSError:
        return None
    return int(lines["VmHWM" if peak else "VmRSS"].split()[0]) / 1024


def keep_to_one_processor() -> None:
    """For runs that only show that a benchmark runs: on a busy machine threads that wait for each other take minutes.

    Call it before the first tensor is computed, when TensorFlow starts its threads.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def machine() -> dict[str, Any]:
    """What a number must be read with: processor, threads, versions."""
    import larq
    import tensorflow as tf

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
        values = {key.strip(): value.strip() for key, value in lines.items()}
        fast = sorted({"avx2", "avx512f", "avx512_bf16", "amx_bf16"} & set(values.get("flags", "").split()))
        processor = ", ".join([values.get("model name", platform.machine()), *fast])
    except OSError:
        processor = platform.processor() or platform.machine()
    return {
        "processor": processor,
        "threads": threads(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "larq": larq.__version__,
    }


def column(entries: Sequence[Mapping[str, Any]], key: str, form: str = "") -> list[str | None]:
    """One value of each entry as text, for `table`; `None` where an entry has none."""
    return [None if entry.get(key) is None else format(entry[key], form) for entry in entries]


def table(columns: Mapping[str, Sequence[object]]) -> str:
    """Text in columns, of which the first is flush left; `None` is shown as a dash."""
    cells = {head: ["-" if value is None else str(value) for value in own] for head, own in columns.items()}
    widths = {head: max(map(len, [head, *own])) for head, own in cells.items()}

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths.values(), strict=True))
        ]
        return "  ".join(padded).rstrip()

    return "\n".join(map(line, [list(cells), *zip(*cells.values(), strict=True)]))
