"""What drawn gates make of a graph, and what that costs: the part of a budgeted search that needs no gradient."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Cost
from tfbnas.costs.cost import Kept
from tfbnas.errors import UserError
from tfbnas.networks.graph import NetworkGraph
from tfbnas.networks.pruning import Bits, Pruned

_REMEMBERED = 100_000
_PATHS = 200

Path = tuple[int, ...]
"""Modules of a path through a graph, in its order."""


class PricedGraph:
    """A graph of modules with the costs of what is left of it.

    Args:
      template: Names the graph; its choices do not matter.
      budgets: Whose costs are asked for.
    """

    def __init__(self, template: Architecture, budgets: Sequence[Budget]):
        self.template = template
        self.graph: NetworkGraph = networks.graph(template)
        self.budgets = tuple(budgets)
        self.costs = tuple(budget.cost for budget in budgets)
        self._functions = [self._function(cost) for cost in self.costs]
        self._known: list[dict[bytes, float]] = [{} for _ in self.costs]

    def sample(self, gates: Bits) -> tuple[Pruned, np.ndarray]:
        """What gates `[groups, gates]` leave, and what that costs, float32 `[groups, costs]`."""
        pruned = self.graph.prune(np.asarray(gates, bool))
        return pruned, np.array([self.price(kept) for kept in pruned.modules], np.float32)

    def price(self, kept: Kept) -> list[float]:
        """Each cost of the kept modules `[modules]`; nothing costs nothing.

        Raises:
          UserError: A cost is not a number from 0 on.
        """
        if not kept.any():
            return [0.0] * len(self.costs)
        return [self._one(index, kept) for index in range(len(self.costs))]

    def _one(self, index: int, kept: Kept) -> float:
        known, cost, key = self._known[index], self.costs[index], kept.tobytes()
        if key not in known:
            value = _checked(cost, self._functions[index](kept))
            if getattr(cost, "stochastic", False):
                return value
            if len(known) >= _REMEMBERED:
                known.clear()
            known[key] = value
        return known[key]

    def _function(self, cost: Cost) -> Callable[[Kept], Any]:
        if hasattr(cost, "over"):
            return cost.over(self.template)
        return lambda kept: cost.of(self.closed(kept))

    def closed(self, kept: Kept) -> Architecture:
        """The architecture of the kept modules: a choice is true where its modules are part of the network."""
        choices = dict.fromkeys(self.graph.choices, False)
        for node, is_kept in zip(self.graph.nodes, kept.tolist(), strict=True):
            if is_kept and node.choice is not None:
                choices[node.choice] = True
        return replace(self.template, choices=choices)

    @property
    def is_measured(self) -> bool:
        """Whether a cost is not the same each time."""
        return any(getattr(cost, "stochastic", False) for cost in self.costs)

    @property
    def is_dear(self) -> bool:
        """Whether asking for prices may take long: a cost is measured, or has no `over`."""
        return self.is_measured or not all(hasattr(cost, "over") for cost in self.costs)

    @property
    def limits(self) -> np.ndarray:
        """Of the costs, `[costs]`."""
        return np.array([budget.limit for budget in self.budgets])

    def kept(self, gates: Bits) -> Kept:
        """The modules `[modules]` that gates `[gates]` leave."""
        return self.graph.prune(gates[None]).modules[0]

    def shares(self, gates: Bits) -> np.ndarray:
        """The share of each budget that is used by what gates leave, `[costs]`."""
        return np.array(self.price(self.kept(gates))) / self.limits

    def affordable(self, kept: Kept) -> bool:
        """Whether all budgets allow the kept modules."""
        return all(price <= budget.limit for price, budget in zip(self.price(kept), self.budgets, strict=True))

    def best_path(self, doubts: Sequence[float]) -> Bits:
        """Gates of the least doubtful path within all budgets, among the paths that no other one undercuts.

        Where none is within them (see `check_budgets`), of the path that exceeds one by the smallest share.

        Args:
          doubts: Of each module; a path has their sum.
        """

        def rank(path: Path) -> tuple[float, float]:
            excess = max(0.0, self.shares(self._gates(path)).max() - 1.0)
            return excess, sum(doubts[module] for module in path)

        return self._gates(min(self._paths(), key=rank))

    def _gates(self, path: Path) -> Bits:
        gates = np.zeros(len(self.graph.choices), bool)
        gates[[gate for gate in (self.graph.guard[module] for module in path) if gate >= 0]] = True
        return gates

    def _paths(self) -> list[Path]:
        """Paths from input to output, each cheaper than every other one under some cost, or cheaper taken together.

        Exact for costs with `over` that add up along a path; of the others the number of modules is taken.
        """
        weights = self._weights()
        found: dict[int, list[tuple[np.ndarray, Path]]] = {}
        for module in self.graph.order:
            sources = [one for source in self.graph.predecessors[module] for one in found[source]]
            sources = sources or [(np.zeros(len(self.costs)), ())]
            found[module] = self._undercut([(sums + weights[:, module], (*path, module)) for sums, path in sources])
        return [path for _, path in found[self.graph.order[-1]]]

    def _undercut(self, paths: list[tuple[np.ndarray, Path]]) -> list[tuple[np.ndarray, Path]]:
        """Those of which no other one costs as little or less under every cost; of too many the tightest in budget."""
        left: list[tuple[np.ndarray, Path]] = []
        for sums, path in sorted(paths, key=lambda one: (*one[0].tolist(), one[1])):
            if not any(np.all(other <= sums) for other, _ in left):
                left.append((sums, path))
        return sorted(left, key=lambda one: float(np.max(one[0] / self.limits)))[:_PATHS]

    def _weights(self) -> np.ndarray:
        """What each module costs alone, `[costs, modules]`; 1 where a cost cannot say it."""
        guard = np.array(self.graph.guard)
        weights = np.ones((len(self.costs), len(guard)))
        for index, (cost, function) in enumerate(zip(self.costs, self._functions, strict=True)):
            if hasattr(cost, "over"):
                for module, gate in enumerate(guard):
                    together = guard == gate if gate >= 0 else np.arange(len(guard)) == module
                    weights[index, module] = _checked(cost, function(together))
        return weights

    def least(self) -> list[float | None]:
        """Each cost of the path that costs least; None where that is not known exactly (see `_paths`)."""
        paths = [self.graph.cheapest_path(weights.tolist()) for weights in self._weights()]
        return [
            self._one(index, self.kept(path)) if hasattr(self.costs[index], "over") else None
            for index, path in enumerate(paths)
        ]

    def check_budgets(self) -> None:
        """Refuses budgets that no path keeps.

        Raises:
          UserError: A budget is below the cheapest path from input to output, or no path is within all of them.
        """
        network = self.template.network
        for least, budget in zip(self.least(), self.budgets, strict=True):
            if least is not None and least > budget.limit:
                raise UserError(
                    f"Expected a budget of at least {least:.6g} {budget.cost.unit}, the cost of the cheapest path "
                    f"through {network}. Received: limit={budget.limit:.6g}."
                )
        if len(self.costs) == 1 or self.is_dear:
            return
        kept = self.kept(self.best_path(np.zeros(len(self.graph.nodes)).tolist()))
        if not self.affordable(kept):
            prices = zip(self.price(kept), self.costs, strict=True)
            nearest = " and ".join(f"{price:.6g} {cost.unit}" for price, cost in prices)
            received = ", ".join(f"limit={budget.limit:.6g}" for budget in self.budgets)
            raise UserError(
                f"Expected budgets that one path through {network} keeps together; the nearest one costs {nearest}. "
                f"Received: {received}."
            )


def _checked(cost: Cost, value: Any) -> float:
    # A text of digits or a truth value is a mistake, even where Python makes a number of it.
    number = math.nan
    if not isinstance(value, str | bytes | bool | np.bool_):
        with contextlib.suppress(TypeError, ValueError):
            number = float(value)
    if not (math.isfinite(number) and number >= 0):
        name = getattr(cost, "name", type(cost).__name__)
        raise UserError(
            f"Expected the cost {name} to be a finite number of {cost.unit}, at least 0. Received: {value!r}."
        )
    return number
