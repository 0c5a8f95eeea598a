"""DMS: differentiable dimension search, which finds the number of channels of each binary convolution.

Paper: "DMS: Differentiable Dimension Search for Binary Neural Networks" (anonymous, under review). Built is the reading
in which the three candidates of a width share one kernel (Eq. 11 with W_i as leading slices of one W): a search step
then computes one convolution per layer, that of the widest candidate, and best-effort initialisation (Eq. 9-10,
"intercept the first weights") keeps meaning the same thing. Deviations from the paper:
- the mask acts behind batch normalisation, which would cancel it, and on both paths of a residual stream;
- candidates are anchored at the last clustering, else their probabilities would not depend on mu;
- the penalty looks at the cost of candidates anchored at the present mu (see `_penalised_cost`);
- the architecture that comes out is scaled down where it would exceed the budget (see `architecture`);
- within a round mu cannot leave the range of its candidates, beyond which no evidence was gathered, and it ends the
  round within the next, narrower range (see `deflate`);
- the penalty is relative to the budget (see `Budget`).
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
from tfbnas.costs import Budget, DifferentiableCost, Operation, largest_within, trace
from tfbnas.errors import UserError
from tfbnas.layers.resizing import make_growable, resize
from tfbnas.layers.width import OpenWidth
from tfbnas.networks import construct
from tfbnas.search import logistic
from tfbnas.search.compiling import TwoOptimizers
from tfbnas.search.losses import loss_of_each
from tfbnas.search.rounds import ARCHITECTURE, WEIGHTS, LastRound, Rounds, epochs_of, steps_of, tagged


def _check_ratios(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise UserError(f"Expected `{name}` to be positive. Received: {name}={value}.")


class DMS(TwoOptimizers):
    """Searches the widths of a network under a budget.

    Made, compiled and fitted inside the `scope()` of a MirroredStrategy or MultiWorkerMirroredStrategy, it divides each
    batch among the devices and takes the steps of one device.

    Args:
      network: Name of a network family.
      budget: Limit on the expected cost and the weight of exceeding it.
      input_shape: Height, width, channels of the images.
      classes: Number of classes.
      options: Further arguments of the network's builder.
      initial_ratio: mu at the start, for every width; raised to its lower bound. Default 1.5 (paper, DMS-A).
      initial_sigma: Scale of the logistic distribution in the first round. Default 1.0 (paper).
      final_sigma: The same in the last round. Default 0.3 (paper).
      minimal_ratio: Least expansion ratio of a candidate, and of mu. Default 0.3 (paper).
      minimal_edge: Least value of mu - Delta. Default 0.25 (paper).
      temperature: Of the Gumbel-softmax. Default 1.0 (paper).
      best_effort: Whether weights survive a change of widths (Eq. 9-10). Default: True.
      width_multiple: The architecture that comes out has multiples of this, in place of the nearest numbers; with 32,
        Larq Compute Engine packs and quantises without remainder. The search itself is not changed. Default 1.
      seed: Of new channels and of the Gumbel noise.

    Raises:
      UserError: A value is not positive, a width has no BatchNormalization, or the budget is below the
        smallest network that the search can reach.

    Attributes:
      network: The Keras model with open widths.
      mu: Mean expansion ratios, variable of shape `[widths]`.
      sigma: Scale, scalar variable.
    """

    def __init__(
        self,
        network: str,
        *,
        budget: Budget,
        input_shape: tuple[int, int, int] = (32, 32, 3),
        classes: int = 10,
        options: dict[str, Any] | None = None,
        initial_ratio: float = 1.5,
        initial_sigma: float = 1.0,
        final_sigma: float = 0.3,
        minimal_ratio: float = 0.3,
        minimal_edge: float = 0.25,
        temperature: float = 1.0,
        best_effort: bool = True,
        width_multiple: int = 1,
        seed: int = 0,
    ):
        super().__init__(name="dms")
        _check_ratios(
            initial_ratio=initial_ratio,
            initial_sigma=initial_sigma,
            final_sigma=final_sigma,
            minimal_ratio=minimal_ratio,
            temperature=temperature,
            width_multiple=width_multiple,
        )
        if not isinstance(budget.cost, DifferentiableCost):
            raise UserError(
                "Expected a budget on a cost whose expectation is differentiable (it has `expected`). "
                f"Received: {type(budget.cost).__name__}."
            )
        self.budget, self._cost = budget, budget.cost
        self._template = Architecture("dms", network, {}, input_shape, classes, options or {})
        self.initial_sigma, self.final_sigma = initial_sigma, final_sigma
        self.minimal_ratio, self.minimal_edge = minimal_ratio, minimal_edge
        self.temperature, self.best_effort, self.seed = temperature, best_effort, seed
        self.width_multiple = width_multiple
        widths: dict[str, OpenWidth] = {}

        def choose(name: str, base: int) -> OpenWidth:
            size = max(1, round(base * (initial_ratio + logistic.SPREAD * initial_sigma)))
            return widths.setdefault(name, OpenWidth(name, base, size=size))

        self.network = construct(
            network, choose, input_shape=input_shape, classes=classes, options=self._template.options
        )
        # A tuple behind a property: Keras would wrap a list or dict, and these are no layers.
        self._widths = tuple(widths.values())
        self.operations = trace(self.network)
        _check_widths(network, self._widths, self.operations)
        count = len(self._widths)
        self.base = np.array([width.base for width in self._widths])
        self.sigma = tf.Variable(float(initial_sigma), name="sigma", trainable=False)
        self.mu = tf.Variable(tf.maximum(tf.fill([count], float(initial_ratio)), self._least_ratio()), name="mu")
        self.anchor = tf.Variable(tf.zeros([count]), name="anchor", trainable=False)
        self.ratios = tf.Variable(tf.zeros([count, 3]), name="ratios", trainable=False)
        self.channels = tf.Variable(tf.zeros([count, 3], tf.int32), name="channels", trainable=False)
        self.noise = tf.Variable(tf.zeros([count, 3]), name="noise", trainable=False)
        self.steps = tf.Variable(0, dtype=tf.int64, name="steps", trainable=False)
        self.latest_cost = tf.Variable(0.0, name="latest_cost", trainable=False)
        self._last_round = LastRound(float(initial_sigma))
        self._masks: tuple[tf.Tensor, ...] | None = None
        for index, width in enumerate(self._widths):
            width.mask = functools.partial(self._mask, index)
        self._means = {
            name: tf.keras.metrics.Mean(name) for name in ("loss", "accuracy", "validation_loss", "validation_accuracy")
        }
        self.cluster(0, fresh=True)
        smallest = self.smallest_cost()
        if smallest > budget.limit:
            raise UserError(
                f"Expected a budget of at least {smallest:.6g} {budget.cost.unit}, the cost of the smallest {network} "
                f"that the search can reach: every width at {self.least_ratio:.2f} times its base. "
                f"Received: limit={budget.limit:.6g}."
            )

    # The state of the search, in a form that people and files want.

    @property
    def widths(self) -> tuple[OpenWidth, ...]:
        """The open widths, in the order of `mu`."""
        return self._widths

    def architecture(self) -> Architecture:
        """The present best, closed: channels = max(1, round(mu * base)) for every width, or the nearest multiple.

        Where that exceeds the budget, all mu are scaled down by the largest common factor with which it does not (the
        paper takes mu as it is), so that what is delivered fits; only the minimum of one channel is then a bound.
        """
        mu = self.mu.numpy()
        scale = largest_within(
            self.budget.limit, lambda factor: self._closed_cost(self._closed(factor * mu)), upper=1.0
        )
        channels = self._closed(scale * mu)
        return Architecture(
            self._template.method,
            self._template.network,
            {width.name: int(number) for width, number in zip(self._widths, channels, strict=True)},
            self._template.input_shape,
            self._template.classes,
            self._template.options,
        )

    @property
    def least_ratio(self) -> float:
        """Least mu that the search can end with."""
        return max(self.minimal_edge + logistic.HALF_STEP * self.final_sigma, self.minimal_ratio)

    def smallest_cost(self) -> float:
        """Cost of the smallest network that the search can reach: every width at `least_ratio`."""
        return self._closed_cost(self._closed(np.full(len(self._widths), self.least_ratio)))

    def _closed(self, mu: np.ndarray) -> np.ndarray:
        multiples = np.maximum(1, np.round(mu * self.base / self.width_multiple))
        return multiples.astype(int) * self.width_multiple

    def _closed_cost(self, channels: np.ndarray) -> float:
        return float(self._cost_of_channels(tf.constant(channels, tf.float32)))

    @tf.function(reduce_retracing=True)
    def _cost_of_channels(self, channels: tf.Tensor) -> tf.Tensor:
        certain = tf.ones([1])
        closed = {width.name: (channels[i : i + 1], certain) for i, width in enumerate(self._widths)}
        return self._cost.expected(self.operations, closed)

    @property
    def epochs_of_round(self) -> list[dict[str, float]]:
        """Loss and accuracy of each epoch of weights in the last finished round."""
        return self._last_round.epochs

    @property
    def state(self) -> list[tf.Variable]:
        """All variables of the search beside the network's weights and the optimisers'."""
        sizes = [width.size for width in self._widths]
        return [self.mu, self.sigma, self.anchor, self.ratios, self.channels, self.steps, *sizes]

    def choices(self) -> dict[str, dict[str, float]]:
        """For each width: mu, sigma of the round, base channels, channels if it were closed now, and their ratio."""
        closed = self.architecture().choices
        return {
            width.name: {
                "mu": float(mu),
                "sigma": self._last_round.sigma,
                "base": width.base,
                "channels": closed[width.name],
                "ratio": closed[width.name] / width.base,
            }
            for width, mu in zip(self._widths, self.mu.numpy(), strict=True)
        }

    def distributions(self) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """Candidate channel numbers and their probabilities now, by name of the width."""
        probabilities = tf.exp(logistic.log_probabilities(self.ratios, self.mu, self.sigma))
        values = tf.cast(self.channels, tf.float32)
        return {width.name: (values[i], probabilities[i]) for i, width in enumerate(self._widths)}

    def cost(self) -> tf.Tensor:
        """Expected cost over the anchored candidates, in the unit of the budget's cost; differentiable by `mu`."""
        return self._cost.expected(self.operations, self.distributions())

    def cost_when_clustered(self) -> tf.Tensor:
        """Expected cost if the candidates were anchored at the present `mu`: what the budget is about."""
        ratios = logistic.candidates(self.mu, self.sigma, self.minimal_ratio)
        values = tf.maximum(1.0, tf.round(ratios * self.base[:, None].astype("float32")))
        probabilities = tf.exp(logistic.log_probabilities(ratios, self.mu, self.sigma))
        return self._cost.expected(
            self.operations, {width.name: (values[i], probabilities[i]) for i, width in enumerate(self._widths)}
        )

    def _all_masks(self) -> tuple[tf.Tensor, ...]:
        log_probability = logistic.log_probabilities(self.ratios, self.mu, self.sigma)
        weights = logistic.gumbel_softmax(log_probability, self.noise, self.temperature)
        return tuple(
            logistic.channel_mask(weights[i], self.channels[i], width.size) for i, width in enumerate(self._widths)
        )

    def _mask(self, index: int) -> tf.Tensor:
        return (self._masks or self._all_masks())[index]

    @contextlib.contextmanager
    def _shared_masks(self) -> Iterator[None]:
        """All layers of one forward pass read the same masks, computed once."""
        self._masks = self._all_masks()
        try:
            yield
        finally:
            self._masks = None

    # Between rounds.

    def cluster(self, round_index: int, *, fresh: bool = False) -> None:
        """Anchors the candidates at the present mu and gives every variable the size of its widest candidate.

        Args:
          round_index: Number of the round that begins; decides the values of new channels.
          fresh: Initialises all open weights instead of keeping what they share. Default: False.
        """
        ratios = logistic.candidates(self.mu.value(), self.sigma.value(), self.minimal_ratio)
        channels = np.maximum(1, np.round(ratios.numpy() * self.base[:, None])).astype(np.int32)
        self.anchor.assign(self.mu)
        self.ratios.assign(ratios)
        self.channels.assign(channels)
        resize(
            self.network,
            dict(zip(self._widths, channels[:, -1].tolist(), strict=True)),
            seed=self.seed + round_index,
            optimizer=getattr(self, "optimizer", None),
            keep=self.best_effort and not fresh,
        )

    def deflate(self, round_index: int, rounds: int) -> None:
        """Ends a round: sigma takes its value for the round after `round_index` of `rounds`, and mu its bounds.

        The bounds are those of the new sigma: a width moves in a round at most as far as the next, narrower candidates
        reach from the last anchor, so that the steps of the search are annealed with its range.
        """
        self._last_round.sigma = float(self.sigma.numpy())
        beta = logistic.deflation(self.initial_sigma, self.final_sigma, rounds)
        self.sigma.assign(self.initial_sigma * beta ** min(round_index + 1, rounds - 1))
        self.mu.assign(self._bounded(self.mu))
        self.latest_cost.assign(self.cost_when_clustered())

    def _bounded(self, mu: tf.Tensor) -> tf.Tensor:
        reach = logistic.SPREAD * self.sigma
        mu = tf.clip_by_value(mu, self.anchor - reach, self.anchor + reach)
        return tf.maximum(mu, self._least_ratio())

    def _least_ratio(self) -> tf.Tensor:
        return tf.maximum(self.minimal_edge + logistic.HALF_STEP * self.sigma, self.minimal_ratio)

    # Training.

    @property
    def architecture_variables(self) -> list[tf.Variable]:
        return [self.mu]

    def compile(self, weight_optimizer, architecture_optimizer, loss=None, metrics=None, **kwargs) -> None:
        """Configures both updates.

        Args:
          weight_optimizer: Keras optimiser of the weights (paper: SGD, momentum 0.9, 0.05 to 0.01 cosine per round).
          architecture_optimizer: Keras optimiser of mu (paper: Adam, 1e-3 for ResNet, 2e-3 for VGG).
          loss: Keras loss. Default: sparse categorical cross-entropy from logits.
          metrics: Keras metrics of `evaluate`. Default: accuracy.
        """
        with self.distribute_strategy.scope():
            weight_optimizer = make_growable(tf.keras.optimizers.get(weight_optimizer))
        super().compile(weight_optimizer, architecture_optimizer, loss=loss, metrics=metrics, **kwargs)

    def fit(
        self,
        train,
        validation_data,
        *,
        rounds: int = 50,
        weight_epochs: int = 5,
        batch_size: int = 64,
        architecture_steps: int | None = None,
        initial_round: int = 0,
        callbacks: Sequence[tf.keras.callbacks.Callback] = (),
        verbose: bool = True,
    ) -> tf.keras.callbacks.History:
        """Runs Algorithm 1. A round is one epoch to Keras and its callbacks.

        Args:
          train: Data for the weights: a `tfbnas.data.Split`, or a finite `tf.data.Dataset` of (images, labels) batches.
          validation_data: Data for mu, apart from `train`, of the same kind.
          rounds: Changes of the widths. Default 50 (paper: 250 epochs, mu after every 5).
          weight_epochs: Epochs of the weights in each round, T' of Algorithm 1. Default 5 (paper).
          batch_size: Of both phases; for Splits only. Default 64 (paper).
          architecture_steps: Updates of mu in each round. Default: one pass over `validation_data`.
          initial_round: First round, when a search goes on from a checkpoint. Default 0.
          callbacks: Keras callbacks; at `on_epoch_end` the round's widths and sigma are final.
          verbose: Whether a progress bar is shown. Default: True.

        Returns:
          Keras history: loss, accuracy, validation_loss, validation_accuracy, cost and sigma of each round.
        """
        weight_steps = weight_epochs * steps_of(train, batch_size)
        one_pass = steps_of(validation_data, batch_size)
        architecture_steps = architecture_steps or one_pass
        passes = -(-architecture_steps // one_pass)

        def one_round(index: tf.Tensor) -> tf.data.Dataset:
            weights = epochs_of(train, batch_size, self.seed, index * weight_epochs, weight_epochs).take(weight_steps)
            architecture = epochs_of(validation_data, batch_size, self.seed + 1, index * passes, passes)
            return weights.map(functools.partial(tagged, WEIGHTS)).concatenate(
                architecture.take(architecture_steps).map(functools.partial(tagged, ARCHITECTURE))
            )

        bar = [Progress("search", describe=self._describe)] if verbose else []
        batches = tf.data.Dataset.range(initial_round, rounds).flat_map(one_round).prefetch(4)
        return super().fit(
            distribution.divided(batches, self.distribute_strategy),
            epochs=rounds,
            initial_epoch=initial_round,
            steps_per_epoch=weight_steps + architecture_steps,
            callbacks=[Rounds(rounds, weight_steps // weight_epochs, weight_epochs), *bar, *callbacks],
            verbose=0,
        )

    def _describe(self, logs: Mapping[str, float]) -> dict[str, str | None]:
        cost = f"{logs.get('cost', 0.0):.4g} of {self.budget.limit:.4g} {self.budget.cost.unit}"
        return {"cost": cost, "sigma": None}

    def call(self, inputs, training=None):
        return self.network(inputs, training=training)

    def train_step(self, data):
        """One batch `(phase, images, labels)`: updates the weights or mu, as the phase says."""
        phase, images, labels = data
        seed = tf.stack([tf.cast(self.seed, tf.int64), self.steps.assign_add(1)])
        self.noise.assign(logistic.gumbel_noise(self.noise.shape, seed))
        is_weights = tf.equal(phase, WEIGHTS)
        loss, logits = tf.cond(
            is_weights, lambda: self.weight_step(images, labels), lambda: self.architecture_step(images, labels)
        )
        self.noise.assign(tf.zeros_like(self.noise))
        accuracy = tf.reduce_mean(tf.keras.metrics.sparse_categorical_accuracy(labels, logits))
        for prefix, here in (("", is_weights), ("validation_", tf.logical_not(is_weights))):
            share = tf.cast(here, tf.float32)
            self._means[f"{prefix}loss"].update_state(loss, sample_weight=share)
            self._means[f"{prefix}accuracy"].update_state(accuracy, sample_weight=share)
        return {name: mean.result() for name, mean in self._means.items()} | {"cost": self.latest_cost.value()}

    def test_step(self, data):
        """One batch of `evaluate`: the loss and metrics of `compile`, with the masks' expectation."""
        super().test_step(data)
        return {metric.name: metric.result() for metric in self.compiled_loss.metrics + self.compiled_metrics.metrics}

    def weight_step(self, images, labels) -> tuple[tf.Tensor, tf.Tensor]:
        """One update of the weights on the training half; returns loss and logits."""
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape, self._shared_masks():
            logits = self.network(images, training=True)
            loss = tf.reduce_mean(loss_of_each(self.loss, labels, logits))
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss, logits

    def architecture_step(self, images, labels) -> tuple[tf.Tensor, tf.Tensor]:
        """One update of mu on the validation half by Eq. 7; returns the loss without penalty, and logits."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.mu)
            with self._shared_masks():
                logits = self.network(images, training=True)
            loss = tf.reduce_mean(loss_of_each(self.loss, labels, logits))
            total = loss + self.budget.penalty(self._penalised_cost())
        self.architecture_optimizer.apply_gradients([(tape.gradient(total, self.mu), self.mu)])
        self.mu.assign(self._bounded(self.mu))
        self.latest_cost.assign(self.cost_when_clustered())
        return loss, logits

    def _penalised_cost(self) -> tf.Tensor:
        """The value of `cost_when_clustered` with the gradient of `cost`.

        Over anchored candidates the expectation moves only about a fifth as far as mu; a penalty on its value would go
        on pushing mu long after the network that comes out of it is within the budget. The gradient must be that of
        the anchored expectation nevertheless: the loss it is weighed against sees mu through the same probabilities.
        """
        cost = self.cost()
        return cost + tf.stop_gradient(self.cost_when_clustered() - cost)


def _check_widths(network: str, widths: Sequence[OpenWidth], operations: Sequence[Operation]) -> None:
    masked = {id(operation.outputs) for operation in operations if operation.kind == "normalization"}
    for width in widths:
        if id(width) not in masked:
            raise UserError(
                "Expected a tfbnas BatchNormalization behind the layers of every open width, where its mask acts. "
                f"Received: the network {network!r} with none for the width {width.name!r}."
            )
    if not widths:
        raise UserError(f"Expected a network with choices. Received: the network {network!r}, which asks for none.")
