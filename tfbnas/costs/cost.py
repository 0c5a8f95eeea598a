"""What every cost offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs.trace import Operation


class Cost(Protocol):
    """A cost of a network, closed and expected; both agree where every probability is 0 or 1.

    Attributes:
      unit: What it is counted in, for instance "bytes".
    """

    unit: str

    def of(self, architecture: Architecture) -> float:
        """Cost of a closed network."""

    def expected(
        self, operations: Sequence[Operation], distributions: Mapping[str, tuple[tf.Tensor, tf.Tensor]]
    ) -> tf.Tensor:
        """Expected cost of a network with open widths, a scalar, differentiable by the probabilities."""
