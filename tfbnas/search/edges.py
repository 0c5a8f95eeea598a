"""What searches have in common whose choices are operations of edges: alpha, DARTS' rule, and expected costs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas import distribution
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget
from tfbnas.errors import UserError
from tfbnas.networks.choices import OpenOperation
from tfbnas.search import darts
from tfbnas.search.base import Search
from tfbnas.search.open_operations import initialise, opened_network
from tfbnas.search.operation_costs import OperationCosts


class EdgeSearch(Search):
    """A search for operations of edges, which an open network mixes by the softmax of alpha.

    Its settings have `edges_per_node`. Arguments are those of `Search`.

    Attributes:
      alpha: Variable `[edges, operations]`; an operation's weight is its softmax.
      candidates: Of each edge its name, as the network asks for it, and the names of its operations.
      priced: What cells cost.
    """

    choice_label = "Probability of the strongest operation"

    def __init__(self, network: str, *, budget: Budget | Sequence[Budget], **arguments: Any):
        super().__init__(network, budget=budget, **arguments)
        self.network, opened = opened_network(self.template)
        self.candidates = tuple((name, choice.candidates) for name, choice in opened.items())
        self.priced = OperationCosts(self.template, self.budgets, self.network, dict(self.candidates))
        self._check_budgets()
        initialise(self.network, self.seed)
        shape = (len(self.candidates), len(self.candidates[0][1]))
        self.alpha = tf.Variable(1e-3 * tf.random.stateless_normal(shape, [self.seed, 0]), name="alpha")
        self._probabilities: tf.Tensor | None = None
        self._traced = self._no_dependency({})
        self.weigh(opened)

    @classmethod
    def least_costs(cls, template: Architecture, budgets: Sequence[Budget], settings: Any) -> list[float | None]:
        model, opened = opened_network(template)
        priced = OperationCosts(template, budgets, model, {name: one.candidates for name, one in opened.items()})
        return [*priced.least(settings.edges_per_node)]

    @classmethod
    def least_text(cls, template: Architecture, settings: Any) -> str:
        return f"{template.network} with the cheapest operation on every edge that is kept"

    def _check_budgets(self) -> None:
        for least, budget in zip(self.priced.least(self.settings.edges_per_node), self.budgets, strict=True):
            if least > budget.limit:
                raise UserError(
                    f"Expected a budget of at least {least:.6g} {budget.cost.unit}, the cost of "
                    f"{self.least_text(self.template, self.settings)}. Received: limit={budget.limit:.6g}."
                )

    # What was found so far.

    @property
    def edges(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.candidates)

    def probabilities(self) -> np.ndarray:
        """Of each operation of each edge, `[edges, operations]`."""
        return tf.nn.softmax(self.alpha).numpy()

    def closed(self) -> dict[str, str]:
        """The operations that DARTS' rule leaves, whatever they cost."""
        rows = dict(zip(self.edges, self.probabilities(), strict=True))
        return darts.close(rows, dict(self.candidates), edges_per_node=self.settings.edges_per_node)

    def architecture(self) -> Architecture:
        """The present best, closed by DARTS' rule, with cheaper operations as far as the budgets ask for them."""
        return replace(self.template, choices=self.priced.within(self.closed(), self.probabilities()))

    def costs(self) -> list[float]:
        """Expected cost of each budget, of the cells that DARTS' rule leaves."""
        return self._expected(tf.nn.softmax(self.alpha), self.priced.offsets(self.closed())).numpy().tolist()

    def _expected(self, probabilities: tf.Tensor, offsets: Any) -> tf.Tensor:
        return self.priced.expected(probabilities, offsets, edges_per_node=self.settings.edges_per_node)

    def choices(self) -> dict[str, dict[str, Any]]:
        """Of each edge: "value" is the largest weight of an operation but "none"; "entropy" is that of the weights.

        "weights" are the softmax of alpha, by which the open network mixes; "probabilities" those of what an edge has
        when the cells are closed: nothing where DARTS' rule drops it, else an operation as probable as it weighs. An
        edge that is kept in any case has no candidate "none".
        """
        closed, kept = self.architecture().choices, self.closed()
        nodes = darts.nodes_of(self.edges)
        found = {}
        for (name, operations), row in zip(self.candidates, self.probabilities().astype(float), strict=True):
            weights = dict(zip(operations, row.tolist(), strict=True))
            real = {operation: weight for operation, weight in weights.items() if operation != darts.NONE}
            total = sum(real.values())
            shares = {one: weight / total if kept[name] != darts.NONE else 0.0 for one, weight in real.items()}
            if len(nodes[name.rpartition("/")[0]]) > self.settings.edges_per_node:
                shares = {darts.NONE: float(kept[name] == darts.NONE), **shares}
            found[name] = {
                "value": max(real.values()),
                "closed": closed[name],
                "candidates": list(shares),
                "probabilities": list(shares.values()),
                "weights": weights,
                "entropy": float(darts.entropy(row)),
            }
        return found

    def condition(self) -> dict[str, float]:
        """How near the cells are to a collapse to identities."""
        operations = list(self.closed().values())
        return {
            "entropy": float(np.mean(darts.entropy(self.probabilities()))),
            "identity_edges": float(operations.count(darts.IDENTITY)),
        }

    def record(self) -> dict[str, Any]:
        """The choices, and the `condition`."""
        return {**super().record(), **self.condition()}

    def scalars(self) -> dict[str, float]:
        return {**super().scalars(), **self.condition()}

    def shown(self, logs: Mapping[str, float]) -> dict[str, str | None]:
        """Beside the costs the number of identities, with an exclamation mark where the cells collapse."""
        count = f"{logs.get('identity_edges', 0.0):.0f}" + ("!" if darts.collapsing(self.closed().values()) else "")
        return {**super().shown(logs), "identity_edges": count}

    # How the open network mixes.

    @property
    def architecture_variables(self) -> list[tf.Variable]:
        return [self.alpha]

    def weigh(self, opened: Mapping[str, OpenOperation]) -> None:
        """Lets an open network mix by alpha."""
        for number, choice in enumerate(opened.values()):
            choice.weights = functools.partial(self._weights, number)

    def run(self, network: tf.keras.Model, images: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        """Logits of an open network that trains.

        Each network is traced once for all that differentiates it, which takes most of the time before the first step.

        Args:
          network: One that mixes by alpha, see `weigh`.
          images: `[batch, height, width, channels]`.
          probabilities: By which all operations are weighed, `[edges, operations]`, or with the batch in front.
        """

        def forward(images: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
            with self._mixing(probabilities):
                return network(images, training=True)

        if distribution.replicas() > 1:  # a trace belongs to one of them
            return forward(images, probabilities)
        if id(network) not in self._traced:
            shapes = ([None, *images.shape[1:]], [None, *self.alpha.shape])
            self._traced[id(network)] = tf.function(forward, [tf.TensorSpec(shape) for shape in shapes])
        return self._traced[id(network)](
            images, probabilities if probabilities.shape.rank == 3 else probabilities[None]
        )

    def _mixing(self, probabilities: tf.Tensor) -> contextlib.AbstractContextManager[None]:
        """All operations of a forward pass are weighed by these, `[(batch,) edges, operations]`."""
        return self._holding("_probabilities", probabilities)

    def _weights(self, edge: int) -> tf.Tensor:
        if self._probabilities is None:
            return tf.nn.softmax(self.alpha[edge])
        probabilities = self._probabilities
        if probabilities.shape.rank == 2:
            return probabilities[edge]
        return tf.transpose(probabilities[:, edge])[:, :, None, None, None]
