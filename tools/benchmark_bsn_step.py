"""Time of a BSN training step against what is drawn: what a batch does not use is not computed.

    python tools/benchmark_bsn_step.py [--n 3] [--base 16] [--batch 64] [--steps 10] [--float]

Each row is one architecture for the whole batch: first the whole ResNet Fabric, then what remains of it where each
choice is kept with the chance of the row (drawn until something remains). It prints the modules and the multiply-adds
that remain, and the median time of a training step; beside it, that of a step that runs every module and multiplies
what was not drawn by zero, as the authors' release does, with the same layers. All steps take turns, so that whatever
else the machine does meets all of them: the shares hold on a busy machine, too.
"""

import tfbnas  # noqa: F401  # isort: skip  (before TensorFlow)
import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfbnas.costs import Budget, MultiplyAdds
from tfbnas.layers import Gated
from tfbnas.search.bsn import BSN

CHANCES = (1.0, 0.9, 0.75, 0.6, 0.45)
Step = Callable[[tf.Tensor], tf.Tensor]


def draw(search: BSN, chance: float, random: np.random.Generator) -> np.ndarray:
    """Gates `[1, gates]` that leave a path, each open with this chance."""
    graph = search.priced.graph
    while True:
        gates = random.random((1, len(search.gates))) < chance
        if graph.prune(gates).modules.any():
            return gates


def skipping_step(search: BSN, images: tf.Tensor, labels: tf.Tensor) -> Step:
    """A step as the search takes it, for given gates."""

    @tf.function
    def step(gates: tf.Tensor) -> tf.Tensor:
        loss, _, _, gradients, _ = search.gradients(images, labels, gates)
        search.optimizer.apply_gradients(zip(gradients, search.network.trainable_variables, strict=True))
        return loss

    return step


def masking_step(search: BSN, images: tf.Tensor, labels: tf.Tensor) -> Step:
    """A step that runs all modules. It takes the gates of the network: steps of the search must be traced before."""
    mask: list[tf.Tensor] = []
    gated = [layer for layer in search.network.layers if isinstance(layer, Gated)]
    for layer in gated:
        index = search.gates.index(layer.gate.name)
        # In two groups, since one group is not multiplied; what is nearly zero counts as used.
        layer.gate.kept = lambda index=index: tf.repeat(tf.maximum(mask[0][:, index], 1e-30), 2)

    @tf.function
    def step(gates: tf.Tensor) -> tf.Tensor:
        mask[:] = [tf.cast(gates, tf.float32)]
        with tf.GradientTape() as tape:
            logits = search.network(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, search.network.trainable_variables)
        search.optimizer.apply_gradients(zip(gradients, search.network.trainable_variables, strict=True))
        return loss

    return step


def measure(tasks: Sequence[tuple[Step, tf.Tensor]], steps: int) -> list[float]:
    """Median milliseconds of each step with its gates."""
    for step, gates in tasks:
        step(gates).numpy()  # traces, and allocates what this architecture needs
    times: list[list[float]] = [[] for _ in tasks]
    for _ in range(steps):
        for own, (step, gates) in zip(times, tasks, strict=True):
            start = time.perf_counter()
            step(gates).numpy()
            own.append(1e3 * (time.perf_counter() - start))
    return [float(np.median(own)) for own in times]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    helps = {
        "n": (3, "blocks of a group"),
        "base": (16, "channels of the first group"),
        "batch": (64, "images of a step, an even number"),
        "size": (32, "height and width of the images"),
        "steps": (10, "steps of which the median is taken"),
    }
    for name, (value, text) in helps.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{text} (default: {value})")
    parser.add_argument("--float", action="store_true", help="full precision instead of bits")
    arguments = parser.parse_args()
    if min(vars(arguments)[name] for name in helps) < 1 or arguments.batch % 2:
        parser.error("expected positive numbers, and an even --batch")
    shape = (arguments.size, arguments.size, 3)
    options = {"n": arguments.n, "base": arguments.base, "binary": not arguments.float}
    # The greedy baseline runs a second network forward in every step: not what is compared here.
    budget = Budget(MultiplyAdds(), 1e12)
    search = BSN("resnet_fabric", budget=budget, input_shape=shape, options=options, baseline="moving")
    search.compile(tf.keras.optimizers.SGD(1e-6, momentum=0.9), tf.keras.optimizers.SGD(1e-6))
    random = np.random.default_rng(0)
    drawn = [draw(search, chance, random) for chance in CHANCES]
    pruned = search.priced.graph.prune(np.concatenate(drawn))
    costs = [search.priced.price(kept)[0] for kept in pruned.modules]
    images = tf.constant(random.normal(size=(arguments.batch, *shape)), tf.float32)
    labels = tf.constant(random.integers(0, 10, arguments.batch))
    tensors = [tf.constant(gates) for gates in drawn]
    skipping = skipping_step(search, images, labels)
    skipping(tensors[0])
    masking = masking_step(search, images, labels)
    times = measure([(step, gates) for step in (skipping, masking) for gates in tensors], arguments.steps)
    skipped, masked = times[: len(drawn)], times[len(drawn) :]

    form = "float32" if arguments.float else "binary"
    size = f"{arguments.size}x{arguments.size}"
    print(f"ResNet Fabric n={arguments.n}, base={arguments.base}, {form}; {arguments.batch} images of {size} in a step")
    print(f"{'chance':>6} | {'modules':>12} | {'multiply-adds':>15} | {'only what is drawn':>20} | all, then masked")
    for row, chance in enumerate(CHANCES):
        modules = int(pruned.modules[row].sum())
        print(
            f"{chance:6.2f} | {modules:5d} {modules / pruned.modules[0].sum():6.0%} | "
            f"{costs[row] / 1e6:6.1f} M {costs[row] / costs[0]:6.0%} | "
            f"{skipped[row]:9.1f} ms {skipped[row] / skipped[0]:7.0%} | "
            f"{masked[row]:9.1f} ms {masked[row] / skipped[0]:7.0%}"
        )


if __name__ == "__main__":
    main()
