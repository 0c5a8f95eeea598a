"""Batch normalisation that keeps or masks channels."""

from __future__ import annotations

import tensorflow as tf

from tfbnas import distribution
from tfbnas.errors import UserError
from tfbnas.layers.arguments import drop_fixed
from tfbnas.layers.width import OpenLayer, OpenWidth, pad_to_layout

_FIXED = {"axis": (-1, 3, [3], (3,), [-1]), "center": (True,), "scale": (True,), "synchronized": (False,)}


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class BatchNormalization(OpenLayer, tf.keras.layers.BatchNormalization):
    """Batch normalisation over the last axis; where that axis is an OpenWidth, its mask multiplies the result.

    The mask must act behind the normalisation: a factor per channel in front of it is cancelled. It is folded into
    scale and offset, (m * gamma) x + (m * beta), so that it costs no pass over the activations.

    Inputs are images `[batch, height, width, channels]` or vectors `[batch, channels]`. Where several devices train on
    one batch, the statistics are those of the whole batch.

    Args:
      momentum: Of the moving statistics. Default 0.9 (binary networks: statistics move fast).
      epsilon: Added to the variance. Default 1e-5.

    Raises:
      UserError: The input has another shape.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs):
        drop_fixed(type(self).__name__, kwargs, _FIXED)
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def build(self, input_shape):
        if len(input_shape) not in (2, 4):
            raise UserError(
                f"Expected the input of BatchNormalization {self.name!r} to have the shape [batch, height, width, "
                f"channels] or [batch, channels]. Received: {tuple(input_shape)}; reshape it."
            )
        self.input_spec = tf.keras.layers.InputSpec(ndim=len(input_shape))
        channels = self.input_channels(input_shape)
        self.width = channels if isinstance(channels, OpenWidth) else None
        self.gamma = self.add_sized_weight("gamma", (channels,), self.gamma_initializer)
        self.beta = self.add_sized_weight("beta", (channels,), self.beta_initializer)
        self.moving_mean = self.add_sized_weight(
            "moving_mean", (channels,), self.moving_mean_initializer, trainable=False
        )
        self.moving_variance = self.add_sized_weight(
            "moving_variance", (channels,), self.moving_variance_initializer, trainable=False
        )
        self.built = True

    def call(self, inputs, training=None):
        # Frozen layers use and keep their moving statistics, as in Keras.
        training = self.trainable and self._is_training(training)
        gamma, beta = tf.cast(self.gamma, tf.float32), tf.cast(self.beta, tf.float32)
        if self.width is not None and self.width.mask is not None:
            mask = self.width.mask()
            gamma, beta = gamma * mask, beta * mask
        normalise = tf.compat.v1.nn.fused_batch_norm
        if training and distribution.replicas() > 1:
            normalise = _batch_norm_over_replicas
        output, mean, variance = normalise(
            # Vectors are images of one pixel.
            inputs if self.input_spec.ndim == 4 else tf.expand_dims(tf.expand_dims(inputs, 1), 1),
            self._padded(gamma),
            self._padded(beta),
            mean=self._padded(self.moving_mean),
            variance=self._padded(self.moving_variance, fill=1.0),
            epsilon=self.epsilon,
            is_training=training,
            exponential_avg_factor=1.0 - self.momentum if training else 1.0,
        )
        if training:
            size = None if self.width is None else self.width.size
            self.moving_mean.assign(mean[:size])
            self.moving_variance.assign(variance[:size])
        return output if self.input_spec.ndim == 4 else tf.squeeze(output, [1, 2])

    def _padded(self, value, fill: float = 0.0):
        return pad_to_layout(tf.cast(value, tf.float32), [self.width or 0], fill)

    @staticmethod
    def _is_training(training) -> bool:
        training = tf.keras.backend.learning_phase() if training is None else training
        return bool(training if isinstance(training, int) else tf.get_static_value(training))


def _batch_norm_over_replicas(x, scale, offset, *, mean, variance, epsilon, exponential_avg_factor, is_training):
    """`fused_batch_norm` in training, of a batch of which every replica has an equal part."""
    values = tf.cast(x, tf.float32)
    # Moments of the parts, not sums of squares, which would cancel.
    parts = distribution.gather(tf.stack(tf.nn.moments(values, [0, 1, 2]))[None])
    batch_mean = tf.reduce_mean(parts[:, 0], axis=0)
    batch_variance = tf.reduce_mean(parts[:, 1] + tf.square(parts[:, 0] - batch_mean), axis=0)
    output = tf.nn.batch_normalization(values, batch_mean, batch_variance, offset, scale, epsilon)
    count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]) * distribution.replicas(), tf.float32)
    unbiased = batch_variance * count / tf.maximum(count - 1.0, 1.0)
    mean += exponential_avg_factor * (batch_mean - mean)
    variance += exponential_avg_factor * (unbiased - variance)
    return tf.cast(output, x.dtype), mean, variance
