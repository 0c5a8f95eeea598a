"""A network as a graph of modules, some of them behind a choice: one description for networks, costs and searches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers.fan_out import FanOut
from tfbnas.layers.gate import Gated, OpenGate
from tfbnas.layers.width import builds_for_training
from tfbnas.networks.choices import Module
from tfbnas.networks.pruning import Bits, Pruned, prune

Make = Callable[..., Any]
"""`make(name, tensors, *arguments)`: a module's layers, from a list of Keras tensors to one."""


@dataclass(frozen=True)
class Node:
    """A module of a graph.

    Attributes:
      name: The layers that it makes are called so, or so and "_" and more.
      make: Makes its layers.
      arguments: Further arguments of `make`; with the shapes of the inputs they decide all but the layers' names.
      cost: Units in a schedule: 1, or 0 for what is no work (an identity).
      choice: Name of the choice that decides whether it is there; None where it always is.
    """

    name: str
    make: Make
    arguments: tuple[Hashable, ...]
    cost: int
    choice: str | None

    def __call__(self, tensors: list[Any]) -> Any:
        return self.make(self.name, tensors, *self.arguments)

    def alone(self, shapes: Sequence[tuple[int | None, ...]], dtype: Any = None) -> tf.keras.Model:
        """The module as a model of its own, for inputs of these shapes (without the batch)."""
        copies = [tf.keras.Input(shape, dtype=dtype) for shape in shapes]
        return tf.keras.Model(copies, self(copies), name=self.name)


class NetworkGraph:
    """Modules and who reads whom. The first module reads the images, the last one gives the network's output.

    The order in which modules and edges are added is part of the description: it decides ties in schedules.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.predecessors: list[list[int]] = []
        self.successors: list[list[int]] = []

    def add(
        self,
        name: str,
        make: Make,
        *arguments: Hashable,
        inputs: Sequence[int] = (),
        cost: int = 1,
        choice: str | None = None,
    ) -> int:
        """Adds a module that reads `inputs`; returns its number. More inputs may follow by `connect`."""
        self.nodes.append(Node(name, make, arguments, cost, choice))
        self.predecessors.append([])
        self.successors.append([])
        for source in inputs:
            self.connect(source, len(self.nodes) - 1)
        return len(self.nodes) - 1

    def connect(self, source: int, target: int) -> None:
        """Lets module `target` read module `source`."""
        self.predecessors[target].append(source)
        self.successors[source].append(target)

    @functools.cached_property
    def choices(self) -> tuple[str, ...]:
        """Names of the choices, in the order in which they were added; the gates of a search are in this order."""
        return tuple(dict.fromkeys(node.choice for node in self.nodes if node.choice is not None))

    @functools.cached_property
    def guard(self) -> list[int]:
        """For each module, the number of its choice; -1 where it has none."""
        numbers = {name: number for number, name in enumerate(self.choices)}
        return [-1 if node.choice is None else numbers[node.choice] for node in self.nodes]

    @functools.cached_property
    def costs(self) -> list[int]:
        """Units of each module in a schedule."""
        return [node.cost for node in self.nodes]

    @functools.cached_property
    def order(self) -> list[int]:
        """All modules, each before its successors."""
        waiting = [len(sources) for sources in self.predecessors]
        order = [module for module, count in enumerate(waiting) if not count]
        for module in order:
            for reader in self.successors[module]:
                waiting[reader] -= 1
                if not waiting[reader]:
                    order.append(reader)
        last = len(self.nodes) - 1
        if len(order) <= last or order[0] or order[-1] != last:
            raise ValueError("Expected a graph without cycles from its first module, the input, to its last one.")
        return order

    def prune(self, gates: Bits) -> Pruned:
        """What is left of the graph where the choices are `gates`, `[examples, choices]`."""
        return prune(gates, order=self.order, predecessors=self.predecessors, guard=self.guard)

    def gates(self, choices: Mapping[str, Any]) -> Bits:
        """Values of choices as `[1, choices]`; a choice left out is kept.

        Raises:
          UserError: A value is neither true nor false.
        """
        values = [Module().check(name, choices.get(name, True)) for name in self.choices]
        return np.array([values], bool).reshape(1, len(values))

    def cheapest_path(self, weights: Sequence[float]) -> Bits:
        """The gates `[choices]` of the path from input to output with the least sum of weights, one for each module."""
        best: dict[int, tuple[float, tuple[int, ...]]] = {}
        for module in self.order:
            weight, path = min([best[source] for source in self.predecessors[module]], default=(0.0, ()))
            gate = self.guard[module]
            best[module] = (weight + weights[module], path if gate < 0 else (*path, gate))
        gates = np.zeros(len(self.choices), bool)
        gates[list(best[self.order[-1]][1])] = True
        return gates

    def build(self, choose: Callable[[str, Any], Any], *, input_shape: tuple[int, int, int], name: str):
        """The Keras model of what the choices leave: modules that do not lead from input to output are not made.

        Args:
          choose: `choose(name, True)` gives True, False, or an OpenGate, which keeps the module for a search to decide.
          input_shape: Height, width, channels.
          name: Of the model.

        Raises:
          UserError: A value is none of these, or nothing is left.
        """
        chosen = {choice: choose(choice, True) for choice in self.choices}
        opened = {choice: value for choice, value in chosen.items() if isinstance(value, OpenGate)}
        kept = self.prune(self.gates(chosen | dict.fromkeys(opened, True))).modules[0]
        if not kept.any():
            raise UserError(
                f"Expected choices of {name} that leave a path from input to output. Received: "
                f"{sum(value is False for value in chosen.values())} of {len(chosen)} closed, which leave none."
            )
        inputs = tf.keras.Input(input_shape)
        # What each module writes, once for every reader that is left.
        copies: dict[int, list[Any]] = {}
        output = inputs
        for module in self.order:
            if kept[module]:
                sources = [copies[source].pop() for source in self.predecessors[module] if kept[source]] or [inputs]
                output = _apply(self.nodes[module], sources, opened)
                readers = sum(bool(kept[reader]) for reader in self.successors[module])
                repeatable = readers > 2 and (opened or builds_for_training())
                copies[module] = (
                    FanOut(readers, name=f"{self.nodes[module].name}_out")(output) if repeatable else [output] * readers
                )
        return tf.keras.Model(inputs, output, name=name)


def _apply(node: Node, sources: list[Any], opened: Mapping[str, OpenGate]) -> Any:
    gate = opened.get(node.choice or "")
    if gate is None:
        return node(sources)
    module = node.alone([source.shape[1:] for source in sources], sources[0].dtype)
    return Gated(module, gate, name=f"{node.name}_gate")(sources)
