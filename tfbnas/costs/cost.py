"""What every cost offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfbnas.architecture import Architecture
from tfbnas.costs.expectation import Distributions
from tfbnas.lce.operations import Operation

Kept = NDArray[np.bool_]
"""Whether each module of a graph is part of the network, `[modules]`."""


class Cost(Protocol):
    """A cost of a closed network: any function of its architecture.

    A cost may also offer `over(architecture)`, which returns a fast function from the kept modules of the
    architecture's graph (`Kept`) to the cost; a search that asks for thousands of costs uses it instead of `of`. Asked
    about single modules, which are no network, it says what they cost alone: so a cheapest path is found. Where the
    cost is not the same each time (a measurement), an attribute `stochastic = True` says so. `name` is what messages
    and settings call the cost, by default its class; `shown` the Unit in which people read it.

    Attributes:
      unit: What it is counted in, for instance "bytes".
    """

    unit: str

    def of(self, architecture: Architecture) -> float:
        """Cost of a closed network."""


@runtime_checkable
class DifferentiableCost(Cost, Protocol):
    """A cost that is also known as an expectation; both agree where every probability is 0 or 1."""

    def expected(self, operations: Sequence[Operation], distributions: Distributions) -> tf.Tensor:
        """Expected cost of a network with open choices, a scalar, differentiable by the probabilities."""
