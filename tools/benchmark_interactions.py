"""Training speed with channel interactions against that of the same network without any.

    python tools/benchmark_interactions.py [--network resnet20] [--density 0.1] [--batch 128] [--steps 10]
                                           [--precision auto] [--tiny]

Each row is a way to train the network, with the images per second and their share of the plain network's:

- plain: without interactions;
- closed: a random graph of this density in every layer, as the recipes train a network that was found;
- open: the same graph while it is searched, without the policy's episodes.

The steps take turns, so that whatever else the machine does meets all of them: the shares hold on a busy machine, too.
"""

import quietly  # noqa: F401  # isort: skip  (before TensorFlow)
import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tensorflow as tf
import turns

from tfbnas import networks, quiet, training
from tfbnas.architecture import Architecture
from tfbnas.networks.interacted import Interactions
from tfbnas.precision import precision, resolve


def random_graphs(template: Architecture, density: float) -> dict[str, list[list[int]]]:
    """Edges of every layer, this share of its pairs of two channels of one block."""
    random, found = np.random.default_rng(0), {}
    for name, kind in networks.choices(template).items():
        assert isinstance(kind, Interactions)
        found[name] = kind.drawn(round(density * kind.pairs), random)
    return found


def open_network(architecture: Architecture) -> tf.keras.Model:
    """The network with open graphs that have these edges."""
    opened = {name: kind.open(name) for name, kind in networks.choices(architecture).items()}
    for name, graph in opened.items():
        edges = np.array(architecture.choices[name])
        graph.influences.scatter_nd_update(edges[:, :2], edges[:, 2])
    return networks.construct(
        architecture.network,
        lambda name, default: opened[name],
        input_shape=architecture.input_shape,
        classes=architecture.classes,
        options=architecture.options,
    )


def training_step(model: tf.keras.Model, images: tf.Tensor, labels: tf.Tensor) -> Callable[[], object]:
    """One step of SGD with momentum."""
    training.compile_for_training(model, learning_rate=1e-6)
    return lambda: model.train_on_batch(images, labels)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=("resnet20", "vgg_small"), default="resnet20", help="(default: resnet20)")
    parser.add_argument("--density", type=float, default=0.1, help="of every layer's graph (default: 0.1)")
    parser.add_argument("--batch", type=int, default=128, help="images of a step (default: 128)")
    parser.add_argument("--steps", type=int, default=10, help="of which the median is taken (default: 10)")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="(default: auto)")
    parser.add_argument("--tiny", action="store_true", help="only see that all runs: sizes that say nothing")
    arguments = parser.parse_args()
    if not 0 < arguments.density <= 1 or min(arguments.batch, arguments.steps) < 1:
        parser.error("expected a --density above 0 and at most 1, and positive --batch and --steps")
    side, options = 32, {}
    if arguments.tiny:
        arguments.batch, arguments.steps, side, options = 4, 1, 8, {"base": 16}
        turns.keep_to_one_processor()
    quiet.compile_once()
    template = Architecture("benchmark", arguments.network, {}, (side, side, 3), 10, options)
    graphs = replace(template, choices=random_graphs(template, arguments.density))
    number_format = resolve(arguments.precision)
    with precision(number_format):
        opened = open_network(graphs)
    models = {
        "plain": training.trainable(template, precision=number_format),
        "closed": training.trainable(graphs, precision=number_format),
        "open": opened,
    }
    random = np.random.default_rng(0)
    images = tf.constant(random.normal(size=(arguments.batch, side, side, 3)), tf.float32)
    labels = tf.constant(random.integers(0, 10, arguments.batch))
    tasks = [training_step(model, images, labels) for model in models.values()]
    speeds = [arguments.batch / seconds for seconds in turns.median_seconds(tasks, arguments.steps)]
    edges = sum(map(len, graphs.choices.values()))
    print(f"{arguments.network}, {edges} edges, {number_format}; {arguments.batch} images of {side}x{side} in a step")
    rows = {
        "network": list(models),
        "images/s": [f"{speed:.0f}" for speed in speeds],
        "share": [f"{speed / speeds[0]:.2f}" for speed in speeds],
    }
    print(turns.table(rows))


if __name__ == "__main__":
    main()
