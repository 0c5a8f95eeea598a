"""Memory of a network's weights, in bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs.additive import over_modules, total
from tfbnas.costs.cost import Kept
from tfbnas.costs.expectation import CLOSED, Distributions, Expectation
from tfbnas.errors import UserError
from tfbnas.lce.operations import WEIGHTED, Operation
from tfbnas.units import UNITS

MIB = 2.0**20
COUNTINGS = ("paper", "deployed")
PARTS = ("all", "binary", "float")


class Memory:
    """Bytes that the weights of a network take when binary weights are packed, one bit each.

    Args:
      counting: "paper" (DMS table 1) counts kernels and the bias of the last layer: one bit per binary weight, four
        bytes per float weight. "deployed" adds what the exported network holds besides: scale and offset, eight bytes
        per channel of each BatchNormalization; that is what `larq.models.summary` counts too. Default: "paper".
      part: "binary" for the packed bits alone, "float" for all else, so that each may have a budget. Default: "all".

    Raises:
      UserError: There is no such counting or part.
    """

    unit = "bytes"

    def __init__(self, counting: str = "paper", *, part: str = "all"):
        for name, value, known in (("counting", counting, COUNTINGS), ("part", part, PARTS)):
            if value not in known:
                raise UserError(f"Expected `{name}` to be one of {known}. Received: {name}={value!r}.")
        self.counting = counting
        self.part = part
        self.name = "memory" if part == "all" else f"{part}_memory"
        self.shown = UNITS[self.name]

    def parts(self, architecture: Architecture) -> dict[str, float]:
        """Bytes of a closed network, binary and float apart."""
        return {part: Memory(self.counting, part=part).of(architecture) for part in ("binary", "float")}

    def of(self, architecture: Architecture) -> float:
        """Bytes of a closed network."""
        return total(architecture, self.of_operation)

    def over(self, architecture: Architecture) -> Callable[[Kept], float]:
        """Function from the kept modules of a graph to their bytes."""
        return over_modules(architecture, self.of_operation)

    def of_operation(self, operation: Operation) -> float:
        """Bytes of one operation whose channels are known."""
        return float(self._total([operation], CLOSED))

    def expected(self, operations: Sequence[Operation], distributions: Distributions) -> tf.Tensor:
        """Expected bytes of a network with open choices, differentiable by the probabilities.

        Choices are taken as independent (see `Expectation`). A layer whose input and output are the same width takes
        the mean of its square. What exists under a choice counts by its probability.

        Args:
          operations: `trace` of the open network.
          distributions: Of each open choice; see `Distributions`.

        Returns:
          Scalar float32 tensor.
        """
        return tf.convert_to_tensor(self._total(operations, Expectation(distributions)), tf.float32)

    def _total(self, operations: Sequence[Operation], expectation: Expectation) -> Any:
        bits: Any = 0.0
        floats: Any = 0.0
        for operation in operations:
            there = expectation.probability(operation.when)
            if operation.kind not in WEIGHTED:
                floats += there * (4.0 * operation.other_weights)
                if operation.channel_weights:
                    floats += there * (4.0 * operation.channel_weights * expectation.channels(operation.outputs))
                continue
            if operation.kind == "normalization":
                if self.counting == "deployed":
                    floats += there * (8.0 * expectation.channels(operation.outputs))
                continue
            height, width = operation.kernel_size
            weights = height * width * expectation.product(operation.inputs, operation.outputs) / operation.groups
            if operation.binary:
                bits += there * (0.125 * weights)
            else:
                floats += there * (4.0 * weights)
            if operation.bias:
                floats += there * (4.0 * expectation.channels(operation.outputs))
        return {"all": bits + floats, "binary": bits, "float": floats}[self.part]
