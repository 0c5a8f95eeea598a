"""What the time of an operator grows with.

A latency table gives each operator one coefficient per feature. The features know how Larq Compute Engine lays out its
work, so a table shows the stairs of bit packing: 33 channels cost what 64 cost, and quantising 33 costs more than 64.

Every feature is arithmetic with + * // % only: it takes numbers, numpy arrays and TensorFlow tensors alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Value = Any  # a number, an array or a tensor


@dataclass(frozen=True)
class Shape:
    """Size of one operator.

    Attributes:
      inputs: Input channels.
      outputs: Output channels.
      height: Rows of the output.
      width: Columns of the output.
      kernel: Height and width of the kernel or window.
      stride: Rows between two outputs.
      groups: Groups of a convolution.
    """

    inputs: Value
    outputs: Value
    height: int
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    groups: int = 1

    @property
    def pixels(self) -> int:
        """Of the output."""
        return self.height * self.width

    @property
    def window(self) -> int:
        """Elements of the kernel per channel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def gathered(self) -> int:
        """Elements that are copied together before a binary product; a 1x1 kernel of stride 1 reads them in place."""
        return 0 if self.window == 1 and self.stride == 1 else self.pixels * self.window


def up(value: Value, multiple: int) -> Value:
    """`value` rounded up to a multiple."""
    return -(-value // multiple) * multiple


def _is_ragged(value: Value, multiple: int) -> Value:
    """1 where `value` is no multiple, else 0."""
    return -(-(value % multiple) // multiple)


def _words(shape: Shape) -> Value:
    return -(-(shape.inputs // shape.groups) // 32)


def _bit_products(shape: Shape) -> Value:
    return shape.pixels * up(shape.outputs, 8) * up(32 * shape.window * _words(shape), 128)


FEATURES: Mapping[str, Callable[[Shape], Value]] = {
    # Any operator.
    "calls": lambda s: 1.0,
    "pixels": lambda s: float(s.pixels),
    "channels": lambda s: 1.0 * s.outputs,
    "elements": lambda s: s.pixels * s.outputs,
    "reads": lambda s: s.pixels * s.window * s.outputs,
    # Convolutions, depthwise ones and dense layers.
    "products": lambda s: s.pixels * s.window * (s.inputs // s.groups) * s.outputs,
    "padded_products": lambda s: s.pixels * s.window * up(s.inputs // s.groups, 4) * up(s.outputs, 8),
    "taps": lambda s: float(s.pixels * s.window),
    "channel_taps": lambda s: s.pixels * s.window * up(s.outputs, 8),
    "large_window_products": lambda s: s.pixels * s.window * (s.inputs // s.groups) * s.outputs * (s.window > 9),
    "few_pixel_products": lambda s: s.pixels * s.window * (s.inputs // s.groups) * s.outputs * (s.pixels <= 49),
    # Binary convolutions: products of words of 32 channels, rows padded to 128 bits, outputs in eights.
    "bit_products": _bit_products,
    "gathered_words": lambda s: s.gathered * _words(s),
    "gathered_taps": lambda s: float(s.gathered),
    "gathered_pixels": lambda s: float(s.gathered // s.window),
    "output_eights": lambda s: s.pixels * up(s.outputs, 8),
    "ragged_outputs": lambda s: s.pixels * _is_ragged(s.outputs, 8),
    "left_over_outputs": lambda s: s.pixels * (s.outputs % 8),
    # int8: eight inputs at a time, in pairs of eights, and outputs in eights.
    "int8_products": lambda s: s.pixels * s.window * up(s.inputs // s.groups, 8) * up(s.outputs, 8),
    "odd_eights": lambda s: s.pixels * s.window * up(s.outputs, 8) * (up(s.inputs // s.groups, 8) // 8 % 2),
    # LceQuantize: one vector pass over whole words, else pixel by pixel: blocks of 128, words of 32, and a rest.
    "whole_words": lambda s: s.pixels * (s.inputs // 32) * (1 - _is_ragged(s.inputs, 32)),
    "ragged_blocks": lambda s: s.pixels * (s.inputs // 128) * _is_ragged(s.inputs, 32),
    "ragged_words": lambda s: s.pixels * (s.inputs % 128 // 32) * _is_ragged(s.inputs, 32),
    "ragged_rests": lambda s: s.pixels * _is_ragged(s.inputs, 32),
    "ragged_calls": lambda s: 1.0 * _is_ragged(s.inputs, 32),
    # Max pools of bits.
    "word_reads": lambda s: s.pixels * s.window * -(-s.outputs // 32),
}

OPERATORS: Mapping[str, tuple[str, ...]] = {
    "binary_convolution": (
        "calls", "bit_products", "elements", "pixels", "output_eights", "gathered_words", "gathered_taps",
        "gathered_pixels", "ragged_outputs", "left_over_outputs",
    ),
    "packed_convolution": (
        "calls", "bit_products", "pixels", "output_eights", "gathered_words", "gathered_taps", "gathered_pixels",
    ),
    "quantize": ("calls", "ragged_calls", "whole_words", "ragged_blocks", "ragged_words", "ragged_rests"),
    "convolution": ("calls", "padded_products", "channel_taps", "elements", "taps"),
    "depthwise": ("calls", "reads", "elements", "taps"),
    "dense": ("calls", "products"),
    "add": ("calls", "elements"),
    "normalization": ("calls", "elements", "pixels"),
    "activation": ("calls", "elements"),
    "max_pool": ("calls", "reads", "pixels"),
    "packed_max_pool": ("calls", "word_reads"),
    "average_pool": ("calls", "reads", "pixels"),
    "global_pool": ("calls", "reads", "channels"),
    "concatenate": ("calls", "elements"),
    "upsampling": ("calls", "elements", "pixels"),
    # Of networks that are int8 as a whole.
    "int8_convolution": ("calls", "int8_products", "odd_eights", "channel_taps", "output_eights", "taps", "pixels"),
    "int8_depthwise": ("calls", "reads", "elements", "taps"),
    "int8_dense": ("calls", "products"),
    "int8_add": ("calls", "elements"),
    "int8_normalization": ("calls", "elements"),
    "int8_activation": ("calls", "elements"),
    "int8_max_pool": ("calls", "reads", "pixels"),
    "int8_average_pool": ("calls", "reads", "pixels"),
    "int8_global_pool": ("calls", "reads", "channels"),
    "int8_concatenate": ("calls", "elements"),
    "int8_upsampling": ("calls", "elements", "pixels"),
}  # fmt: skip
"""The operators of a table, each with the features that a fit to measurements may use."""
