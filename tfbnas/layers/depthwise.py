"""Depthwise convolution for channel numbers that are given or still to be chosen, and the kernel that only smooths."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfbnas.layers.arguments import drop_fixed
from tfbnas.layers.width import OpenLayer, pad_to_layout

_FIXED = {
    "padding": ("same",),
    "use_bias": (False,),
    "data_format": ("channels_last", None),
    "depth_multiplier": (1,),
    "dilation_rate": (1, (1, 1), [1, 1]),
    "groups": (1,),
    "activation": (None, "linear"),
    "depthwise_regularizer": (None,),
    "depthwise_constraint": (None,),
}


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class Smoothing(tf.keras.initializers.Initializer):
    """The binomial kernel of every channel: 1 2 1 in both directions, with the sum 1. Nothing else aliases less.

    Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019.
    """

    def __call__(self, shape, dtype=None, **kwargs):
        row = np.poly1d([0.5, 0.5]) ** (shape[0] - 1)
        column = np.poly1d([0.5, 0.5]) ** (shape[1] - 1)
        kernel = np.outer(row.coeffs, column.coeffs)[:, :, None, None]
        return tf.constant(np.broadcast_to(kernel, shape), dtype or tf.float32)


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class FloatDepthwiseConv2D(OpenLayer, tf.keras.layers.DepthwiseConv2D):
    """Depthwise convolution in full precision without bias, `padding="same"` with zeros.

    Args:
      kernel_size: Integer or pair.
      strides: Integer or pair. Default: 1.

    Keyword Args:
      depthwise_initializer: Keras initialiser. Default: "he_normal". `Smoothing()` with `trainable=False` is the
        pool that keeps what aliases out.
    """

    def __init__(self, kernel_size, strides=1, **kwargs):
        drop_fixed(type(self).__name__, kwargs, _FIXED)
        kwargs.setdefault("depthwise_initializer", "he_normal")
        super().__init__(kernel_size, strides=strides, padding="same", use_bias=False, **kwargs)

    def build(self, input_shape):
        self._dimensions = (*self.kernel_size, self.input_channels(input_shape), 1)
        self.depthwise_kernel = self.add_sized_weight(
            "depthwise_kernel", self._dimensions, self.depthwise_initializer, trainable=self.trainable
        )
        self.built = True

    def call(self, inputs):
        kernel = tf.cast(pad_to_layout(self.depthwise_kernel, self._dimensions), inputs.dtype)
        return tf.nn.depthwise_conv2d(inputs, kernel, [1, *self.strides, 1], "SAME")

    def compute_output_shape(self, input_shape):
        rows, columns = (
            None if size is None else -(-size // stride)
            for size, stride in zip(input_shape[1:3], self.strides, strict=True)
        )
        return tf.TensorShape((input_shape[0], rows, columns, input_shape[3]))
