"""How tfbnas's layers, and those that any network has, are computed in the deploy form.

Each function takes the call of a layer and the Deployment, and returns the output tensor. Layers of one's own register
a function of this kind: `tfbnas.lce.register(MyLayer, lower=...)`. `binary_convolution` is the one to build on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import larq as lq
import numpy as np
import tensorflow as tf

import tfbnas.layers as tfl
from tfbnas.errors import UserError
from tfbnas.export.carrying import Carried
from tfbnas.layers.depthwise import FloatDepthwiseConv2D
from tfbnas.layers.threshold import ChannelThreshold
from tfbnas.lce.graph import Call
from tfbnas.lce.own import kernel_of_signs
from tfbnas.lce.registry import bits_of, exact_rules_of, register, rules_of

if TYPE_CHECKING:
    from tfbnas.export.deploy_form import Deployment

# moving_variance + epsilon is exactly 1 in float32, so that Keras computes x * gamma + beta, rounded as LCE rounds it.
_EPSILON = 2.0**-10

BINARY_CONVOLUTION: dict[str, Any] = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
    "padding": "same",
    "pad_values": 1.0,
    "use_bias": False,
    "dtype": "float32",
}


def binary_convolution(tensor: Any, kernel: np.ndarray, *, name: str, **options: Any) -> Any:
    """A convolution that LCE runs on bits: of the signs of a real tensor, with sign(0) = +1, padded with +1.

    Args:
      tensor: `[batch, height, width, channels]`.
      kernel: `[height, width, channels, filters]`, of one magnitude in each filter: LCE takes that as a scale.
      name: Of the layer.
      options: Further arguments of `larq.layers.QuantConv2D`, for instance strides.
    """
    scaled = not np.all(np.abs(kernel) == 1.0)
    options = {**BINARY_CONVOLUTION, **({"kernel_quantizer": "magnitude_aware_sign"} if scaled else {}), **options}
    layer = lq.layers.QuantConv2D(kernel.shape[-1], kernel.shape[:2], name=name, **options)
    output = layer(tensor)
    layer.set_weights([kernel])
    return output


def _of_window(layer: Any) -> dict[str, Any]:
    return {"strides": layer.strides, "dilation_rate": layer.dilation_rate}


def _step(call: Call, deployment: Deployment) -> Any:
    return deployment.read(call, Carried(-1, deployment.thresholds[call.name]))


def _zero_one_convolution(call: Call, deployment: Deployment) -> Any:
    kernel = -deployment.kernels[call.name]
    return binary_convolution(deployment.tensor(call), kernel, name=call.name, **_of_window(call.layer))


def _zero_one_dense(call: Call, deployment: Deployment) -> Any:
    image = deployment.pixels.image(deployment.tensor(call))
    kernel = -deployment.kernels[call.name].reshape(*image.shape[1:3], -1, call.layer.units)
    output = binary_convolution(image, kernel, name=call.name, padding="valid", pad_values=0.0)
    return deployment.pixels.vector(output, call.name)


def _sign(call: Call, deployment: Deployment) -> Any:
    return lq.quantizers.SteSign(name=call.name, dtype="float32")(deployment.read(call))


def _sign_convolution(call: Call, deployment: Deployment) -> Any:
    writer = call.writers[0]
    while writer.writers and rules_of(writer.layer).keeps_bits(writer.layer):
        writer = writer.writers[0]
    if bits_of(writer.layer).outputs != 1 or rules_of(writer.layer).threshold is not None:
        raise UserError(
            f"Expected the input of {type(call.layer).__name__} {call.name!r} to be -1 and +1. Received: the output of "
            f"{writer.layer.name!r}; put SteSign in between."
        )
    # The convolution takes the sign itself; that of a sign is the sign.
    tensor = deployment.read(call.writers[0] if writer is call.writers[0] else call)
    kernel, layer = kernel_of_signs(call.layer), call.layer
    if isinstance(layer, tfl.RectifiedConv2D):
        kernel = kernel * layer.mean_scale().numpy()  # LCE multiplies its sums by one number for each filter
    options = {**_of_window(layer), "activation": layer.activation, "pad_values": layer.pad_values}
    return binary_convolution(tensor, kernel, name=call.name, **options)


def _float_convolution(call: Call, deployment: Deployment) -> Any:
    layer = call.layer
    copy = tf.keras.layers.Conv2D(
        layer.filters,
        layer.kernel_size,
        padding="same",
        use_bias=False,
        name=call.name,
        dtype="float32",
        **_of_window(layer),
    )
    output = copy(deployment.read(call))
    copy.set_weights(layer.get_weights())
    return output


def _depthwise(call: Call, deployment: Deployment) -> Any:
    layer = call.layer
    copy = tf.keras.layers.DepthwiseConv2D(
        layer.kernel_size, layer.strides, padding="same", use_bias=False, name=call.name, dtype="float32"
    )
    output = copy(deployment.read(call))
    copy.set_weights(layer.get_weights())
    return output


def _dense(call: Call, deployment: Deployment) -> Any:
    layer, held = call.layer, deployment.plan.carried[call.inputs[0]]
    kernel = layer.kernel.numpy().astype(np.float64) * held.sign
    bias = layer.bias.numpy().astype(np.float64) if layer.use_bias else np.zeros(layer.units)
    bias = bias - held.offset * kernel.sum(axis=0)
    use_bias = layer.use_bias or held.offset != 0
    copy = tf.keras.layers.Dense(
        layer.units, activation=layer.activation, use_bias=use_bias, name=call.name, dtype="float32"
    )
    output = copy(deployment.read(call, held))
    copy.set_weights([kernel, bias] if use_bias else [kernel])
    return output


def normalization(call: Call, deployment: Deployment) -> Any:
    """A normalisation of y as one of scale * y + offset that gives sign * (its output) + another offset."""
    source, target = call.inputs[0], deployment.plan.written[call.outputs[0]]
    scaled = deployment.scaled.get(source)
    if scaled is not None:
        tensor, scale = deployment.tensor(call), scaled.scale
        offset: np.ndarray | float = scaled.offset
    else:
        held = deployment.plan.carried[source]
        tensor, scale, offset = deployment.read(call, held), float(held.sign), held.offset
    gamma, beta = exact_rules_of(call.layer).affine(call.layer)  # type: ignore[misc]
    gamma, beta = target.sign * gamma, target.sign * beta + target.offset
    gamma, beta = gamma / scale, beta - gamma * offset / scale
    channels = int(tensor.shape[-1])
    gamma, beta = np.broadcast_to(gamma, channels), np.broadcast_to(beta, channels)
    if scaled is not None and scaled.terms and deployment.is_only_binarised(call, target):
        beta = _away_from_ties(call, deployment, gamma, beta)
    copy = tf.keras.layers.BatchNormalization(epsilon=_EPSILON, name=call.name, dtype="float32")
    output = deployment.pixels.apply(copy, [tensor], call.name)
    copy.set_weights([gamma, beta, np.zeros(channels), np.full(channels, 1.0 - _EPSILON)])
    return output


def _away_from_ties(call: Call, deployment: Deployment, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Offsets with which gamma * c + beta has the same sign for every possible c, but is never close to zero.

    c is a sum of +-1 and takes every other integer only. Where one of them all but meets the threshold, rounding would
    decide, in Keras and in LCE differently, and on many images at once. The trained layer is asked what it makes of the
    integer next to the threshold, and the threshold is put halfway to the one on its other side.
    """
    source = deployment.scaled[call.inputs[0]]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -beta / gamma
    movable = np.isfinite(crossing) & (np.abs(np.nan_to_num(crossing)) <= source.terms + 1)
    crossing = np.where(movable, crossing, 0.0)
    odd = source.terms % 2
    nearest = 2 * np.round((crossing - odd) / 2) + odd
    trained = ((nearest - source.offset) / source.scale).astype(np.float32)
    threshold = np.float32(deployment.plan.written[call.outputs[0]].offset)
    trained = trained.reshape([1] * (len(call.layer.input_shape) - 1) + [-1])
    real = np.asarray(call.layer(tf.constant(trained), training=False)).reshape(-1)
    is_bit = real > threshold  # bit 1 is the sign -1 of gamma * c + beta
    middle = nearest + np.where(is_bit == (gamma > 0), 1, -1)
    return np.where(movable, -gamma * middle, beta)


register(tfl.LearnedStep, lower=_step)
register(tfl.BinaryConv2D, lower=_zero_one_convolution)
register(tfl.BinaryDense, lower=_zero_one_dense)
register(tfl.SignConv2D, tfl.RectifiedConv2D, lower=_sign_convolution)
register(tfl.SteSign, tfl.ApproxSign, lower=_sign)
register(tfl.FloatConv2D, lower=_float_convolution)
register(FloatDepthwiseConv2D, lower=_depthwise)
register(tfl.Dense, tf.keras.layers.Dense, lower=_dense, reads_any_form=True)
register(ChannelThreshold, lower=normalization)
register(tfl.BatchNormalization, tf.keras.layers.BatchNormalization, lower=normalization)
