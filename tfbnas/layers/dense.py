"""The dense layer that a binary network computes on bits."""

from __future__ import annotations

import larq as lq
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers.arguments import drop_fixed
from tfbnas.layers.quantizers import StandardizedSign
from tfbnas.layers.width import OpenLayer, checked_channels, maybe_aligned, pad_to_layout, static_size

_FIXED = {
    "use_bias": (False,),
    "activation": (None, "linear"),
    "input_quantizer": (None,),
    "kernel_regularizer": (None,),
    "kernel_constraint": (None,),
}


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class BinaryDense(OpenLayer, lq.layers.QuantDense):
    """Dense layer of {0, 1} activations with a +-1 kernel, without bias: `[batch, features]` to `[batch, units]`.

    The input must come from a LearnedStep, and a BatchNormalization must follow, as for BinaryConv2D. Larq Compute
    Engine has no binary dense operator: `tfbnas.export` writes a binary convolution of a 1x1 image instead, or, where
    the LearnedStep reads a Flatten, one whose kernel is as large as the image. A Flatten therefore stands in front of
    the LearnedStep, and it cannot flatten an image of open width (use GlobalAveragePooling2D).

    Args:
      units: Output features, an integer or an OpenWidth.

    Keyword Args:
      kernel_quantizer: Larq quantiser. Default: `StandardizedSign()`.

    Raises:
      UserError: The input has not the shape `[batch, features]`.
    """

    def __init__(self, units, **kwargs):
        kwargs.setdefault("kernel_initializer", "he_normal")
        drop_fixed(type(self).__name__, kwargs, _FIXED)
        units = checked_channels(units, kwargs.get("name") or type(self).__name__)
        quantizer = kwargs.pop("kernel_quantizer", None) or StandardizedSign()
        super().__init__(static_size(units) or 1, use_bias=False, **kwargs)
        # Not given to Larq's constructor, for the reason that BinaryConv2D has.
        self.kernel_quantizer = lq.quantizers.get_kernel_quantizer(quantizer)
        self.units = maybe_aligned(units, self.name)

    def build(self, input_shape):
        if len(input_shape) != 2:
            raise UserError(
                f"Expected the input of BinaryDense {self.name!r} to have the shape [batch, features]. Received: "
                f"{tuple(input_shape)}; put a Flatten or GlobalAveragePooling2D in front of the LearnedStep."
            )
        self.input_spec = tf.keras.layers.InputSpec(ndim=2)
        self._dimensions = (self.input_channels(input_shape), self.units)
        self.kernel = self.add_sized_weight("kernel", self._dimensions, self.kernel_initializer)
        self.built = True

    def call(self, inputs):
        kernel = pad_to_layout(self.kernel_quantizer(self.kernel), self._dimensions)
        return tf.matmul(inputs, tf.cast(kernel, inputs.dtype))

    def compute_output_shape(self, input_shape):
        return tf.TensorShape((input_shape[0], static_size(self.units)))
