"""CI-BCNN: a policy creates and deletes interactions between the channels of binary convolutions as they train.

Paper: Wang, Lu, Tao, Zhou & Tian, "Learning Channel-wise Interactions for Binary Convolutional Neural Networks", CVPR
2019; formulas of its extension's supplement, whose print errors are corrected (see `tfbnas.search.interactions`).
Deviations from the paper and its release:
- kernels are +-1 from the start, their scales left to the batch normalisation behind, so that none is frozen later;
- every `interval` steps several sequences start from the present graph; the baseline of each step is the mean of the
  other sequences, and the graph at the end of the one with the largest return is taken over;
- losses of rewards use the batch's statistics; the confidence sign(|p_t| - |p_s|) is that of an episode's first graph;
- no gradient is clipped, deletion is differentiated exactly, an edge joins two different channels of one block of 16;
- no edge is created that the budget has no room for; what exceeds it nevertheless, since layers are priced one by one,
  lowers the reward, and what is delivered is cut to the budget (see `architecture`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget
from tfbnas.errors import UserError
from tfbnas.layers.interaction import InteractedConv2D, OpenInteractions
from tfbnas.layers.width import initial_value
from tfbnas.networks.interacted import Interactions
from tfbnas.search import interactions
from tfbnas.search.base import Search
from tfbnas.search.batches import steps_of
from tfbnas.search.cibcnn_settings import Settings
from tfbnas.search.interaction_policy import InteractionPolicy, log_probabilities, roll_out
from tfbnas.search.interaction_prices import Prices
from tfbnas.search.interactions import Blocks
from tfbnas.search.losses import loss_of_each
from tfbnas.search.reinforce import leave_one_out
from tfbnas.search.warm_up import WarmUpEpochs
from tfbnas.training import learning_rates, weight_optimizer

_MEANS = ["loss", "accuracy", "reward", "active", "idle"]
"""What the logs hold of each epoch beside the costs."""


class CIBCNN(Search):
    """Searches channel interactions. Hyperparameters: see `tfbnas.search.cibcnn_settings.Settings`.

    `fit` trains the weights with the present graphs and, at every `interval`-th step, the policy that changes them. Its
    history also has reward (mean of all steps of all sequences), edges and density; active, the mean share of pixels at
    which an edge corrects its student, and idle, the share of edges that correct none, on the images of the rewards.

    Args:
      network: Name of a network family whose choices are `networks.interacted.Interactions`.
      budget: Limit on a cost and the weight of exceeding it, or several.
      **arguments: See `Search`; the seed is that of the policy and of what it draws.

    Raises:
      UserError: A hyperparameter is unknown or out of range, the network has no interactions, or a budget is below the
        cost of the network without any.

    Attributes:
      network: The Keras model with open graphs.
      policy: The policy network.
      graphs: int32 variable `[layers, blocks, 16, 16]`, the present influences, teacher by student.
    """

    method = "cibcnn"
    settings_class = Settings
    choice_label = "Density"

    def __init__(self, network: str, *, budget: Budget | Sequence[Budget], **arguments: Any):
        super().__init__(network, budget=budget, **arguments)
        own, kinds = self.settings, interacted(self.template)
        self._check_budgets()
        self.blocks = Blocks(tuple(kind.sources for kind in kinds.values()), own.density_limit)
        levels = {kind.levels for kind in kinds.values()}.pop()
        self.opened: dict[str, OpenInteractions] = {name: kind.open(name) for name, kind in kinds.items()}
        self.network = networks.construct(
            network,
            lambda name, default: self.opened[name],
            input_shape=self.template.input_shape,
            classes=self.template.classes,
            options=self.template.options,
        )
        layers = [layer for layer in self.network.layers if isinstance(layer, InteractedConv2D)]
        self._reaches = {layer.open.name: layer.reach for layer in layers if layer.open is not None}
        if set(self._reaches) != set(kinds):
            raise UserError(
                f"Expected a network that has the interactions it asks for. Received: {network!r} without "
                f"{sorted(set(kinds) - set(self._reaches))}; interactions need binarisation sign."
            )
        _initialise(self.network, self.seed)
        self.policy = InteractionPolicy(
            self.blocks, levels, units=own.policy_units, hierarchical=own.hierarchical, seed=self.seed
        )
        self.graphs = tf.Variable(tf.zeros(self.blocks.shape, tf.int32), trainable=False, name="graphs")
        self._present: tf.Tensor | None = None
        for index, graph in enumerate(self.opened.values()):
            graph.present = lambda index=index: self._graph(index)
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")
        self.warm = tf.Variable(False, trainable=False, name="warm")
        self.prices = Prices(self.template, self.budgets, self.network, kinds, self.blocks.limits().tolist())
        self._means = {name: tf.keras.metrics.Mean(name) for name in _MEANS + self.cost_names}

    @classmethod
    def least_costs(cls, template: Architecture, budgets: Sequence[Budget], settings: Any) -> list[float | None]:
        interacted(template)
        return [float(budget.cost.of(replace(template, choices={}))) for budget in budgets]

    @classmethod
    def least_text(cls, template: Architecture, settings: Any) -> str:
        return f"{template.network} without interactions"

    # What was found so far.

    @property
    def state(self) -> list[tf.Variable]:
        return [*self.policy.variables, self.graphs, self.steps]

    def edges(self, graphs: np.ndarray | None = None) -> dict[str, list[list[int]]]:
        """Teacher, student and influence of the edges of each choice."""
        graphs = self.graphs.numpy() if graphs is None else graphs
        found = {}
        for layer, name in enumerate(self.opened):
            matrix = self.blocks.matrix(tf.constant(graphs[layer]), layer).numpy()
            found[name] = [[int(t), int(s), int(matrix[t, s])] for t, s in np.argwhere(matrix)]
        return found

    def architecture(self) -> Architecture:
        """The present graphs, closed. Where they exceed a budget, edges are left out until they do not.

        First those which the policy would create now with the least probability beside that of any pair of their layer.
        """
        graphs = self.graphs.numpy().copy()
        found = replace(self.template, choices=self.edges(graphs))
        if self._fits(found):
            return found
        creation = self.policy(self.graphs.value()[None])[0].numpy()[0].reshape(graphs.shape)
        creation += np.log(self.blocks.allowed().sum(axis=(1, 2, 3)))[:, None, None, None]
        places = np.argwhere(graphs)
        order = places[np.argsort(creation[tuple(places.T)], kind="stable")]
        # Costs rise with the edges: the least number that must go, by bisection.
        low, high = 0, len(order)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._fits(self._without(graphs, order[:middle])) else (middle, high)
        return self._without(graphs, order[:high])

    def _without(self, graphs: np.ndarray, places: np.ndarray) -> Architecture:
        left = graphs.copy()
        left[tuple(places.T)] = 0
        return replace(self.template, choices=self.edges(left))

    def _fits(self, architecture: Architecture) -> bool:
        return all(budget.cost.of(architecture) <= budget.limit for budget in self.budgets)

    def costs(self) -> list[float]:
        """Cost of each budget of the network that would come out now."""
        found = self.architecture()
        return [float(budget.cost.of(found)) for budget in self.budgets]

    def _costs(self, graphs: tf.Tensor) -> tf.Tensor:
        """Of graphs `[rollouts, ..]`, `[budgets, rollouts]`, as a sum over layers (see `Prices`)."""
        return self.prices.of(tf.math.count_nonzero(graphs, axis=[2, 3, 4]))

    def _affordable(self, graphs: tf.Tensor) -> tf.Tensor:
        """Whether the budgets leave room for one edge more in every layer, `[rollouts]`."""
        costs = self.prices.of(tf.math.count_nonzero(graphs, axis=[2, 3, 4]) + 1)
        limits = tf.constant([budget.limit for budget in self.budgets], tf.float32)
        return tf.reduce_all(costs <= limits[:, None], axis=0)

    def _check_budgets(self) -> None:
        for budget, cost in zip(
            self.budgets, self.least_costs(self.template, self.budgets, self.settings), strict=True
        ):
            if cost is not None and cost > budget.limit:
                raise UserError(
                    f"Expected `limit` of a budget to be at least {cost:.6g} {budget.cost.unit}, the cost of "
                    f"{self.least_text(self.template, self.settings)}. Received: limit={budget.limit:.6g}."
                )

    def choices(self) -> dict[str, dict[str, Any]]:
        """What is known of each layer's graph: "value" is its density; "edges" how many, "influences" how often each.

        There are no candidates: a sequence draws changes, not graphs.
        """
        pairs, found = self.blocks.allowed().sum(axis=(1, 2, 3)), {}
        for layer, (name, edges) in enumerate(self.architecture().choices.items()):
            sizes = range(-(2 * self.policy.levels + 1), 2 * self.policy.levels + 2, 2)
            influences = {str(size): sum(edge[2] == size for edge in edges) for size in sizes if abs(size) > 1}
            density = len(edges) / max(1, int(pairs[layer]))
            found[name] = {"value": density, "closed": edges, "edges": len(edges), "influences": influences}
        return found

    def record(self) -> dict[str, Any]:
        return {**super().record(), "warm_up": bool(self.warm)}

    def shown(self, logs) -> dict[str, str | None]:
        return {**super().shown(logs), "density": None, "active": None, "idle": None}

    # Training.

    @property
    def architecture_variables(self) -> list[tf.Variable]:
        return self.policy.trainable_variables

    def optimizers(self, train: Any) -> dict[str, Any]:
        """The optimiser of the settings with their schedule over all epochs, and Adam for the policy."""
        own, steps = self.settings, steps_of(train, self.settings.batch_size)
        rates = learning_rates(own, steps * own.epochs)
        return {
            "weight_optimizer": weight_optimizer(own, rates, self.network, epoch_steps=steps),
            "architecture_optimizer": tf.keras.optimizers.Adam(own.architecture_learning_rate),
        }

    def feed(self, train: Any, validation_data: Any, initial_epoch: int) -> dict[str, Any]:
        if self.distribute_strategy.num_replicas_in_sync > 1:
            raise UserError(
                "Expected one device for CIBCNN, whose rewards are not divided among devices. "
                f"Received: {self.distribute_strategy.num_replicas_in_sync}; set --devices 1."
            )
        batch_size = self.settings.batch_size
        batches, steps = train, None
        if hasattr(train, "epochs"):
            batches = train.epochs(batch_size, seed=self.seed, augment=True, start=initial_epoch)
            steps = train.steps(batch_size)
        if hasattr(validation_data, "epoch"):
            validation_data = validation_data.epoch(0, min(batch_size, validation_data.size), shuffle=False)
        return {
            "x": batches,
            "steps_per_epoch": steps,
            "validation_data": validation_data,
            "callbacks": [_Epochs(self.settings.warm_up_epochs)],
        }

    def train_step(self, data):
        """One batch `(images, labels)`: updates the weights and, at every `interval`-th step, policy and graphs."""
        images, labels = data
        number = self.steps.assign_add(1)
        with tf.GradientTape() as tape:
            logits = self.network(images, training=True)
            loss = tf.reduce_mean(loss_of_each(self.loss, labels, logits))
        variables = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        is_due = tf.logical_and(number % self.settings.interval == 0, tf.logical_not(self.warm))
        tf.cond(is_due, lambda: self._episode(images, labels), lambda: None)
        accuracy = tf.reduce_mean(tf.keras.metrics.sparse_categorical_accuracy(labels, logits))
        values = {"loss": loss, "accuracy": accuracy}
        values |= dict(zip(self.cost_names, tf.unstack(self._costs(self.graphs.value()[None])[:, 0]), strict=True))
        for name, value in values.items():
            self._means[name].update_state(value)
        return {name: mean.result() for name, mean in self._means.items()}

    def _episode(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        """Draws sequences from the present graphs, updates the policy, and takes the best sequence's graphs over."""
        own, count = self.settings, self.settings.reward_images
        images, labels = images[:count], labels[:count]

        def evaluate(graphs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            losses = tf.map_fn(lambda graph: self._loss(graph, images, labels), graphs, fn_output_signature=tf.float32)
            penalties = [
                budget.penalty(cost) for budget, cost in zip(self.budgets, tf.unstack(self._costs(graphs)), strict=True)
            ]
            return losses, tf.add_n(penalties)

        statistics = self.network.non_trainable_variables
        before = [tf.identity(variable) for variable in statistics]
        drawn = roll_out(
            self.policy,
            self.graphs.value(),
            evaluate,
            self._watched(images),
            steps=own.rollout_steps,
            count=own.rollouts,
            threshold=own.loss_threshold,
            seed=tf.stop_gradient(self.steps.value() + self.seed * 1_000_003),
            affordable=self._affordable,
        )
        with tf.control_dependencies([drawn.rewards]):
            for variable, value in zip(statistics, before, strict=True):
                variable.assign(value)
        returns = interactions.discounted_returns(drawn.rewards, own.discount)
        advantages = tf.map_fn(leave_one_out, returns)
        with tf.GradientTape() as tape:
            loss = interactions.objective(log_probabilities(self.policy, drawn), advantages)
        variables = self.policy.trainable_variables
        self.architecture_optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.graphs.assign(drawn.after[-1, tf.argmax(returns[0])])
        self._means["reward"].update_state(drawn.rewards)

    def _loss(self, graphs: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Of the network with these graphs, with the batch's own statistics, a scalar."""
        with self._with(graphs):
            return tf.reduce_mean(loss_of_each(self.loss, labels, self.network(images, training=True)))

    def _watched(self, images: tf.Tensor) -> tf.Tensor:
        """Confidences of all pairs of all layers, from the bitcounts of the present graphs, whose activity it notes."""
        seen: dict[str, tf.Tensor] = {}
        for name, graph in self.opened.items():
            graph.watch = lambda bitcounts, name=name: seen.update({name: _thinned(bitcounts)})
        try:
            with self._with(self.graphs.value()):
                self.network(images, training=True)
        finally:
            for graph in self.opened.values():
                graph.watch = None
        blocks, size = self.blocks.shape[1:3]
        for layer, (name, bitcounts) in enumerate(seen.items()):
            active = interactions.activity(bitcounts, self._graph(layer), self._reaches[name], self.policy.levels)
            exists = tf.cast(self._graph(layer) != 0, tf.float32)
            self._means["active"].update_state(active, exists)
            self._means["idle"].update_state(tf.cast(active == 0, tf.float32), exists)
        return tf.stack([interactions.confidence(seen[name], blocks, size) for name in self.opened])

    # Graphs of the present step.

    def _graph(self, layer: int) -> tf.Tensor:
        graphs = self.graphs.value() if self._present is None else self._present
        return self.blocks.matrix(graphs[layer], layer)

    def _with(self, graphs: tf.Tensor) -> contextlib.AbstractContextManager[None]:
        """Inside, the network has these graphs."""
        return self._holding("_present", graphs)


class _Epochs(WarmUpEpochs):
    """Ends the warm-up; gives the logs the edges and their density."""

    def on_epoch_end(self, epoch, logs=None):
        edges = int(np.count_nonzero(self.model.graphs.numpy()))
        logs |= {"edges": float(edges), "density": edges / self.model.blocks.allowed().sum()}


def interacted(template: Architecture) -> dict[str, Interactions]:
    """The graphs that a network asks for.

    Raises:
      UserError: It asks for something else, or for nothing.
    """
    asked = networks.choices(template)
    kinds = {name: kind for name, kind in asked.items() if isinstance(kind, Interactions)}
    if not kinds or len(kinds) < len(asked):
        raise UserError(
            f"Expected a network whose choices are channel interactions, such as resnet20 or vgg_small. "
            f"Received: {template.network!r}."
        )
    return kinds


_PIXELS = 4096
"""Of a layer that the confidence is taken from; more cost time and change little."""


def _thinned(bitcounts: tf.Tensor) -> tf.Tensor:
    """Every so many pixels."""
    rows = tf.reshape(bitcounts, [-1, bitcounts.shape[-1]])
    count = tf.shape(rows)[0]
    return tf.gather(rows, tf.range(0, count, tf.maximum(1, count // _PIXELS)))


def _initialise(network: tf.keras.Model, seed: int) -> None:
    """Initial weights that depend on the seed and the layers' names only."""
    for layer in network.layers:
        for kind in ("kernel", "bias"):
            initializer, weight = getattr(layer, f"{kind}_initializer", None), getattr(layer, kind, None)
            if initializer is not None and weight is not None:
                weight.assign(initial_value(initializer, weight.shape, seed, f"{layer.name}/{kind}"))
