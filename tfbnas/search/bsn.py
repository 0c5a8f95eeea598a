"""BSN: budgeted super networks, which find the modules of a network to keep under a budget on any cost.

Paper: Veniat & Denoyer, "Learning Time/Memory-Efficient Deep Architectures with Budgeted Super Networks", CVPR 2018.
Deviations from the paper and its release:
- the accuracy of what is found is measured after retraining it; the authors evaluate the super-network's own weights;
- training images are padded to 40x40 and cropped to 32x32; the paper pads to 36x36;
- a gate that nothing reaches, or that leads nowhere, has no factor in log P, which has less variance;
- evaluation keeps what has a probability above one half (the release samples), less what exceeds the budget, and with
  what the budget has room for besides (see `closing_gates`; the paper leaves it out: `fill_budget` false);
- the batch's baseline leaves the example itself out (see `reinforce.leave_one_out`);
- the penalty is relative to the budget (see `Budget`): the paper's lambda is `penalty_weight / limit`;
- a batch may be divided into groups that share an architecture, down to one, so that what nobody uses is not computed.
A sample that leaves no path from input to output is the empty sum of algorithm 1: its features are zero, the classifier
answers from its bias alone, and it costs nothing.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas import distribution
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget
from tfbnas.errors import UserError
from tfbnas.layers import OpenGate
from tfbnas.layers.gate import all_layers
from tfbnas.layers.width import initial_value
from tfbnas.networks import construct
from tfbnas.search import reinforce
from tfbnas.search.base import Search
from tfbnas.search.batches import steps_of
from tfbnas.search.bsn_epochs import Epochs
from tfbnas.search.bsn_settings import Settings
from tfbnas.search.closing_gates import ClosingGates
from tfbnas.search.losses import loss_of_each
from tfbnas.search.priced_graph import PricedGraph
from tfbnas.training import learning_rates, weight_optimizer

_OPTIMIZERS = {"sgd": tf.keras.optimizers.SGD, "adam": tf.keras.optimizers.Adam}


class BSN(Search):
    """Searches the modules of a network under budgets. Hyperparameters: see `tfbnas.search.bsn_settings.Settings`.

    `fit` trains weights and gates together, after a warm-up of the weights in the whole network. Its history also has
    penalty and entropy.

    Args:
      network: Name of a network family whose choices are the modules of a graph.
      budget: Limit on a cost and the weight of exceeding it, or several.
      **arguments: See `Search`; the seed is that of the gates that are drawn.

    Raises:
      UserError: A hyperparameter is unknown or out of range, the network is no graph of modules, or a budget is below
        its cheapest path. In `fit`: a cost is not a number from 0 on.

    Attributes:
      network: The Keras model with all modules behind gates.
      logits: Variable of shape `[gates]`; the probability to keep is its sigmoid.
      gates: Names of the choices, in the order of `logits`.
      priced: The graph with its costs.
    """

    method = "bsn"
    settings_class = Settings
    choice_label = "Probability to be kept"

    def __init__(self, network: str, *, budget: Budget | Sequence[Budget], **arguments: Any):
        super().__init__(network, budget=budget, **arguments)
        template = self.template
        self.priced = PricedGraph(template, self.budgets)
        self.priced.check_budgets()
        self.closing = ClosingGates(self.priced, fill=self.settings.fill_budget)
        opened = {name: OpenGate(name) for name in self.priced.graph.choices}
        self.network = construct(
            network,
            lambda name, default: opened[name],
            input_shape=template.input_shape,
            classes=template.classes,
            options=template.options,
        )
        for index, gate in enumerate(opened.values()):
            gate.kept = functools.partial(self._gate, index)
        _initialise(self.network, self.seed)
        self._kept: tf.Tensor | None = None
        self._error: UserError | None = None
        self.logits = tf.Variable(tf.fill([len(opened)], float(self.settings.initial_logit)), name="logits")
        self.warm = tf.Variable(False, name="warm", trainable=False)
        self.steps = tf.Variable(0, dtype=tf.int64, name="steps", trainable=False)
        self.level = tf.Variable(0.0, name="level", trainable=False)
        self.levels = tf.Variable(0.0, name="levels", trainable=False)
        self._means = {name: tf.keras.metrics.Mean(name) for name in ("loss", "accuracy", *self.cost_names, "penalty")}

    @classmethod
    def least_costs(cls, template: Architecture, budgets: Sequence[Budget], settings: Any) -> list[float | None]:
        return PricedGraph(template, budgets).least()

    @classmethod
    def least_text(cls, template: Architecture, settings: Any) -> str:
        return f"the cheapest path through {template.network}"

    # What was found so far.

    @property
    def gates(self) -> tuple[str, ...]:
        return self.priced.graph.choices

    @property
    def state(self) -> list[tf.Variable]:
        return [self.logits, self.steps, self.level, self.levels]

    def probabilities(self) -> dict[str, float]:
        """Of each choice to be kept."""
        return dict(zip(self.gates, self._probabilities().tolist(), strict=True))

    def choices(self) -> dict[str, dict[str, Any]]:
        """What is known of each gate: "value" is its probability to be kept, "closed" whether it would be now.

        Where a cost is measured, "closed" is left out: to say it, networks would have to be measured.
        """
        ends = {"least": 0.0, "most": 1.0}
        found: dict[str, dict[str, Any]] = {n: {"value": value, **ends} for n, value in self.probabilities().items()}
        if not self.priced.is_measured:
            for name, closed in self.architecture().choices.items():
                found[name]["closed"] = closed
        return found

    def record(self) -> dict[str, Any]:
        """The choices, and whether the epoch belongs to the warm-up."""
        return {**super().record(), "warm_up": bool(self.warm.numpy())}

    def scalars(self) -> dict[str, float]:
        return {f"probability/{name}": value for name, value in self.probabilities().items()}

    def shown(self, logs) -> dict[str, str | None]:
        return {**super().shown(logs), "penalty": None}

    def architecture(self) -> Architecture:
        """The present best, closed: what has a probability above one half and leads from input to output.

        Where that leaves nothing, the most probable path is taken. Where it exceeds a budget, the least probable gates
        are closed one after another until it does not, so that what is delivered fits. With `fill_budget` the gates
        with the most probability for their cost are then opened while they fit.
        """
        return self.priced.closed(self.priced.kept(self.closing(self._probabilities())))

    def unspent(self) -> str:
        return self.closing.unspent(self._probabilities())

    def _probabilities(self) -> np.ndarray:
        return tf.sigmoid(self.logits).numpy()

    def costs(self, draws: int = 64) -> list[float]:
        """Expected cost of each budget, as the mean over fresh draws."""
        chance = np.random.default_rng(self.seed)
        gates = chance.random((draws, len(self.gates))) < tf.sigmoid(self.logits).numpy()
        return self.priced.sample(gates)[1].mean(axis=0).tolist()

    # Training.

    @property
    def architecture_variables(self) -> list[tf.Variable]:
        return [self.logits]

    def optimizers(self, train: Any) -> dict[str, Any]:
        """That of the weights with the schedule of the settings over all epochs, and that of the logits."""
        own, epoch_steps = self.settings, steps_of(train, self.settings.batch_size)
        rates = learning_rates(own, epoch_steps * own.epochs)
        return {
            "weight_optimizer": weight_optimizer(own, rates, self.network, epoch_steps=epoch_steps),
            "architecture_optimizer": _OPTIMIZERS[own.architecture_optimizer](own.architecture_learning_rate),
        }

    def feed(self, train: Any, validation_data: Any, initial_epoch: int) -> dict[str, Any]:
        batch_size = self.settings.batch_size
        batches, steps = train, None
        if hasattr(train, "epochs"):
            batches = train.epochs(batch_size, seed=self.seed, augment=True, start=initial_epoch)
            steps = train.steps(batch_size)
        elif self.distribute_strategy.num_replicas_in_sync > 1:
            batches, steps = train.repeat(), steps_of(train, batch_size)
        if hasattr(validation_data, "epoch"):
            validation_data = validation_data.epoch(0, min(batch_size, validation_data.size), shuffle=False)
        return {
            "x": batches,
            "steps_per_epoch": steps,
            "validation_data": validation_data,
            "callbacks": [Epochs(self.settings.warm_up_epochs)],
        }

    def fit(self, *data, **arguments) -> tf.keras.callbacks.History:
        """See `Search.fit`."""
        with self._own_errors():
            return super().fit(*data, **arguments)

    def call(self, inputs, training=None):
        """Logits of the network that would come out now, with the super-network's weights."""
        if self._kept is not None:
            return self.network(inputs, training=training)
        kept = tf.numpy_function(self._most_probable, [tf.sigmoid(self.logits)], tf.float32)
        with self._sampled(tf.ensure_shape(kept, [1, len(self.gates)])):
            return self.network(inputs, training=training)

    def train_step(self, data):
        """One batch `(images, labels)`: updates the weights and, after the warm-up, the logits."""
        images, labels = data
        gates = self.draw(self.settings.groups or tf.shape(images)[0] * distribution.replicas())
        loss, logits, costs, weight_gradients, logit_gradient = self.gradients(images, labels, gates)
        variables = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(weight_gradients, variables, strict=True))
        # Nothing is drawn in the warm-up; an optimiser with a state must not see steps that are none.
        tf.cond(self.warm, lambda: None, lambda: self._move(logit_gradient))
        accuracy = tf.reduce_mean(tf.keras.metrics.sparse_categorical_accuracy(labels, logits))
        values = {"loss": loss, "accuracy": accuracy}
        values |= {name: tf.reduce_mean(costs[:, index]) for index, name in enumerate(self.cost_names)}
        values["penalty"] = tf.reduce_mean(self._penalty(costs))
        for name, value in values.items():
            self._means[name].update_state(value)
        return {name: mean.result() for name, mean in self._means.items()}

    def draw(self, groups: int | tf.Tensor) -> tf.Tensor:
        """Gates `[groups, gates]`, other ones in every step, the same in every run; all open in the warm-up."""
        seed = tf.stack([tf.cast(self.seed, tf.int64), self.steps.assign_add(1)])
        uniform = tf.random.stateless_uniform([groups, len(self.gates)], seed)
        return tf.logical_or(uniform < tf.sigmoid(self.logits), self.warm)

    def gradients(self, images, labels, gates):
        """Estimates for given gates, bool `[groups, gates]`.

        Returns:
          Mean loss without penalty; logits; costs `[groups, budgets]`; gradients by the network's trainable variables;
          gradient by the gates' logits.
        """
        matters, kept, costs = self._pruned(gates)
        with tf.GradientTape() as tape, self._sampled(kept):
            logits = self.network(images, training=True)
            losses = loss_of_each(self.loss, labels, logits)
            loss = tf.reduce_mean(losses)
        # A module that was not run has no gradient; in eager mode that is None.
        weight_gradients = tape.gradient(
            loss, self.network.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        groups = tf.shape(gates)[0]
        values = self._mean_of_groups(losses, groups) + self._penalty(costs)
        if self.settings.baseline == "greedy":
            greedy = tf.cond(self.warm, lambda: values, lambda: self._greedy(images, labels, groups))
            values -= greedy
        scores = reinforce.score(self.logits, gates, matters)
        return loss, logits, costs, weight_gradients, reinforce.gradient(scores, self._advantages(values))

    def _greedy(self, images, labels, groups) -> tf.Tensor:
        """What the more probable sides would have given on the images of each group, `[groups]`."""
        _, kept, costs = self._pruned(self.logits[None] > 0.0)
        with self._sampled(kept):
            losses = loss_of_each(self.loss, labels, self.network(images, training=True))
        return self._mean_of_groups(losses, groups) + self._penalty(costs)

    @staticmethod
    def _mean_of_groups(losses: tf.Tensor, groups: tf.Tensor) -> tf.Tensor:
        """Mean loss of each group of the whole batch, `[groups]`."""
        losses = distribution.gather(losses)
        tf.debugging.assert_equal(tf.shape(losses)[0] % groups, 0, "Expected batches that the groups divide.")
        return tf.reduce_mean(tf.reshape(losses, [groups, -1]), axis=1)

    def _pruned(self, gates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What gates `[groups, gates]` leave of the graph: which of them matter, which are kept; costs by budget."""
        matters, kept, costs = tf.numpy_function(self._prune, [gates], [tf.bool, tf.float32, tf.float32])
        # Measured costs are not the same wherever they are measured.
        (costs,) = distribution.means([tf.ensure_shape(costs, [gates.shape[0], len(self.budgets)])])
        return tf.ensure_shape(matters, gates.shape), tf.ensure_shape(kept, gates.shape), costs

    def _move(self, gradient: tf.Tensor) -> None:
        self.architecture_optimizer.apply_gradients([(gradient, self.logits)])

    def _penalty(self, costs: tf.Tensor) -> tf.Tensor:
        """Sum over the budgets, `[groups]`."""
        return tf.add_n([budget.penalty(costs[:, index]) for index, budget in enumerate(self.budgets)])

    def _advantages(self, values: tf.Tensor) -> tf.Tensor:
        if self.settings.baseline == "batch":
            return reinforce.leave_one_out(values)
        if self.settings.baseline == "none":
            return values
        # Of the steps before only; a moving mean that begins with 0 is divided by what it lacks.
        before = tf.math.divide_no_nan(self.level, self.levels)
        before = tf.where(self.levels > 0, before, tf.reduce_mean(values))
        keep = tf.where(self.warm, 1.0, self.settings.baseline_momentum)
        self.level.assign(keep * self.level + (1.0 - keep) * tf.reduce_mean(values))
        self.levels.assign(keep * self.levels + (1.0 - keep))
        return values - before

    # Gates of the present step.

    def _gate(self, index: int) -> tf.Tensor:
        assert self._kept is not None
        return self._kept[:, index]

    def _sampled(self, kept: tf.Tensor) -> contextlib.AbstractContextManager[None]:
        """Inside, the network's gates are `kept`, float32 `[groups, gates]`."""
        return self._holding("_kept", kept)

    def _prune(self, gates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        try:
            pruned, costs = self.priced.sample(gates)
        except UserError as error:
            self._error = error
            raise
        return pruned.matters, pruned.gates.astype(np.float32), costs

    def _most_probable(self, probabilities: np.ndarray) -> np.ndarray:
        # Measurements are too dear for every batch that is evaluated.
        gates = self.closing.probable(probabilities) if self.priced.is_measured else self.closing(probabilities)
        return gates[None].astype(np.float32)

    @contextlib.contextmanager
    def _own_errors(self) -> Iterator[None]:
        """TensorFlow wraps what is raised inside a step; this raises it as it was."""
        self._error = None
        try:
            yield
        except tf.errors.OpError as error:
            if self._error is not None:
                raise self._error from error
            raise


def _initialise(network: tf.keras.Model, seed: int) -> None:
    """Initial weights that depend on the seed and the layers' names only."""
    for layer in all_layers(network):
        for kind in ("kernel", "bias"):
            initializer, weight = getattr(layer, f"{kind}_initializer", None), getattr(layer, kind, None)
            if initializer is not None and weight is not None:
                weight.assign(initial_value(initializer, weight.shape, seed, f"{layer.name}/{kind}"))
