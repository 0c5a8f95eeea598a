"""Accuracy over time of training a binary ResNet-18: tfbnas beside plain Larq and PyTorch, from the same start.

    python tools/benchmark_accuracy.py [--data cifar10 --data_dir DIR] [--rows tfbnas larq] [--recipes sgd adam_sgd]
                                       [--epochs 16] [--seeds 1] [--at 65] [--run_dir RUN] [--figure OUT.svg] [--tiny]

The rows of a seed have the same kernels at the start, the same batches and the same rates; they take turns in one
process, an epoch each, so that whatever else the machine does meets all of them. Seconds are those of the training
alone, with the time that the first epoch takes to compile, which a comparison that was killed counts again when it
goes on; the test images are classified outside of them. RUN is a run directory: with the same one, the comparison goes
on at the first epoch that is missing. Rows of PyTorch need `pip install torch`.
"""

from __future__ import annotations

import quietly  # noqa: F401  # isort: skip  (before TensorFlow)
import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import accuracy_rows
import numpy as np
import turns
from matplotlib.figure import Figure
from training_variants import Task

from tfbnas import data, precision
from tfbnas.checkpoints import Checkpoints
from tfbnas.errors import UserError
from tfbnas.files import write_json, write_text
from tfbnas.recipes.options import TrainSettings
from tfbnas.report import style
from tfbnas.run import RunDirectory

BASE = 16
RECIPES = {"sgd": "SGD", "adam_sgd": "Adam for the kernels"}
_CHOSEN = "data epochs batch width learning_rate kernel_learning_rate precision tiny"
Entry = dict[str, Any]


def label(entry: Mapping[str, Any]) -> str:
    """Of a row, for people."""
    return f"{accuracy_rows.LABELS[entry['row']]}, {RECIPES[entry['recipe']]}"


def compare(arguments: argparse.Namespace, run: RunDirectory, images: data.ImageData, seed: int) -> list[Entry]:
    """Trains what the run directory lacks of one seed; returns an entry for each row and epoch."""
    task = Task(arguments.batch, round(BASE * arguments.width), images.input_shape[0])
    rows: list[tuple[Entry, accuracy_rows.Row, Checkpoints]] = []
    entries: list[list[Entry]] = []
    for recipe in arguments.recipes:
        settings = TrainSettings(
            epochs=arguments.epochs,
            batch_size=arguments.batch,
            recipe=recipe,
            learning_rate=arguments.learning_rate,
            kernel_learning_rate=arguments.kernel_learning_rate,
        )
        settings.check()
        for name in arguments.rows:
            row = accuracy_rows.make(name, settings, task, images, precision=arguments.precision, seed=seed)
            checkpoints = Checkpoints(run.checkpoints(f"{name}-{recipe}-{seed}"), **row.held)
            done, state = checkpoints.restore() or (0, {"entries": []})
            if done:
                row.restore(checkpoints.directory / "torch", done)
            rows.append(({"row": name, "recipe": recipe, "seed": seed}, row, checkpoints))
            entries.append(state["entries"])
    for epoch in range(arguments.epochs):
        for turn in range(len(rows)):
            index = (turn + epoch) % len(rows)
            about, row, checkpoints = rows[index]
            own = entries[index]
            if epoch < len(own):
                continue
            start = time.perf_counter()
            row.train(epoch)
            seconds = time.perf_counter() - start + (own[-1]["seconds"] if own else 0.0)
            own.append({**about, "epoch": epoch + 1, "seconds": seconds, "accuracy": row.accuracy()})
            row.save(checkpoints.directory / "torch", epoch + 1)
            checkpoints.save(epoch + 1, {"entries": own})
            print(f"{label(about)}, seed {seed}, epoch {epoch + 1}: {100 * own[-1]['accuracy']:.2f} %", flush=True)
    return [entry for own in entries for entry in own]


def grouped(entries: Sequence[Entry]) -> dict[str, list[list[Entry]]]:
    """By the label of a row, the entries of each seed."""
    found: dict[str, dict[int, list[Entry]]] = {}
    for entry in entries:
        found.setdefault(label(entry), {}).setdefault(entry["seed"], []).append(entry)
    return {name: list(own.values()) for name, own in found.items()}


def reached(entries: Sequence[Entry], accuracy: float) -> float | None:
    """Seconds of one training up to the end of the first epoch with such an accuracy, if any."""
    return next((entry["seconds"] for entry in entries if entry["accuracy"] >= accuracy), None)


def show(entries: Sequence[Entry], at: float) -> str:
    """The table: accuracy at the end, and the time to that end and to an accuracy of `at` percent."""
    groups = grouped(entries)
    lasts = [[100 * own[-1]["accuracy"] for own in seeds] for seeds in groups.values()]
    times = [[reached(own, at / 100) for own in seeds] for seeds in groups.values()]
    return turns.table(
        {
            "training": list(groups),
            "seeds": [len(own) for own in lasts],
            "accuracy": [f"{np.mean(own):.2f} %" for own in lasts],
            "deviation": [f"{np.std(own, ddof=1):.2f}" if len(own) > 1 else None for own in lasts],
            "seconds": [f"{np.mean([own[-1]['seconds'] for own in seeds]):.0f}" for seeds in groups.values()],
            f"s to {at:g} %": [None if None in own else f"{np.mean(np.array(own, float)):.0f}" for own in times],
        }
    )


def draw(entries: Sequence[Entry], narrow: bool) -> Figure:
    """Accuracy over minutes, a line for each row: the mean of the seeds, with their range."""
    figure, (axis,) = style.canvas(narrow, 340)
    colors = ["accent", "second", "third", "stone", "muted", "faint"]
    for (name, seeds), color in zip(grouped(entries).items(), colors, strict=False):
        minutes = np.mean([[entry["seconds"] / 60 for entry in own] for own in seeds], axis=0)
        found = 100 * np.array([[entry["accuracy"] for entry in own] for own in seeds])
        axis.plot(minutes, found.mean(axis=0), color=style.COLORS[color], label=name, marker="o", ms=3)
        if len(seeds) > 1:
            axis.fill_between(
                minutes, found.min(axis=0), found.max(axis=0), color=style.COLORS[color], alpha=0.15, lw=0
            )
    axis.set_xlim(left=0)
    axis.set_xlabel("Minutes of training")
    axis.set_ylabel("Test accuracy (%)")
    style.below(figure, axis, columns=1 if narrow else 2)
    return figure


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="as --data.name of the recipes (default: %(default)s)")
    parser.add_argument("--data_dir", help="where prepared TFDS data sets lie")
    parser.add_argument("--rows", nargs="+", choices=accuracy_rows.LABELS, default=list(accuracy_rows.LABELS))
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--epochs", type=int, default=16, help="of each training (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="images per step (default: %(default)s)")
    parser.add_argument("--width", type=float, default=1.0, help=f"multiple of {BASE} channels (default: %(default)s)")
    parser.add_argument("--learning_rate", type=float, default=0.1, help="of SGD (default: %(default)s)")
    parser.add_argument("--kernel_learning_rate", type=float, default=0.01, help="of Adam (default: %(default)s)")
    parser.add_argument("--precision", choices=["auto", *precision.PRECISIONS], default="auto")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a training for each (default: 0)")
    parser.add_argument("--at", type=float, default=65.0, help="accuracy in percent to be reached (default: 65)")
    parser.add_argument("--run_dir", default="runs/accuracy", help="run directory (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--figure", type=Path, help="SVG file for the lines")
    parser.add_argument("--tiny", action="store_true", help="only see that all runs: sizes that say nothing")
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.data, arguments.batch, arguments.width, arguments.epochs = "cifar10-quick", 16, 0.25, 2
        turns.keep_to_one_processor()
    return arguments


def main() -> None:
    """Trains, prints and writes."""
    arguments = parse()
    for row in filter(accuracy_rows.missing, list(arguments.rows)):
        print(f"{accuracy_rows.LABELS[row]}: skipped, torch is not installed")
        arguments.rows.remove(row)
    try:
        arguments.precision = precision.resolve(arguments.precision)
        images = data.load(arguments.data, data_dir=arguments.data_dir)
        if arguments.tiny:
            images = replace(images, train=images.train.take(40, seed=0), test=images.test.take(20, seed=0))
        facts = turns.machine()
        print(f"{facts['processor']}; {facts['threads']} threads; TensorFlow {facts['tensorflow']}", flush=True)
        with RunDirectory(arguments.run_dir, {name: vars(arguments)[name] for name in _CHOSEN.split()}) as run:
            entries = [entry for seed in arguments.seeds for entry in compare(arguments, run, images, seed)]
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"\n{show(entries, arguments.at)}")
    if arguments.json:
        write_json(arguments.json, {"machine": facts, "entries": entries})
    if arguments.figure:
        text = style.svg(lambda narrow: draw(entries, narrow))
        write_text(arguments.figure, style.standalone(text, title="Accuracy over time in training"))


if __name__ == "__main__":
    main()
