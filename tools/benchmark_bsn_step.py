"""Time of a BSN training step against what is drawn: what a batch does not use is not computed.

    python tools/benchmark_bsn_step.py [--n 3] [--base 16] [--batch 64] [--steps 10] [--float]

Draws nothing: each row closes modules of the ResNet Fabric by hand, and prints the median time of a step and the share
of the whole fabric's multiply-adds that is left. With one group a step should take about that share of the time.
"""

import tfbnas  # isort: skip  (before TensorFlow)
import argparse
import time

import numpy as np
import tensorflow as tf

from tfbnas.costs import Budget, MultiplyAdds
from tfbnas.search.bsn import BSN


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("n", 3), ("base", 16), ("batch", 64), ("steps", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--float", action="store_true", help="full precision instead of bits")
    arguments = parser.parse_args()
    options = {"n": arguments.n, "base": arguments.base, "binary": not arguments.float}
    search = BSN("resnet_fabric", budget=Budget(MultiplyAdds(), 1e12), options=options)
    search.compile(tf.keras.optimizers.SGD(1e-6, momentum=0.9), tf.keras.optimizers.SGD(1e-6))
    chance = np.random.default_rng(0)
    images = tf.constant(chance.normal(size=(arguments.batch, 32, 32, 3)), tf.float32)
    labels = tf.constant(chance.integers(0, 10, arguments.batch))

    @tf.function
    def step(gates: tf.Tensor) -> tf.Tensor:
        loss, _, costs, gradients, _ = search.gradients(images, labels, gates)
        search.optimizer.apply_gradients(zip(gradients, search.network.trainable_variables, strict=True))
        with tf.control_dependencies([loss]):
            return costs[0, 0]

    rows = {
        "whole fabric": [True for _ in search.gates],
        "without half of the links": ["from" not in name or index % 2 == 0 for index, name in enumerate(search.gates)],
        "plain ResNet": ["from" not in name for name in search.gates],
        "a third of its blocks": [
            "from" not in name and ("body" not in name or "block0" in name) for name in search.gates
        ],
    }
    whole = None
    print(f"tfbnas {tfbnas.__version__}, batches of {arguments.batch}")
    print(f"{'drawn':26} {'Mmadd':>8} {'share':>7} {'ms':>8} {'share':>7}")
    for label, gates in rows.items():
        drawn = tf.constant([gates])
        cost = float(step(drawn))
        times = []
        for _ in range(arguments.steps):
            start = time.perf_counter()
            step(drawn).numpy()
            times.append(time.perf_counter() - start)
        median = 1e3 * float(np.median(times))
        whole = whole or (cost, median)
        print(f"{label:26} {cost / 1e6:8.2f} {cost / whole[0]:7.2f} {median:8.1f} {median / whole[1]:7.2f}")


if __name__ == "__main__":
    main()
