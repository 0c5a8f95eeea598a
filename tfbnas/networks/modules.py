"""Modules that several graphs of modules have."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, FloatConv2D, blocks
from tfbnas.networks.graph import NetworkGraph

THRESHOLDS = ("edge", "tensor")


def stem(name: str, tensors: list[Any], filters: int, binarisation: str) -> Any:
    """A 3x3 float convolution of the images, and its normalisation."""
    x = FloatConv2D(filters, 3, name=name)(tensors[0])
    return _activated(name, BatchNormalization(name=f"{name}_bn")(x), binarisation)


def total(name: str, tensors: list[Any], binarisation: str) -> Any:
    """The sum of what a module reads; in full precision a ReLU of it."""
    x = tf.keras.layers.Add(name=f"{name}_add")(tensors) if len(tensors) > 1 else tensors[0]
    return _activated(name, x, binarisation)


class Quantised:
    """The bits of a graph's tensors, each tensor quantised once for all convolutions that read it.

    Args:
      graph: The graph that the quantisers become part of; none of them has a choice.
      thresholds: "tensor", or "edge": every convolution quantises what it reads itself, at a threshold of its own.
      binarisation: Of the network. In "float" nothing is quantised.

    Attributes:
      shared: Whether the convolutions read bits.

    Raises:
      UserError: `thresholds` is neither.
    """

    def __init__(self, graph: NetworkGraph, thresholds: str, binarisation: str):
        if thresholds not in THRESHOLDS:
            raise UserError(f"Expected `thresholds` to be one of {THRESHOLDS}. Received: thresholds={thresholds!r}.")
        self.shared = thresholds == "tensor" and binarisation != "float"
        self._graph, self._binarisation, self._of = graph, binarisation, dict[int, int]()

    def __call__(self, module: int) -> int:
        """The module that convolutions of `module` read: its bits, or itself."""
        if not self.shared:
            return module
        if module not in self._of:
            name = f"{self._graph.nodes[module].name}_bits"
            self._of[module] = self._graph.add(name, _bits, self._binarisation, inputs=[module], cost=0)
        return self._of[module]

    def same(self, module: int, other: int) -> int:
        """Says that `module` hands on the tensor of `other`; returns `module`."""
        if self.shared:
            self._of[module] = self(other)
        return module


def _bits(name: str, tensors: list[Any], binarisation: str) -> Any:
    return blocks(binarisation)[0](name=name)(tensors[0])


def _activated(name: str, x: Any, binarisation: str) -> Any:
    return tf.keras.layers.ReLU(name=f"{name}_relu")(x) if binarisation == "float" else x
