"""Memory of a network's weights, in bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs.additive import closed_operations, over_modules, total
from tfbnas.costs.cost import Kept
from tfbnas.costs.expectation import CLOSED, Distributions, Expectation, check_widths_only
from tfbnas.costs.fused import over_fused
from tfbnas.costs.operators import calls, operator
from tfbnas.errors import UserError
from tfbnas.lce.operations import WEIGHTED, Operation
from tfbnas.networks import graph
from tfbnas.units import UNITS

MIB = 2.0**20
COUNTINGS = ("paper", "deployed", "file")
PARTS = ("all", "binary", "float")

# What a file holds beside constants, in bytes: means over the exported networks of the tests.
_FILE = 2455.0
_BINARY_OPERATOR = 315.0
_OPERATOR = 130.0


class Memory:
    """Bytes that the weights of a network take when binary weights are packed, one bit each.

    Args:
      counting: "paper" (DMS table 1) counts kernels and the bias of the last layer: one bit per binary weight, four
        bytes per float weight. "deployed" adds what the exported network holds besides: scale and offset, eight bytes
        per channel of each BatchNormalization; that is what `larq.models.summary` counts too. "file" is the size of
        model.tflite: binary kernels in words of 32 input channels, thresholds or multipliers and offsets of binary
        convolutions, all float constants, and what every operator takes. Over modules it has no expectation.
        Default: "paper".
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
        if self.counting != "file":
            return total(architecture, self.of_operation)
        return self._file() + sum(map(self.of_operation, closed_operations(architecture)))

    def over(self, architecture: Architecture) -> Callable[[Kept], float]:
        """Function from the kept modules of a graph to their bytes."""
        if self.counting != "file":
            return over_modules(architecture, self.of_operation)
        of_operators, (first, *_, last) = over_fused(architecture, self.of_operation), graph(architecture).order
        return lambda kept: of_operators(kept) + (self._file() if kept[first] and kept[last] else 0.0)

    def _file(self) -> float:
        return 0.0 if self.part == "binary" else _FILE

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

        Raises:
          UserError: The counting is that of the file, and another choice than of widths is open.
        """
        if self.counting == "file":
            check_widths_only(operations, "the counting `paper` or `deployed`")
            return self._file() + tf.convert_to_tensor(self._total(operations, Expectation(distributions)), tf.float32)
        return tf.convert_to_tensor(self._total(operations, Expectation(distributions)), tf.float32)

    def _in_file(self, operation: Operation, expectation: Expectation) -> tuple[Any, Any]:
        """Bytes of an operator in the file: of its packed kernel, and of all else."""
        key = operator(operation)
        if key is None:
            return 0.0, 0.0
        area = operation.kernel_size[0] * operation.kernel_size[1]
        if operation.kind == "convolution" and operation.reads_bits:
            words = expectation.product(
                operation.inputs, operation.outputs, lambda c: -(-(c // operation.groups) // 32)
            )
            each = 4.0 if operation.writes_bits else 8.0
            return 4.0 * area * words, _BINARY_OPERATOR + each * expectation.channels(operation.outputs)
        floats: Any = 0.0
        if operation.kind in ("convolution", "dense"):
            floats = area * expectation.product(operation.inputs, operation.outputs) / operation.groups
        if operation.kind in ("convolution", "depthwise") or operation.bias:
            floats += expectation.channels(operation.outputs)
        if operation.kind == "normalization":
            floats = 2.0 * expectation.channels(operation.outputs)
        if operation.channel_weights:
            floats += operation.channel_weights * expectation.channels(operation.outputs)
        count = 2 if operation.kind in ("normalization", "scaling") else calls(operation)
        return 0.0, 4.0 * (floats + operation.other_weights) + count * _OPERATOR

    def _total(self, operations: Sequence[Operation], expectation: Expectation) -> Any:
        bits: Any = 0.0
        floats: Any = 0.0
        for operation in operations:
            there = expectation.probability(operation.when)
            if self.counting == "file":
                packed, others = self._in_file(operation, expectation)
                bits, floats = bits + packed, floats + others
                continue
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


def _words(groups: int, channels: Any) -> Any:
    """Words of 32 bits that the channels of one group take."""
    return -(-(channels // groups) // 32)
