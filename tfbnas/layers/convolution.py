"""Convolutions and the dense layer, for channel numbers that are given or still to be chosen."""

from __future__ import annotations

import larq as lq
import numpy as np
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers.arguments import drop_fixed
from tfbnas.layers.convolving import convolve
from tfbnas.layers.quantizers import StandardizedSign
from tfbnas.layers.width import OpenLayer, OpenWidth, checked_channels, maybe_aligned, pad_to_layout, static_size

_FIXED = {
    "padding": ("same",),
    "use_bias": (False,),
    "data_format": ("channels_last", None),
    "groups": (1,),
    "activation": (None, "linear"),
    "kernel_regularizer": (None,),
    "kernel_constraint": (None,),
}


class _SizedConvolution(OpenLayer):
    """What float and binary convolution share: a kernel of open size, no bias (BatchNormalization follows)."""

    def __init__(self, filters, kernel_size, strides=1, **kwargs):
        drop_fixed(type(self).__name__, kwargs, _FIXED)
        filters = checked_channels(filters, kwargs.get("name") or type(self).__name__)
        dilation = kwargs.get("dilation_rate", 1)
        if np.max(strides) > 1 and np.max(dilation) > 1:
            raise UserError(
                f"Expected `strides` or `dilation_rate` of {type(self).__name__} to be 1. Received: strides={strides}, "
                f"dilation_rate={dilation}; leave out pixels in front of the layer instead."
            )
        super().__init__(
            static_size(filters) or 1,
            kernel_size,
            strides=strides,
            padding="same",
            use_bias=False,
            **kwargs,
        )
        self.filters = maybe_aligned(filters, self.name)

    def build(self, input_shape):
        self._dimensions = (*self.kernel_size, self.input_channels(input_shape), self.filters)
        self.kernel = self.add_sized_weight(
            "kernel", self._dimensions, self.kernel_initializer, constraint=self.kernel_constraint
        )
        self.built = True

    def convolve(self, inputs, kernel):
        kernel = pad_to_layout(kernel, self._dimensions)
        return convolve(inputs, tf.cast(kernel, inputs.dtype), self.strides, self.dilation_rate)

    def compute_output_shape(self, input_shape):
        height, width = (
            None if size is None else -(-size // stride)
            for size, stride in zip(input_shape[1:3], self.strides, strict=True)
        )
        return tf.TensorShape((input_shape[0], height, width, static_size(self.filters)))


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class FloatConv2D(_SizedConvolution, tf.keras.layers.Conv2D):
    """Convolution in full precision without bias, `padding="same"` with zeros. For the first layer.

    Args:
      filters: Output channels, an integer or an OpenWidth.
      kernel_size: Integer or pair.
      strides: Integer or pair. Default: 1.
      dilation_rate: Integer or pair; above 1 the strides must be 1. Default: 1.
    """

    def __init__(self, filters, kernel_size, strides=1, **kwargs):
        kwargs.setdefault("kernel_initializer", "he_normal")
        super().__init__(filters, kernel_size, strides, **kwargs)

    def call(self, inputs):
        return self.convolve(inputs, self.kernel)


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class BinaryConv2D(_SizedConvolution, lq.layers.QuantConv2D):
    """Convolution of {0, 1} activations with +-1 kernels, `padding="same"` with zeros, no bias.

    The input must come from a LearnedStep (several convolutions may read the same one), and a BatchNormalization
    must follow: it absorbs the positive scales alpha and E|w| of DMS Eq. 1-2.

    Args:
      filters: Output channels, an integer or an OpenWidth.
      kernel_size: Integer or pair.
      strides: Integer or pair. Default: 1.

    Keyword Args:
      dilation_rate: Integer or pair; above 1 the strides must be 1. Default: 1.
      kernel_quantizer: Larq quantiser. Default: `StandardizedSign()`.
    """

    def __init__(self, filters, kernel_size, strides=1, **kwargs):
        kwargs.setdefault("kernel_initializer", "he_normal")
        drop_fixed(type(self).__name__, kwargs, {"input_quantizer": (None,), "pad_values": (0.0,)})
        quantizer = kwargs.pop("kernel_quantizer", None) or StandardizedSign()
        super().__init__(filters, kernel_size, strides, **kwargs)
        # Not given to Larq's constructor, which warns of starved weights where no constraint is given: a kernel that is
        # standardised before its sign is taken cannot starve.
        self.kernel_quantizer = lq.quantizers.get_kernel_quantizer(quantizer)

    def call(self, inputs):
        kernel, channels = tf.convert_to_tensor(self.kernel), self._dimensions[2]
        if isinstance(channels, OpenWidth) and channels.gate is not None:
            kernel = _without(kernel, tf.cast(channels.gate() > 0, kernel.dtype)[:, None])
        return self.convolve(inputs, self.kernel_quantizer(kernel))


def _without(kernel, gate):
    """A kernel in which channels whose gate is 0 have their filter's mean, so that they do not change it."""
    count = tf.maximum(tf.reduce_sum(gate) * (kernel.shape[0] * kernel.shape[1]), 1.0)
    mean = tf.reduce_sum(kernel * gate, axis=(0, 1, 2)) / count
    return kernel * gate + mean * (1.0 - gate)


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class SignConv2D(_SizedConvolution, lq.layers.QuantConv2D):
    """Convolution of -1 and +1 with kernels of -1 and +1, `padding="same"` with +1 or 0, no bias: what LCE runs.

    The input must be binary, as Larq's SteSign gives it. The kernel's scale is left to the BatchNormalization behind.
    Gradients pass straight through both signs where the real value is at most 1 in size; the kernel is kept there.

    Args:
      filters: Output channels, an integer or an OpenWidth. Channels of the input that a mask weighs count so much less.
      kernel_size: Integer or pair.
      strides: Integer or pair. Default: 1.
      dilation_rate: Integer or pair; above 1 the strides must be 1. Default: 1.
      kernel_quantizer: Larq quantiser. Default: "ste_sign".
      kernel_constraint: Keras constraint. Default: "weight_clip", to -1 .. +1.
      pad_values: 1 or 0. With 0 LCE writes floats, not bits. Default: 1.
      activation: None, or "relu", which Larq Compute Engine computes within the convolution. Default: None.

    Raises:
      UserError: The activation is another one, or another argument has a value that the layer does not work with.
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        *,
        kernel_constraint="weight_clip",
        pad_values=1.0,
        activation=None,
        **kwargs,
    ):
        drop_fixed(type(self).__name__, kwargs, {"input_quantizer": (None,)})
        if pad_values not in (0.0, 1.0):
            raise UserError(f"Expected `pad_values` to be 1 or 0. Received: pad_values={pad_values!r}.")
        if activation not in (None, "linear", "relu"):
            raise UserError(
                f'Expected `activation` of {type(self).__name__} to be None or "relu". Received: {activation!r}; put '
                "another one behind the layer."
            )
        quantizer = kwargs.pop("kernel_quantizer", None) or "ste_sign"
        super().__init__(filters, kernel_size, strides, **kwargs)
        self.activation = tf.keras.activations.get(activation)
        self.pad_values = float(pad_values)
        self.kernel_quantizer = lq.quantizers.get_kernel_quantizer(quantizer)
        self.kernel_constraint = tf.keras.constraints.get(kernel_constraint)

    def binary_kernel(self):
        """The kernel that the layer convolves with."""
        kernel, channels = self.kernel_quantizer(tf.convert_to_tensor(self.kernel)), self._dimensions[2]
        mask = (channels.gate or channels.mask) if isinstance(channels, OpenWidth) else None
        if mask is not None:
            # The sign of a masked channel is as large as that of another, and so is its padding.
            kernel *= tf.cast(mask(), kernel.dtype)[:, None]
        return kernel

    def call(self, inputs):
        kernel = tf.cast(pad_to_layout(self.binary_kernel(), self._dimensions), inputs.dtype)
        padded = tf.pad(inputs, self._margins(inputs), constant_values=tf.constant(self.pad_values, inputs.dtype))
        return self.activation(tf.nn.convolution(padded, kernel, self.strides, "VALID", dilations=self.dilation_rate))

    def _margins(self, inputs):
        """Pixels in front and behind that "same" adds, for each axis."""
        margins = [[0, 0]]
        sizes = zip(self.kernel_size, self.strides, self.dilation_rate, strict=True)
        for axis, (taps, stride, dilation) in enumerate(sizes, 1):
            window = (taps - 1) * dilation + 1
            size = tf.shape(inputs)[axis] if inputs.shape[axis] is None else inputs.shape[axis]
            total = tf.maximum(0, (-(-size // stride) - 1) * stride + window - size)
            margins.append([total // 2, total - total // 2])
        return [*margins, [0, 0]]


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class Dense(OpenLayer, tf.keras.layers.Dense):
    """Dense layer in full precision whose input may have an open width. For the last layer.

    It computes in float32 under every precision, so that logits and loss are not rounded.

    Args:
      units: Output features.
    """

    def __init__(self, units, **kwargs):
        super().__init__(units, **{"dtype": "float32", **kwargs})

    def build(self, input_shape):
        self._dimensions = (self.input_channels(input_shape), self.units)
        self.kernel = self.add_sized_weight("kernel", self._dimensions, self.kernel_initializer)
        self.bias = self.add_sized_weight("bias", (self.units,), self.bias_initializer) if self.use_bias else None
        self.built = True

    def call(self, inputs):
        kernel = pad_to_layout(self.kernel, self._dimensions)
        output = tf.matmul(inputs, tf.cast(kernel, inputs.dtype))
        if self.bias is not None:
            output += tf.cast(self.bias, inputs.dtype)
        return output if self.activation is None else self.activation(output)
