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

import numpy as np
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.export import carrying, interacting, lowering, pixels  # noqa: F401  (interacting registers its rules)
from tfbnas.export.carrying import Carried
from tfbnas.lce.graph import Call, Graph, Key, call_copy, check_called_once, flatten, is_functional, rebuild, redirect
from tfbnas.lce.registry import bits_of, exact_rules_of, register, rules_of
from tfbnas.lce.standard import is_linear, passes


class _Restore(tf.keras.layers.Layer):
    """Marks where the output of a binary convolution is read by something that cannot absorb its scale and constant."""


register(_Restore, affine=lambda layer: (np.ones(1), np.zeros(1)), lower=lowering.normalization)


@dataclass(frozen=True)
class Scaled:
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
    # Of a model that is deployed as it is, too, the bits of a layer are known for one call only.
    graph = flatten(model) if is_functional(model) else None
    if graph is not None:
        check_called_once([call for call in graph.calls if bits_of(call.layer).kernel == 1 or _steps(call)])
    if not any(_needs_lowering(layer) for layer in model._flatten_layers(include_self=False)):
        return Deployed(model)
    graph = graph or flatten(model)
    _check(graph)
    return Deployment(graph).build()


def _needs_lowering(layer: tf.keras.layers.Layer) -> bool:
    own = type(layer).__module__.split(".")[0]
    return own not in ("larq", "keras", "tf_keras") and bool(exact_rules_of(layer).lower or own == "tfbnas")


def _steps(call: Call) -> bool:
    return rules_of(call.layer).threshold is not None


def _takes_bits(call: Call) -> bool:
    """Whether a layer is a binary convolution of the bits 0 and 1."""
    return rules_of(call.layer).signs is not None


def _check(graph: Graph) -> None:
    readers, writers = graph.readers(), graph.writers()
    for call in graph.calls:
        layer = call.layer
        if call.when:
            raise UserError(
                f"Expected a network whose choices are closed. Received: layer {call.name!r} under the open choice "
                f"{call.when[0][0]!r}; export networks.build(architecture) with the retrained weights."
            )
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
        if _steps(call):
            others = [c.name for c in readers.get(call.outputs[0], []) if not _takes_bits(c)]
            if others or call.outputs[0] in graph.outputs:
                raise UserError(
                    f"Expected the bits of LearnedStep {call.name!r} to be read by BinaryConv2D or BinaryDense only. "
                    f"Received: {others[0] if others else 'the model output'!r} reads them; move that layer in front "
                    "of it."
                )
        if _takes_bits(call):
            writer = writers.get(call.inputs[0])
            if writer is None or not _steps(writer):
                raise UserError(
                    f"Expected the input of {type(layer).__name__} {call.name!r} to come from a LearnedStep. Received: "
                    f"{writer.name if writer else 'the model input'!r}; put a LearnedStep in between."
                )


_AS_IT_IS = Carried()


class Deployment:
    """Builds the deploy form of one graph.

    Attributes:
      graph: The trained network.
      kernels: Of the binary convolutions of the bits 0 and 1, by the name of the call.
      thresholds: Above which the quantisers to 0 and 1 give 1, by the name of the call.
      scaled: The outputs of these convolutions, up to the normalisation that absorbs scale and offset.
      plan: In which form each tensor is carried.
      pixels: Turns vectors into images of one pixel and back.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.kernels = {c.name: rules_of(c.layer).signs(c.layer) for c in graph.calls if _takes_bits(c)}  # type: ignore
        self.thresholds = {c.name: rules_of(c.layer).threshold(c.layer) for c in graph.calls if _steps(c)}  # type: ignore
        self.scaled: dict[Key, Scaled] = {}
        self._find_scaled()
        bits = {key for call in graph.calls if _steps(call) for key in call.outputs}
        free = {call.name for call in graph.calls if _is_normalization(call.layer)}
        indifferent = free | {call.name for call in graph.calls if exact_rules_of(call.layer).reads_any_form}
        self.plan = carrying.plan(graph, self.thresholds, free, indifferent, bits | set(self.scaled))
        self.pixels = pixels.Pixels(graph.new_name)
        self._result = Deployed(None)
        self._copies: dict[int, tf.keras.layers.Layer] = {}
        self._converted: dict[tuple[Key, Carried], Any] = {}
        self._tensors: dict[Key, Any] = {}

    def read(self, call: Call, wanted: Carried = _AS_IT_IS) -> Any:
        """What a layer reads first, in the form `wanted`. Default: as it is in the trained network."""
        return self._read(call.inputs[0], wanted, call)

    def tensor(self, call: Call) -> Any:
        """What a layer reads first, as the deploy form has it: in place of the bits 0 and 1, real numbers."""
        return self._tensors[call.inputs[0]]

    def is_only_binarised(self, call: Call, form: Carried) -> bool:
        """Whether nothing but the sign of a normalisation's output, carried in that form, is ever used."""
        key = call.outputs[0]
        own = [self.thresholds.get(reader.name) == form.offset for reader in self.graph.readers().get(key, [])]
        return form.sign == -1 and bool(own) and all(own) and key not in self.graph.outputs

    def build(self) -> Deployed:
        """The deploy form, with notes."""
        self._result.model = rebuild(self.graph, self._emit, lambda key, tensors: self._read(key, Carried()))
        return self._result

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
            if _takes_bits(call):
                kernel = self.kernels[call.name]
                total = kernel.sum(axis=tuple(range(kernel.ndim - 1)), dtype=np.float64)
                self.scaled[call.outputs[0]] = Scaled(2.0, -total, kernel[..., 0].size)
            elif source is not None and _keeps_channels(call):
                terms = source.terms if passes(call.layer) == "increasing" else 0
                self.scaled[call.outputs[0]] = Scaled(source.scale, source.offset, terms)
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

    def _emit(self, call: Call, tensors: dict[Key, Any]) -> Any:
        self._tensors = tensors
        layer, lower = call.layer, exact_rules_of(call.layer).lower
        if lower is not None and (_is_normalization(layer) or exact_rules_of(layer).affine is None):
            output = lower(call, self)
        elif _needs_lowering(layer) or _steps(call) or _takes_bits(call):
            raise UserError(
                f"Expected layers that have a deploy form. Received: layer {call.name!r} of type "
                f"{type(layer).__name__}, which has none; give it one by tfbnas.lce.register."
            )
        else:
            output = self._copy(call)
        # The bits of a quantiser are part of the convolution behind it.
        if len(call.outputs) == 1 and call.outputs[0] in self.plan.written and bits_of(layer).outputs != 1:
            form = self.plan.written[call.outputs[0]]
            self._result.tensors.append((call.name, output._keras_history.layer.name, form.sign, form.offset))
        return output

    def _read(self, key: Key, wanted: Carried, reader: Call | None = None) -> Any:
        """The tensor in the form `wanted`: as it is carried if that is it, else behind a Rescaling."""
        held = self.plan.carried[key]
        tensor = self._convert(key, self._tensors[key], self.plan.written[key], held, reader)
        return self._convert(key, tensor, held, wanted, reader)

    def _convert(self, key: Key, tensor: Any, held: Carried, wanted: Carried, reader: Call | None) -> Any:
        if held == wanted:
            return tensor
        if (key, wanted) not in self._converted:
            scale = held.sign * wanted.sign
            offset = wanted.offset - scale * held.offset
            writer = self.graph.writers().get(key)
            name = f"{writer.name if writer else 'input'}_convert{len(self._result.conversions) + 1}"
            self._result.conversions[name] = (
                f"the output of {writer.name if writer else 'the input layer'!r} cannot be computed in the form that "
                f"{reader.name if reader else 'the output'!r} needs; a BatchNormalization in between would absorb this"
            )
            layer = tf.keras.layers.Rescaling(float(scale), offset, name=name, dtype="float32")
            self._converted[key, wanted] = self.pixels.apply(layer, [tensor], name)
        return self._converted[key, wanted]

    def _copy(self, call: Call) -> Any:
        """A layer that is not tfbnas's own, with its weights; it reads tensors in a form that it keeps."""
        layer = call.layer
        local = {}
        for key in call.inputs:
            if key in self.scaled:
                local[key] = self._tensors[key]
                continue
            held = self.plan.carried[key]
            kept = passes(layer) in ("linear", "sum") or (passes(layer) == "increasing" and held.sign == 1)
            local[key] = self._read(key, held if kept else Carried(), call)
        copy = self._copies.get(id(layer))
        if copy is None:
            config = layer.get_config()
            if "name" in config:
                config["name"] = call.name
            copy = self._copies[id(layer)] = type(layer).from_config(config)
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
    affine = exact_rules_of(layer).affine
    return affine is not None and affine(layer) is not None


def _keeps_channels(call: Call) -> bool:
    """Whether a positive scale and a constant per channel pass through the layer."""
    layer = call.layer
    kept = exact_rules_of(layer).per_channel or (is_linear(layer) and hasattr(layer, "activation"))
    return kept and getattr(layer, "data_format", "channels_last") == "channels_last"
