"""A trainer with a teacher: the network learns from labels, from a teacher's logits and from its feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers.width import channels_of, present_size


def soft_cross_entropy(logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """Cross-entropy of a teacher's softened probabilities and the network's, times temperature^2, for each example.

    Source: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2; the factor keeps
    the size of the gradient whatever the temperature is.

    Args:
      logits: `[batch, .., classes]`.
      teacher_logits: Of the same shape.
      temperature: Positive; both logits are divided by it.
    """
    targets = tf.nn.softmax(tf.cast(teacher_logits, tf.float32) / temperature)
    return temperature**2 * tf.nn.softmax_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32) / temperature)


class Distillation(tf.keras.Model):
    """Fits a network with the loss (1 - share) * loss(labels) + share * soft cross-entropy + weight * features.

    Compile and fit it like the network; the network's own layers hold what was learned.

    Args:
      network: Functional model from images to logits, in training.
      teacher: Model from the same images to logits of the same classes. Its weights stay.
      temperature: Of the softened probabilities. Default 4.0.
      share: Of the teacher's logits in the loss, from 0 to 1. Default 0.5.
      features: Pairs of names of layers, of the network and of the teacher, whose feature maps are to be alike: the
        mean of the squared difference of both, each divided by its mean norm over the channels. Default: none.
      feature_weight: Of their sum. Default 1.0.

    Raises:
      UserError: A value is out of its range, the classes differ, no layer has such a name, or the feature maps of a
        pair have other channels.
    """

    def __init__(
        self,
        network: tf.keras.Model,
        teacher: tf.keras.Model,
        *,
        temperature: float = 4.0,
        share: float = 0.5,
        features: Sequence[tuple[str, str]] = (),
        feature_weight: float = 1.0,
    ):
        super().__init__(name="distillation")
        if not (temperature > 0 and 0 <= share <= 1 and feature_weight >= 0):
            raise UserError(
                "Expected `temperature` above 0, `share` in 0..1 and `feature_weight` of at least 0. Received: "
                f"temperature={temperature}, share={share}, feature_weight={feature_weight}."
            )
        if network.output_shape[1:] != teacher.output_shape[1:]:
            raise UserError(
                f"Expected a teacher with logits {network.output_shape[1:]}. Received: {teacher.output_shape[1:]}."
            )
        self.network, self.temperature, self.share, self.feature_weight = network, temperature, share, feature_weight
        teacher.trainable = False
        pairs = list(zip(*features, strict=True)) or [(), ()]
        self._student = _with_features(network, pairs[0])
        self._teacher = _with_features(teacher, pairs[1])
        own, others = _channels(self._student), _channels(self._teacher)
        if own != others:
            raise UserError(
                f"Expected `features` to name layers of equal channels. Received: {own} of the network, {others} of "
                "the teacher."
            )
        self._channels = tuple(own)

    def call(self, inputs, training=None):
        return self.network(inputs, training=training)

    def train_step(self, data):
        """One batch `(images, labels)`."""
        images, labels = data
        expected, *targets = tf.nest.flatten(self._teacher(images, training=False))
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            logits, *maps = tf.nest.flatten(self._student(images, training=True))
            hard = self.compiled_loss(labels, logits)
            soft = tf.reduce_mean(soft_cross_entropy(logits, expected, self.temperature))
            loss = (1.0 - self.share) * hard + self.share * soft
            for found, target, channels in zip(maps, targets, self._channels, strict=True):
                # In its trainable form a network may have channels of zeros behind its own.
                difference = scaled_features(found[..., :channels]) - scaled_features(target[..., :channels])
                loss += self.feature_weight * tf.reduce_mean(tf.square(difference))
            loss = tf.add_n([loss, *self.network.losses])
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.compiled_metrics.update_state(labels, logits)
        return {**{metric.name: metric.result() for metric in self.metrics}, "distillation_loss": loss}


def feature_layers(network: tf.keras.Model, teacher: tf.keras.Model) -> list[tuple[str, str]]:
    """The layers whose feature maps are compared unless others are named: additions, or normalisations without any.

    Args:
      network: The one that learns.
      teacher: Has layers of the same names; those of other channels are left out.

    Raises:
      UserError: They have none in common.
    """
    for kind in (tf.keras.layers.Add, tf.keras.layers.BatchNormalization):
        own, others = ({x.name: x for x in model.layers if isinstance(x, kind)} for model in (network, teacher))
        names = [name for name, layer in own.items() if name in others and len(layer.output.shape) == 4]
        pairs = [n for n in names if _size(own[n].output) == _size(others[n].output)]
        if pairs:
            return [(name, name) for name in pairs]
    raise UserError(
        "Expected a teacher with additions or normalisations of the same names and channels as the network's. "
        f"Received: {teacher.name}, which has none; follow its logits."
    )


def _size(output) -> tuple[int, ...]:
    return (*output.shape[1:3], present_size(channels_of(output)))


def _with_features(model: tf.keras.Model, names: Sequence[str]) -> tf.keras.Model:
    known = {layer.name: layer for layer in model.layers}
    for name in names:
        if name not in known:
            raise UserError(f"Expected `features` to name layers of {model.name}. Received: {name!r}.")
    return tf.keras.Model(model.inputs, [model.output, *(known[name].output for name in names)])


def _channels(model: tf.keras.Model) -> list[int]:
    """Of each feature map; the logits come first in the outputs."""
    return [present_size(channels_of(output)) for output in model.outputs[1:]]


def scaled_features(maps: tf.Tensor) -> tf.Tensor:
    """Feature maps divided by their mean norm over the channels, so that their sizes do not matter."""
    maps = tf.cast(maps, tf.float32)
    return maps / (tf.reduce_mean(tf.norm(maps, axis=-1)) + 1e-6)
