"""A network of the user's own, from a file: its convolutions become those of tfbnas, whose widths can change."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import larq as lq
import numpy as np
import tensorflow as tf

import tfbnas.layers as tfl
from tfbnas.errors import UserError
from tfbnas.loading import load_model

Layer: TypeAlias = tf.keras.layers.Layer
layers = tf.keras.layers

_CONVOLUTIONS = (
    *(layers.Conv2D, lq.layers.QuantConv2D),
    *(tfl.FloatConv2D, tfl.BinaryConv2D, tfl.SignConv2D, tfl.RectifiedConv2D),
)
_NORMALIZATIONS = (layers.BatchNormalization, tfl.BatchNormalization)
_ZERO_KEEPING = (
    *(layers.MaxPooling2D, layers.AveragePooling2D, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D),
    *(layers.ReLU, layers.LeakyReLU, layers.UpSampling2D, layers.ZeroPadding2D, layers.Cropping2D),
    *(layers.Dropout, layers.SpatialDropout2D, layers.GaussianDropout),
)
"""They compute each channel on its own, and of zeros they make zeros."""
_ACTIVATIONS = ("linear", "relu", "tanh", "softsign", "swish", "gelu", "elu", "selu")
_SIGNS = (lq.quantizers.SteSign, lq.quantizers.ApproxSign, lq.quantizers.SwishSign)
_QUANTIZERS = (*_SIGNS, tfl.LearnedStep)


def keras_model(choose, *, input_shape=(32, 32, 3), classes=10, file: str) -> tf.keras.Model:
    """The network of a Keras file, of Larq's, Keras' and tfbnas's layers.

    Choices: the channels of each convolution, by its name; convolutions whose outputs are added have one choice, that
    of the first. What adds to the images, or to the output, keeps its channels.

    Args:
      choose: `choose(name, channels of the file)` gives the channels of each choice.
      input_shape: Height, width, channels; those of the file.
      classes: Those of the file.
      file: A .keras or .h5 file, or a SavedModel that Keras wrote.

    Raises:
      UserError: The file is none, its images or classes are others, or a layer, which is named, cannot lose channels.

    Returns:
      Functional model with the names of the file's layers.
    """
    found = _read(file)
    if found.input_shape[1:] != tuple(input_shape) or found.output_shape[-1] != classes:
        raise UserError(
            f"Expected images {tuple(input_shape)} and {classes} classes in {file}. Received: a model that takes "
            f"{found.input_shape[1:]} and gives {found.output_shape[-1]} numbers."
        )
    plan = _Plan(found)
    opened = {root: choose(name, channels) for root, (name, channels) in plan.choices().items()}
    inputs = tf.keras.Input(input_shape, name=found.input_names[0])
    tensors = {id(found.inputs[0]): inputs}
    for layer in found.layers:
        if not isinstance(layer, layers.InputLayer):
            sources = tf.nest.map_structure(lambda tensor: tensors[id(tensor)], layer.input)
            tensors[id(layer.output)] = _made(layer, plan.filters(layer, opened))(sources)
    return tf.keras.Model(inputs, tensors[id(found.outputs[0])], name=found.name)


def file_weights(file: str) -> dict[str, list[np.ndarray]]:
    """The weights of a Keras file, by the layers of the network that `keras_model` makes of it."""
    found = {}
    for layer in _read(file).layers:
        values = layer.get_weights()
        if isinstance(layer, layers.BatchNormalization) and not isinstance(layer, tfl.BatchNormalization):
            size = layer.moving_mean.shape[0]
            values = ([] if layer.scale else [np.ones(size)]) + values
            values = values if layer.center else [values[0], np.zeros(size), *values[1:]]
        if values:
            found[layer.name] = values
    return found


def _read(file: str) -> tf.keras.Model:
    path = Path(file)
    changed = path.stat().st_mtime_ns if path.exists() else 0
    return _loaded(os.fspath(path), changed)


@functools.lru_cache(maxsize=4)
def _loaded(file: str, changed: int) -> tf.keras.Model:
    model = load_model(file)
    if not getattr(model, "_is_graph_network", False) or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UserError(
            f"Expected a functional or sequential model of one input and one output in {file}. "
            f"Received: {type(model).__name__} {model.name!r}."
        )
    return model


class _Plan:
    """Which convolutions write to the same channels, and whether these can be cut.

    A tensor's channels are known by the convolution that made them, its root; additions join roots. "" is the root of
    channels that stay: those of the images and of the output.
    """

    def __init__(self, model: tf.keras.Model):
        self._parents: dict[str, str] = {}
        self._channels = {layer.name: layer.filters for layer in model.layers if type(layer) in _CONVOLUTIONS}
        roots = {id(model.inputs[0]): ""}
        behind = {id(model.inputs[0]): True}  # whether a normalisation, where a mask acts, is in front of the tensor
        for layer in model.layers:
            if isinstance(layer, layers.InputLayer):
                continue
            if len(layer._inbound_nodes) != 1:
                _refuse(layer, "is called several times; make a layer for each call")
            sources = tf.nest.flatten(layer.input)
            if not all(id(tensor) in roots for tensor in sources):
                _refuse(layer, "is part of a model in the model; build it flat")
            own = [roots[id(tensor)] for tensor in sources]
            ready = [behind[id(tensor)] for tensor in sources]
            roots[id(layer.output)], behind[id(layer.output)] = self._passed(layer, own, ready)
        self._join(roots[id(model.outputs[0])], "")

    def _passed(self, layer: Layer, own: list[str], ready: list[bool]) -> tuple[str, bool]:
        kind = type(layer)
        if kind in _CONVOLUTIONS or kind in (layers.Dense, tfl.Dense):
            for root, known in zip(own, ready, strict=True):
                self._require_normalised(root, known, layer)
            if kind in _CONVOLUTIONS:
                _check_convolution(layer)
                self._parents[layer.name] = layer.name
                return layer.name, False
            return "", True
        if kind in _NORMALIZATIONS:
            if list(layer.axis) != [len(layer.input_shape) - 1]:
                _refuse(layer, "normalises another axis than the last")
            return own[0], True
        if kind is layers.Add:
            for root, known in zip(own, ready, strict=True):
                self._require_normalised(root, known, layer)
                self._join(own[0], root)
            return own[0], True
        if kind in (*_ZERO_KEEPING, *_QUANTIZERS):
            return own[0], ready[0]
        if kind is layers.Activation and layer.activation.__name__ in _ACTIVATIONS:
            return own[0], ready[0]
        if all(self._root(root) == "" for root in own):
            return "", True  # of the images, or behind the classifier
        reason = "this layer cannot lose channels: it mixes them, or makes of zeros something else"
        return _refuse(layer, f"is of type {kind.__name__}; {reason}")

    def _require_normalised(self, root: str, ready: bool, reader: Layer) -> None:
        if not ready and self._root(root):
            raise UserError(
                f"Expected a BatchNormalization behind the convolution {root!r}, where its channels are weighed. "
                f"Received: {reader.name!r}, which reads its output as it is; put one in between."
            )

    def _root(self, name: str) -> str:
        while name and self._parents[name] != name:
            name = self._parents[name]
        return name

    def _join(self, one: str, other: str) -> None:
        one, other = self._root(one), self._root(other)
        if one and one != other:
            self._parents[one] = other
        elif other and one != other:
            self._parents[other] = one

    def choices(self) -> dict[str, tuple[str, int]]:
        """By root: name of the choice and channels in the file."""
        found: dict[str, tuple[str, int]] = {}
        for name, channels in self._channels.items():
            if root := self._root(name):
                found.setdefault(root, (name, channels))
        return found

    def filters(self, layer: Layer, opened: Mapping[str, Any]) -> Any:
        """What a convolution gets as its number of filters; None for another layer."""
        if layer.name not in self._channels or type(layer) not in _CONVOLUTIONS:
            return None
        return opened.get(self._root(layer.name), self._channels[layer.name])


def _check_convolution(layer: Layer) -> None:
    if type(layer) not in (layers.Conv2D, lq.layers.QuantConv2D):
        return
    for attribute, expected in (("padding", "same"), ("groups", 1), ("use_bias", False)):
        if getattr(layer, attribute) != expected:
            _refuse(layer, f"has {attribute}={getattr(layer, attribute)!r}; the only one that is known is {expected!r}")
    if layer.activation is not tf.keras.activations.linear:
        _refuse(layer, "has an activation; make it a layer of its own")
    quantizers = [getattr(layer, name, None) for name in ("input_quantizer", "kernel_quantizer")]
    known = [type(one) in _SIGNS for one in quantizers]
    if any(one is not None for one in quantizers) and not known[1]:
        _refuse(layer, "has a kernel_quantizer that is no sign; use ste_sign, approx_sign or swish_sign")
    if quantizers[0] is not None and not known[0]:
        _refuse(layer, "has an input_quantizer that is no sign; use ste_sign, approx_sign or swish_sign")
    if getattr(layer, "pad_values", 0.0) not in (0.0, 1.0):
        _refuse(layer, f"has pad_values={layer.pad_values}; use 0 or 1")


def _refuse(layer: Layer, reason: str) -> NoReturn:
    raise UserError(f"Expected layers of which channels can be cut. Received: {layer.name!r}, which {reason}.")


def _made(layer: Layer, filters: Any) -> Callable[[Any], Any]:
    """A layer of tfbnas that computes what one of the file does; others are copied."""
    kind, name = type(layer), layer.name
    if kind in (layers.Conv2D, lq.layers.QuantConv2D):
        options = {"strides": layer.strides, "dilation_rate": layer.dilation_rate, "name": name}
        kernel = getattr(layer, "kernel_quantizer", None)
        if kernel is None:
            return tfl.FloatConv2D(filters, layer.kernel_size, **options)
        convolution = tfl.SignConv2D(
            filters, layer.kernel_size, kernel_quantizer=_copied(kernel), pad_values=layer.pad_values, **options
        )
        if layer.input_quantizer is None:
            return convolution
        quantizer = _copied(layer.input_quantizer, name=f"{name}_input")
        return lambda tensor: convolution(quantizer(tensor))
    if kind is layers.BatchNormalization:
        return tfl.BatchNormalization(layer.momentum, layer.epsilon, name=name)
    if kind is layers.Dense:
        return tfl.Dense(layer.units, activation=layer.activation, use_bias=layer.use_bias, name=name)
    return _copied(layer, **({} if filters is None else {"filters": filters}))


def _copied(layer: Layer, **changes: Any) -> Layer:
    return type(layer).from_config({**layer.get_config(), **changes})
