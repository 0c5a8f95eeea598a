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

    def most_probable(self, probabilities: np.ndarray) -> Kept:
        """What is left where each gate takes its more probable side, as far as the budgets allow.

        Where nothing is left, the most probable path is taken; where a budget is exceeded, the least probable gates
        that no path depends on are closed one after another.

        Args:
          probabilities: Of each gate to be open, `[gates]`.
        """
        gates = self.graph.prune((probabilities > 0.5)[None]).gates[0]
        if not self._kept(gates).any():
            with np.errstate(divide="ignore"):
                doubts = np.append(-np.log(probabilities.astype(np.float64)), 0.0)  # -1 is the guard of no gate
            gates = self.graph.cheapest_path(doubts[self.graph.guard].tolist())
        while not self.affordable(kept := self._kept(gates)):
            for gate in sorted(np.flatnonzero(gates), key=lambda gate: probabilities[gate]):
                fewer = gates.copy()
                fewer[gate] = False
                fewer = self.graph.prune(fewer[None]).gates[0]
                if fewer.any() or self._kept(fewer).any():
                    gates = fewer
                    break
            else:
                return self._kept(self.cheapest()[0])
        return kept

    def affordable(self, kept: Kept) -> bool:
        """Whether all budgets allow the kept modules."""
        return all(price <= budget.limit for price, budget in zip(self.price(kept), self.budgets, strict=True))

    def cheapest(self) -> list[Bits]:
        """For each cost, gates of the path that costs least; exact for costs with `over` that add up along it."""
        paths = []
        for cost, function in zip(self.costs, self._functions, strict=True):
            weights = np.ones(len(self.graph.nodes))
            if hasattr(cost, "over"):
                guard = np.array(self.graph.guard)
                for module, gate in enumerate(guard):
                    together = guard == gate if gate >= 0 else np.arange(len(guard)) == module
                    weights[module] = _checked(cost, function(together))
            paths.append(self.graph.cheapest_path(weights.tolist()))
        return paths

    def least(self) -> list[float | None]:
        """Each cost of the path that costs least; None where that is not known exactly (see `cheapest`)."""
        return [
            self._one(index, self._kept(path)) if hasattr(self.costs[index], "over") else None
            for index, path in enumerate(self.cheapest())
        ]

    def check_budgets(self) -> None:
        """Refuses a budget that no path keeps.

        Raises:
          UserError: A budget is below the cheapest path from input to output.
        """
        for least, budget in zip(self.least(), self.budgets, strict=True):
            if least is not None and least > budget.limit:
                raise UserError(
                    f"Expected a budget of at least {least:.6g} {budget.cost.unit}, the cost of the cheapest path "
                    f"through {self.template.network}. Received: limit={budget.limit:.6g}."
                )

    def _kept(self, gates: Bits) -> Kept:
        return self.graph.prune(gates[None]).modules[0]


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
