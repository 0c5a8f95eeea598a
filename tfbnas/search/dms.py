"""DMS: differentiable dimension search, which finds the number of channels of each binary convolution.

Paper: "DMS: Differentiable Dimension Search for Binary Neural Networks" (anonymous, under review). Built is the reading
in which the three candidates of a width share one kernel (Eq. 11 with W_i as leading slices of one W): a search step
then computes one convolution per layer, that of the widest candidate, and best-effort initialisation (Eq. 9-10,
"intercept the first weights") keeps meaning the same thing. Deviations from the paper:
- the mask acts behind batch normalisation, which would cancel it, and on both paths of a residual stream;
- candidates are anchored at the last clustering, else their probabilities would not depend on mu;
- the penalty looks at the cost of candidates anchored at the present mu (see `_penalised_costs`);
- the architecture that comes out is scaled to the budget and gets widths that kernels like (see `closing_widths`; the
  paper takes mu as it is), and a latency budget is about these widths;
- within a round mu cannot leave the range of the next, narrower candidates around the last anchor: beyond its own ones
  no evidence was gathered, and so the steps of the search are annealed with its range;
- the penalty is relative to the budget (see `Budget`).
The paper says nothing of the following; this is what is done here:
- the gradient of each quantiser's alpha is scaled by 1/sqrt(N), N its values, as LSQ does (see `layers.LearnedStep`);
- Adam's moments of mu are kept when widths are clustered anew; its beta_1 is 0.5 (see `architecture_momentum`);
- the ratio of the stem is searched like all others.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, trace
from tfbnas.layers.resizing import resize
from tfbnas.layers.width import OpenWidth
from tfbnas.networks import construct
from tfbnas.search import dms_widths, logistic, width_times
from tfbnas.search.base import Search
from tfbnas.search.batches import WEIGHTS, alternating, steps_of
from tfbnas.search.closing_widths import ClosedWidths, ClosingWidths, channels_of
from tfbnas.search.dms_rounds import LastRound, Rounds
from tfbnas.search.dms_settings import Settings
from tfbnas.search.losses import loss_of_each
from tfbnas.training import weight_optimizer


class DMS(Search):
    """Searches the widths of a network under budgets. Hyperparameters: see `tfbnas.search.dms_settings.Settings`.

    `fit` takes data for the weights and, apart from them, data for the ratios. A round is one epoch to Keras.

    Args:
      network: Name of a network family whose choices are widths.
      budget: Limit on an expected cost and the weight of exceeding it, or several.
      **arguments: See `Search`.

    Raises:
      UserError: A hyperparameter is unknown or out of range, a choice is no width, a width has no BatchNormalization,
        or a budget is below the smallest network that the search can reach.

    Attributes:
      network: The Keras model with open widths.
      mu: Mean expansion ratios, variable of shape `[widths]`.
      sigma: Scale, scalar variable.
      next_sigma: That of the next round, which bounds mu in this one.
      widest: Most channels of each width that were tried so far, variable of shape `[widths]`.
      base: Channels of each width at ratio 1, `[widths]`.
      last_round: What the last finished round came to.
    """

    method = "dms"
    settings_class = Settings
    halves = True
    choice_label = "Expansion ratio"
    epoch_label = "round"

    def __init__(self, network: str, *, budget: Budget | Sequence[Budget], **arguments: Any):
        super().__init__(network, budget=budget, **arguments)
        own, template = self.settings, self.template
        self.check_costs(self.budgets)
        widths: dict[str, OpenWidth] = {}

        def choose(name: str, default: Any) -> OpenWidth:
            base = dms_widths.width_of(network, name, default).base
            size = max(1, round(base * (own.initial_ratio + logistic.SPREAD * own.initial_sigma)))
            return widths.setdefault(name, OpenWidth(name, base, size=size))

        self.network = construct(
            network, choose, input_shape=template.input_shape, classes=template.classes, options=template.options
        )
        # A tuple behind a property: Keras would wrap a list or dict, and these are no layers.
        self._widths = tuple(widths.values())
        self.operations = trace(self.network)
        dms_widths.check_masks(network, self._widths, self.operations)
        count = len(self._widths)
        self.base = np.array([width.base for width in self._widths])
        self.sigma = tf.Variable(float(own.initial_sigma), name="sigma", trainable=False)
        self.next_sigma = tf.Variable(self.sigma_of(1, own.rounds), name="next_sigma", trainable=False)
        self.mu = tf.Variable(tf.maximum(tf.fill([count], float(own.initial_ratio)), self._least_ratio()), name="mu")
        self.anchor = tf.Variable(tf.zeros([count]), name="anchor", trainable=False)
        self.ratios = tf.Variable(tf.zeros([count, 3]), name="ratios", trainable=False)
        self.channels = tf.Variable(tf.zeros([count, 3], tf.int32), name="channels", trainable=False)
        self.widest = tf.Variable(tf.zeros([count], tf.int32), name="widest", trainable=False)
        self.noise = tf.Variable(tf.zeros([count, 3]), name="noise", trainable=False)
        self.steps = tf.Variable(0, dtype=tf.int64, name="steps", trainable=False)
        self.latest_costs = tf.Variable(tf.zeros([len(self.budgets)]), name="latest_costs", trainable=False)
        self.last_round = LastRound(float(own.initial_sigma))
        self._masks: tuple[tf.Tensor, ...] | None = None
        self._delivered: tf.Tensor | None = None
        for index, width in enumerate(self._widths):
            width.mask = functools.partial(self._mask, index)
        self._means = {
            name: tf.keras.metrics.Mean(name) for name in ("loss", "accuracy", "validation_loss", "validation_accuracy")
        }
        self.cluster(0, fresh=True)
        table = width_times.table(self.budgets, own.fast_on)
        prices, times = width_times.prices_and_times(self.budgets, table, self.operations, list(widths))
        self._closing = ClosingWidths(
            prices,
            np.array([one.limit for one in self.budgets]),
            base=self.base,
            multiple=own.width_multiple,
            fill=own.fill_budget,
            times=times,
        )
        smallest = dms_widths.smallest(template, own)
        channels = tf.constant([[float(smallest[name])] for name in widths])
        least = self._expected(channels, tf.ones_like(channels))
        dms_widths.check_reach(self.budgets, least, self.least_text(template, own))
        if times is not None and any(one.cost is table for one in self.budgets):
            self._delivered = dms_widths.delivered(times, self.base, own)

    @classmethod
    def check_costs(cls, budgets: Sequence[Budget]) -> None:
        dms_widths.check_costs(budgets)

    @classmethod
    def least_costs(cls, template: Architecture, budgets: Sequence[Budget], settings: Any) -> list[float | None]:
        cls.check_costs(budgets)
        closed = replace(template, choices=dms_widths.smallest(template, settings))
        return [float(budget.cost.of(closed)) for budget in budgets]

    @classmethod
    def least_text(cls, template: Architecture, settings: Any) -> str:
        ratio = dms_widths.least_ratio(settings)
        return f"{super().least_text(template, settings)}: every width at {ratio:.2f} times its base"

    # What was found so far.

    @property
    def widths(self) -> tuple[OpenWidth, ...]:
        """The open widths, in the order of `mu`."""
        return self._widths

    @property
    def state(self) -> list[tf.Variable]:
        sizes = [width.size for width in self._widths]
        return [self.mu, self.sigma, self.anchor, self.ratios, self.channels, self.widest, self.steps, *sizes]

    def architecture(self) -> Architecture:
        """The present best, closed: channels = max(1, round(mu * base)) for every width, or the nearest multiple.

        Where that exceeds a budget, all mu are scaled down by the largest common factor with which it does not, so that
        what is delivered fits; only the minimum of one channel is then a bound. With `fill_budget` they are scaled up
        likewise, and what is left goes where it helps most: see `closing_widths`.
        """
        names = (width.name for width in self._widths)
        return replace(self.template, choices=dict(zip(names, self._closed().channels.tolist(), strict=True)))

    def unspent(self) -> str:
        return self._closing.unspent(self._closed())

    def _closed(self) -> ClosedWidths:
        return self._closing(self.mu.numpy(), float(self.sigma.numpy()), self.widest.numpy())

    def choices(self) -> dict[str, dict[str, Any]]:
        """What is known of each width at the end of a round.

        "value" is mu and "sigma" that of the round; the band is one sigma wide on both sides. "candidates" are the
        ratios around that mu. "ratio" is what the closed width has of its base. "least" and "most" are how far mu could
        go in the round.
        """
        return dms_widths.described(
            self._widths,
            self.mu.numpy(),
            self.last_round.sigma,
            self.architecture().choices,
            minimum=self.settings.minimal_ratio,
            ends=self.last_round.ends or self._ends(),
        )

    def record(self) -> dict[str, Any]:
        """The choices, and "epochs": loss and accuracy of each epoch of weights in the round."""
        return {**super().record(), "epochs": self.last_round.epochs}

    def scalars(self) -> dict[str, float]:
        names = {"mu": "value", "sigma": "sigma", "base": "base", "channels": "closed", "ratio": "ratio"}
        rows = self.choices().items()
        return {f"{name}/{choice}": row[key] for choice, row in rows for name, key in names.items()}

    def shown(self, logs: Mapping[str, float]) -> dict[str, str | None]:
        found = {**super().shown(logs), "sigma": None}
        if not logs.get("validation_loss"):  # before the round's first update of the ratios
            found |= {"validation_loss": None, "validation_accuracy": None}
        return found

    # The distributions over the widths.

    def _expected(self, channels: tf.Tensor, probabilities: tf.Tensor) -> list[tf.Tensor]:
        """Expected cost of each budget, for channels and their probabilities `[widths, candidates]`.

        A latency budget is about the widths that such channels are delivered with.
        """
        if self._delivered is not None:
            place = tf.minimum(tf.cast(channels, tf.int32), self._delivered.shape[1] - 1)
            channels = tf.gather(self._delivered, place, batch_dims=1)
        distributions = {width.name: (channels[i], probabilities[i]) for i, width in enumerate(self._widths)}
        return [budget.cost.expected(self.operations, distributions) for budget in self.budgets]

    def _anchored_costs(self) -> list[tf.Tensor]:
        probabilities = tf.exp(logistic.log_probabilities(self.ratios, self.mu, self.sigma))
        return self._expected(tf.cast(self.channels, tf.float32), probabilities)

    def cost(self) -> tf.Tensor:
        """Expected first cost over the anchored candidates, in its own unit; differentiable by `mu`."""
        return self._anchored_costs()[0]

    def costs_when_clustered(self) -> tf.Tensor:
        """Expected costs `[budgets]` if candidates were anchored at the present `mu`: what the budgets are about."""
        ratios = logistic.candidates(self.mu, self.sigma, self.settings.minimal_ratio)
        values = tf.maximum(1.0, tf.round(ratios * self.base[:, None].astype("float32")))
        return tf.stack(self._expected(values, tf.exp(logistic.log_probabilities(ratios, self.mu, self.sigma))))

    def costs(self) -> list[float]:
        """Expected cost of each budget if the candidates were anchored at the present `mu`."""
        return self.costs_when_clustered().numpy().tolist()

    def _all_masks(self) -> tuple[tf.Tensor, ...]:
        log_probability = logistic.log_probabilities(self.ratios, self.mu, self.sigma)
        weights = logistic.gumbel_softmax(log_probability, self.noise, self.settings.temperature)
        return tuple(
            logistic.channel_mask(weights[i], self.channels[i], width.size) for i, width in enumerate(self._widths)
        )

    def _mask(self, index: int) -> tf.Tensor:
        return (self._masks or self._all_masks())[index]

    def _shared_masks(self) -> contextlib.AbstractContextManager[None]:
        """All layers of one forward pass read the same masks, computed once."""
        return self._holding("_masks", self._all_masks())

    # Between rounds.

    def cluster(self, round_index: int, *, fresh: bool = False) -> None:
        """Anchors the candidates at the present mu and gives every variable the size of its widest candidate.

        Args:
          round_index: Number of the round that begins; decides the values of new channels.
          fresh: Initialises all open weights instead of keeping what they share. Default: False.
        """
        ratios = logistic.candidates(self.mu.value(), self.sigma.value(), self.settings.minimal_ratio)
        channels = channels_of(ratios.numpy(), self.base[:, None])
        self.anchor.assign(self.mu)
        self.ratios.assign(ratios)
        self.channels.assign(channels)
        self.widest.assign(tf.maximum(self.widest, self.channels[:, -1]))
        resize(
            self.network,
            dict(zip(self._widths, channels[:, -1].tolist(), strict=True)),
            # Of both: seed 1 in round 0 must not draw what seed 0 draws in round 1.
            seed=int(np.random.SeedSequence([self.seed, round_index]).generate_state(1)[0]),
            optimizer=getattr(self, "optimizer", None),
            keep=self.settings.best_effort and not fresh,
        )

    def sigma_of(self, round_index: int, rounds: int) -> float:
        """Scale of the distribution in one of `rounds`, which shrinks by a constant factor; beyond the last its own."""
        own = self.settings
        beta = logistic.deflation(own.initial_sigma, own.final_sigma, rounds)
        return own.initial_sigma * beta ** min(round_index, rounds - 1)

    def deflate(self, round_index: int, rounds: int) -> None:
        """Ends a round: sigma takes its value for the round after `round_index` of `rounds`."""
        self.last_round.sigma, self.last_round.ends = float(self.sigma.numpy()), self._ends()
        self.sigma.assign(self.sigma_of(round_index + 1, rounds))
        self.latest_costs.assign(self.costs_when_clustered())

    def _ends(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Least and largest mu of every width now."""
        return self._bounded(tf.fill(self.mu.shape, -math.inf)), self._bounded(tf.fill(self.mu.shape, math.inf))

    def _bounded(self, mu: tf.Tensor) -> tf.Tensor:
        reach = logistic.SPREAD * self.next_sigma
        mu = tf.clip_by_value(mu, self.anchor - reach, self.anchor + reach)
        return tf.maximum(mu, self._least_ratio())

    def _least_ratio(self) -> tf.Tensor:
        return tf.maximum(self.settings.minimal_edge + logistic.HALF_STEP * self.sigma, self.settings.minimal_ratio)

    # Training.

    @property
    def epochs(self) -> int:
        return self.settings.rounds

    @property
    def architecture_variables(self) -> list[tf.Variable]:
        return [self.mu]

    def optimizers(self, train: Any) -> dict[str, Any]:
        """That of the weights, with a cosine to `final_learning_rate` in each round, and Adam for mu."""
        own, epoch_steps = self.settings, steps_of(train, self.settings.batch_size)
        rates = tf.keras.optimizers.schedules.CosineDecayRestarts(
            own.learning_rate,
            own.weight_epochs * epoch_steps,
            t_mul=1.0,
            m_mul=1.0,
            alpha=own.final_learning_rate / own.learning_rate,
        )
        return {
            "weight_optimizer": weight_optimizer(own, rates, self.network, epoch_steps=epoch_steps),
            "architecture_optimizer": tf.keras.optimizers.Adam(
                own.architecture_learning_rate, beta_1=own.architecture_momentum
            ),
        }

    def feed(self, train: Any, validation_data: Any, initial_epoch: int) -> dict[str, Any]:
        own = self.settings
        weight_steps = own.weight_epochs * steps_of(train, own.batch_size)
        architecture_steps = own.architecture_steps or steps_of(validation_data, own.batch_size)
        batches = alternating(
            train,
            validation_data,
            weight_epochs=own.weight_epochs,
            architecture_steps=architecture_steps,
            batch_size=own.batch_size,
            seed=self.seed,
            rounds=range(initial_epoch, own.rounds),
        )
        return {
            "x": batches,
            "steps_per_epoch": weight_steps + architecture_steps,
            "callbacks": [Rounds(own.rounds, weight_steps // own.weight_epochs, own.weight_epochs)],
        }

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
        costs = dict(zip(self.cost_names, tf.unstack(self.latest_costs), strict=True))
        return {name: mean.result() for name, mean in self._means.items()} | costs

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
            total = loss = tf.reduce_mean(loss_of_each(self.loss, labels, logits))
            for budget, cost in zip(self.budgets, self._penalised_costs(), strict=True):
                total += budget.penalty(cost)
        self.architecture_optimizer.apply_gradients([(tape.gradient(total, self.mu), self.mu)])
        self.mu.assign(self._bounded(self.mu))
        self.latest_costs.assign(self.costs_when_clustered())
        return loss, logits

    def _penalised_costs(self) -> list[tf.Tensor]:
        """The values of `costs_when_clustered` with the gradient of the anchored expectations.

        Over anchored candidates the expectation moves only about a fifth as far as mu; a penalty on its value would go
        on pushing mu long after the network that comes out of it is within the budget. The gradient must be that of
        the anchored expectation nevertheless: the loss it is weighed against sees mu through the same probabilities.
        """
        anchored = self._anchored_costs()
        clustered = tf.unstack(self.costs_when_clustered())
        return [cost + tf.stop_gradient(value - cost) for cost, value in zip(anchored, clustered, strict=True)]
