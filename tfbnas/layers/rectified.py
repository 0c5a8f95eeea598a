"""Rectified binary convolution (Liu et al., "Rectified Binary Convolutional Networks", IJCAI 2019)."""

from __future__ import annotations

import tensorflow as tf

from tfbnas.layers.convolution import SignConv2D
from tfbnas.layers.width import OpenWidth, initial_value, present_size


def kernel_loss(kernel: tf.Tensor, signs: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Half the squared distance of a kernel W from its signs S times the scale matrix C: 1/2 sum (W - C S)^2.

    Its derivatives by S and C are those of the paper, -(W - C S) C and -sum over filters of (W - C S) S. Automatic
    differentiation adds W - C S, by which W itself enters; the paper leaves that out. It is kept here: without it a
    step takes latent weights that are larger than C further away from it, so that the loss rises.

    Args:
      kernel: W, `[height, width, channels, filters]`.
      signs: S, of the same shape; differentiable by `kernel` if a quantiser gave them.
      scale: C, `[height, width, channels]`, shared by the filters.
    """
    return 0.5 * tf.reduce_sum(tf.square(kernel - scale[..., None] * signs))


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class RectifiedConv2D(SignConv2D):
    """Convolution of -1 and +1 with kernels of -1 and +1 times a learned scale, `padding="same"` with +1, no bias.

    The gradient passes the sign of the kernel with the factor 2 - 2 |w| up to |w| = 1, and 0 beyond. The scale matrix C
    is of the shape of one filter, and all filters share it; what multiplies the signs is its mean. (The paper says
    that a scalar multiplies them when bits are counted, not which shape C has.) In the exported network the scale is
    part of the convolution's operator.

    The layer's loss (`losses`) is `kernel_loss_weight` times `kernel_loss`. Keras' `fit` adds it to the loss.

    Args:
      filters: Output channels, an integer or an OpenWidth.
      kernel_size: Integer or pair.
      strides: Integer or pair. Default: 1.
      kernel_loss_weight: lambda_1 of the paper, which gives no value. Default: 1e-4.
      **kwargs: As of `SignConv2D`. Default of `kernel_quantizer`: "approx_sign", the gradient above.
    """

    def __init__(self, filters, kernel_size, strides=1, *, kernel_loss_weight=1e-4, **kwargs):
        kwargs["kernel_quantizer"] = kwargs.pop("kernel_quantizer", None) or "approx_sign"
        kwargs.setdefault("kernel_initializer", "he_normal")
        super().__init__(filters, kernel_size, strides, **kwargs)
        self.kernel_loss_weight = kernel_loss_weight

    def build(self, input_shape):
        super().build(input_shape)
        # At the mean size of such a kernel, where the kernel loss is least, whatever numbers were drawn for this one.
        sizes = [present_size(dimension) for dimension in self._dimensions]
        usual = initial_value(self.kernel_initializer, sizes, 0, self.name)
        mean = tf.keras.initializers.Constant(float(tf.reduce_mean(tf.abs(usual))))
        self.scale = self.add_sized_weight("scale", self._dimensions[:3], mean)
        if self.kernel_loss_weight:
            self.add_loss(self._weighted_loss)

    def binary_kernel(self):
        """The kernel that the layer convolves with, float32."""
        return tf.cast(super().binary_kernel(), tf.float32) * self.mean_scale()

    def mean_scale(self):
        """What multiplies the signs, a scalar: the mean of C over the channels that are there."""
        scale, channels = tf.convert_to_tensor(self.scale), self._dimensions[2]
        if isinstance(channels, OpenWidth) and channels.gate is not None:
            gate = tf.cast(channels.gate() > 0, scale.dtype)
            return tf.reduce_sum(tf.reduce_mean(scale, [0, 1]) * gate) / tf.maximum(tf.reduce_sum(gate), 1.0)
        return tf.reduce_mean(scale)

    def _weighted_loss(self):
        kernel = tf.convert_to_tensor(self.kernel)
        signs = tf.cast(self.kernel_quantizer(kernel), tf.float32)  # quantisers have the precision of the policy
        return self.kernel_loss_weight * kernel_loss(kernel, signs, tf.convert_to_tensor(self.scale))

    def get_config(self):
        return {**super().get_config(), "kernel_loss_weight": self.kernel_loss_weight}
