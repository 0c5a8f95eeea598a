"""Accuracy of the same network trained in float32 and in bfloat16, for several seeds: whether speed costs accuracy.

    python tools/compare_precisions.py [--data cifar10 --data_dir DIR] [--seeds 3] [--epochs 6] [--run_dir RUN]

Trains the uniform binary ResNet-18 (1x) as the recipes do, in both formats for each seed. RUN is a run directory: a
comparison that was killed goes on at its last epoch. Accuracies are those of the float32 network that would be
exported, on the test images.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from tfbnas.quiet import import_tensorflow

import_tensorflow()

import numpy as np  # noqa: E402
import turns  # noqa: E402

from tfbnas.architecture import Architecture  # noqa: E402
from tfbnas.errors import UserError  # noqa: E402
from tfbnas.recipes.context import Context  # noqa: E402
from tfbnas.recipes.devices import Devices  # noqa: E402
from tfbnas.recipes.recipe import Recipe  # noqa: E402
from tfbnas.recipes.runner import load_data  # noqa: E402
from tfbnas.recipes.training import Training, train_stage  # noqa: E402
from tfbnas.results import TrainingResult  # noqa: E402
from tfbnas.run import RunDirectory  # noqa: E402

PRECISIONS = ("float32", "bfloat16")


def compare(arguments: argparse.Namespace) -> str:
    """Trains whatever the run directory lacks, and returns the table."""
    recipe = Recipe("dms_resnet18")
    settings = recipe.settings_class()
    settings.data = replace(settings.data, name=arguments.data, data_dir=arguments.data_dir)
    settings.train = replace(settings.train, epochs=arguments.epochs, batch_size=arguments.batch)
    images = load_data(settings.data)
    network = Architecture("uniform", "resnet18", {}, images.input_shape, images.classes)
    found: dict[str, list[TrainingResult]] = {precision: [] for precision in PRECISIONS}
    chosen = {name: value for name, value in vars(arguments).items() if name not in ("run_dir", "seeds")}
    with RunDirectory(arguments.run_dir, chosen) as run:
        for seed in range(arguments.seeds):
            for precision in PRECISIONS:
                own = replace(settings, precision=precision, seed=seed)
                context = Context(run, own, images, network, recipe.method, {}, Devices())
                task = Training(f"{precision}-{seed}", precision, "baseline", 0, lambda: network)
                found[precision].append(train_stage(context, task))
    accuracies = {precision: [100 * result.test["accuracy"] for result in own] for precision, own in found.items()}
    return turns.table(
        {
            "precision": PRECISIONS,
            **{
                f"seed {seed}": [f"{accuracies[precision][seed]:.2f} %" for precision in PRECISIONS]
                for seed in range(arguments.seeds)
            },
            "mean": [f"{np.mean(own):.2f} %" for own in accuracies.values()],
            "deviation": [f"{np.std(own, ddof=1):.2f}" if len(own) > 1 else None for own in accuracies.values()],
            "s / epoch": [f"{np.median([e['seconds'] for r in own for e in r.history]):.1f}" for own in found.values()],
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="as --data.name of the recipes (default: %(default)s)")
    parser.add_argument("--data_dir", help="where prepared TFDS data sets lie")
    parser.add_argument("--seeds", type=int, default=3, help="trainings in each format (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=6, help="of each training (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="images per step (default: %(default)s)")
    parser.add_argument("--run_dir", default="runs/precisions", help="run directory (default: %(default)s)")
    try:
        print(compare(parser.parse_args()))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
