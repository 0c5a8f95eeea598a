"""What the interactions of a deployed layer cost: three ways to write them, of which the cheapest is taken.

A staircase is a sum of signs: where the bitcount p is above a break, +1, else -1. Bitcounts are sums of +-1 and take
every other integer, so that p - b is an odd integer for the even or odd b in the middle of the two bitcounts around a
break. Its sign is exact, as a sign or as p - b cut to [-1, 1]. Each student sums signs times U / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfbnas.layers.interaction import InteractedConv2D
from tfbnas.lce.operations import Operation


@dataclass(frozen=True)
class Signs:
    """The signs that the present edges of a layer need.

    Attributes:
      teachers: Channel of each sign, int `[signs]`.
      breaks: What is subtracted from its bitcount, int `[signs]`.
      weights: What each student makes of it, -1, 0 or 1 times how often, int `[signs, channels]`.
    """

    teachers: np.ndarray
    breaks: np.ndarray
    weights: np.ndarray


def signs(layer: InteractedConv2D) -> Signs:
    """The signs that the edges of a built layer need, each teacher and break once; there must be edges."""
    terms = layer.terms
    rows: dict[tuple[int, int], np.ndarray] = {}
    for teacher, student, influence in layer.edges:
        size = abs(influence)
        for step in range(1, size):
            # The largest sum of +-1 that is at most the break, -N0 + 2 N0 step / |K|.
            below = -terms + 2 * ((terms * step) // size)
            row = rows.setdefault((teacher, below + 1), np.zeros(layer.channels, int))
            row[student] += 1 if influence > 0 else -1
    order = sorted(rows)
    return Signs(
        np.array([teacher for teacher, _ in order]),
        np.array([between for _, between in order]),
        np.array([rows[key] for key in order]),
    )


WAYS = ("float", "mixed", "binary")
"""float: two float 1x1 convolutions, the first cut to [-1, 1]. mixed: the first of them, quantised, then a binary one
that reads each sign as often as it needs to sum to zero and more. binary: the first is binary, too: it counts the
teachers' bits once more and writes signs."""


def copies(found: Signs) -> int:
    """How often a binary convolution must read each sign, so that +-1 weights sum to every weight times two."""
    return 2 * int(np.abs(found.weights).max())


def operations(layer: InteractedConv2D, way: str, *, height: int, width: int) -> list[Operation]:
    """What a layer's edges add to the deployed network in one of the ways.

    Args:
      layer: Built.
      way: One of WAYS.
      height: Rows of its output.
      width: Columns of its output.

    Returns:
      Operations; none where there are no edges.
    """
    if not layer.edges:
        return []
    found, channels = signs(layer), layer.channels
    count = len(found.teachers)

    def one(name: str, kind: str, reads: int, writes: int, **more) -> Operation:
        common: dict[str, Any] = {
            "binary": False,
            "kernel_size": (1, 1),
            "bias": False,
            "height": height,
            "width": width,
        }
        return Operation(f"{layer.name}_{name}", kind, inputs=reads, outputs=writes, **common | more)

    add = one("corrected", "add", channels, channels, terms=2)
    if way == "float":
        first = one("signs", "convolution", channels, count, bias=True)
        return [first, one("correction", "convolution", count, channels), add]
    count *= copies(found)
    last = one("correction", "convolution", count, channels, binary=True, reads_bits=True)
    if way == "mixed":
        first = one("signs", "convolution", channels, count, bias=True)
        return [first, one("signs", "quantize", count, count), last, add]
    own: dict[str, Any] = {
        "binary": True,
        "reads_bits": True,
        "writes_bits": True,
        "kernel_size": tuple(layer.kernel_size),
    }
    return [one("signs", "convolution", layer.input_count, count, stride=layer.strides[0], **own), last, add]


def instructions(operation: Operation) -> float:
    """Thousands of instructions of an operation on a Cortex-A72, as fitted to LCE's kernels under an emulator.

    Float convolutions: as ResNet-18 in float takes them, 0.37 for each multiply-add; a model, not a measurement.
    """
    pixels, inputs, outputs = operation.height * operation.width, int(operation.inputs), int(operation.outputs)
    if operation.kind == "add":
        return 1.4e-3 * pixels * outputs
    if operation.kind == "quantize":
        return (0.8e-3 if inputs % 32 == 0 else 13.3e-3) * pixels * inputs
    window = operation.kernel_size[0] * operation.kernel_size[1]
    if not operation.binary:
        return 0.37e-3 * pixels * window * inputs * outputs
    words = -(-inputs // 32)
    reads, writes = -(-window * words * 32 // 128) * 128, -(-outputs // 8) * 8
    start, product, output, column = (3.1, 0.0244, 3.4, 10.9) if operation.writes_bits else (3.0, 0.0240, 4.5, 11.6)
    return start + pixels * (product * writes * reads + output * outputs + column * window * words) / 1e3


def cheapest(layer: InteractedConv2D, *, height: int, width: int) -> tuple[str, list[Operation]]:
    """The way with the fewest instructions, and its operations; arguments as of `operations`."""
    found = {way: operations(layer, way, height=height, width=width) for way in WAYS}
    way = min(found, key=lambda way: sum(map(instructions, found[way])))
    return way, found[way]
