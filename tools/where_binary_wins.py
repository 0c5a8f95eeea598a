"""Where binary networks win over int8: ResNet-18 of several widths, once as binary, once searched, once as int8.

    python tools/where_binary_wins.py [--data cifar10 --data_dir DIR] [--networks binary-8 latency-16 int8-8 ...]
                                      [--epochs 16] [--out docs/when] [--run_dir RUNS] [--tiny]

The number is a width, channels of the first stage. binary-W is the uniform binary network; latency-W and memory-W are
the binary networks that DMS finds in the predicted time of that one, and in its bytes; int8-W is the int8 network of
the same widths. All are trained from scratch with one recipe and for as many epochs. Accuracies of int8 are those of
its file in TensorFlow's interpreter. Bytes are those of the .tflite files. Times are those of a latency table, a model,
not measurements.

Each network has a run directory below RUNS. What is there already is not repeated; a killed training goes on with its
first unfinished epoch. OUT.json, OUT.md (a table) and OUT.svg (a figure) are written anew after each network.
"""

from __future__ import annotations

import quietly  # noqa: F401  # isort: skip  (before TensorFlow)
import argparse
import functools
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tfbnas import data
from tfbnas.architecture import Architecture
from tfbnas.costs import MIB, Latency, Memory
from tfbnas.errors import UserError
from tfbnas.files import write_json, write_text
from tfbnas.recipes import int8, runner
from tfbnas.recipes.context import Context
from tfbnas.recipes.devices import Devices
from tfbnas.recipes.exporting import STAGE, export_stage
from tfbnas.recipes.recipe import Recipe
from tfbnas.recipes.searching import search_stage
from tfbnas.recipes.settings import Command, parse, preset_files
from tfbnas.recipes.training import Training, train_stage
from tfbnas.report import style

RECIPE = "dms_resnet18"
LABELS = {
    "binary": "binary, uniform",
    "latency": "binary, searched under a latency",
    "memory": "binary, searched under a memory",
    "int8": "int8, uniform",
}
_LOOKS = {"binary": ("second", "o"), "latency": ("accent", "D"), "memory": ("third", "s"), "int8": ("stone", "o")}
NETWORKS = [
    *("binary-8", "binary-16", "binary-24", "binary-32", "binary-64"),
    *("latency-16", "latency-32", "memory-16", "memory-32"),
    *("int8-8", "int8-12", "int8-16", "int8-24", "int8-32"),
]
_ENOUGH = 1e6  # a budget that limits nothing, for networks that are not searched


@dataclass(frozen=True)
class Row:
    """A trained network: test accuracy, bytes of its file, predicted milliseconds."""

    kind: str
    width: int
    accuracy: float
    bytes: int
    milliseconds: float


def row_of(kind: str, width: int, arguments: argparse.Namespace, images: data.ImageData) -> Row:
    """Trains a network, or goes on with it, and exports it."""
    recipe = Recipe(RECIPE)
    uniform = Architecture("uniform", "resnet18", {}, images.input_shape, images.classes, {"base": width})
    budget = {"cost": "memory", "memory": _ENOUGH}
    if kind == "memory":
        budget = {"cost": "memory", "memory": Memory(arguments.counting).of(uniform) / MIB}
    if kind == "latency":
        budget = {"cost": "latency", "latency": Latency(arguments.device).of(uniform)}
    settings = {
        "data.name": arguments.data,
        "data.data_dir": arguments.data_dir or "null",
        "network.base": width,
        "search.rounds": arguments.rounds,
        "search.batch_size": arguments.batch,
        "train.epochs": arguments.epochs,
        "train.batch_size": arguments.batch,
        "train.recipe": arguments.recipe,
        "train.learning_rate": arguments.learning_rate,
        "seed": arguments.seed,
        "budget.device": arguments.device,
        "budget.counting": arguments.counting,
        **{f"budget.{name}": value for name, value in budget.items()},
    }
    run_dir = Path(arguments.run_dir) / f"{kind}-{width}"
    options = ["--preset", "cpu", "--run_dir", str(run_dir)]
    if (run_dir / "settings.yaml").exists():
        options = ["--run_dir", str(run_dir)]
    options += [f"--{name}={value}" for name, value in settings.items()]
    command: Command[Any] = parse(
        recipe.settings_class,
        options,
        program=f"python -m tfbnas.recipes.{RECIPE}",
        description="",
        presets=preset_files(RECIPE),
    )
    template = runner.whole(recipe.method, command.settings, images)
    with runner.open_run(command, recipe.method, images, template, Devices()) as context:
        return _row(kind, width, context, template)


def _row(kind: str, width: int, context: Context, template: Architecture) -> Row:
    if kind in ("latency", "memory"):
        found = Architecture.from_dict(search_stage(context).architecture)
    else:
        found = replace(template, method="uniform")  # every width as the family has it
    if kind == "int8":
        task = Training("int8", LABELS[kind], "reference", 1, functools.partial(int8.twin, found))
        result = train_stage(context, int8.as_int8(context, task))
        return Row(kind, width, result.test["accuracy"], result.file, result.milliseconds)
    task = Training("searched", LABELS[kind], "searched", 0, lambda: found)
    result = train_stage(context, task)
    export_stage(context, task)
    return Row(kind, width, result.test["accuracy"], context.run.result(STAGE)["bytes"], result.milliseconds)


def show(rows: Sequence[Row]) -> str:
    """The table, in Markdown."""
    lines = ["| network | channels | accuracy | bytes | predicted ms |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {LABELS[r.kind]} | {r.width} | {100 * r.accuracy:.2f} % | {r.bytes} | {r.milliseconds:.2f} |" for r in rows
    ]
    return "\n".join(lines)


def draw(rows: Sequence[Row], narrow: bool) -> Figure:
    """Accuracy over predicted milliseconds and over KiB, a line for each kind."""
    figure, axes = style.canvas(narrow, 640 if narrow else 360, nrows=2 if narrow else 1, ncols=1 if narrow else 2)
    for axis, title, unit, value in (
        (axes[0], "Predicted time", "ms", lambda row: row.milliseconds),
        (axes[1], "Bytes of the file", "KiB", lambda row: row.bytes / 1024),
    ):
        for kind, (color, marker) in _LOOKS.items():
            own = sorted((value(row), 100 * row.accuracy) for row in rows if row.kind == kind)
            if own:
                axis.plot(*zip(*own, strict=True), color=style.COLORS[color], marker=marker, ms=5, label=LABELS[kind])
        style.cost_axis(axis, [value(row) for row in rows])
        axis.set_title(title)
        axis.set_xlabel(f"{unit} (logarithmic)")
        axis.set_ylabel("Test accuracy (%)")
    style.below(figure, axes[0], columns=1 if narrow else 2)
    return figure


def written(rows: Sequence[Row], arguments: argparse.Namespace) -> None:
    """Writes OUT.json, OUT.md and OUT.svg."""
    out = Path(arguments.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    about = {name: value for name, value in vars(arguments).items() if name not in ("out", "run_dir", "data_dir")}
    write_json(out.with_suffix(".json"), {"settings": about, "rows": [asdict(row) for row in rows]})
    write_text(out.with_suffix(".md"), show(rows) + "\n")
    drawn = style.svg(lambda narrow: draw(rows, narrow))
    write_text(out.with_suffix(".svg"), style.standalone(drawn, title="Accuracy against time and size"))


def network(text: str) -> str:
    """The text, if it names a network.

    Raises:
      ArgumentTypeError: It does not.
    """
    kind, _, width = text.partition("-")
    if kind not in LABELS or not width.isdecimal() or int(width) < 1:
        raise argparse.ArgumentTypeError(
            f"expected one of {', '.join(LABELS)}, a hyphen, and a number of channels; received {text!r}"
        )
    return text


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="as --data.name of the recipes (default: %(default)s)")
    parser.add_argument("--data_dir", help="where prepared TFDS data sets lie")
    parser.add_argument(
        "--networks", type=network, nargs="+", default=NETWORKS, metavar="KIND-WIDTH", help="(default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=16, help="of each training (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=8, help="of each search (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="images per step (default: %(default)s)")
    parser.add_argument("--recipe", choices=["sgd", "adam", "adam_sgd"], default="adam_sgd")
    parser.add_argument("--learning_rate", type=float, default=0.1, help="of SGD (default: %(default)s)")
    parser.add_argument("--counting", default="file", help="of the bytes that a search limits (default: %(default)s)")
    parser.add_argument("--device", default="raspberry_pi_4b", help="whose latency table (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run_dir", default="runs/where_binary_wins", help="(default: %(default)s)")
    parser.add_argument("--out", default="runs/where_binary_wins/when", help="(default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="only see that all runs: sizes that say nothing")
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.data, arguments.epochs, arguments.rounds = "cifar10-quick", 2, 2
        arguments.networks = [f"{kind}-2" for kind in LABELS] if arguments.networks == NETWORKS else arguments.networks
    return arguments


def main() -> None:
    """Trains, prints and writes."""
    arguments = parse_arguments()
    rows: list[Row] = []
    try:
        images = data.load(arguments.data, data_dir=arguments.data_dir)
        for name in arguments.networks:
            kind, width = name.split("-")
            rows.append(row_of(kind, int(width), arguments, images))
            written(rows, arguments)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(show(rows))


if __name__ == "__main__":
    main()
