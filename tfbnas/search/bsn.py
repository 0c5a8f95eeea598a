"""BSN: budgeted super networks, which find the modules of a network to keep under a budget on any cost.

Paper: Veniat & Denoyer, "Learning Time/Memory-Efficient Deep Architectures with Budgeted Super Networks", CVPR 2018.
Deviations from the paper and its release:
- a gate that nothing reaches, or that leads nowhere, has no factor in log P, which has less variance;
- evaluation keeps what has a probability above one half (the release samples), less what exceeds the budget;
- the batch's baseline leaves the example itself out (see `reinforce.leave_one_out`);
- the penalty is relative to the budget (see `Budget`): the paper's lambda is `penalty_weight / limit`;
- a batch may be divided into groups that share an architecture, down to one, so that what nobody uses is not computed.
A sample that leaves no path from input to output is the empty sum of algorithm 1: its features are zero, the classifier
answers from its bias alone, and it costs nothing.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas import distribution
from tfbnas.architecture import Architecture
from tfbnas.callbacks import Progress
from tfbnas.costs import Budget
from tfbnas.errors import UserError
from tfbnas.layers import OpenGate
from tfbnas.layers.gate import all_layers
from tfbnas.layers.width import initial_value
from tfbnas.networks import construct
from tfbnas.search import reinforce
from tfbnas.search.compiling import TwoOptimizers
from tfbnas.search.losses import loss_of_each
from tfbnas.search.rounds import steps_of
from tfbnas.search.sampling import PricedGraph

BASELINES = ("greedy", "batch", "moving", "none")


class BSN(TwoOptimizers):
    """Searches the modules of a network under budgets.

    The paper's optimisers, for `compile`: of the weights SGD, 0.1 with drops, momentum 0.9; of the logits SGD, 1e-3,
    without momentum.

    Made, compiled and fitted inside the `scope()` of a MirroredStrategy or MultiWorkerMirroredStrategy, it divides each
    batch among the devices and takes the steps of one device.

    Args:
      network: Name of a network family whose choices are the modules of a graph.
      budget: Limit on a cost and the weight of exceeding it, or several.
      input_shape: Height, width, channels of the images.
      classes: Number of classes.
      options: Further arguments of the network's builder.
      groups: Architectures drawn for a batch, each for equally many consecutive examples; None draws one for each
        example (paper). Default 1: what is cut is not computed.
      baseline: What is subtracted from each group's loss. "none": nothing; "batch" (paper): the mean of the other
        groups (needs two); "moving": the moving mean of the steps before; "greedy": what the network with the more
        probable side of every gate loses on the same images, one more forward pass, and the moving mean of that
        difference: what makes one batch harder than another drops out. Default: "greedy".
      baseline_momentum: Of the moving mean. Default 0.9.
      initial_logit: Of every gate after the warm-up. Default 3.0 (paper), a probability of 0.95.
      seed: Of the gates that are drawn.

    Attributes:
      network: The Keras model with all modules behind gates.
      logits: Variable of shape `[gates]`; the probability to keep is its sigmoid.
      gates: Names of the choices, in the order of `logits`.
    """

    def __init__(
        self,
        network: str,
        *,
        budget: Budget | Sequence[Budget],
        input_shape: tuple[int, int, int] = (32, 32, 3),
        classes: int = 10,
        options: dict[str, Any] | None = None,
        groups: int | None = 1,
        baseline: str = "greedy",
        baseline_momentum: float = 0.9,
        initial_logit: float = 3.0,
        seed: int = 0,
    ):
        super().__init__(name="bsn")
        _check(groups, baseline)
        self._budgets = (budget,) if isinstance(budget, Budget) else tuple(budget)
        self._groups, self.baseline, self.baseline_momentum = groups, baseline, baseline_momentum
        self.seed = seed
        template = Architecture("bsn", network, {}, input_shape, classes, options or {})
        self.priced = PricedGraph(template, self._budgets)
        self.priced.check_budgets()
        opened = {name: OpenGate(name) for name in self.priced.graph.choices}
        self.network = construct(
            network,
            lambda name, default: opened[name],
            input_shape=input_shape,
            classes=classes,
            options=template.options,
        )
        for index, gate in enumerate(opened.values()):
            gate.kept = functools.partial(self._gate, index)
        _initialise(self.network, seed)
        self._kept: tf.Tensor | None = None
        self._error: UserError | None = None
        self.logits = tf.Variable(tf.fill([len(opened)], float(initial_logit)), name="logits")
        self.warm = tf.Variable(False, name="warm", trainable=False)
        self.steps = tf.Variable(0, dtype=tf.int64, name="steps", trainable=False)
        self.level = tf.Variable(0.0, name="level", trainable=False)
        self.levels = tf.Variable(0.0, name="levels", trainable=False)
        self._means = {name: tf.keras.metrics.Mean(name) for name in ("loss", "accuracy", "cost", "penalty")}

    # The state of the search, in a form that people and files want.

    @property
    def gates(self) -> tuple[str, ...]:
        return self.priced.graph.choices

    @property
    def budget(self) -> Budget:
        """The first of the budgets."""
        return self._budgets[0]

    @property
    def budgets(self) -> tuple[Budget, ...]:
        return self._budgets

    @property
    def state(self) -> list[tf.Variable]:
        """All variables of the search beside the network's weights and the optimisers'."""
        return [self.logits, self.steps, self.level, self.levels]

    def probabilities(self) -> dict[str, float]:
        """Of each choice to be kept."""
        return dict(zip(self.gates, tf.sigmoid(self.logits).numpy().tolist(), strict=True))

    def architecture(self) -> Architecture:
        """The present best, closed: what has a probability above one half and leads from input to output.

        Where that leaves nothing, the most probable path is taken. Where it exceeds a budget, the least probable gates
        are closed one after another until it does not, so that what is delivered fits.
        """
        return self.priced.closed(self.priced.most_probable(tf.sigmoid(self.logits).numpy()))

    def cost(self) -> tf.Tensor:
        """Expected cost of the first budget, a scalar, as the mean over 64 draws."""
        return tf.constant(self.costs()[0])

    def costs(self, draws: int = 64) -> list[float]:
        """Expected cost of each budget, as the mean over fresh draws."""
        chance = np.random.default_rng(self.seed)
        gates = chance.random((draws, len(self.gates))) < tf.sigmoid(self.logits).numpy()
        return self.priced.sample(gates)[1].mean(axis=0).tolist()

    # Training.

    @property
    def architecture_variables(self) -> list[tf.Variable]:
        return [self.logits]

    def fit(
        self,
        train,
        validation_data=None,
        *,
        epochs: int = 300,
        warm_up_epochs: int = 50,
        batch_size: int = 64,
        initial_epoch: int = 0,
        callbacks: Sequence[tf.keras.callbacks.Callback] = (),
        verbose: bool = True,
    ) -> tf.keras.callbacks.History:
        """Trains weights and gates together, after a warm-up of the weights in the whole network.

        Args:
          train: A `tfbnas.data.Split`, or a finite `tf.data.Dataset` of (images, labels) batches.
          validation_data: Of the same kind; evaluated after each epoch with the network that would come out now.
          epochs: Passes over `train`, those of the warm-up among them. Default 300 (paper).
          warm_up_epochs: Epochs in which nothing is drawn. Default 50 (paper).
          batch_size: For Splits only. Default 64 (paper).
          initial_epoch: First epoch, when a search goes on from a checkpoint. Default 0.
          callbacks: Keras callbacks.
          verbose: Whether a progress bar is shown. Default: True.

        Returns:
          Keras history: loss, accuracy, cost, penalty and entropy of each epoch, and validation_loss and
          validation_accuracy.

        Raises:
          UserError: A batch cannot be divided into the groups, or a cost is not a number from 0 on.
        """
        batches, steps = train, None
        if hasattr(train, "epochs"):
            if batch_size % (self._groups or 1):
                raise UserError(
                    f"Expected `batch_size` to be a multiple of the {self._groups} groups of a batch. "
                    f"Received: batch_size={batch_size}."
                )
            batches = train.epochs(batch_size, seed=self.seed, augment=True, start=initial_epoch)
            steps = train.steps(batch_size)
        elif self.distribute_strategy.num_replicas_in_sync > 1:
            batches, steps = train.repeat(), steps_of(train, batch_size)
        if hasattr(validation_data, "epoch"):
            validation_data = validation_data.epoch(0, min(batch_size, validation_data.size), shuffle=False)
        bar = [Progress("search", describe=self._describe)] if verbose else []
        with self._own_errors():
            return super().fit(
                distribution.divided(batches, self.distribute_strategy),
                validation_data=validation_data,
                epochs=epochs,
                initial_epoch=initial_epoch,
                steps_per_epoch=steps,
                callbacks=[_Epochs(warm_up_epochs), *bar, *callbacks],
                verbose=0,
            )

    def _describe(self, logs: Mapping[str, float]) -> dict[str, str | None]:
        cost = f"{logs.get('cost', 0.0):.4g} of {self.budget.limit:.4g} {self.budget.cost.unit}"
        return {"cost": cost, "penalty": None}

    def call(self, inputs, training=None):
        """Logits of the network that has the more probable side of every gate."""
        if self._kept is not None:
            return self.network(inputs, training=training)
        kept = tf.numpy_function(self._most_probable, [tf.sigmoid(self.logits)], tf.float32)
        with self._sampled(tf.ensure_shape(kept, [1, len(self.gates)])):
            return self.network(inputs, training=training)

    def train_step(self, data):
        """One batch `(images, labels)`: updates the weights and, after the warm-up, the logits."""
        images, labels = data
        gates = self.draw(self._groups or tf.shape(images)[0] * distribution.replicas())
        loss, logits, costs, weight_gradients, logit_gradient = self.gradients(images, labels, gates)
        variables = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(weight_gradients, variables, strict=True))
        # Nothing is drawn in the warm-up; an optimiser with a state must not see steps that are none.
        tf.cond(self.warm, lambda: None, lambda: self._move(logit_gradient))
        accuracy = tf.reduce_mean(tf.keras.metrics.sparse_categorical_accuracy(labels, logits))
        values = {"loss": loss, "accuracy": accuracy, "cost": tf.reduce_mean(costs[:, 0])}
        values["penalty"] = tf.reduce_mean(self._penalty(costs))
        for name, value in values.items():
            self._means[name].update_state(value)
        return {name: mean.result() for name, mean in self._means.items()}

    def test_step(self, data):
        """One batch of `evaluate`: the loss and metrics of `compile`."""
        super().test_step(data)
        return {metric.name: metric.result() for metric in self.compiled_loss.metrics + self.compiled_metrics.metrics}

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
        if self.baseline == "greedy":
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
        (costs,) = distribution.means([tf.ensure_shape(costs, [gates.shape[0], len(self._budgets)])])
        return tf.ensure_shape(matters, gates.shape), tf.ensure_shape(kept, gates.shape), costs

    def _move(self, gradient: tf.Tensor) -> None:
        self.architecture_optimizer.apply_gradients([(gradient, self.logits)])

    def _penalty(self, costs: tf.Tensor) -> tf.Tensor:
        """Sum over the budgets, `[groups]`."""
        return tf.add_n([budget.penalty(costs[:, index]) for index, budget in enumerate(self._budgets)])

    def _advantages(self, values: tf.Tensor) -> tf.Tensor:
        if self.baseline == "batch":
            return reinforce.leave_one_out(values)
        if self.baseline == "none":
            return values
        # Of the steps before only; a moving mean that begins with 0 is divided by what it lacks.
        before = tf.math.divide_no_nan(self.level, self.levels)
        before = tf.where(self.levels > 0, before, tf.reduce_mean(values))
        keep = tf.where(self.warm, 1.0, self.baseline_momentum)
        self.level.assign(keep * self.level + (1.0 - keep) * tf.reduce_mean(values))
        self.levels.assign(keep * self.levels + (1.0 - keep))
        return values - before

    # Gates of the present step.

    def _gate(self, index: int) -> tf.Tensor:
        assert self._kept is not None
        return self._kept[:, index]

    @contextlib.contextmanager
    def _sampled(self, kept: tf.Tensor) -> Iterator[None]:
        """Inside, the network's gates are `kept`, float32 `[groups, gates]`."""
        self._kept = kept
        try:
            yield
        finally:
            self._kept = None

    def _prune(self, gates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        try:
            pruned, costs = self.priced.sample(gates)
        except UserError as error:
            self._error = error
            raise
        return pruned.matters, pruned.gates.astype(np.float32), costs

    def _most_probable(self, probabilities: np.ndarray) -> np.ndarray:
        choices = self.priced.closed(self.priced.most_probable(probabilities)).choices
        return np.array([[choices[name] for name in self.gates]], np.float32)

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


class _Epochs(tf.keras.callbacks.Callback):
    """Begins and ends the warm-up; gives the logs the gates' entropy, and the names that every method uses."""

    def __init__(self, warm_up_epochs: int):
        super().__init__()
        self.warm_up_epochs = warm_up_epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.warm.assign(epoch < self.warm_up_epochs)

    def on_epoch_end(self, epoch, logs=None):
        for name in [name for name in logs if name.startswith("val_")]:
            logs[f"validation_{name[4:]}"] = logs.pop(name)
        matters = self.model.priced.graph.prune((self.model.logits.numpy() > 0)[None]).matters[0]
        logs["entropy"] = float(reinforce.entropy(self.model.logits, matters))


def _initialise(network: tf.keras.Model, seed: int) -> None:
    """Initial weights that depend on the seed and the layers' names only."""
    for layer in all_layers(network):
        for kind in ("kernel", "bias"):
            initializer, weight = getattr(layer, f"{kind}_initializer", None), getattr(layer, kind, None)
            if initializer is not None and weight is not None:
                weight.assign(initial_value(initializer, weight.shape, seed, f"{layer.name}/{kind}"))


def _check(groups: int | None, baseline: str) -> None:
    if groups is not None and groups < 1:
        raise UserError(
            f"Expected `groups` to be positive, or None for one in each example. Received: groups={groups}."
        )
    if baseline not in BASELINES:
        raise UserError(f"Expected `baseline` to be one of {', '.join(BASELINES)}. Received: baseline={baseline!r}.")
    if baseline == "batch" and groups == 1:
        raise UserError(
            'Expected at least two groups for the baseline "batch", the mean of the other groups. Received: groups=1; '
            'choose the baseline "moving".'
        )
