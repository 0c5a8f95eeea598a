"""Time and memory of a child-parent search step beside a DARTS step on the same cells.

    python tools/benchmark_child_parent.py [--depth 5] [--channels 16] [--nodes 3] [--batch 64] [--steps 10]
                                           [--precision auto] [--json OUT.json] [--tiny]

A DARTS step (first order) updates the weights on one batch and alpha on another. A step of DCP-NAS does so for two
networks, the parent and the child, and computes the tangents; a row for each form of curvature. CP-NAS has no tangent.

Times: all steps take turns in one process, so that ratios hold on a busy machine, too. Memory: each row has a process
of its own; it is the most that the process ever held, less what it held before its networks were built.
"""

from __future__ import annotations

import quietly  # noqa: F401  # isort: skip  (before TensorFlow)
import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import turns

from tfbnas.costs import Budget, Memory
from tfbnas.files import write_json
from tfbnas.precision import precision
from tfbnas.search.cpnas import CPNAS
from tfbnas.search.dcpnas import DCPNAS

DARTS = "DARTS"
ROWS = (DARTS, "CP-NAS", "per_sample", "diagonal", "sampled", "gauss_newton", "exact")
"""The last ones are curvatures of DCP-NAS."""


def step_of(row: str, arguments: argparse.Namespace) -> Callable[[], object]:
    """A step as a function that returns when it is done."""
    shape = (arguments.size, arguments.size, 3)
    options = {"depth": arguments.depth, "channels": arguments.channels, "nodes": arguments.nodes}
    kind, own = (CPNAS, {}) if row == "CP-NAS" else (DCPNAS, {} if row == DARTS else {"curvature": row})
    with precision(arguments.precision):
        search = kind("cells", budget=Budget(Memory(), 1e12), input_shape=shape, options=options, **own)
    search.compile(tf.keras.optimizers.SGD(1e-6, momentum=0.9), tf.keras.optimizers.Adam(1e-6))
    chance = np.random.default_rng(0)
    images = [chance.normal(size=(arguments.batch, *shape)).astype(np.float32) for _ in range(2)]
    labels = [chance.integers(0, 10, arguments.batch) for _ in range(2)]
    halves = tuple((tf.constant(x), tf.constant(y)) for x, y in zip(images, labels, strict=True))
    if row == DARTS:
        return darts_step(search, halves)
    search.settle()

    @tf.function
    def step() -> tf.Tensor:
        return search.train_step(halves)["loss"]

    return lambda: float(step())


def darts_step(search: DCPNAS, halves: Any) -> Callable[[], object]:
    """The weights and then alpha of the child alone, each by its cross-entropy."""
    search.parent = None  # type: ignore[assignment]  # its memory is not DARTS'
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step() -> tf.Tensor:
        pairs = (
            (search.optimizer, search.network.trainable_variables),
            (search.architecture_optimizer, [search.alpha]),
        )
        for (images, labels), (optimizer, variables) in zip(halves, pairs, strict=True):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                loss = loss_of(labels, search.network(images, training=True))
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return lambda: float(step())


def peak_memory(row: str, command: list[str]) -> float | None:
    """MiB, measured in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *command, "--only", row], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)["memory"]


def measure_memory(row: str, arguments: argparse.Namespace) -> None:
    """What the process of one row does."""
    tf.constant(0.0).numpy()
    before = turns.memory()
    step = step_of(row, arguments)
    for _ in range(3):
        step()
    peak = turns.memory(peak=True)
    print(json.dumps({"memory": None if before is None or peak is None else peak - before}))


def read_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    helps = {
        "depth": (5, "cells"),
        "channels": (16, "of a node in the first cells"),
        "nodes": (3, "of a cell"),
        "batch": (64, "images of a step, of either half"),
        "size": (32, "height and width of the images"),
        "steps": (10, "steps of which the median is taken"),
    }
    for name, (value, text) in helps.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{text} (default: {value})")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="default: auto")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--tiny", action="store_true", help="only see that all runs: sizes that say nothing")
    parser.add_argument("--only", choices=ROWS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.rows = list(ROWS)
    if arguments.tiny:
        arguments.depth, arguments.nodes, arguments.batch, arguments.size, arguments.steps = 2, 1, 4, 8, 1
        arguments.channels, arguments.rows = 4, [DARTS, "per_sample"]
        turns.keep_to_one_processor()
    if min(getattr(arguments, name) for name in helps) < 1:
        parser.error("expected positive numbers")
    return arguments


def main() -> None:
    """Measures and prints."""
    arguments = read_arguments()
    if arguments.only:
        measure_memory(arguments.only, arguments)
        return
    facts = turns.machine()
    print(f"{facts['processor']}; {facts['threads']} threads; TensorFlow {facts['tensorflow']}", flush=True)
    seconds = turns.median_seconds([step_of(row, arguments) for row in arguments.rows], arguments.steps)
    memory = [peak_memory(row, sys.argv[1:]) for row in arguments.rows]
    rows: list[dict[str, Any]] = []
    for row, own, held in zip(arguments.rows, seconds, memory, strict=True):
        more = None if held is None or memory[0] is None else held / memory[0]
        rows.append({"step": row, "ms": 1e3 * own, "time": own / seconds[0], "MiB": held, "memory": more})
    forms = {"step": "", "ms": ".1f", "time": ".2f", "MiB": ".0f", "memory": ".2f"}
    print(turns.table({key: turns.column(rows, key, form) for key, form in forms.items()}))
    if arguments.json:
        write_json(arguments.json, {"machine": facts, "rows": rows})


if __name__ == "__main__":
    main()
