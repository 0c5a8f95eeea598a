"""What closed networks of one family cost, for those who ask about thousands of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs.cost import Cost, DifferentiableCost
from tfbnas.layers import OpenWidth
from tfbnas.lce.operations import Operation, trace
from tfbnas.networks.choices import Width

Price = Callable[[Mapping[str, Any]], float]
"""From closed choices, all of them, to a cost in its own unit."""


def price(cost: Cost, template: Architecture) -> Price:
    """A function from closed choices to their cost, as `cost.of` gives it up to float32's rounding, but fast.

    For a graph of modules nothing is built; for widths the network is built once. Other families are built each time.

    Args:
      cost: Any cost.
      template: Names the family; its choices do not matter.
    """
    if networks.is_graph(template.network) and hasattr(cost, "over"):
        return _of_modules(cost, template)
    widths = networks.choices(template)
    if isinstance(cost, DifferentiableCost) and all(isinstance(kind, Width) for kind in widths.values()):
        return _of_widths(cost, template)
    return lambda choices: float(cost.of(replace(template, choices=dict(choices))))


def prices_of_widths(
    costs: Sequence[DifferentiableCost], operations: Sequence[Operation], names: Sequence[str]
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from the channels of many closed networks at once to what each of them costs, in float32.

    Args:
      costs: In whose order the columns of the result are.
      operations: `trace` of the network with open widths.
      names: Of its widths, in whose order the columns of the channels are.

    Returns:
      From integers `[networks, widths]` to float64 `[networks, costs]`.
    """

    def one(channels: tf.Tensor) -> tf.Tensor:
        certain = tf.ones([1])
        distributions = {name: (channels[i : i + 1], certain) for i, name in enumerate(names)}
        return tf.stack([cost.expected(operations, distributions) for cost in costs])

    @tf.function(input_signature=[tf.TensorSpec([None, len(names)], tf.float32)], autograph=False)
    def all_of(channels: tf.Tensor) -> tf.Tensor:
        return tf.vectorized_map(one, channels)

    return lambda channels: all_of(tf.constant(channels, tf.float32)).numpy().astype(np.float64)


def _of_modules(cost: Any, template: Architecture) -> Price:
    graph, over = networks.graph(template), cost.over(template)

    def of(choices: Mapping[str, Any]) -> float:
        kept = graph.prune(graph.gates(choices)).modules[0]
        return float(over(kept)) if kept.any() else 0.0

    return of


def opened(template: Architecture) -> tuple[list[Operation], list[str]]:
    """The operations of a network whose choices are widths, with all of them open, and their names.

    Args:
      template: Names the family; its choices do not matter.
    """
    widths: dict[str, OpenWidth] = {}

    def choose(name: str, base: Any) -> OpenWidth:
        return widths.setdefault(name, OpenWidth(name, base.base if isinstance(base, Width) else base))

    network = networks.construct(
        template.network,
        choose,
        input_shape=template.input_shape,
        classes=template.classes,
        options=template.options,
    )
    return list(trace(network)), list(widths)


def _of_widths(cost: DifferentiableCost, template: Architecture) -> Price:
    operations, names = opened(template)
    prices = prices_of_widths([cost], operations, names)
    return lambda choices: float(prices(np.array([[choices[name] for name in names]]))[0, 0])
