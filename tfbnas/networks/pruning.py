"""Which gates of a graph matter, and what of it is left, for many examples at once.

A module is reached where one of its inputs is reached and its own gate is open, and it is useful where what it writes
leads to the output. Both passes work on bit masks: one Python integer for each module, one bit in it for each example,
so that a step of the pass is one `or` or `and` whatever the number of examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]


@dataclass(frozen=True)
class Pruned:
    """What open and closed gates make of a graph, for each example.

    Attributes:
      matters: `[examples, gates]`: whether the side that a gate takes changes what is left, the other gates being as
        they are: something reaches what it guards, and that would lead to the output.
      gates: `[examples, gates]`: whether what a gate guards is part of the network that is left.
      modules: `[examples, modules]`: whether a module is part of it. All False where nothing reaches the output.
    """

    matters: Bits
    gates: Bits
    modules: Bits


def prune(gates: Bits, *, order: Sequence[int], predecessors: Sequence[Sequence[int]], guard: Sequence[int]) -> Pruned:
    """Two passes over a graph: what is reached from the input, and what of that leads to the output.

    Args:
      gates: `[examples, gates]`, open or closed.
      order: All modules, each before its successors; the first one reads the network's input, the last one writes
        its output.
      predecessors: For each module, those that it reads.
      guard: For each module, the number of its gate, -1 where it has none. Modules behind one gate read the same
        modules and are read by the same.
    """
    examples = len(gates)
    every = (1 << examples) - 1
    opened = _pack(gates)
    available, reached = [0] * len(order), [0] * len(order)
    for module in order:
        sources = predecessors[module]
        for source in sources:
            available[module] |= reached[source]
        if not sources:
            available[module] = every
        reached[module] = available[module] & (opened[guard[module]] if guard[module] >= 0 else every)
    # Whether what a module writes leads to the output, whether or not anything reaches it.
    leads = [0] * len(order)
    leads[order[-1]] = every
    matters, kept, useful = [0] * len(opened), [0] * len(opened), [0] * len(order)
    for module in reversed(order):
        gate = guard[module]
        useful[module] = reached[module] & leads[module]
        if gate >= 0:
            matters[gate] |= available[module] & leads[module]
            kept[gate] |= useful[module]
        onward = leads[module] & (opened[gate] if gate >= 0 else every)
        for source in predecessors[module]:
            leads[source] |= onward
    return Pruned(_unpack(matters, examples), _unpack(kept, examples), _unpack(useful, examples))


def _pack(columns: Bits) -> list[int]:
    """One integer for each column; bit i is row i."""
    rows = np.packbits(columns, axis=0, bitorder="little").T
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


def _unpack(columns: list[int], examples: int) -> Bits:
    """Inverse of `_pack`."""
    size = -(-examples // 8)
    packed = np.frombuffer(b"".join(column.to_bytes(size, "little") for column in columns), np.uint8)
    bits = np.unpackbits(packed.reshape(len(columns), size), axis=1, count=examples, bitorder="little")
    return np.ascontiguousarray(bits.T.astype(bool))
