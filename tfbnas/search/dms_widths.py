"""Expansion ratios as numbers of channels, and the widths that differentiable dimension search can search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, DifferentiableCost, Operation
from tfbnas.errors import UserError
from tfbnas.layers import OpenWidth
from tfbnas.networks import choices
from tfbnas.networks.choices import Width, kind_of
from tfbnas.search import logistic
from tfbnas.search.closing_widths import Faster, Prices, channels_of
from tfbnas.search.dms_settings import Settings


def least_ratio(settings: Settings) -> float:
    """The least mu that a search can end with."""
    return max(settings.minimal_edge + logistic.HALF_STEP * settings.final_sigma, settings.minimal_ratio)


def smallest(template: Architecture, settings: Settings) -> dict[str, int]:
    """Choices of the smallest network that a search can reach: every width at `least_ratio`.

    Raises:
      UserError: A choice of the network is no width.
    """
    widths = {name: width_of(template.network, name, kind) for name, kind in choices(template).items()}
    base = np.array([width.base for width in widths.values()])
    found = channels_of(np.full(len(widths), least_ratio(settings)), base, multiple=settings.width_multiple)
    return dict(zip(widths, found.tolist(), strict=True))


def described(
    widths: Sequence[OpenWidth],
    mu: np.ndarray,
    sigma: float,
    closed: Mapping[str, int],
    *,
    minimum: float,
    ends: Sequence[tf.Tensor],
) -> dict[str, dict[str, Any]]:
    """What a record holds of each width, see `DMS.choices`: JSON.

    Args:
      widths: The open widths.
      mu: Their mean ratios, `[widths]`.
      sigma: Scale of the distribution.
      closed: Their channels if they were closed now, by name.
      minimum: Least ratio of a candidate.
      ends: Least and largest mu that the round allowed, two of `[widths]`.
    """
    ratios = logistic.candidates(tf.constant(mu), sigma, minimum)
    probabilities = tf.exp(logistic.log_probabilities(ratios, mu, sigma)).numpy()
    channels = channels_of(ratios.numpy(), np.array([[width.base] for width in widths]))
    return {
        width.name: {
            "value": float(mu[index]),
            "low": float(mu[index]) - sigma,
            "high": float(mu[index]) + sigma,
            "closed": closed[width.name],
            "base": width.base,
            "candidates": ratios[index].numpy().tolist(),
            "candidate_channels": channels[index].tolist(),
            "probabilities": probabilities[index].tolist(),
            "least": float(ends[0][index]),
            "most": float(ends[1][index]),
            "sigma": sigma,
            "ratio": closed[width.name] / width.base,
        }
        for index, width in enumerate(widths)
    }


def width_of(network: str, name: str, default: object) -> Width:
    """The width that a choice is.

    Raises:
      UserError: It is another kind of choice.
    """
    kind = kind_of(default)
    if not isinstance(kind, Width):
        raise UserError(
            f"Expected a network whose choices are widths. Received: the network {network!r}, whose choice {name!r} is "
            f"of the kind {type(kind).__name__}."
        )
    return kind


def delivered(times: Prices, base: np.ndarray, settings: Settings) -> tf.Tensor:
    """With how many channels each number of channels of a width is delivered, `[widths, numbers]`, float32.

    As the closing decides, but for each width alone, with all others at the ratio at which the search starts.
    """
    start = channels_of(np.full(len(base), settings.initial_ratio), base, multiple=settings.width_multiple)
    count = int(2 * max(base) * (settings.initial_ratio + logistic.SPREAD * settings.initial_sigma)) + 1
    faster, found = Faster(times, settings.width_multiple), np.tile(np.arange(count), (len(base), 1))
    for width in range(len(base)):
        rows = np.tile(start, (count - 1, 1))
        rows[:, width] = np.arange(1, count)
        found[width, 1:] = faster.widened_one(rows, width)[:, width]
    return tf.constant(found, tf.float32)


def check_costs(budgets: Sequence[Budget]) -> None:
    """Raises UserError for a cost whose expectation is unknown."""
    for budget in budgets:
        if not isinstance(budget.cost, DifferentiableCost):
            raise UserError(
                "Expected a budget on a cost whose expectation is differentiable (it has `expected`). "
                f"Received: {type(budget.cost).__name__}."
            )


def check_reach(budgets: Sequence[Budget], least: Sequence[Any], text: str) -> None:
    """Raises UserError for a budget below the least cost, that of the network that `text` names."""
    for budget, cost in zip(budgets, least, strict=True):
        if cost > budget.limit:
            raise UserError(
                f"Expected a budget of at least {float(cost):.6g} {budget.cost.unit}, the cost of {text}. "
                f"Received: limit={budget.limit:.6g}."
            )


def check_masks(network: str, widths: Sequence[OpenWidth], operations: Sequence[Operation]) -> None:
    """Raises UserError for a network without widths, or with one that has no normalisation where its mask can act."""
    masked = {id(operation.outputs) for operation in operations if operation.kind == "normalization"}
    for width in widths:
        if id(width) not in masked:
            raise UserError(
                "Expected a tfbnas BatchNormalization behind the layers of every open width, where its mask acts. "
                f"Received: the network {network!r} with none for the width {width.name!r}."
            )
    if not widths:
        raise UserError(f"Expected a network with choices. Received: the network {network!r}, which asks for none.")
