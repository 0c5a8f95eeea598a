"""The deploy form: a trained network of tfbnas layers as one of standard Keras and Larq layers that LCE runs exactly.

The trained form computes y = sum(w * b) with b = [x > t] in {0, 1}, w = +-1, t = alpha / 2, and zeros as padding.
With s = sign(t - x), sign(0) = +1, it is b = (1 - s) / 2, and a padded 0 is s = +1. A convolution of s with the negated
kernel, padded with +1, gives c = 2 y - sum(w): a positive scale and a constant per filter, which pass through max
pooling and are absorbed by the BatchNormalization behind. That t - x costs no operator is the work of `carrying.py`.

A BinaryDense becomes a convolution of an image of one pixel, because LCE has no binary dense operator. What follows it
stays such an image as long as it can, and a Flatten in front becomes a part of its kernel; see `pixels.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

import tfbnas.layers as tfl
from tfbnas.errors import UserError
from tfbnas.export import carrying, pixels
from tfbnas.export.carrying import Carried
from tfbnas.export.graph import Call, Graph, Key, call_copy, flatten, is_functional, rebuild, redirect
from tfbnas.export.interacting import interacted
from tfbnas.layers.interaction import InteractedConv2D

# moving_variance + epsilon is exactly 1 in float32, so that Keras computes x * gamma + beta, rounded as LCE rounds it.
_EPSILON = 2.0**-10

_BINARY = (tfl.BinaryConv2D, tfl.BinaryDense)
BINARY_CONVOLUTION: dict[str, Any] = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
    "padding": "same",
    "pad_values": 1.0,
    "use_bias": False,
    "dtype": "float32",
}


class _Restore(tf.keras.layers.Layer):
    """Marks where the output of a binary convolution is read by something that cannot absorb its scale and constant."""


@dataclass(frozen=True)
class _Scaled:
    """A tensor y of which the deployed network computes c = scale * y + offset, the offset per channel (last axis).

    `terms` is the number of +-1 that c is the sum of, 0 where averaging has made it fractional.
    """

    scale: float
    offset: np.ndarray
    terms: int


@dataclass
class Deployed:
    """Result of `deploy_with_notes`.

    Attributes:
      model: Standard Keras and Larq layers only, float32.
      conversions: Names of the layers in it that were added to convert between forms, with the reason.
      tensors: For every layer call of the source model that has one real output: name in the source, name in `model`,
        sign and offset of the form it is carried in.
    """

    model: tf.keras.Model
    conversions: dict[str, str] = field(default_factory=dict)
    tensors: list[tuple[str, str, int, float]] = field(default_factory=list)


def deploy(model: tf.keras.Model) -> tf.keras.Model:
    """Rebuilds a trained network from standard Keras and Larq layers only, with the same outputs.

    Models without tfbnas layers are returned as they are.

    Args:
      model: Trained functional model in float32, all choices closed. Layers that are not tfbnas's own are copied.

    Returns:
      A float32 model that loads where TensorFlow and larq are installed.

    Raises:
      UserError: The model is not functional, has open choices, computes in another precision than float32, or
        uses tfbnas layers in an order that has no deploy form.
    """
    return deploy_with_notes(model).model


def deploy_with_notes(model: tf.keras.Model) -> Deployed:
    """Like `deploy`, and tells which layers had to be added and how each tensor is carried."""
    if not any(_is_own(layer) for layer in model._flatten_layers(include_self=False)):
        return Deployed(model)
    graph = flatten(model)
    _check(graph)
    return _Deployment(graph).build()


def _is_own(layer: tf.keras.layers.Layer) -> bool:
    return type(layer).__module__.split(".")[0] == "tfbnas" and not is_functional(layer)


def _check(graph: Graph) -> None:
    readers, writers = graph.readers(), graph.writers()
    for call in graph.calls:
        layer = call.layer
        if getattr(layer, "open_weights", None) or getattr(layer, "width", None) is not None:
            raise UserError(
                f"Expected a network whose choices are closed. Received: layer {call.name!r} with an open width; "
                "export networks.build(architecture) with the retrained weights."
            )
        if layer.compute_dtype != "float32" and layer.dtype_policy.name != "float32" and layer.weights:
            raise UserError(
                f"Expected a float32 model. Received: layer {call.name!r} of policy {layer.dtype_policy.name!r}; build "
                "the network again under the policy float32 and copy the weights with set_weights(get_weights())."
            )
        if isinstance(layer, tfl.LearnedStep):
            others = [c.name for c in readers.get(call.outputs[0], []) if not isinstance(c.layer, _BINARY)]
            if others or call.outputs[0] in graph.outputs:
                raise UserError(
                    f"Expected the bits of LearnedStep {call.name!r} to be read by BinaryConv2D or BinaryDense only. "
                    f"Received: {others[0] if others else 'the model output'!r} reads them; move that layer in front "
                    "of it."
                )
        if isinstance(layer, _BINARY):
            writer = writers.get(call.inputs[0])
            if writer is None or not isinstance(writer.layer, tfl.LearnedStep):
                raise UserError(
                    f"Expected the input of {type(layer).__name__} {call.name!r} to come from a LearnedStep. Received: "
                    f"{writer.name if writer else 'the model input'!r}; put a LearnedStep in between."
                )


class _Deployment:
    """Builds the deploy form of one graph."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.kernels = {c.name: _signs(c) for c in graph.calls if isinstance(c.layer, _BINARY)}
        self.thresholds = {
            call.name: 0.5 * float(call.layer.step.numpy())
            for call in graph.calls
            if isinstance(call.layer, tfl.LearnedStep)
        }
        self.scaled: dict[Key, _Scaled] = {}
        self._find_scaled()
        bits = {key for call in graph.calls if isinstance(call.layer, tfl.LearnedStep) for key in call.outputs}
        free = {call.name for call in graph.calls if _is_normalization(call.layer)}
        indifferent = free | {call.name for call in graph.calls if _is_dense(call.layer)}
        self.plan = carrying.plan(graph, self.thresholds, free, indifferent, bits | set(self.scaled))
        self.result = Deployed(None)
        self.copies: dict[int, tf.keras.layers.Layer] = {}
        self.converted: dict[tuple[Key, Carried], Any] = {}
        self.pixels = pixels.Pixels(graph.new_name)

    def _find_scaled(self) -> None:
        """Follows the outputs of binary convolutions up to their BatchNormalization; puts one where none is."""
        calls = []
        for call in self.graph.calls:
            source = self.scaled.get(call.inputs[0]) if call.inputs else None
            for key in set(call.inputs):
                if key in self.scaled and not (_is_normalization(call.layer) or _keeps_channels(call)):
                    calls.append(restoring := self._restore(key))
                    redirect(call, key, restoring.outputs[0])
                    source = None
            calls.append(call)
            if isinstance(call.layer, _BINARY):
                kernel = self.kernels[call.name]
                total = kernel.sum(axis=tuple(range(kernel.ndim - 1)), dtype=np.float64)
                self.scaled[call.outputs[0]] = _Scaled(2.0, -total, kernel[..., 0].size)
            elif source is not None and _keeps_channels(call):
                terms = source.terms if carrying.is_increasing(call.layer) else 0
                self.scaled[call.outputs[0]] = _Scaled(source.scale, source.offset, terms)
        for index, key in enumerate(self.graph.outputs):
            if key in self.scaled:
                raise UserError(
                    "Expected a BatchNormalization behind every BinaryConv2D and BinaryDense. Received: the output of "
                    f"the model (number {index}) is that of a binary layer; add one."
                )
        self.graph.calls = calls

    def _restore(self, key: Key) -> Call:
        name = self.graph.new_name(f"{self.graph.writers()[key].name}_scale")
        return Call(_Restore(name=name), name, [key], [(f"restored {len(self.scaled)}", key[1])])

    def build(self) -> Deployed:
        self.result.model = rebuild(self.graph, self._emit, lambda key, tensors: self._read(key, tensors, Carried()))
        return self.result

    def _emit(self, call: Call, tensors: dict[Key, Any]) -> Any:
        layer = call.layer
        if isinstance(layer, tfl.LearnedStep):
            return self._read(call.inputs[0], tensors, Carried(-1, self.thresholds[call.name]), call)
        if isinstance(layer, tfl.BinaryConv2D):
            return self._binary_convolution(call, tensors)
        if isinstance(layer, tfl.BinaryDense):
            return self._binary_dense(call, tensors)
        if _is_normalization(layer):
            output = self._normalization(call, tensors)
        elif _is_dense(layer):
            output = self._dense(call, tensors)
        elif type(layer) is tfl.FloatConv2D:
            output = self._convolution(call, tensors)
        elif isinstance(layer, InteractedConv2D):
            output = interacted(layer, self._read(call.inputs[0], tensors, Carried(), call), call.name)
        elif _is_own(layer):
            raise UserError(
                f"Expected tfbnas layers that have a deploy form. Received: layer {call.name!r} of type "
                f"{type(layer).__name__}, which has none."
            )
        else:
            output = self._copy(call, tensors)
        if len(call.outputs) == 1 and call.outputs[0] in self.plan.written:
            form = self.plan.written[call.outputs[0]]
            self.result.tensors.append((call.name, output._keras_history.layer.name, form.sign, form.offset))
        return output

    def _read(self, key: Key, tensors: dict[Key, Any], wanted: Carried, reader: Call | None = None) -> Any:
        """The tensor in the form `wanted`: as it is carried if that is it, else behind a Rescaling."""
        held = self.plan.carried[key]
        tensor = self._convert(key, tensors[key], self.plan.written[key], held, reader)
        return self._convert(key, tensor, held, wanted, reader)

    def _convert(self, key: Key, tensor: Any, held: Carried, wanted: Carried, reader: Call | None) -> Any:
        if held == wanted:
            return tensor
        if (key, wanted) not in self.converted:
            scale = held.sign * wanted.sign
            offset = wanted.offset - scale * held.offset
            writer = self.graph.writers().get(key)
            name = f"{writer.name if writer else 'input'}_convert{len(self.result.conversions) + 1}"
            self.result.conversions[name] = (
                f"the output of {writer.name if writer else 'the input layer'!r} cannot be computed in the form that "
                f"{reader.name if reader else 'the output'!r} needs; a BatchNormalization in between would absorb this"
            )
            layer = tf.keras.layers.Rescaling(float(scale), offset, name=name, dtype="float32")
            self.converted[key, wanted] = self.pixels.apply(layer, [tensor], name)
        return self.converted[key, wanted]

    def _binary_convolution(self, call: Call, tensors: dict[Key, Any]) -> Any:
        layer = call.layer
        copy = lq.layers.QuantConv2D(
            layer.filters, layer.kernel_size, strides=layer.strides, name=call.name, **BINARY_CONVOLUTION
        )
        output = copy(tensors[call.inputs[0]])
        copy.set_weights([-self.kernels[call.name]])
        return output

    def _binary_dense(self, call: Call, tensors: dict[Key, Any]) -> Any:
        kernel, image = -self.kernels[call.name], self.pixels.image(tensors[call.inputs[0]])
        size = tuple(image.shape[1:3])
        options = {**BINARY_CONVOLUTION, "padding": "valid", "pad_values": 0.0}
        copy = lq.layers.QuantConv2D(call.layer.units, size, name=call.name, **options)
        output = copy(image)
        copy.set_weights([kernel.reshape(*size, -1, call.layer.units)])
        return self.pixels.vector(output, call.name)

    def _convolution(self, call: Call, tensors: dict[Key, Any]) -> Any:
        layer = call.layer
        copy = tf.keras.layers.Conv2D(
            layer.filters,
            layer.kernel_size,
            strides=layer.strides,
            padding="same",
            use_bias=False,
            name=call.name,
            dtype="float32",
        )
        output = copy(self._read(call.inputs[0], tensors, Carried(), call))
        copy.set_weights(layer.get_weights())
        return output

    def _normalization(self, call: Call, tensors: dict[Key, Any]) -> Any:
        """A normalisation of y as one of scale * y + offset that gives sign * (its output) + another offset."""
        source, target = call.inputs[0], self.plan.written[call.outputs[0]]
        if source in self.scaled:
            tensor, scale = tensors[source], self.scaled[source].scale
            offset: np.ndarray | float = self.scaled[source].offset
        else:
            held = self.plan.carried[source]
            tensor, scale, offset = self._read(source, tensors, held, call), float(held.sign), held.offset
        gamma, beta = _affine(call.layer)
        gamma, beta = target.sign * gamma, target.sign * beta + target.offset
        gamma, beta = gamma / scale, beta - gamma * offset / scale
        channels = int(tensor.shape[-1])
        if source in self.scaled and self.scaled[source].terms and self._is_only_binarised(call, target):
            beta = self._away_from_ties(call, np.broadcast_to(gamma, channels), np.broadcast_to(beta, channels))
        copy = tf.keras.layers.BatchNormalization(epsilon=_EPSILON, name=call.name, dtype="float32")
        output = self.pixels.apply(copy, [tensor], call.name)
        gamma, beta = np.broadcast_to(gamma, channels), np.broadcast_to(beta, channels)
        copy.set_weights([gamma, beta, np.zeros(channels), np.full(channels, 1.0 - _EPSILON)])
        return output

    def _is_only_binarised(self, call: Call, form: Carried) -> bool:
        """Whether nothing but the sign of a normalisation's output is ever used."""
        key = call.outputs[0]
        readers = self.graph.readers().get(key, [])
        own = [isinstance(r.layer, tfl.LearnedStep) and self.thresholds[r.name] == form.offset for r in readers]
        return form.sign == -1 and bool(own) and all(own) and key not in self.graph.outputs

    def _away_from_ties(self, call: Call, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """Offsets with which gamma * c + beta has the same sign for every possible c, but is never close to zero.

        c is a sum of +-1 and takes every other integer only. Where one of them all but meets the threshold, rounding
        would decide, in Keras and in LCE differently, and on many images at once. The trained layer is asked what it
        makes of the integer next to the threshold, and the threshold is put halfway to the one on its other side.
        """
        source = self.scaled[call.inputs[0]]
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = -beta / gamma
        movable = np.isfinite(crossing) & (np.abs(np.nan_to_num(crossing)) <= source.terms + 1)
        crossing = np.where(movable, crossing, 0.0)
        odd = source.terms % 2
        nearest = 2 * np.round((crossing - odd) / 2) + odd
        trained = ((nearest - source.offset) / source.scale).astype(np.float32)
        threshold = np.float32(self.plan.written[call.outputs[0]].offset)
        trained = trained.reshape([1] * (len(call.layer.input_shape) - 1) + [-1])
        real = np.asarray(call.layer(tf.constant(trained), training=False)).reshape(-1)
        is_bit = real > threshold  # bit 1 is the sign -1 of gamma * c + beta
        middle = nearest + np.where(is_bit == (gamma > 0), 1, -1)
        return np.where(movable, -gamma * middle, beta)

    def _dense(self, call: Call, tensors: dict[Key, Any]) -> Any:
        layer, held = call.layer, self.plan.carried[call.inputs[0]]
        kernel = layer.kernel.numpy().astype(np.float64) * held.sign
        bias = layer.bias.numpy().astype(np.float64) if layer.use_bias else np.zeros(layer.units)
        bias = bias - held.offset * kernel.sum(axis=0)
        use_bias = layer.use_bias or held.offset != 0
        copy = tf.keras.layers.Dense(
            layer.units, activation=layer.activation, use_bias=use_bias, name=call.name, dtype="float32"
        )
        output = copy(self._read(call.inputs[0], tensors, held, call))
        copy.set_weights([kernel, bias] if use_bias else [kernel])
        return output

    def _copy(self, call: Call, tensors: dict[Key, Any]) -> Any:
        """A layer that is not tfbnas's own, with its weights; it reads tensors in a form that it keeps."""
        layer = call.layer
        keeps = carrying.is_addition(layer) or carrying.is_linear(layer)
        local = {}
        for key in call.inputs:
            if key in self.scaled:
                local[key] = tensors[key]
                continue
            held = self.plan.carried[key]
            passes = keeps or (carrying.is_increasing(layer) and held.sign == 1)
            local[key] = self._read(key, tensors, held if passes else Carried(), call)
        copy = self.copies.get(id(layer))
        if copy is None:
            config = layer.get_config()
            if "name" in config:
                config["name"] = call.name
            copy = self.copies[id(layer)] = type(layer).from_config(config)
        if pixels.is_elementwise(layer):
            output = self.pixels.apply(
                lambda *tensors: call_copy(call, copy, dict(zip(local, tensors, strict=True))),
                list(local.values()),
                call.name,
            )
        else:
            output = call_copy(call, copy, local)
        if layer.weights:
            copy.set_weights(layer.get_weights())
        return output


def _is_normalization(layer: tf.keras.layers.Layer) -> bool:
    if type(layer) in (tfl.BatchNormalization, _Restore):
        return True
    return type(layer) is tf.keras.layers.BatchNormalization and list(layer.axis) == [len(layer.input_shape) - 1]


def _is_dense(layer: tf.keras.layers.Layer) -> bool:
    return type(layer) in (tfl.Dense, tf.keras.layers.Dense)


def _keeps_channels(call: Call) -> bool:
    """Whether a positive scale and a constant per channel pass through the layer."""
    layer = call.layer
    linear = type(layer) in carrying.PER_CHANNEL or (carrying.is_linear(layer) and hasattr(layer, "activation"))
    return linear and getattr(layer, "data_format", "channels_last") == "channels_last"


def _affine(layer: tf.keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset per channel that a normalisation applies at inference, in float64."""
    if isinstance(layer, _Restore):
        return np.ones(1), np.zeros(1)
    mean, variance = (v.numpy().astype(np.float64) for v in (layer.moving_mean, layer.moving_variance))
    gamma = 1.0 if layer.gamma is None else layer.gamma.numpy().astype(np.float64)
    beta = 0.0 if layer.beta is None else layer.beta.numpy().astype(np.float64)
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return scale, beta - mean * scale


def _signs(call: Call) -> np.ndarray:
    """The +-1 kernel of a binary convolution.

    Raises:
      UserError: The quantiser gives other values.
    """
    latent = tf.convert_to_tensor(call.layer.kernel)  # outside larq's quantized scope: not quantised yet
    kernel = np.asarray(call.layer.kernel_quantizer(latent), np.float32)
    if not np.all(np.abs(kernel) == 1.0):
        raise UserError(
            f"Expected the kernel quantiser of {call.name!r} to give -1 and +1 only. Received: values from "
            f"{kernel.min()} to {kernel.max()}; use StandardizedSign or 'ste_sign', and no NaN weights."
        )
    return kernel
