"""The rules of Keras's and Larq's layers."""

from __future__ import annotations

from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from tfbnas.lce.registry import Layer, bits_of, exact_rules_of, register

layers = tf.keras.layers


def is_addition(layer: Layer) -> bool:
    """Whether a layer adds tensors: a Keras Add, or the operator + between two of them."""
    if type(layer).__name__ == "TFOpLambda":
        return layer.get_config().get("function") in ("__operators__.add", "math.add")
    return isinstance(layer, layers.Add)


def is_relu(layer: Layer) -> bool:
    """Whether a layer is a ReLU that TFLite's operators can take in."""
    activation = getattr(layer, "activation", None) if isinstance(layer, layers.Activation) else None
    return isinstance(layer, layers.ReLU) or activation in (tf.keras.activations.relu, tf.nn.relu)


def _is_floor(layer: Layer) -> bool:
    return type(layer).__name__ == "TFOpLambda" and layer.get_config().get("function") == "math.floor"


def is_identity(layer: Layer) -> bool:
    """Whether a layer is an activation that changes nothing."""
    return isinstance(layer, layers.Activation) and layer.activation is tf.keras.activations.linear


def keeps_words(image: Any) -> bool:
    """Whether the bits of a vector take no more words of 32 as the image `[batch, height, width, channels]` it was."""
    return tuple(image.shape[1:3]) == (1, 1) or (image.shape[3] or 1) % 32 == 0


def scale_and_offset(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """What a BatchNormalization applies per channel at inference, in float64."""
    mean, variance = (v.numpy().astype(np.float64) for v in (layer.moving_mean, layer.moving_variance))
    gamma = 1.0 if layer.gamma is None else layer.gamma.numpy().astype(np.float64)
    beta = 0.0 if layer.beta is None else layer.beta.numpy().astype(np.float64)
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return scale, beta - mean * scale


def passes(layer: Layer) -> str:
    """What a layer makes of a * x + b; see `Rules.passes`."""
    return "linear" if type(layer) is layers.Activation and is_identity(layer) else exact_rules_of(layer).passes


def is_linear(layer: Layer) -> bool:
    """Whether layer(a * x + b) = a * layer(x) + b for all numbers a and b (at inference)."""
    return passes(layer) == "linear"


def pads_with_bits(layer: Layer) -> bool:
    """Whether a convolution pads with nothing but bits; a padded zero is none, LCE then writes float."""
    padded = layer.padding == "same" and max(layer.kernel_size) > 1
    return not padded or getattr(layer, "pad_values", 0.0) == 1.0


def _kind_of_other(layer: Layer) -> str | None:
    # A softmax is over the classes only.
    if bits_of(layer).outputs == 1 or getattr(layer, "activation", None) is tf.keras.activations.softmax:
        return None
    if _is_floor(layer):
        return "activation"
    return "add" if is_addition(layer) else "unknown"


def _kind_of_activation(layer: Layer) -> str | None:
    return "activation" if is_relu(layer) else None if is_identity(layer) else _kind_of_other(layer)


def _kind_of_rescaling(layer: Layer) -> str | None:
    # The converter leaves out a multiplication by one and an addition of zero.
    operators = bool(np.any(np.asarray(layer.scale) != 1)) + bool(np.any(np.asarray(layer.offset) != 0))
    return (None, "offset", "scaling")[operators]


def _kind_of_upsampling(layer: Layer) -> str:
    return "upsampling" if layer.interpolation == "nearest" else "unknown"


def _flatten_keeps_bits(layer: Layer) -> bool:
    # A BinaryDense behind a Flatten is a convolution of the image.
    return len(layer.input.shape) == 4 and keeps_words(layer.input)


def _affine_of_channels(layer: Layer) -> tuple[np.ndarray, np.ndarray] | None:
    return scale_and_offset(layer) if list(layer.axis) == [len(layer.input_shape) - 1] else None


def _relu_is_never_negative(layer: Layer) -> bool:
    return not layer.negative_slope and layer.threshold >= 0


def _activation_is_never_negative(layer: Layer) -> bool:
    return getattr(layer.activation, "__name__", "") in _NEVER_NEGATIVE


def _function_is_never_negative(layer: Layer) -> bool:
    if type(layer).__name__ != "TFOpLambda":
        return False
    return str(layer.get_config().get("function")).split(".")[-1] in _NEVER_NEGATIVE


_NEVER_NEGATIVE = {
    *("relu", "relu6", "sigmoid", "hard_sigmoid", "softplus", "softmax", "exponential", "exp"),
    *("abs", "square", "sqrt"),
}
"""Functions of Keras and TensorFlow that give no negative value."""


def _always(layer: Layer) -> bool:
    return True


register(tf.keras.layers.Layer, kind=_kind_of_other, never_negative=_function_is_never_negative)
register(layers.Conv2D, kind="convolution", absorbs=True, binary_operator=True, writes_bits=pads_with_bits)
register(layers.Conv2DTranspose, kind="unknown", absorbs=True, binary_operator=False)
register(layers.DepthwiseConv2D, kind="depthwise", absorbs=True)
register(layers.Dense, kind="dense", absorbs=True)
register(layers.BatchNormalization, kind="normalization", affine=_affine_of_channels)
register(layers.MaxPooling2D, kind="max_pool", keeps_bits=_always, passes="increasing", per_channel=True)
register(layers.AveragePooling2D, kind="average_pool", passes="linear", per_channel=True)
register(layers.GlobalAveragePooling2D, kind="global_pool", passes="linear", per_channel=True)
register(layers.Concatenate, kind="concatenate")
register(layers.Add, passes="sum", elementwise=True)
register(layers.ReLU, kind="activation", elementwise=True, never_negative=_relu_is_never_negative, keeps_sign=True)
register(layers.Activation, kind=_kind_of_activation)
register(layers.Rescaling, kind=_kind_of_rescaling)
register(layers.Softmax, kind=None, never_negative=_always)
register(layers.LeakyReLU, layers.PReLU, layers.ELU, layers.ThresholdedReLU, keeps_sign=True)
register(layers.Concatenate, layers.Multiply, layers.Maximum, layers.Minimum, layers.Average, keeps_sign=True)
register(layers.ZeroPadding2D, layers.RepeatVector, keeps_sign=True)
register(
    *(layers.Activation, layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv2DTranspose),
    *(layers.DepthwiseConv2D, layers.SeparableConv2D),
    never_negative=_activation_is_never_negative,
)
register(layers.InputLayer, kind=None)
register(layers.UpSampling2D, kind=_kind_of_upsampling, passes="linear", per_channel=True)
register(layers.Flatten, kind=None, passes="linear", keeps_bits=_flatten_keeps_bits)
register(layers.Reshape, kind=None, passes="linear")
register(layers.Dropout, layers.GaussianNoise, kind=None, passes="linear", per_channel=True, elementwise=True)
register(layers.SpatialDropout2D, kind=None, passes="linear", per_channel=True)
register(layers.GaussianDropout, passes="linear", elementwise=True)
register(layers.Cropping2D, passes="linear", per_channel=True)
register(layers.AveragePooling1D, layers.GlobalAveragePooling1D, layers.Permute, passes="linear")
register(layers.GlobalMaxPooling2D, passes="increasing", per_channel=True)
register(layers.MaxPooling1D, layers.GlobalMaxPooling1D, passes="increasing")

register(
    lq.layers.QuantDense,
    no_operator=(
        "Larq Compute Engine has no binary dense operator",
        "use tfbnas.layers.BinaryDense or a 1x1 QuantConv2D on a 1x1 image, or leave it in full precision",
    ),
)
register(
    lq.layers.QuantDepthwiseConv2D,
    lq.layers.QuantSeparableConv2D,
    lq.layers.QuantSeparableConv1D,
    no_operator=(
        "Larq Compute Engine has no binary depthwise operator",
        "use QuantConv2D, or leave the layer in full precision",
    ),
)
register(
    lq.layers.QuantConv2DTranspose,
    lq.layers.QuantConv3DTranspose,
    no_operator=(
        "Larq Compute Engine has no binary transposed convolution",
        "use UpSampling2D and QuantConv2D, or leave the layer in full precision",
    ),
)
register(
    lq.layers.QuantConv1D,
    lq.layers.QuantConv3D,
    lq.layers.QuantLocallyConnected1D,
    no_operator=(
        "Larq Compute Engine has binary convolutions in two dimensions only",
        "use QuantConv2D on a reshaped tensor",
    ),
)
register(
    lq.layers.QuantLocallyConnected2D,
    no_operator=("Larq Compute Engine has no binary operator without shared weights", "use QuantConv2D"),
)
