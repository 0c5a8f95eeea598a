"""Expected sizes of operations: of a closed network what they are, of an open one their means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers.width import OpenWidth
from tfbnas.lce.graph import When
from tfbnas.lce.operations import Operation

Distributions = Mapping[str, Any]
"""For each open choice its distribution. A width: channel numbers and their probabilities, two float tensors of equal
shape `[candidates]`. Any other choice: the probabilities of its candidates, `[candidates]`; of a module these are
[absent, present]."""

Value = Callable[[Operation, "Expectation"], Any]


class Expectation:
    """Means over the choices that are open, which are taken as independent.

    Exact are: one width; a product of two widths, also of a width with itself; the number of tensors that an addition
    sums, where different choices decide about them. Not seen is that a module without a reader, or without anything to
    read, is no part of a network: it counts by its own probability.

    Args:
      distributions: Of each open choice. Default: none, for closed networks.
    """

    def __init__(self, distributions: Distributions | None = None):
        self._distributions = distributions or {}

    def channels(self, channels: Any) -> Any:
        """Mean number of channels."""
        return self.product(channels, 1)

    def product(self, inputs: Any, outputs: Any, of_inputs: Callable[[Any], Any] = lambda channels: channels) -> Any:
        """Mean product of two numbers of channels, or of a function of the first and the second.

        Raises:
          UserError: One is open and has no distribution, or is not known at all.
        """
        if isinstance(inputs, OpenWidth) and inputs is outputs:
            values, probabilities = self._of(inputs.name)
            return tf.reduce_sum(of_inputs(values) * values * probabilities)
        return self._mean(inputs, of_inputs) * self._mean(outputs)

    def _mean(self, channels: Any, of_channels: Callable[[Any], Any] = lambda channels: channels) -> Any:
        if isinstance(channels, OpenWidth):
            values, probabilities = self._of(channels.name)
            return tf.reduce_sum(of_channels(values) * probabilities)
        if not isinstance(channels, int):
            raise UserError(f"Expected a network whose sizes are known. Received: {channels!r}.")
        return of_channels(channels)

    def probability(self, when: When, given: When = ()) -> Any:
        """Probability that something exists which exists under these choices, where others are made already."""
        return math.prod(self._of(name)[candidate] for name, candidate in when if (name, candidate) not in given)

    def additions(self, operation: Operation) -> Any:
        """Mean number of additions that an addition of several tensors takes where it exists: E[max(terms - 1, 0)].

        It is E[terms] - 1 + P(no term). Terms under one choice exist together, or instead of each other.
        """
        whens = [tuple(c for c in when if c not in operation.when) for when in operation.terms_when]
        if not any(whens):
            return max(operation.terms - 1, 0)
        mean = sum(self.probability(when) for when in whens)
        single = {when for when in whens if len(when) == 1}
        absent = [1.0 - self.probability(when) for when in whens if len(when) != 1]
        for name in sorted({choice for ((choice, _),) in single}):
            absent.append(1.0 - sum(self.probability(when) for when in single if when[0][0] == name))
        return mean - 1.0 + math.prod(absent)

    def _of(self, name: str) -> Any:
        if name not in self._distributions:
            raise UserError(f"Expected a distribution of the open choice {name!r}. Received: none; close the choice.")
        return self._distributions[name]


CLOSED = Expectation()


def check_widths_only(operations: Sequence[Operation], remedy: str) -> None:
    """Refuses networks in which modules or operations are open.

    Args:
      operations: `trace` of the network.
      remedy: What to use instead.

    Raises:
      UserError: Another choice than of widths is open.
    """
    for operation in operations:
        for name, _ in (*operation.when, *sum(operation.terms_when, ())):
            raise UserError(
                f"Expected a network in which only widths are open. Received: the open choice {name!r} at layer "
                f"{operation.layer!r}; use {remedy}."
            )


def expected_sum(operations: Sequence[Operation], distributions: Distributions, value: Value) -> tf.Tensor:
    """The expected sum of `value(operation, expectation)` over the operations that exist, a float32 scalar."""
    expectation = Expectation(distributions)
    total: Any = 0.0
    for operation in operations:
        total += expectation.probability(operation.when) * value(operation, expectation)
    return tf.convert_to_tensor(total, tf.float32)
