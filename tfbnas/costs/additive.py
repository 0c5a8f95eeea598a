"""Costs that are sums over a network's operations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable

import numpy as np

from tfbnas import networks
from tfbnas.architecture import Architecture, require_architecture
from tfbnas.costs.cost import Kept
from tfbnas.lce.operations import Operation, trace
from tfbnas.networks.graph import Make, Node

Value = Callable[[Operation], float]


def closed_operations(architecture: Architecture) -> tuple[Operation, ...]:
    """The operations of a closed network, which is built once for all costs that ask for it."""
    require_architecture(architecture)
    return _closed_operations(architecture)


@functools.lru_cache(maxsize=64)
def _closed_operations(architecture: Architecture) -> tuple[Operation, ...]:
    return tuple(trace(networks.build(architecture)))


def total(architecture: Architecture, value: Value) -> float:
    """The sum of `value` over the operations of a closed network."""
    require_architecture(architecture)
    if not networks.is_graph(architecture.network):
        return float(sum(map(value, closed_operations(architecture))))
    graph = networks.graph(architecture)
    return over_modules(architecture, value)(graph.prune(graph.gates(architecture.choices)).modules[0])


def over_modules(architecture: Architecture, value: Value) -> Callable[[Kept], float]:
    """The sum of `value` over the operations of the kept modules, without building a network for every question.

    Equal modules are built once, for all costs: a fabric has hundreds of modules, but few kinds.

    Args:
      architecture: Names the graph; its choices do not matter.
      value: Of one operation. That of an addition must be proportional to the number of tensors summed, less one.

    Returns:
      Function from the modules that are kept, `[modules]`, to the sum.
    """
    graph = networks.graph(architecture)
    count = len(graph.nodes)
    fixed = np.zeros(count)
    # What one more tensor to sum costs a module, and who reads whom.
    summed = np.zeros(count)
    reads = np.zeros((count, count))
    kinds: dict[Hashable, tuple[tuple[int, ...], float, float]] = {}
    shapes: list[tuple[int, ...]] = [()] * count
    for module in graph.order:
        node, sources = graph.nodes[module], graph.predecessors[module]
        reads[module, sources] = 1.0
        inputs = tuple(shapes[source] for source in sources) or (architecture.input_shape,)
        kind = (node.make, node.arguments, inputs)
        if kind not in kinds:
            output, operations = _operations_alone(*kind)
            additions = [operation for operation in operations if operation.kind == "add"]
            kinds[kind] = (
                output,
                sum(value(operation) for operation in operations if operation.kind != "add"),
                sum(value(operation) / (operation.terms - 1) for operation in additions),
            )
        shapes[module], fixed[module], summed[module] = kinds[kind]

    def of_kept(kept: Kept) -> float:
        more = np.maximum(reads @ kept - 1.0, 0.0)
        return float(kept @ (fixed + summed * more))

    return of_kept


@functools.lru_cache(maxsize=256)
def _operations_alone(
    make: Make, arguments: tuple[Hashable, ...], inputs: tuple[tuple[int, ...], ...]
) -> tuple[tuple[int, ...], tuple[Operation, ...]]:
    """The shape of a module's output, and its operations; see `Node` for what they depend on."""
    model = Node("module", make, arguments, 1, None).alone(inputs)
    return tuple(model.output_shape[1:]), tuple(trace(model))
