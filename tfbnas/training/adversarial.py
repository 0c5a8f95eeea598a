"""A trainer with discriminators: a teacher's feature maps are what the network's are to pass for.

Source: Liu et al., "Rectified Binary Convolutional Networks" (IJCAI 2019). Ours are: maps are averaged to at most 4x4
cells and divided by their mean norm, so that no discriminator decides by their size; a discriminator that is too sure
waits until the network has caught up; the scale matrices are updated every so many steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import RectifiedConv2D
from tfbnas.layers.resizing import make_growable
from tfbnas.training.discriminators import discriminator, generator_loss, is_real, verdict_loss
from tfbnas.training.distillation import Distillation, scaled_features

_CELLS = 4
_LOGGED = ("real", "fake", "held")


class Adversarial(Distillation):
    """Fits a network to labels and, layer by layer, to what discriminators take for a teacher's feature maps.

    A step updates the weights, every `scale_interval` steps the scale matrices of rectified convolutions with the new
    weights, then the discriminators. The logs have the means over the layers of `real` and `fake`, a discriminator's
    probability of being the teacher's for the teacher's maps and for the network's, and `held`, the share of
    discriminators that waited.

    Args:
      network: Functional model from images to logits, in training.
      teacher: Model from the same images to logits of the same classes. Its weights stay.
      features: Pairs of names of layers, of the network and of the teacher; one discriminator for each.
      weight: Of the sum of the layers' (1 - D(T))^2 in the loss. Default 1.0.
      units: Of a discriminator's hidden layers. Default 128.
      learning_rate: Of Adam for the discriminators. Default 1e-4.
      scale_learning_rate: Of Adam for the scale matrices. Default 1e-3.
      scale_interval: Steps of the weights between two of the scale matrices. Default 4.
      ceiling: Mean probability that a discriminator gives the truth in a batch, above which it is not updated: how sure
        it is, not how often it is right, for features that are easily told apart are soon told apart always, by odds
        that teach nothing. Default 0.8.
      seed: Of the discriminators' weights. Default 0.

    Raises:
      UserError: A value is out of its range, there are no features, or they do not fit (see `Distillation`).
    """

    def __init__(
        self,
        network: tf.keras.Model,
        teacher: tf.keras.Model,
        *,
        features: Sequence[tuple[str, str]],
        weight: float = 1.0,
        units: int = 128,
        learning_rate: float = 1e-4,
        scale_learning_rate: float = 1e-3,
        scale_interval: int = 4,
        ceiling: float = 0.8,
        seed: int = 0,
    ):
        super().__init__(network, teacher, share=0.0, features=features, feature_weight=0.0)
        if not features or weight < 0 or not 0.5 < ceiling <= 1 or scale_interval < 1:
            raise UserError(
                "Expected at least one pair of `features`, `weight` of at least 0, `ceiling` above 0.5 and at most 1, "
                f"and `scale_interval` of at least 1. Received: features={list(features)}, weight={weight}, "
                f"ceiling={ceiling}, scale_interval={scale_interval}."
            )
        self.weight, self.ceiling, self.scale_interval = weight, ceiling, scale_interval
        sizes = [
            min(_CELLS, output.shape[1]) * min(_CELLS, output.shape[2]) * channels
            for output, channels in zip(self._teacher.outputs[1:], self._channels, strict=True)
        ]
        self.discriminators = [
            discriminator(size, units, seed=seed, name=f"discriminator_{index}") for index, size in enumerate(sizes)
        ]
        # A function: Keras would take the variables for the trainer's own.
        scales = [layer.scale for layer in network.layers if isinstance(layer, RectifiedConv2D) and layer.trainable]
        self._scales = lambda: scales
        self.discriminator_optimizer = tf.keras.optimizers.Adam(learning_rate)
        self.discriminator_optimizer.build(self._judges())
        self.scale_optimizer = make_growable(tf.keras.optimizers.Adam(scale_learning_rate))
        self.scale_optimizer.build(scales)
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")
        self._logged = {name: tf.keras.metrics.Mean(name) for name in _LOGGED}

    def tracked(self) -> dict[str, Any]:
        """What checkpoints keep beside the network and its optimiser."""
        return {
            "discriminators": self.discriminators,
            "discriminator_optimizer": self.discriminator_optimizer,
            "scale_optimizer": self.scale_optimizer,
            "steps": self.steps,
        }

    def _judges(self) -> list[tf.Variable]:
        return [variable for one in self.discriminators for variable in one.trainable_variables]

    def train_step(self, data):
        """One batch `(images, labels)`."""
        images, labels = data
        number = self.steps.assign_add(1)
        _, *targets = tf.nest.flatten(self._teacher(images, training=False))
        real = [_features(*pair) for pair in zip(targets, self._channels, strict=True)]
        scales = {id(variable) for variable in self._scales()}
        variables = [one for one in self.network.trainable_variables if id(one) not in scales]
        gradients, logits, fake = self._generate(images, labels, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if scales:
            is_due = tf.equal(number % self.scale_interval, 0)
            tf.cond(is_due, lambda: self._update_scales(images, labels), lambda: None)
        self._discriminate(real, fake)
        self.compiled_metrics.update_state(labels, logits)
        return {metric.name: metric.result() for metric in [*self.metrics, *self._logged.values()]}

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """Those of `compile`; Keras resets the trainer's own with them."""
        own = {id(metric) for metric in getattr(self, "_logged", {}).values()}
        return [metric for metric in super().metrics if id(metric) not in own]

    def reset_metrics(self):
        super().reset_metrics()
        for metric in self._logged.values():
            metric.reset_state()

    def _generate(self, images, labels, variables) -> tuple[list[Any], tf.Tensor, list[tf.Tensor]]:
        """Gradients of the network's loss by some of its variables, its logits, and its features."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            logits, *maps = tf.nest.flatten(self._student(images, training=True))
            fake = [_features(*pair) for pair in zip(maps, self._channels, strict=True)]
            verdicts = [generator_loss(one(x)) for one, x in zip(self.discriminators, fake, strict=True)]
            loss = self.compiled_loss(labels, logits) + self.weight * tf.add_n(verdicts)
            loss = tf.add_n([loss, *self.network.losses])
        return tape.gradient(loss, variables), logits, fake

    def _update_scales(self, images, labels) -> None:
        scales = self._scales()
        gradients, _, _ = self._generate(images, labels, scales)
        self.scale_optimizer.apply_gradients(zip(gradients, scales, strict=True))

    def _discriminate(self, real: Sequence[tf.Tensor], fake: Sequence[tf.Tensor]) -> None:
        """One update of the discriminators that are not too sure."""
        variables, before = self._judges(), [[tf.identity(one) for one in each.weights] for each in self.discriminators]
        seen: list[tuple[tf.Tensor, ...]] = []
        with tf.GradientTape() as tape:
            losses = []
            for one, of_teacher, of_network in zip(self.discriminators, real, fake, strict=True):
                of_real, of_fake = one(of_teacher), one(tf.stop_gradient(of_network))
                truth = tf.reduce_mean(is_real(tf.concat([of_real, -of_fake], 0)))
                acts = tf.cast(truth <= self.ceiling, tf.float32)
                losses.append(acts * verdict_loss(of_real, of_fake))
                seen.append((tf.reduce_mean(is_real(of_real)), tf.reduce_mean(is_real(of_fake)), 1.0 - acts))
            loss = tf.add_n(losses)
        self.discriminator_optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        for one, kept, (*_, waits) in zip(self.discriminators, before, seen, strict=True):
            for variable, value in zip(one.weights, kept, strict=True):
                variable.assign(tf.where(waits > 0, value, variable))  # else Adam's momentum would take it on
        for name, values in zip(_LOGGED, zip(*seen, strict=True), strict=True):
            self._logged[name].update_state(tf.reduce_mean(tf.stack(values)))


def _features(maps: tf.Tensor, channels: int) -> tf.Tensor:
    """What a discriminator sees of feature maps; in its trainable form a network may have zeros behind its channels."""
    return _cells(scaled_features(maps[..., :channels]), channels)


def _cells(maps: tf.Tensor, channels: int) -> tf.Tensor:
    """Feature maps as vectors: averaged to at most 4x4 cells; rows and columns that do not fill a cell are left out."""
    height, width = maps.shape[1:3]
    window = [max(1, height // _CELLS), max(1, width // _CELLS)]
    rows, columns = (min(_CELLS, size) * step for size, step in zip((height, width), window, strict=True))
    pooled = tf.nn.avg_pool2d(maps[:, :rows, :columns], window, window, "VALID")
    return tf.reshape(pooled, [-1, pooled.shape[1] * pooled.shape[2] * channels])
