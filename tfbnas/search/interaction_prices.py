"""What edges cost, as a search must know of thousands of graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs import Budget
from tfbnas.layers.interaction import InteractedConv2D
from tfbnas.networks.interacted import Interactions


class Prices:
    """Cost of a network with channel interactions by the number of each layer's edges, as a sum over layers.

    Random graphs of one edge, of a quarter and of all edges that a layer may have are priced; between them the cost is
    taken to rise in straight lines. Layers of one shape share their prices, so that few networks are built.

    Args:
      template: The network; its choices do not matter.
      budgets: Costs that are asked for.
      network: The same with open graphs.
      kinds: The graphs that the network asks for, by name.
      limits: Most edges of each of them.
    """

    def __init__(
        self,
        template: Architecture,
        budgets: Sequence[Budget],
        network: tf.keras.Model,
        kinds: Mapping[str, Interactions],
        limits: Sequence[int],
    ):
        def costs(choices: dict) -> np.ndarray:
            found = replace(template, choices=choices)
            return np.array([float(budget.cost.of(found)) for budget in budgets])

        plain, random = costs({}), np.random.default_rng(0)
        shapes, known = _shapes(network), {}
        starts, widths, slopes = [], [], []
        for limit, (name, kind) in zip(limits, kinds.items(), strict=True):
            counts = np.array([0, min(1, limit), max(min(1, limit), limit // 4), limit])
            if shapes[name] not in known:
                more = [costs({name: kind.drawn(int(count), random)}) - plain for count in counts[1:]]
                rises = np.diff(np.array([np.zeros(len(budgets)), *more]), axis=0)
                known[shapes[name]] = rises / np.maximum(1, np.diff(counts))[:, None]
            starts.append(counts[:-1])
            widths.append(np.diff(counts))
            slopes.append(known[shapes[name]])
        self._starts, self._widths = tf.constant(starts, tf.float32), tf.constant(widths, tf.float32)
        self._slopes = tf.constant(np.moveaxis(np.array(slopes), -1, 0), tf.float32)
        self._plain = tf.constant(plain, tf.float32)

    def of(self, edges: tf.Tensor) -> tf.Tensor:
        """Costs `[budgets, ..]` of networks with `[.., layers]` edges."""
        parts = tf.clip_by_value(tf.cast(edges, tf.float32)[..., None] - self._starts, 0.0, self._widths)
        more = tf.tensordot(self._slopes, parts, [[1, 2], [-2, -1]])
        return more + tf.reshape(self._plain, [-1, *[1] * (more.shape.rank - 1)])


def _shapes(network: tf.keras.Model) -> dict[str, tuple]:
    """By the name of each open graph, all that the cost of its edges depends on."""
    return {
        layer.open.name: (layer.input_shape, layer.output_shape, layer.kernel_size, layer.strides)
        for layer in network.layers
        if isinstance(layer, InteractedConv2D) and layer.open is not None
    }
