"""Distributed computation cost of a network that is a graph of modules."""

from __future__ import annotations

from collections.abc import Callable

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs.cost import Kept
from tfbnas.costs.schedule import allocation_order, length
from tfbnas.errors import UserError
from tfbnas.hints import has_type
from tfbnas.units import UNITS


class Distributed:
    """Steps that a network takes on machines that work in parallel, each running one module in a step.

    The priority of the modules is that of the whole graph, whatever was left out of it.

    Args:
      machines: How many. Default 2.
      allocation: "depth_first", the order that gives the tables of the paper, or "critical_path", longest remaining
        path first. Default: "depth_first".

    Raises:
      UserError: `machines` is not positive, or no allocation has that name.
    """

    name, unit, shown = "steps", "steps", UNITS["steps"]

    def __init__(self, machines: int = 2, *, allocation: str = "depth_first"):
        if not (has_type(machines, int) and machines >= 1):
            raise UserError(f"Expected `machines` to be an integer of at least 1. Received: machines={machines!r}.")
        allocation_order(allocation, [], [])
        self.machines = machines
        self.allocation = allocation

    def of(self, architecture: Architecture) -> float:
        """Steps of a closed network."""
        graph = networks.graph(architecture)
        return self.over(architecture)(graph.prune(graph.gates(architecture.choices)).modules[0])

    def over(self, architecture: Architecture) -> Callable[[Kept], float]:
        """Function from the modules that are kept to the steps they take."""
        graph = networks.graph(architecture)
        costs, successors = graph.costs, graph.successors
        order = allocation_order(self.allocation, costs, successors)
        return lambda kept: float(length(costs, successors, machines=self.machines, order=order, kept=kept.tolist()))
