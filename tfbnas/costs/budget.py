"""Budgets, and what exceeding them costs in a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfbnas.costs.function import FunctionCost
from tfbnas.errors import UserError
from tfbnas.hints import has_type
from tfbnas.units import amount


@dataclass(frozen=True)
class Budget:
    """A limit on a cost, with the weight of exceeding it.

    penalty = penalty_weight * max(0, cost / limit - 1), so the weight is the loss that a cost of twice the limit
    adds, whatever the cost's unit is. DMS Eq. 7 prints weight * max(0, memory - target) without saying in which unit
    memory enters; a weight w per KiB is `penalty_weight = w * limit / 1024` here.

    Args:
      cost: The cost that is limited, or a function from a closed Architecture to a number (see `FunctionCost`). It
        need not be differentiable; DMS alone asks for that.
      limit: In the unit of the cost: bytes for Memory, milliseconds for Latency. A text may name another unit: "8 KiB",
        "0.12 MiB", "2.5 ms".
      penalty_weight: Dimensionless, at least 0. Default 0.3.

    Raises:
      UserError: `cost` is neither a cost nor a function, `limit` is not positive or has no unit of the cost, or
        `penalty_weight` is negative.

    Attributes:
      cost: A `Cost`, in any case.
      limit: A number in the unit of the cost, in any case.
    """

    cost: Any
    limit: Any
    penalty_weight: float = 0.3

    def __post_init__(self) -> None:
        if isinstance(self.cost, type) or not (hasattr(self.cost, "of") or callable(self.cost)):
            hint = f"; write {self.cost.__name__}()" if isinstance(self.cost, type) else ""
            raise UserError(
                f"Expected `cost` to be a cost or a function of an Architecture. Received: {self.cost!r}{hint}."
            )
        if not hasattr(self.cost, "of"):
            object.__setattr__(self, "cost", FunctionCost(self.cost))
        object.__setattr__(self, "limit", amount(self.limit, self.cost.unit))
        if not self.limit > 0:
            raise UserError(
                f"Expected `limit` of a budget to be a positive number of {self.cost.unit}. "
                f"Received: limit={self.limit}."
            )
        if not (has_type(self.penalty_weight, float) and self.penalty_weight >= 0):
            raise UserError(
                f"Expected `penalty_weight` to be at least 0. Received: penalty_weight={self.penalty_weight!r}."
            )

    def penalty(self, cost: tf.Tensor) -> tf.Tensor:
        """The term that a cost, or each of several, adds to the loss; zero within the budget."""
        return self.penalty_weight * tf.nn.relu(cost / self.limit - 1.0)


def largest_within(limit: float, cost: Callable[[float], float], *, upper: float, steps: int = 20) -> float:
    """The largest factor at which a cost that rises with it is within a limit, by bisection.

    Args:
      limit: In the unit of the cost.
      cost: Of a factor.
      upper: Largest factor that is asked about; returned where its cost is within the limit.
      steps: Halvings of the range; the result is exact to upper / 2^steps. Default 20.

    Returns:
      A factor whose cost is within the limit; 0 where none was found.
    """
    if cost(upper) <= limit:
        return upper
    low, high = 0.0, upper
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= limit else (low, middle)
    return low
