"""Channel interactions as standard Keras and Larq layers, with exactly the same integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from tfbnas.costs.interacted import cheapest, copies, every_channel, groups, signs, stairs
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
      way: One of `costs.interacted.WAYS`. Default: the one with the least predicted time.
    """
    kernel = np.sign(layer.kernel_quantizer(layer.kernel).numpy())
    same = {"padding": "same", "pad_values": 1.0, **_BINARY}
    counts = _with(lq.layers.QuantConv2D(kernel.shape[-1], layer.kernel_size, layer.strides, name=name, **same), kernel)
    bitcounts = counts(inputs)
    if not layer.edges:
        return bitcounts
    height, width, channels = bitcounts.shape[1:]
    way = way or cheapest(layer, height=height, width=width)[0]
    if way == "signs":
        found = signs(layer)
        times = copies(found)
        teachers, breaks = np.repeat(found.teachers, times), np.repeat(found.breaks, times)
        again = lq.layers.QuantConv2D(len(teachers), layer.kernel_size, layer.strides, name=f"{name}_signs", **same)
        bits = _affine(1.0, -breaks, f"{name}_breaks")(_with(again, kernel[..., teachers])(inputs))
        second = lq.layers.QuantConv2D(channels, 1, name=f"{name}_correction", **_BINARY)
        summed = _with(second, _split(found.weights, times)[None, None])(bits)
        correction = _affine(0.25 * layer.unit, 0.0, f"{name}_scale")(summed)
    else:
        correction = _stairs(layer, bitcounts, name, in_blocks=way == "blocks")
    return tf.keras.layers.Add(name=f"{name}_corrected")([bitcounts, correction])


def _stairs(layer: InteractedConv2D, bitcounts: Any, name: str, *, in_blocks: bool) -> Any:
    """What the edges add, by staircases."""
    channels, reach = layer.channels, layer.reach
    found = every_channel(layer) if in_blocks else stairs(layer)
    scale, offset = found.sizes / (2 * reach), (found.sizes * reach - 0.5) / (2 * reach)
    plain: dict[str, Any] = {"activation": "relu", "name": f"{name}_scaled", "dtype": "float32"}
    if in_blocks:
        first = tf.keras.layers.DepthwiseConv2D(1, depth_multiplier=len(scale) // channels, **plain)
        kernel = scale.reshape(1, 1, channels, -1)
    else:
        first = tf.keras.layers.Conv2D(len(scale), 1, **plain)
        kernel = np.zeros([1, 1, channels, len(scale)])
        kernel[0, 0, found.teachers, np.arange(len(scale))] = scale
    numbers = _with(first, kernel, offset)(bitcounts)
    if reach < layer.terms:  # bitcounts above the last interval
        last = found.sizes - 1.0
        numbers = _named(tf.math.minimum(numbers, last.tolist() if np.ptp(last) else float(last[0])), f"{name}_bounded")
    numbers = _named(tf.math.floor(numbers), f"{name}_stairs")
    parts = groups(layer) if in_blocks else 1
    # A convolution in groups has the weights of each output's own group only.
    inside = len(scale) // parts
    weights = layer.unit * found.weights.reshape(parts, inside, parts, -1)[np.arange(parts), :, np.arange(parts)]
    weights = weights.transpose(1, 0, 2).reshape(1, 1, inside, channels)
    middle = -layer.unit * (found.weights * (found.sizes[:, None] - 1) // 2).sum(axis=0)
    second = tf.keras.layers.Conv2D(channels, 1, groups=parts, name=f"{name}_correction", dtype="float32")
    return _with(second, weights, middle)(numbers)


def _named(tensor: Any, name: str) -> Any:
    """The tensor. The layer that Keras made of a function gets this name; else Keras would number it."""
    tensor._keras_history.layer._name = name
    return tensor


def _lower(call: Call, deployment: Any) -> Any:
    return interacted(call.layer, deployment.read(call), call.name)


register(InteractedConv2D, lower=_lower)


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
