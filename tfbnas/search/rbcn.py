"""RBCN's pruning: soft masks remove filters while a discriminator compares the network with its unpruned form.

Paper: Liu, Ding, Xia, Hu, Zhang, Liu, Zhuang & Guo, "RBCN: Rectified Binary Convolutional Networks with Generative
Adversarial Learning" (IJCAI 2019; IJCV 2021 adds the pruning). Deviations from the paper:
- a mask weighs the output of the batch normalisation behind a filter, which would cancel one in front of it;
- all filters that residual sums add up have one mask, so that what is left can be cut out: widths are what is pruned;
- masks begin around 1, not as N(0, 1) cut at 0, by which half of the filters would be gone before any is weighed;
- lambda follows the budget: it rises while the network costs more than it should by then, and falls below that, where
  the masks rest. A mask's share of lambda is what its channel costs beside the others, from half to twice as much;
- in a step of the masks they weigh channels behind a sign, too, whose size would not tell how much they matter;
- the filters with the largest masks of each width, `least_share` of it, are never cut;
- the distance to the logits of the unpruned network is relative to their size, and so the same for every network; both
  networks have the batch's statistics, else they would differ before anything is pruned;
- one discriminator, of the logits; what is delivered is cut to the budget (see `architecture`).
A budget's `penalty_weight` has no effect.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas import networks, training
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, trace
from tfbnas.costs.closed import prices_of_widths
from tfbnas.errors import UserError
from tfbnas.layers.resizing import resize
from tfbnas.layers.width import OpenWidth
from tfbnas.networks.cutting import cut
from tfbnas.search import dms_widths, rbcn_filters
from tfbnas.search.base import Search
from tfbnas.search.batches import steps_of
from tfbnas.search.closing_widths import close
from tfbnas.search.fista import Fista
from tfbnas.search.losses import loss_of_each
from tfbnas.search.rbcn_epochs import Epochs
from tfbnas.search.rbcn_settings import Settings
from tfbnas.training.discriminators import discriminator, generator_loss, is_real, verdict_loss
from tfbnas.training.starting import weights_of_run
from tfbnas.units import SPENT

_MEANS = ["loss", "accuracy", "data_loss", "real", "fake"]
"""What the logs hold of each epoch beside the costs."""

_LEAST = 1e-3
"""The least mask that is not zero."""


class RBCNPruning(Search):
    """Prunes the filters of a binary network under budgets. Hyperparameters: see `tfbnas.search.rbcn_settings`.

    Widths never grow: the network as published is what it starts from. `weights` gives those of what is left. The
    history also has filters, the share that is left; sparsity (lambda); data_loss, the distance to the logits of the
    unpruned network; real and fake, what the discriminator makes of that network and of this one: near 1 and near 0 it
    wins, near one half it cannot tell them apart.

    Args:
      network: Name of a network family whose choices are widths.
      budget: Limit on a cost, or several.
      **arguments: See `Search`.

    Raises:
      UserError: A hyperparameter is unknown or out of range, a choice is no width, a width has no BatchNormalization,
        or a budget is below the cost of the network with one channel for each width.

    Attributes:
      network: The Keras model with masks.
      baseline: The unpruned network.
      discriminator: Gives the logarithm of the odds that logits are those of the baseline, `[batch, 1]`.
      masks: The masks of all widths, one behind the other.
      sparsity: lambda.
    """

    method = "rbcn"
    settings_class = Settings
    choice_label = "Share of filters left"

    def __init__(self, network: str, *, budget: Budget | Sequence[Budget], **arguments: Any):
        super().__init__(network, budget=budget, **arguments)
        own, template = self.settings, self.template
        self.check_costs(self.budgets)
        widths: dict[str, OpenWidth] = {}

        def choose(name: str, default: Any) -> OpenWidth:
            return widths.setdefault(name, OpenWidth(name, dms_widths.width_of(network, name, default).base))

        self.network = self._constructed(choose)
        self.baseline = self._constructed(lambda name, default: dms_widths.width_of(network, name, default).base)
        self._widths = tuple(widths.values())
        self.operations = trace(self.network)
        dms_widths.check_masks(network, self._widths, self.operations)
        self.base = np.array([width.base for width in self._widths])
        self._places = np.concatenate([[0], np.cumsum(self.base)])
        resize(self.network, {width: width.base for width in self._widths}, seed=self.seed, keep=False)
        given = weights_of_run(own.start, template) if own.start else networks.given_weights(template)
        training.set_weights(self.network, given)
        self.masks = Fista(tf.ones([int(self.base.sum())]))
        self.sparsity = tf.Variable(float(own.sparsity), name="sparsity", trainable=False)
        self.rate = tf.Variable(float(own.architecture_learning_rate), name="rate", trainable=False)
        self.shares = tf.Variable(tf.ones([len(self._widths)]), name="shares", trainable=False)
        self.steps = tf.Variable(0, dtype=tf.int64, name="steps", trainable=False)
        self.mask_steps = tf.Variable(0.0, name="mask_steps", trainable=False)
        self.ramp = tf.Variable(1.0, name="ramp", trainable=False)
        self.warm = tf.Variable(True, name="warm", trainable=False)
        self.begun = tf.Variable(False, name="begun", trainable=False)
        self._present: tf.Tensor | None = None
        for index, width in enumerate(self._widths):
            width.mask = lambda index=index: self._section(self._now(), index)
            width.gate = lambda index=index: self._gate(index)
        self.discriminator = discriminator(template.classes, own.discriminator_units, seed=self.seed)
        self.discriminator_optimizer = tf.keras.optimizers.Adam(own.discriminator_learning_rate)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)
        prices = prices_of_widths([one.cost for one in self.budgets], self.operations, list(widths))
        self._limits = np.array([one.limit for one in self.budgets])
        if own.pruning_rate is not None:
            self._limits = np.append(self._limits, (1 - own.pruning_rate) * self.base.sum())
        self._prices = lambda channels: _with_filters(prices(channels), channels, own.pruning_rate is not None)
        self._whole = self._prices(self.base[None])[0]
        self._means = {name: tf.keras.metrics.Mean(name) for name in _MEANS}
        least = self.least_costs(template, self.budgets, own)
        dms_widths.check_reach(self.budgets, least, self.least_text(template, own))

    def _constructed(self, choose: Any) -> tf.keras.Model:
        one = self.template
        return networks.construct(
            one.network, choose, input_shape=one.input_shape, classes=one.classes, options=one.options
        )

    @classmethod
    def check_costs(cls, budgets: Sequence[Budget]) -> None:
        dms_widths.check_costs(budgets)

    @classmethod
    def least_costs(cls, template: Architecture, budgets: Sequence[Budget], settings: Any) -> list[float | None]:
        cls.check_costs(budgets)
        kinds = networks.choices(template)
        for name, kind in kinds.items():
            dms_widths.width_of(template.network, name, kind)
        closed = replace(template, choices=dict.fromkeys(kinds, settings.width_multiple))
        return [float(budget.cost.of(closed)) for budget in budgets]

    @classmethod
    def least_text(cls, template: Architecture, settings: Any) -> str:
        return f"{super().least_text(template, settings)}: every width of {settings.width_multiple}"

    # What was found so far.

    def _now(self) -> tf.Tensor:
        return self.masks.values.value() if self._present is None else self._present

    def _section(self, values: Any, index: int) -> Any:
        return values[self._places[index] : self._places[index + 1]]

    def _gate(self, index: int) -> tf.Tensor:
        """What a binary convolution makes of its input channels: there or not; in a step of the masks, how much."""
        values = self._section(self._now(), index)
        return tf.cast(values > 0, tf.float32) if self._present is None else tf.minimum(values, 1.0)

    def counts(self) -> tf.Tensor:
        """Channels with a mask above 0 of each width, at least one, float32 `[widths]`."""
        there = tf.cast(self.masks.values > 0, tf.float32)
        counts = [tf.reduce_sum(self._section(there, index)) for index in range(len(self._widths))]
        return tf.maximum(tf.stack(counts), 1.0)

    @property
    def state(self) -> list[tf.Variable]:
        return [*self.masks.variables, self.sparsity, self.steps, self.mask_steps, self.begun]

    def tracked(self) -> dict[str, Any]:
        return {
            **super().tracked(),
            "baseline": self.baseline,
            "discriminator": self.discriminator,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    def left(self) -> dict[str, np.ndarray]:
        """The masks of each width in the network that would come out now: 0 for what is cut out.

        Where the channels with a mask above 0 exceed a budget, all widths are scaled down by the largest common factor
        with which they do not, what is left is filled (see `closing_widths`), and those with the smallest masks go.
        """
        values, counts = self.masks.values.numpy(), self.counts().numpy()
        found = close(
            counts / self.base,
            0.1,
            base=self.base,
            widest=counts,
            prices=self._prices,
            limits=self._limits,
            multiple=self.settings.width_multiple,
        )
        self._share, self._is_cut = found.share, bool(np.any(found.channels < counts))
        masks = {}
        for index, width in enumerate(self._widths):
            mask = np.maximum(self._section(values, index), 1e-6)  # rounding up may keep one that is 0
            gone = np.argsort(-mask, kind="stable")[found.channels[index] :]
            mask[gone] = 0.0
            masks[width.name] = mask
        return masks

    def architecture(self) -> Architecture:
        """The widths that are left, within the budgets (see `left`)."""
        channels = {name: int((mask > 0).sum()) for name, mask in self.left().items()}
        return replace(self.template, choices=channels)

    def weights(self) -> dict[str, list[np.ndarray]]:
        """The weights of `architecture()`, by layer: the network's without the filters that are cut out."""
        return cut(self.network, self.left())

    def unspent(self) -> str:
        self.left()
        if self._share >= SPENT or not bool(self.begun):
            return ""
        text = f"The network uses {100 * self._share:.1f} % of its budget: "
        if self._is_cut:
            return text + "a channel more in any width would exceed it."
        if self.settings.criterion == "magnitude":
            return text + "the largest of the filters that went would exceed it."
        return (
            text + "more masks fell to zero than had to. A lower `sparsity_rate`, or more epochs, weighs more finely."
        )

    def costs(self) -> list[float]:
        """Cost of each budget of the network that would come out now."""
        found = self.architecture()
        return [float(budget.cost.of(found)) for budget in self.budgets]

    def choices(self) -> dict[str, dict[str, Any]]:
        """What is known of each width: "value" is the share of filters whose mask is above 0; "masks" are all masks."""
        closed, values, counts = self.architecture().choices, self.masks.values.numpy(), self.counts().numpy()
        return {
            width.name: {
                "value": float(counts[index] / width.base),
                "closed": closed[width.name],
                "base": width.base,
                "masks": [round(float(mask), 4) for mask in self._section(values, index)],
            }
            for index, width in enumerate(self._widths)
        }

    def record(self) -> dict[str, Any]:
        return {**super().record(), "warm_up": bool(self.warm)}

    def shown(self, logs: Mapping[str, float]) -> dict[str, str | None]:
        hidden = ("data_loss", "real", "fake", "sparsity")
        return {**super().shown(logs), **dict.fromkeys(hidden)}

    # Training.

    def optimizers(self, train: Any) -> dict[str, Any]:
        """The optimiser of the settings with their schedule over all epochs. The masks have no Keras optimiser."""
        own, steps = self.settings, steps_of(train, self.settings.batch_size)
        rates = training.learning_rates(own, steps * own.epochs)
        return {"weight_optimizer": training.weight_optimizer(own, rates, self.network, epoch_steps=steps)}

    def feed(self, train: Any, validation_data: Any, initial_epoch: int) -> dict[str, Any]:
        own = self.settings
        if self.distribute_strategy.num_replicas_in_sync > 1:
            raise UserError(
                "Expected one device for RBCNPruning, whose discriminator is not divided among devices. "
                f"Received: {self.distribute_strategy.num_replicas_in_sync}; set --strategy none."
            )
        steps = steps_of(train, own.batch_size)
        pruning = (own.epochs - own.warm_up_epochs) * steps // own.mask_interval
        self.ramp.assign(max(1.0, own.budget_reached * pruning))
        batches = train
        if hasattr(train, "epochs"):
            batches = train.epochs(own.batch_size, seed=self.seed, augment=True, start=initial_epoch)
        if hasattr(validation_data, "epoch"):
            validation_data = validation_data.epoch(0, min(500, validation_data.size), shuffle=False)
        return {
            "x": batches,
            "steps_per_epoch": steps if hasattr(train, "epochs") else None,
            "validation_data": validation_data,
            "callbacks": [Epochs()],
        }

    def begin(self) -> None:
        """Begins the pruning: the network as it is becomes the baseline, and the masks spread around 1.

        With `criterion="magnitude"` all that has to go goes now, and the masks rest.
        """
        own = self.settings
        training.set_weights(self.baseline, training.weights(self.network))
        if own.criterion == "magnitude":
            scales = rbcn_filters.scales(self.network, self._widths)
            masks = rbcn_filters.largest_within(scales, self._prices, self._limits, own.least_share)
        else:
            noise = tf.random.stateless_normal(self.masks.values.shape, [self.seed, 16])
            masks = tf.nn.relu(1.0 + own.initial_spread * noise)
        self.masks.values.assign(masks)
        self.masks.restart()
        self.begun.assign(True)

    def price(self) -> None:
        """What a channel of each width costs now beside the others, for its share of lambda; on average 1."""
        counts = self.counts().numpy().astype(int)
        self.shares.assign(rbcn_filters.shares(self._prices, counts, self.base, self._limits))

    def train_step(self, data):
        """One batch `(images, labels)`: updates the weights; behind the warm-up, the discriminator and the masks."""
        images, labels = data
        number = self.steps.assign_add(1)
        active = tf.logical_not(self.warm)
        real = tf.cond(
            active,
            lambda: tf.cast(self.baseline(images, training=True), tf.float32),
            lambda: tf.zeros([tf.shape(images)[0], self.template.classes]),
        )
        with tf.GradientTape() as tape:
            logits = tf.cast(self.network(images, training=True), tf.float32)
            loss = tf.reduce_mean(loss_of_each(self.loss, labels, logits))
            total = tf.add_n([loss, *self.network.losses])
            distance = tf.where(active, self._distance(real, logits), 0.0)
            total += distance
        variables = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(total, variables), variables, strict=True))
        verdicts = tf.cond(active, lambda: self._discriminate(real, logits), lambda: (0.5, 0.5))
        if self.settings.criterion == "masks":
            is_due = tf.logical_and(active, number % self.settings.mask_interval == 0)
            tf.cond(is_due, lambda: self._step(images, real), lambda: None)
        accuracy = tf.reduce_mean(tf.keras.metrics.sparse_categorical_accuracy(labels, logits))
        values = (loss, accuracy, tf.where(active, _data_loss(real, logits), 0.0), *verdicts)
        for name, value in zip(_MEANS, values, strict=True):
            self._means[name].update_state(value)
        costs = dict(zip(self.cost_names, self._costs(), strict=False))
        return {name: mean.result() for name, mean in self._means.items()} | costs

    def _costs(self) -> list[tf.Tensor]:
        """Of the masks above 0; with a `pruning_rate` also how many these are."""
        counts = self.counts()
        certain = tf.ones([1])
        distributions = {width.name: (counts[i : i + 1], certain) for i, width in enumerate(self._widths)}
        costs = [budget.cost.expected(self.operations, distributions) for budget in self.budgets]
        return costs + ([tf.reduce_sum(counts)] if self.settings.pruning_rate is not None else [])

    def _distance(self, real: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """L_Data + L_Adv: how far the network's logits are from the baseline's, and how well that is seen."""
        own = self.settings
        verdict = generator_loss(self.discriminator(logits))
        return own.data_weight * _data_loss(real, logits) + own.adversarial_weight * verdict

    def _discriminate(self, real: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One update of the discriminator, up log D(R) + log(1 - D(T)) + log D(T); returns the mean verdicts."""
        variables = self.discriminator.trainable_variables
        with tf.GradientTape() as tape:
            of_real, of_fake = self.discriminator(real), self.discriminator(logits)
            loss = verdict_loss(of_real, of_fake, is_pruned=True)
        self.discriminator_optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return tf.reduce_mean(is_real(of_real)), tf.reduce_mean(is_real(of_fake))

    def _step(self, images: tf.Tensor, real: tf.Tensor) -> None:
        """One step of lambda and, where the network costs more than it should by now, of the masks."""
        done = tf.minimum(1.0, self.mask_steps.assign_add(1.0) / self.ramp)
        limits = tf.constant(self._limits, tf.float32)
        target = limits + (1.0 - done) * tf.nn.relu(tf.constant(self._whole, tf.float32) - limits)
        excess = tf.reduce_max(tf.stack(self._costs()) / target) - 1.0
        self.sparsity.assign(tf.nn.relu(self.sparsity + self.settings.sparsity_rate * excess))
        # Else the momentum would go on removing filters when none has to go.
        tf.cond(excess > 0, lambda: self._step_masks(images, real), self.masks.restart)

    def _step_masks(self, images: tf.Tensor, real: tf.Tensor) -> None:
        point = self.masks.point()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(point)
            with self._masked(point):
                logits = tf.cast(self.network(images, training=True), tf.float32)
            distance = self._distance(real, logits)
        largest = tf.concat([self._largest(i) for i in range(len(self._widths))], axis=0)
        weight = self.sparsity * tf.repeat(self.shares, self.base)
        self.masks.step(point, tape.gradient(distance, point), self.rate, weight, least=_LEAST * largest)
        values = self.masks.values
        values.assign(tf.where(values < _LEAST, tf.zeros_like(values), values))  # rounding alone brings none back

    def _largest(self, index: int) -> tf.Tensor:
        """1 for the channels of a width that stay whatever lambda is, else 0."""
        size = int(self.base[index])
        count = max(1, round(self.settings.least_share * size))
        places = tf.math.top_k(self._section(self.masks.values, index), count).indices
        return tf.reduce_max(tf.one_hot(places, size), axis=0)

    def _masked(self, masks: tf.Tensor) -> contextlib.AbstractContextManager[None]:
        """Inside, the network has these masks."""
        return self._holding("_present", masks)


def _data_loss(real: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Half the mean of (R - T)^2, beside that of R^2."""
    return 0.5 * tf.reduce_sum(tf.square(real - logits)) / (tf.reduce_sum(tf.square(real)) + 1e-6)


def _with_filters(costs: np.ndarray, channels: np.ndarray, is_limited: bool) -> np.ndarray:
    return np.concatenate([costs, channels.sum(axis=1, keepdims=True)], axis=1) if is_limited else costs
