"""What a network computes, layer by layer, with channels that are given or open."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.layers.interaction import InteractedConv2D
from tfbnas.layers.width import Channels, channels_of
from tfbnas.lce import fusing
from tfbnas.lce.graph import Call, When, all_calls
from tfbnas.lce.registry import bits_of, kind_of

WEIGHTED = ("convolution", "dense", "normalization")
"""Kinds of operations that have weights; the others only take time."""


@dataclass(frozen=True)
class Operation:
    """One layer that has weights, or one operator that the deployed network needs besides.

    Attributes:
      layer: Name of the Keras layer.
      kind: "convolution", "dense" or "normalization" (see WEIGHTED); or "quantize", "offset" (a shift in front of one),
        "scaling" (by a number, and a shift), "add", "activation", "depthwise", "max_pool", "average_pool",
        "global_pool", "upsampling", "concatenate"; or "unknown", for layers of which nothing is known.
      binary: Whether its weights take one bit each.
      kernel_size: Height and width of the kernel or window; (1, 1) for a dense layer.
      inputs: Input channels (or units), an integer or an OpenWidth.
      outputs: Output channels (or units).
      bias: Whether it has a float bias per output.
      height: Rows of its output; 1 for a dense layer.
      width: Columns of its output.
      stride: Rows between two outputs.
      groups: Groups of a convolution.
      reads_bits: Whether its input is binary.
      writes_bits: Whether its output is bits that are never unpacked.
      folded: Whether the deployed network computes it within the operator in front.
      other_weights: Number of weights of a kind that is not in WEIGHTED, all float when deployed.
      channel_weights: The same for each output channel, of those whose number is open.
      terms: Tensors that an addition sums.
      when: Under which choices of an open network it exists, each with the number of the candidate. Empty: always.
      terms_when: For each tensor that an addition sums, the choices under which it exists.
    """

    layer: str
    kind: str
    binary: bool
    kernel_size: tuple[int, int]
    inputs: Channels
    outputs: Channels
    bias: bool
    height: int
    width: int
    stride: int = 1
    groups: int = 1
    reads_bits: bool = False
    writes_bits: bool = False
    folded: bool = False
    other_weights: int = 0
    channel_weights: int = 0
    terms: int = 1
    when: When = ()
    terms_when: tuple[When, ...] = ()


def trace(model: tf.keras.Model) -> list[Operation]:
    """The operations of a functional model, in the order of its layers.

    Weights of kinds that Larq Compute Engine has no binary operator for are float when deployed. The operations without
    weights are what it adds or leaves between the others: quantising, additions, pools, activations. Models in the
    model, and modules of which a search decides, are looked into.

    Raises:
      UserError: The model is not functional, or a layer of it is called several times.
    """
    quantized: set[Hashable] = set()
    return [operation for call in all_calls(model) for operation in operations_of(call, quantized)]


def operations_of(call: Call, quantized: set[Hashable]) -> list[Operation]:
    """The operations of one layer.

    Args:
      call: The layer in its network.
      quantized: What the layers before it have quantised, the same set for all layers of a network; this adds to it.
    """
    return _quantize(call, quantized) + _operation(call) + _interactions(call)


def _interactions(call: Call) -> list[Operation]:
    """What channel interactions add behind a convolution."""
    if not isinstance(call.layer, InteractedConv2D) or not call.layer.edges:
        return []
    from tfbnas.costs import interacted  # late: it makes Operations

    height, width = _size(call.layer.output)
    return interacted.cheapest(call.layer, height=height, width=width)[1]


def _quantize(call: Call, done: set[Hashable]) -> list[Operation]:
    if not fusing.is_quantized(call):
        return []
    layer, writer = call.layer, call.writers[0]
    # Layers that are quantisers have a result of their own; convolutions that take the sign of one tensor share it.
    key = ("result", call if fusing.is_quantizer(layer) else writer)
    if fusing.writes_bits(writer) or fusing.is_quantizer(writer.layer) or key in done:
        return []
    # One threshold of a tensor is made zero where it is written; what reads it upsampled comes last.
    origin = fusing.origin(writer)
    zero = ("zero", origin, origin is writer)
    threshold = ("threshold", origin, call if fusing.has_threshold(call) else None)
    is_taken = zero in done or (origin is not writer and fusing.thresholds(origin) > 0)
    is_shifted = is_taken and threshold not in done
    done.update((key, threshold, zero))
    tensor = tf.nest.flatten(layer.input)[0]
    rows, columns = _size(tensor)
    channels = channels_of(tensor)
    size: dict[str, Any] = {"inputs": channels, "outputs": channels, "bias": False, "height": rows, "width": columns}
    kinds = ("offset", "quantize") if is_shifted else ("quantize",)
    return [Operation(layer.name, kind, False, (1, 1), **size, when=call.when) for kind in kinds]


def _operation(call: Call) -> list[Operation]:
    layer = call.layer
    kind = kind_of(layer)
    if kind is None:
        return []
    inputs, outputs = tf.nest.flatten(layer.input)[0], tf.nest.flatten(layer.output)[0]
    height, width = _size(outputs)
    common: dict[str, Any] = {"layer": layer.name, "kind": kind, "height": height, "width": width, "when": call.when}
    if kind not in WEIGHTED:
        for weight in layer.weights:
            open_sizes = weight.shape.num_elements() is None
            key = "channel_weights" if open_sizes else "other_weights"
            common[key] = common.get(key, 0) + int(np.prod([size for size in weight.shape if size is not None]))
    if kind == "unknown" or None in (height, width) and kind not in WEIGHTED:
        # Nothing that is asked about weights may fail because of a layer that has none.
        return [Operation(binary=False, kernel_size=(1, 1), inputs=0, outputs=0, bias=False, **common)]
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None) or (1, 1)
    if kind == "global_pool":
        window = _size(inputs)
    return [
        Operation(
            binary=bits_of(layer).kernel == 1 and kind in WEIGHTED,
            kernel_size=tuple(window),
            inputs=channels_of(inputs),
            outputs=channels_of(outputs),
            bias=bool(getattr(layer, "use_bias", False)),
            stride=tuple(getattr(layer, "strides", None) or (1,))[0],
            groups=getattr(layer, "groups", 1),
            reads_bits=fusing.is_binary_convolution(call)
            or (kind == "max_pool" and fusing.writes_bits(call.writers[0])),
            writes_bits=fusing.writes_bits(call),
            terms=len(call.writers) if kind == "add" else 1,
            terms_when=tuple(_presence(writer) for writer in call.writers) if kind == "add" else (),
            folded=kind in ("normalization", "activation") and fusing.is_folded(call),
            **common,
        )
    ]


def _presence(call: Call) -> When:
    """Under which choices the output of a layer exists: its own, and those of what it only hands on."""
    found = list(call.when)
    while len(call.writers) == 1 and kind_of(call.layer) is None:
        call = call.writers[0]
        found += call.when
    return tuple(dict.fromkeys(found))


def _size(tensor) -> tuple[Any, Any]:
    return tuple(tensor.shape[1:3]) if len(tensor.shape) == 4 else (1, 1)
