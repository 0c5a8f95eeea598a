"""What a filter costs beside the others, and which filters go by the size of their normalisation's scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfbnas.layers import BatchNormalization
from tfbnas.layers.width import OpenWidth

Prices = Callable[[np.ndarray], np.ndarray]
"""Costs `[rows, budgets]` of channels `[rows, widths]`."""


def shares(prices: Prices, counts: np.ndarray, base: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """What a channel of each width costs beside the others, from half to twice the mean.

    Args:
      prices: Of channels.
      counts: Channels now.
      base: The most channels.
      limits: Of the budgets; the one that is used most counts.
    """
    around = np.maximum(1, counts // 4)
    narrower, wider = np.maximum(1, counts - around), np.minimum(counts + around, base)
    rows = np.repeat(counts[None], 2 * len(counts), axis=0)
    for index in range(len(counts)):
        rows[2 * index, index], rows[2 * index + 1, index] = wider[index], narrower[index]
    costs = prices(rows)
    tightest = int(np.argmax(prices(counts[None])[0] / limits))
    apart = (costs[::2, tightest] - costs[1::2, tightest]) / np.maximum(wider - narrower, 1)
    mean = float(np.average(apart, weights=counts))
    return np.clip(apart / mean, 0.5, 2.0) if mean > 0 else np.ones(len(counts))


def scales(network: tf.keras.Model, widths: Sequence[OpenWidth]) -> list[np.ndarray]:
    """The size of the scale of batch normalisation, of each channel of each width: what magnitude pruning goes by.

    It is divided by its mean in the layer. Where several layers write a width, their mean counts.

    Source: Liu et al., "Learning Efficient Convolutional Networks through Network Slimming" (ICCV 2017), without its
    penalty on the scales.
    """
    sizes: dict[str, list[np.ndarray]] = {width.name: [] for width in widths}
    for layer in network.layers:
        if isinstance(layer, BatchNormalization) and layer.width is not None:
            gamma = np.abs(layer.gamma.numpy())
            sizes[layer.width.name].append(gamma / max(float(gamma.mean()), 1e-12))
    return [np.mean(sizes[width.name], axis=0) for width in widths]


def largest_within(scores: Sequence[np.ndarray], prices: Prices, limits: np.ndarray, least_share: float) -> np.ndarray:
    """Masks of all widths, one behind the other: 1 for the channels that stay, 0 for those that go.

    Channels go from the smallest score up, whatever their width, until all limits hold.

    Args:
      scores: Of the channels of each width.
      prices: Of channels.
      limits: Of the budgets.
      least_share: Share of a width's channels that stay.
    """
    owner = np.repeat(np.arange(len(scores)), [len(one) for one in scores])
    free = []
    for one in scores:
        rank = np.argsort(np.argsort(-one, kind="stable"))
        free.append(rank >= max(1, round(least_share * len(one))))
    flat = np.concatenate(scores)
    order = [place for place in np.argsort(flat, kind="stable") if np.concatenate(free)[place]]
    rows = np.tile([len(one) for one in scores], (len(order) + 1, 1))
    for step, place in enumerate(order, start=1):
        rows[step:, owner[place]] -= 1
    within = np.all(prices(rows) <= limits, axis=1)
    gone = order[: int(np.argmax(within)) if within.any() else len(order)]
    masks = np.ones(len(flat), np.float32)
    masks[gone] = 0.0
    return masks
