"""Time of a BSN training step against what is drawn, and against the way of running of the paper's authors.

    python tools/benchmark_bsn_step.py [--n 3] [--base 16] [--batch 64] [--steps 10]
                                       [--precision auto] [--float] [--tiny]

Each row is a chance with which every choice of a ResNet Fabric is kept, drawn until something remains. It prints the
modules and the multiply-adds that remain of one draw, and the median times of a training step

- drawn: as the recipes search, one architecture for the batch; what was not drawn is not run;
- masked: the same, but every module is run, and what was not drawn is multiplied by zero;
- each: as the recipes search with `--search.groups null`, an architecture for each image;
- authors: as their release does it, by its description: the same layers, run eagerly node by node on the whole batch
  whatever was drawn, an architecture for each image multiplied as masks, one synchronisation for each node, schedules
  in plain loops; in float32;
- compiled: the same with each node as a compiled function, since TensorFlow needs more time for a small operation that
  is run eagerly than other frameworks do.

The shares in percent are of the whole network's step. The last column is the times of the authors' way, eager and
compiled, divided by ours ("drawn").
All steps take turns, so that whatever else the machine does meets all of them: the shares hold on a busy machine, too.
On a CPU a synchronisation costs next to nothing: on a GPU the authors' way has more to lose than is seen here.
"""

import quietly  # noqa: F401  # isort: skip  (before TensorFlow)
import argparse
import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import turns

from tfbnas import quiet
from tfbnas.costs import Budget, Distributed, MultiplyAdds
from tfbnas.costs.schedule import allocation_order
from tfbnas.layers import Gated
from tfbnas.networks.graph import NetworkGraph
from tfbnas.networks.pruning import Bits
from tfbnas.precision import precision, resolve
from tfbnas.search import reinforce
from tfbnas.search.bsn import BSN

CHANCES = (1.0, 0.9, 0.75, 0.6, 0.45)
MACHINES = 2
Step = Callable[[Bits], object]


def draw(graph: NetworkGraph, chance: float, random: np.random.Generator, examples: int = 1) -> Bits:
    """Gates `[examples, gates]`, each row of which leaves a path, each open with this chance."""
    gates = random.random((examples, len(graph.choices))) < chance
    while not (connected := graph.prune(gates).modules.any(axis=1)).all():
        gates[~connected] = random.random((int((~connected).sum()), gates.shape[1])) < chance
    return gates


def searching_step(search: BSN, images: tf.Tensor, labels: tf.Tensor) -> Step:
    """A step as the search takes it, for given gates."""

    @tf.function
    def step(gates: tf.Tensor) -> tf.Tensor:
        loss, _, _, gradients, logit_gradient = search.gradients(images, labels, gates)
        search.optimizer.apply_gradients(zip(gradients, search.network.trainable_variables, strict=True))
        search.architecture_optimizer.apply_gradients([(logit_gradient, search.logits)])
        return loss

    return lambda gates: step(tf.constant(gates)).numpy()


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

    return lambda gates: step(tf.constant(gates)).numpy()


class AuthorsWay:
    """A training step as the authors' release takes it, on a network of its own with the same layers."""

    def __init__(self, graph: NetworkGraph, images: tf.Tensor, labels: tf.Tensor, *, compiled: bool):
        self.graph, self.images, self.labels = graph, images, labels
        self.order = allocation_order("depth_first", graph.costs, graph.successors)
        self.modules: dict[int, tf.keras.Model] = {}
        for module in graph.order:
            sources = graph.predecessors[module]
            shapes = [self.modules[source].output_shape[1:] for source in sources] or [images.shape[1:]]
            self.modules[module] = graph.nodes[module].alone(shapes)
        self.run = {module: tf.function(model) if compiled else model for module, model in self.modules.items()}
        self.variables = [v for model in self.modules.values() for v in model.trainable_variables]
        self.logits = tf.Variable(tf.fill([len(graph.choices)], 3.0))
        self.optimizer = tf.keras.optimizers.SGD(1e-6, momentum=0.9)
        self.architecture_optimizer = tf.keras.optimizers.SGD(1e-6)

    def __call__(self, gates: Bits) -> None:
        masks = tf.constant(gates, tf.float32)
        with tf.GradientTape() as tape:
            outputs: dict[int, tf.Tensor] = {}
            for module in self.graph.order:
                sources = [outputs[source] for source in self.graph.predecessors[module]] or [self.images]
                output = self.run[module](sources, training=True)
                if (gate := self.graph.guard[module]) >= 0:
                    output *= tf.reshape(masks[:, gate], [-1, 1, 1, 1])
                tf.reshape(output, [-1])[0].numpy()  # waits, where the device computes on its own
                outputs[module] = output
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(self.labels, outputs[self.graph.order[-1]])
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, self.variables)
        self.optimizer.apply_gradients(zip(gradients, self.variables, strict=True))
        costs = [schedule_length(self.graph, self.order, example) for example in gates.tolist()]
        advantages = reinforce.leave_one_out(losses + tf.nn.relu(tf.constant(costs, tf.float32) / 20.0 - 1.0))
        scores = reinforce.score(self.logits, masks > 0, tf.ones_like(masks, tf.bool))
        self.architecture_optimizer.apply_gradients([(reinforce.gradient(scores, advantages), self.logits)])


def schedule_length(graph: NetworkGraph, order: Sequence[int], gates: Sequence[bool]) -> int:
    """Steps of what the gates leave, by plain loops: `tfbnas.costs.Distributed` without its speed and memory."""
    closed = {module for module, gate in enumerate(graph.guard) if gate >= 0 and not gates[gate]}
    reached: set[int] = set()
    for module in graph.order:
        sources = graph.predecessors[module]
        if module not in closed and (not sources or any(source in reached for source in sources)):
            reached.add(module)
    left: set[int] = set()
    for module in reversed(graph.order):
        readers = graph.successors[module]
        if module in reached and (not readers or any(reader in left for reader in readers)):
            left.add(module)
    done: set[int] = set()
    steps = 0
    while left - done:
        ready = [m for m in order if m in left - done and all(s in done for s in graph.predecessors[m] if s in left)]
        loaded = 0
        for module in ready:
            if loaded < MACHINES:
                done.add(module)
                loaded += graph.nodes[module].cost
        steps += loaded > 0
    return steps


def read_arguments() -> argparse.Namespace:
    """What the command line says."""
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
    formats = ("auto", "float32", "bfloat16")
    parser.add_argument("--precision", choices=formats, default="auto", help="of all but the authors' (default: auto)")
    parser.add_argument("--float", action="store_true", help="full precision instead of bits")
    parser.add_argument("--tiny", action="store_true", help="only see that all runs: sizes that say nothing")
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.n, arguments.base, arguments.batch, arguments.size, arguments.steps = 1, 4, 4, 16, 1
        turns.keep_to_one_processor()
    if min(vars(arguments)[name] for name in helps) < 1 or arguments.batch % 2:
        parser.error("expected positive numbers, and an even --batch")
    return arguments


def main() -> None:
    """Prints the table."""
    arguments = read_arguments()
    quiet.compile_once()
    shape = (arguments.size, arguments.size, 3)
    chances = CHANCES[::2] if arguments.tiny else CHANCES
    binarisation = "float" if arguments.float else "zero_alpha"
    options = {"n": arguments.n, "base": arguments.base, "binarisation": binarisation}
    # The greedy baseline runs a second network forward in every step: not what is compared here.
    budgets = [Budget(Distributed(MACHINES), 1e3), Budget(MultiplyAdds(), 1e12)]
    with precision(arguments.precision):
        search, each = (
            BSN("resnet_fabric", budget=budgets, input_shape=shape, options=options, baseline=baseline, groups=groups)
            for baseline, groups in (("moving", 1), ("batch", None))
        )
    for model in (search, each):
        model.compile(tf.keras.optimizers.SGD(1e-6, momentum=0.9), tf.keras.optimizers.SGD(1e-6))
    graph, random = search.priced.graph, np.random.default_rng(0)
    drawn = [draw(graph, chance, random) for chance in chances]
    of_each = [draw(graph, chance, random, arguments.batch) for chance in chances]
    images = tf.constant(random.normal(size=(arguments.batch, *shape)), tf.float32)
    labels = tf.constant(random.integers(0, 10, arguments.batch))

    searching = searching_step(search, images, labels)
    searching(drawn[0])
    ways: list[tuple[Step, list[Bits]]] = [
        (searching, drawn),
        (masking_step(search, images, labels), drawn),
        (searching_step(each, images, labels), of_each),
        (AuthorsWay(graph, images, labels, compiled=False), of_each),
        (AuthorsWay(graph, images, labels, compiled=True), of_each),
    ]
    tasks = [functools.partial(step, gates) for step, rows in ways for gates in rows]
    times = [1e3 * seconds for seconds in turns.median_seconds(tasks, arguments.steps, warm_up=1)]

    pruned = graph.prune(np.concatenate(drawn))
    costs = [search.priced.price(kept)[1] for kept in pruned.modules]
    form = "full precision" if arguments.float else "binary"
    size = f"{arguments.size}x{arguments.size}"
    print(
        f"ResNet Fabric n={arguments.n}, base={arguments.base}, {form}, {resolve(arguments.precision)}; "
        f"{arguments.batch} images of {size} in a step; milliseconds"
    )
    heads = " | ".join(f"{name:>13}" for name in ("drawn", "masked", "each", "authors", "compiled"))
    print(f"chance |     modules | multiply-adds | {heads} | ratios")
    for row, chance in enumerate(chances):
        modules = int(pruned.modules[row].sum())
        own = times[row :: len(chances)]
        cells = " | ".join(f"{value:7.1f} {value / times[0]:5.0%}" for value in own)
        print(
            f"{chance:6.2f} | {modules:5d} {modules / pruned.modules[0].sum():5.0%} | "
            f"{costs[row] / 1e6:5.1f} M {costs[row] / costs[0]:5.0%} | {cells} | "
            f"{own[3] / own[0]:.2f} {own[4] / own[0]:.2f}"
        )


if __name__ == "__main__":
    main()
