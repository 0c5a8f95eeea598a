"""What choices of operations cost: expected, and closed within budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Operation, trace
from tfbnas.costs.closed import price
from tfbnas.errors import UserError
from tfbnas.networks.mixed import Mixed
from tfbnas.search.darts import NONE, nodes_of

Choices = dict[str, str]


class OperationCosts:
    """The costs of a network whose choices are operations of edges.

    Each operation has a share in a cost: what its layers cost alone, in all cells, and one more tensor to add. The
    shares add up to the whole but for an offset; what neighbours change in a latency is part of that offset, which is
    therefore taken at the cells that are delivered now.

    Args:
      template: Names the network.
      budgets: Whose costs are asked for.
      model: The network with all choices open.
      candidates: Of each edge, by its name, in the order of the architecture's parameters.
    """

    def __init__(
        self,
        template: Architecture,
        budgets: Sequence[Budget],
        model: tf.keras.Model,
        candidates: Mapping[str, Sequence[str]],
    ):
        self.template, self.budgets, self.candidates = template, tuple(budgets), dict(candidates)
        self._edges = {name: number for number, name in enumerate(candidates)}
        self._nodes = [[self._edges[name] for name in edges] for edges in nodes_of(list(candidates)).values()]
        self.shares = np.stack([self._shares(budget.cost, model) for budget in self.budgets])
        self._prices = [price(budget.cost, template) for budget in self.budgets]
        self._known: dict[tuple[tuple[str, str], ...], list[float]] = {}

    def _shares(self, cost, model: tf.keras.Model) -> np.ndarray:
        """Of each operation in one cost, `[edges, operations]`."""
        value = getattr(cost, "of_operation", None)
        if value is None:
            raise UserError(
                "Expected a cost that is a sum over operations: Memory, MultiplyAdds, Parameters or Latency. "
                f"Received: {type(cost).__name__}."
            )
        found = np.zeros((len(self.candidates), len(next(iter(self.candidates.values())))))
        for layer in model.layers:
            if isinstance(layer, Mixed):
                _, height, width, channels = layer.output.shape
                size = {"inputs": channels, "outputs": channels, "height": height, "width": width, "terms": 2}
                added = value(Operation(layer.name, "add", False, (1, 1), bias=False, **size))
                for place, (name, module) in enumerate(zip(layer.choice.candidates, layer.modules, strict=True)):
                    if name != NONE:
                        share = added + sum(value(operation) for operation in trace(module))
                        found[self._edges[layer.choice.name], place] += share
        return found

    # Closed.

    def of(self, choices: Choices) -> list[float]:
        """Each cost of closed cells, as the costs themselves say."""
        key = tuple(sorted(choices.items()))
        if key not in self._known:
            self._known[key] = [of(choices) for of in self._prices]
        return self._known[key]

    def offsets(self, choices: Choices) -> np.ndarray:
        """What each cost of closed cells is beside the shares of their operations, `[budgets]`."""
        return np.array(self.of(choices)) - sum(self._share(*choice) for choice in choices.items())

    def _share(self, edge: str, operation: str) -> np.ndarray:
        return self.shares[:, self._edges[edge], list(self.candidates[edge]).index(operation)]

    def cheapest(self, budget: int = 0, *, edges_per_node: int = 2) -> Choices:
        """The cells of which a cost is least: all nodes have their edges, each its cheapest operation."""
        found: Choices = {}
        for edges in nodes_of(list(self.candidates)).values():
            best = {
                name: min(
                    (self._share(name, operation)[budget], place, operation)
                    for place, operation in enumerate(self.candidates[name])
                    if operation != NONE
                )
                for name in edges
            }
            kept = sorted(edges, key=lambda name: best[name][:1])[:edges_per_node]
            found |= {name: best[name][2] if name in kept else NONE for name in edges}
        return found

    def least(self, edges_per_node: int = 2) -> list[float]:
        """Each cost of its cheapest cells."""
        count = range(len(self.budgets))
        return [self.of(self.cheapest(place, edges_per_node=edges_per_node))[place] for place in count]

    def within(self, choices: Choices, probabilities: np.ndarray) -> Choices:
        """The closed cells with operations made cheaper one by one until all budgets allow them.

        Each time an edge takes that cheaper operation which gives up least log-probability for what it saves of the
        budgets that are exceeded.

        Args:
          choices: The cells as DARTS' rule closes them.
          probabilities: `[edges, operations]`.

        Raises:
          UserError: Nothing cheaper is left.
        """
        choices = dict(choices)
        limits = np.array([budget.limit for budget in self.budgets])
        logs = np.log(np.maximum(probabilities, 1e-30))
        while np.any(exceeded := np.array(self.of(choices)) > limits):
            best: tuple[float, str, str] | None = None
            for name, now in choices.items():
                if now == NONE:
                    continue
                places = list(self.candidates[name])
                row = logs[self._edges[name]]
                for place, operation in enumerate(places):
                    saved = (self._share(name, now) - self._share(name, operation)) / limits
                    saving = float(saved[exceeded].sum())
                    if operation == NONE or saving <= 0:
                        continue
                    price = max(float(row[places.index(now)] - row[place]), 1e-6) / saving
                    if best is None or price < best[0]:
                        best = (price, name, operation)
            if best is None:
                least = " and ".join(
                    f"{cost:.6g} {budget.cost.unit}"
                    for cost, budget in zip(self.of(choices), self.budgets, strict=True)
                )
                raise UserError(
                    f"Expected budgets that cells of {self.template.network} can keep. Received: limits of "
                    f"{', '.join(f'{limit:.6g}' for limit in limits)}, where the cheapest found cost {least}."
                )
            choices[best[1]] = best[2]
        return choices

    # Expected.

    def expected(self, probabilities: tf.Tensor, offsets: tf.Tensor, *, edges_per_node: int = 2) -> tf.Tensor:
        """Expected costs `[budgets]` of the cells that DARTS' rule leaves, differentiable by the probabilities.

        The strongest edges of every node are kept; which operation each has is drawn from its probabilities without
        "none". Where all probabilities are 0 or 1 it is the cost of the closed cells.

        Args:
          probabilities: `[edges, operations]`.
          offsets: Of those cells, see `offsets`.
          edges_per_node: Edges that a node keeps. Default 2.
        """
        real = tf.constant([[name != NONE for name in names] for names in self.candidates.values()])
        others = probabilities * tf.cast(real, probabilities.dtype)
        each = others / tf.maximum(tf.reduce_sum(others, axis=1, keepdims=True), 1e-12)
        strength = tf.reduce_max(others, axis=1)
        kept = []
        for edges in self._nodes:
            count = min(edges_per_node, len(edges))
            kept.append(tf.gather(edges, tf.math.top_k(tf.gather(strength, edges), count).indices))
        each = tf.gather(each, tf.concat(kept, axis=0))
        shares = tf.gather(tf.constant(self.shares, tf.float32), tf.concat(kept, axis=0), axis=1)
        return tf.cast(offsets, tf.float32) + tf.einsum("beo,eo->b", shares, each)
