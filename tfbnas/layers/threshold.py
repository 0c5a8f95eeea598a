"""A learned threshold for each channel."""

from __future__ import annotations

import tensorflow as tf

from tfbnas.layers.width import OpenLayer, pad_to_layout


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class ChannelThreshold(OpenLayer, tf.keras.layers.Layer):
    """Subtracts a learned number from each channel (last axis): the threshold of a sign behind it.

    Initially 0.

        x = ChannelThreshold()(x)
        x = lq.layers.QuantConv2D(64, 3, input_quantizer="ste_sign", ...)(x)

    Source: the RSign of Liu et al., "ReActNet: Towards Precise Binary Neural Network with Generalized Activation
    Functions", ECCV 2020.
    """

    def build(self, input_shape):
        self._channels = self.input_channels(input_shape)
        self.threshold = self.add_sized_weight("threshold", (self._channels,), "zeros")
        self.built = True

    def call(self, inputs):
        return inputs - tf.cast(pad_to_layout(self.threshold, [self._channels]), inputs.dtype)
