"""Distributed computation cost: steps that a graph of modules takes on n machines (BSN, supplement).

Unit-time greedy list scheduling: in every step, up to `machines` units of the modules that were ready when the step
began are run, in a fixed topological order. Communication costs nothing. Pure functions on successor lists: module i is
read by the modules `successors[i]`, in the order in which these edges were made; that order decides ties.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from tfbnas.errors import UserError

Successors = Sequence[Sequence[int]]


def depth_first(costs: Sequence[int], successors: Successors) -> list[int]:
    """Reverse depth-first postorder, the order that gives the paper's tables.

    The search visits the modules in the order of their numbers and explores the last successor first.

    Args:
      costs: Not used; the signature is that of every allocation.
      successors: For each module, those that read its output.

    Returns:
      All modules, each before its successors.

    Raises:
      ValueError: The graph has a cycle.
    """
    done: set[int] = set()
    on_path: set[int] = set()
    postorder: list[int] = []
    for start in range(len(successors)):
        stack = [start]
        while stack:
            module = stack[-1]
            if module in done:
                stack.pop()
                continue
            on_path.add(module)
            below = [reader for reader in successors[module] if reader not in done]
            if on_path.intersection(below):
                raise ValueError("Expected a graph without cycles.")
            if below:
                stack += below
            else:
                done.add(module)
                on_path.remove(module)
                postorder.append(stack.pop())
    return postorder[::-1]


def critical_path(costs: Sequence[int], successors: Successors) -> list[int]:
    """Longest remaining path first; ties in the order of `depth_first`."""
    order = depth_first(costs, successors)
    remaining = [0] * len(costs)
    for module in reversed(order):
        remaining[module] = costs[module] + max((remaining[after] for after in successors[module]), default=0)
    # Stable, and a module of cost 0 comes before its successors, which it precedes in `order`.
    return sorted(order, key=lambda module: -remaining[module])


ALLOCATIONS: dict[str, Callable[[Sequence[int], Successors], list[int]]] = {
    "depth_first": depth_first,
    "critical_path": critical_path,
}


def length(
    costs: Sequence[int], successors: Successors, *, machines: int, order: Sequence[int], kept: Sequence[bool]
) -> int:
    """Steps that the kept modules take.

    Args:
      costs: Units of each module, 0 or 1. A module of cost 0 rides along; a step that runs no other is no step.
      successors: For each module, those that read its output.
      machines: Units that a step runs.
      order: All modules, those of higher priority first.
      kept: Whether each module is part of the network.

    Returns:
      Number of steps; 0 where nothing is kept.
    """
    rank = [0] * len(order)
    for position, module in enumerate(order):
        rank[module] = position
    waiting = [0] * len(costs)
    for module, after in enumerate(successors):
        if kept[module]:
            for reader in after:
                waiting[reader] += 1
    ready = [rank[module] for module in range(len(costs)) if kept[module] and not waiting[module]]
    heapq.heapify(ready)
    steps = 0
    while ready:
        loaded = 0
        following: list[int] = []
        while ready and loaded < machines:
            module = order[heapq.heappop(ready)]
            loaded += costs[module]
            for reader in successors[module]:
                waiting[reader] -= 1
                if kept[reader] and not waiting[reader]:
                    following.append(rank[reader])
        steps += loaded > 0
        for position in following:
            heapq.heappush(ready, position)
    return steps


def allocation_order(name: str, costs: Sequence[int], successors: Successors) -> list[int]:
    """The order of an allocation.

    Raises:
      UserError: No allocation has that name.
    """
    if name not in ALLOCATIONS:
        raise UserError(f"Expected `allocation` to be one of {', '.join(ALLOCATIONS)}. Received: allocation={name!r}.")
    return ALLOCATIONS[name](costs, successors)
