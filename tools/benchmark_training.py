"""Speed of training a binary ResNet-18: tfbnas beside plain Larq, PyTorch, and the convolutions alone.

    python tools/benchmark_training.py [--batch 64 128 256] [--widths 1 2 4] [--repetitions 15] [--rows larq ...]
                                       [--memory] [--json OUT.json] [--figure OUT.svg] [--tiny]

The network is the CIFAR form for images of 32x32: width 1 has 16 channels in the first stage, a quarter of ResNet-18's,
width 4 all of them. For each batch size and width the variants take turns in one process, one training step at a time,
all with the default number of threads; printed are images per second by the median step. Ratios hold on a busy machine,
too; times do not. "of bound" is the share of the speed that the same convolutions reach in the variant's own precision
when nothing else is computed. The rows of PyTorch need `pip install torch`.
"""

from __future__ import annotations

import quietly  # noqa: F401  # isort: skip  (before TensorFlow)
import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import turns
from training_variants import VARIANTS, Step, Task

from tfbnas.files import write_json

BASE = 16


def measure(task: Task, width: float, rows: Sequence[str], repetitions: int) -> list[dict[str, Any]]:
    """Entries of the result for one batch size and width."""
    tf.keras.backend.clear_session()
    steps = prepare(task, rows)
    seconds = dict(zip(steps, turns.median_seconds(list(steps.values()), repetitions), strict=True))
    return [
        {
            "row": row,
            "batch": task.batch,
            "width": width,
            "milliseconds": 1e3 * seconds[row],
            "images_per_second": task.batch / seconds[row],
            **{f"to_{other}": _ratio(seconds, row, other) for other in ("larq", "torch")},
            "of_bound": _ratio(seconds, row, f"bound-{VARIANTS[row].precision}"),
        }
        for row in steps
    ]


def prepare(task: Task, rows: Sequence[str]) -> dict[str, Step]:
    """The steps of the variants, each taken once; without PyTorch's compiled one where that finds no C++ compiler."""
    steps = {}
    for row in rows:
        step = VARIANTS[row].make(task)
        try:
            step()
        except Exception as error:
            if row != "torch-compile":
                raise
            print(f"{VARIANTS[row].label}: skipped, {str(error).strip().splitlines()[0]}")
        else:
            steps[row] = step
    return steps


def _ratio(seconds: Mapping[str, float], row: str, other: str) -> float | None:
    return seconds[other] / seconds[row] if other in seconds else None


def grown_memory(row: str, task: Task) -> float | None:
    """MiB that this process holds at most while the variant is built and takes two steps, beyond what it holds now."""
    if VARIANTS[row].needs_torch:
        import torch  # noqa: F401  (what libraries take is not counted)

    before = turns.memory()
    step = VARIANTS[row].make(task)
    for _ in range(2):
        step()
    peak = turns.memory(peak=True)
    return None if before is None or peak is None else peak - before


def in_own_process(row: str, task: Task) -> float | None:
    """`grown_memory` of a process that does nothing else."""
    given = [row, task.batch, task.base, task.size]
    command = [sys.executable, __file__, "--memory-of", *map(str, given)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def show(entries: Sequence[Mapping[str, Any]]) -> str:
    """The table of one batch size and width."""
    columns: dict[str, Sequence[object]] = {
        f"batch {entries[0]['batch']}, width {entries[0]['width']:g}x": [
            VARIANTS[entry["row"]].label for entry in entries
        ],
        "ms/step": turns.column(entries, "milliseconds", ".1f"),
        "images/s": turns.column(entries, "images_per_second", ".0f"),
        "to Larq": turns.column(entries, "to_larq", ".2f"),
        "to PyTorch": turns.column(entries, "to_torch", ".2f"),
        "of bound": turns.column(entries, "of_bound", ".2f"),
    }
    if any("peak_memory" in entry for entry in entries):
        columns["peak MiB"] = turns.column(entries, "peak_memory", ".0f")
    return turns.table(columns)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128, 256], help="images of a step")
    parser.add_argument("--widths", type=float, nargs="+", default=[1, 2, 4], help=f"multiples of {BASE} channels")
    parser.add_argument("--repetitions", type=int, default=15, help="steps of which the median is taken (default: 15)")
    parser.add_argument("--rows", nargs="+", choices=VARIANTS, help="variants (default: all)")
    parser.add_argument("--memory", action="store_true", help="measure peak memory, each variant in its own process")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--figure", type=Path, help="SVG file for bars")
    parser.add_argument("--tiny", action="store_true", help="only see that all runs: sizes that say nothing")
    parser.add_argument("--memory-of", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if min([*arguments.batch, *arguments.widths, arguments.repetitions]) <= 0:
        parser.error("expected positive numbers")
    arguments.size = 32
    rows = list(VARIANTS)
    if arguments.tiny:
        arguments.batch, arguments.widths, arguments.repetitions, arguments.size = [4], [0.25], 1, 8
        rows.remove("torch-compile")  # a minute
        turns.keep_to_one_processor()
    arguments.rows = arguments.rows or rows
    return arguments


def main() -> None:
    """Measures and prints."""
    arguments = parse()
    if arguments.memory_of:
        row, batch, base, size = arguments.memory_of
        print(json.dumps(grown_memory(row, Task(int(batch), int(base), int(size)))))
        return
    rows = [row for row in arguments.rows if not VARIANTS[row].missing]
    for row in arguments.rows:
        if row not in rows:
            print(f"{VARIANTS[row].label}: skipped, torch is not installed")
    facts = turns.machine() | {"torch": sys.modules["torch"].__version__ if "torch" in sys.modules else None}
    print(f"{facts['processor']}; {facts['threads']} threads; TensorFlow {facts['tensorflow']}")
    entries: list[dict[str, Any]] = []
    for width in arguments.widths:
        for batch in arguments.batch:
            task = Task(batch, round(BASE * width), arguments.size)
            own = measure(task, width, rows, arguments.repetitions)
            if arguments.memory:
                for entry in own:
                    entry["peak_memory"] = in_own_process(entry["row"], task)
            print(f"\n{show(own)}", flush=True)
            entries += own
    if arguments.json:
        write_json(arguments.json, {"machine": facts, "entries": entries})
    if arguments.figure:
        from training_figure import write

        write(arguments.figure, entries)


if __name__ == "__main__":
    main()
