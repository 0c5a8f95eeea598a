"""What the interactions of a deployed layer cost: three ways to write them, of which the cheapest is taken.

Intervals divide what lies between -R and R, a whole number: N0, or less. The bitcount p lies in the interval of number
floor(((p + R) |K| - 1/2) / 2 R), at least 0 and at most |K| - 1; with R = N0 it is never above. What is rounded down is
never nearer to a whole number than 1 / 4 R, so that float32 gets it right. Bitcounts are sums of N0 numbers +-1: p + N0
is even, and p - b is odd for the b midway between two bitcounts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfbnas.costs.latency import Latency
from tfbnas.layers.interaction import BLOCK, InteractedConv2D
from tfbnas.lce.operations import Operation

WAYS = ("stairs", "blocks", "signs")
"""stairs: a float 1x1 convolution scales the teachers, their staircases are rounded down, and another one sums them up
for the students. blocks: the same for all channels, by a depthwise convolution and by one in groups of 16 channels, as
the search draws edges. signs: a binary convolution counts the teachers' bits once more and writes their signs, which a
binary 1x1 convolution reads as often as it needs."""

_DEVICE = "raspberry_pi_4b"
"""Whose table decides which way is the cheapest."""


@dataclass(frozen=True)
class Stairs:
    """The staircases that the present edges of a layer need.

    Attributes:
      teachers: Channel of each, int `[stairs]`.
      sizes: Its number of intervals, int `[stairs]`.
      weights: What each student makes of it, -1, 0 or 1, int `[stairs, channels]`.
    """

    teachers: np.ndarray
    sizes: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Signs:
    """The signs that sum up to these staircases.

    Attributes:
      teachers: Channel of each sign, int `[signs]`.
      breaks: What is subtracted from its bitcount, int `[signs]`.
      weights: What each student makes of it, how often with which sign, int `[signs, channels]`.
    """

    teachers: np.ndarray
    breaks: np.ndarray
    weights: np.ndarray


def stairs(layer: InteractedConv2D) -> Stairs:
    """The staircases that the edges of a layer need, each once; there must be edges."""
    kinds = layer.staircases()
    weights = np.zeros([len(kinds), layer.channels], int)
    for teacher, student, influence in layer.edges:
        weights[kinds.index((teacher, abs(influence))), student] = np.sign(influence)
    teachers, sizes = np.array(kinds).T
    return Stairs(teachers, sizes, weights)


def every_channel(layer: InteractedConv2D) -> Stairs:
    """Staircases of all channels, in the order of the channels, each with every size that some edge has."""
    sizes = sorted({abs(influence) for _, _, influence in layer.edges})
    weights = np.zeros([layer.channels, len(sizes), layer.channels], int)
    for teacher, student, influence in layer.edges:
        weights[teacher, sizes.index(abs(influence)), student] = np.sign(influence)
    count = layer.channels
    return Stairs(np.repeat(np.arange(count), len(sizes)), np.tile(sizes, count), weights.reshape(-1, count))


def signs(layer: InteractedConv2D) -> Signs:
    """The signs that the edges of a built layer need, each teacher and break once; there must be edges."""
    terms, reach = layer.terms, layer.reach
    rows: dict[tuple[int, int], np.ndarray] = {}
    for teacher, student, influence in layer.edges:
        size = abs(influence)
        for step in range(1, size):
            # The largest sum of +-1 that is at most the break, -R + 2 R step / |K|.
            below = (2 * reach * step) // size - reach
            below -= (below - terms) % 2
            row = rows.setdefault((teacher, below + 1), np.zeros(layer.channels, int))
            row[student] += 1 if influence > 0 else -1
    order = sorted(rows)
    return Signs(
        np.array([teacher for teacher, _ in order]),
        np.array([between for _, between in order]),
        np.array([rows[key] for key in order]),
    )


def copies(found: Signs) -> int:
    """How often a binary convolution must read each sign, so that +-1 weights sum to every weight times two."""
    return 2 * int(np.abs(found.weights).max())


def groups(layer: InteractedConv2D) -> int:
    """Into how many blocks of channels the way "blocks" divides a layer; 0 where edges join different ones."""
    count = 1 if layer.channels % BLOCK else layer.channels // BLOCK
    apart = any(teacher // BLOCK != student // BLOCK for teacher, student, _ in layer.edges)
    return 0 if count > 1 and apart else count


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
    channels = layer.channels

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
    if way == "signs":
        found = signs(layer)
        count = len(found.teachers) * copies(found)
        bits: dict[str, Any] = {"binary": True, "reads_bits": True}
        first: dict[str, Any] = bits | {"writes_bits": True, "kernel_size": tuple(layer.kernel_size)}
        return [
            one("signs", "convolution", layer.input_count, count, stride=layer.strides[0], **first),
            one("correction", "convolution", count, channels, **bits),
            add,
        ]
    count = len((stairs(layer) if way == "stairs" else every_channel(layer)).teachers)
    bounded = [one("bounded", "activation", count, count)] if layer.reach < layer.terms else []
    kind, parts = ("convolution", 1) if way == "stairs" else ("depthwise", groups(layer))
    return [
        one("scaled", kind, channels, count, bias=True),
        *bounded,
        one("stairs", "activation", count, count),
        one("correction", "convolution", count, channels, bias=True, groups=parts),
        add,
    ]


@functools.cache
def _table() -> Latency:
    return Latency(_DEVICE)


def milliseconds(found: list[Operation]) -> float:
    """Predicted time of some operations on a Raspberry Pi 4B."""
    return sum(map(_table().of_operation, found))


def cheapest(layer: InteractedConv2D, *, height: int, width: int) -> tuple[str, list[Operation]]:
    """The fastest way on a Raspberry Pi 4B, and its operations; arguments as of `operations`."""
    ways = [way for way in WAYS if way != "blocks" or groups(layer)]
    found = {way: operations(layer, way, height=height, width=width) for way in ways}
    way = min(found, key=lambda way: milliseconds(found[way]))
    return way, found[way]
