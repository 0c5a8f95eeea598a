"""Channel interactions as standard Keras and Larq layers, with exactly the same integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from tfbnas.costs.interacted import Signs, cheapest, copies, signs
from tfbnas.layers.interaction import InteractedConv2D
from tfbnas.lce.graph import Call
from tfbnas.lce.registry import register

_EPSILON = 2.0**-10
"""With a variance of 1 - epsilon a normalisation computes scale * x + offset exactly as it stands."""

_BINARY: dict[str, Any] = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
    "use_bias": False,
    "dtype": "float32",
}


def interacted(layer: InteractedConv2D, inputs: Any, name: str, way: str | None = None) -> Any:
    """The layer's output from its real inputs, a Keras tensor.

    Args:
      layer: Closed and built.
      inputs: Keras tensor.
      name: Of the convolution; further layers are called so, "_" and more.
      way: One of `costs.interacted.WAYS`. Default: the one with the fewest instructions.
    """
    kernel = np.sign(layer.kernel_quantizer(layer.kernel).numpy())
    same = {"padding": "same", "pad_values": 1.0, **_BINARY}
    counts = _with(lq.layers.QuantConv2D(kernel.shape[-1], layer.kernel_size, layer.strides, name=name, **same), kernel)
    bitcounts = counts(inputs)
    if not layer.edges:
        return bitcounts
    height, width, channels = bitcounts.shape[1:]
    found, way = signs(layer), way or cheapest(layer, height=height, width=width)[0]
    if way == "float":
        first = _signs_of_bitcounts(found, channels, f"{name}_signs", lq.activations.hard_tanh)
        weights = (0.5 * layer.unit * found.weights)[None, None]
        second = tf.keras.layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_correction", dtype="float32")
        correction = _with(second, weights)(first(bitcounts))
    else:
        found, times = _repeated(found), copies(found)
        if way == "mixed":
            bits = _signs_of_bitcounts(found, channels, f"{name}_signs", None)(bitcounts)
        else:
            again = lq.layers.QuantConv2D(
                len(found.teachers), layer.kernel_size, layer.strides, name=f"{name}_signs", **same
            )
            bits = _with(again, kernel[..., found.teachers])(inputs)
            bits = _affine(1.0, -found.breaks, f"{name}_breaks")(bits)
        second = lq.layers.QuantConv2D(channels, 1, name=f"{name}_correction", **_BINARY)
        summed = _with(second, _split(signs(layer).weights, times)[None, None])(bits)
        correction = _affine(0.25 * layer.unit, 0.0, f"{name}_scale")(summed)
    return tf.keras.layers.Add(name=f"{name}_corrected")([bitcounts, correction])


def _lower(call: Call, deployment: Any) -> Any:
    return interacted(call.layer, deployment.read(call), call.name)


register(InteractedConv2D, lower=_lower, writes_bits=lambda layer: not layer.edges)


def _signs_of_bitcounts(found: Signs, channels: int, name: str, activation: Callable | None):
    count = len(found.teachers)
    kernel = np.zeros([1, 1, channels, count])
    kernel[0, 0, found.teachers, np.arange(count)] = 1.0
    layer = tf.keras.layers.Conv2D(count, 1, activation=activation, name=name, dtype="float32")
    return _with(layer, kernel, -found.breaks)


def _repeated(found: Signs) -> Signs:
    times = copies(found)
    return Signs(np.repeat(found.teachers, times), np.repeat(found.breaks, times), found.weights)


def _split(weights: np.ndarray, times: int) -> np.ndarray:
    """+-1 for each copy of a sign, `[signs * copies, channels]`, that sum to twice its weight."""
    positive = times // 2 + weights  # how many of the copies are +1
    return np.where(np.arange(times)[None, :, None] < positive[:, None], 1.0, -1.0).reshape(-1, weights.shape[-1])


def _affine(scale: float, offset: Any, name: str) -> Callable[[Any], Any]:
    """A normalisation that computes scale * x + offset."""

    def apply(tensor: Any) -> Any:
        channels = tensor.shape[-1]
        layer = tf.keras.layers.BatchNormalization(epsilon=_EPSILON, name=name, dtype="float32")
        values = [np.full(channels, scale), np.broadcast_to(offset, channels), np.zeros(channels)]
        return _with(layer, *values, np.full(channels, 1.0 - _EPSILON))(tensor)

    return apply


def _with(layer: tf.keras.layers.Layer, *weights: np.ndarray) -> Callable[[Any], Any]:
    """The layer as a function that gives it its weights when it is built."""

    def apply(tensor: Any) -> Any:
        output = layer(tensor)
        layer.set_weights(list(weights))
        return output

    return apply
