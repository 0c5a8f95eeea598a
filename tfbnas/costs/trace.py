"""What a network computes, layer by layer, with channels that are given or open."""

from __future__ import annotations

from dataclasses import dataclass

import larq as lq
import tensorflow as tf

from tfbnas.layers.width import Channels, channels_of


@dataclass(frozen=True)
class Operation:
    """One layer that has weights.

    Attributes:
      layer: Name of the Keras layer.
      kind: "convolution", "dense" or "normalization".
      binary: Whether its weights take one bit each.
      kernel_size: Height and width of the kernel; (1, 1) for a dense layer.
      inputs: Input channels (or units), an integer or an OpenWidth.
      outputs: Output channels (or units).
      bias: Whether it has a float bias per output.
      height: Rows of its output; 1 for a dense layer.
      width: Columns of its output.
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


def trace(model: tf.keras.Model) -> list[Operation]:
    """The operations of a functional model, in the order of its layers."""
    operations = []
    for layer in model.layers:
        if not isinstance(
            layer, tf.keras.layers.Conv2D | tf.keras.layers.Dense | tf.keras.layers.BatchNormalization
        ) or isinstance(layer, tf.keras.layers.DepthwiseConv2D | tf.keras.layers.Conv2DTranspose):
            continue
        inputs, outputs = layer.input, layer.output
        spatial = outputs.shape[1:3] if len(outputs.shape) == 4 else (1, 1)
        kind = {True: "convolution"}.get(isinstance(layer, tf.keras.layers.Conv2D), "dense")
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            kind = "normalization"
        quantizer = getattr(layer, "kernel_quantizer", None)
        operations.append(
            Operation(
                layer=layer.name,
                kind=kind,
                binary=getattr(quantizer, "precision", None) == 1 and not isinstance(quantizer, lq.quantizers.NoOp),
                kernel_size=tuple(getattr(layer, "kernel_size", (1, 1))),
                inputs=channels_of(inputs),
                outputs=channels_of(outputs),
                bias=bool(getattr(layer, "use_bias", False)),
                height=spatial[0],
                width=spatial[1],
            )
        )
    return operations
