"""Multiply-adds and parameters, as papers count them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs.additive import over_modules, total
from tfbnas.costs.cost import Kept
from tfbnas.costs.expectation import CLOSED, Distributions, Expectation, expected_sum
from tfbnas.errors import UserError
from tfbnas.hints import has_type
from tfbnas.lce.operations import Operation
from tfbnas.units import UNITS, Unit


class MultiplyAdds:
    """Multiplications with an addition, of convolutions and dense layers, and the additions of tensors, for one image.

    Normalisation, activations and pools are not counted. So counted, the networks of BSN cost what its authors report.

    Args:
      binary_weight: What a multiply-add of two bits counts. Default 1.0; 1/64 is common for speed on 64-bit words.
    """

    name, unit, shown = "multiply_adds", "multiply-adds", UNITS["multiply_adds"]

    def __init__(self, *, binary_weight: float = 1.0):
        if not (has_type(binary_weight, float) and binary_weight >= 0):
            raise UserError(f"Expected `binary_weight` to be at least 0. Received: binary_weight={binary_weight!r}.")
        self.binary_weight = binary_weight

    def of(self, architecture: Architecture) -> float:
        """Multiply-adds of a closed network."""
        return total(architecture, self.of_operation)

    def over(self, architecture: Architecture) -> Callable[[Kept], float]:
        """Function from the kept modules of a graph to their multiply-adds."""
        return over_modules(architecture, self.of_operation)

    def of_operation(self, operation: Operation) -> float:
        """Multiply-adds of one operation."""
        return float(self._value(operation, CLOSED))

    def expected(self, operations: Sequence[Operation], distributions: Distributions) -> tf.Tensor:
        """Expected multiply-adds of a network with open choices, differentiable by the probabilities.

        Choices are taken as independent (see `Expectation`). What exists under a choice counts by its probability, an
        addition by the mean number of tensors that it sums.

        Args:
          operations: `trace` of the open network.
          distributions: Of each open choice; see `Distributions`.

        Returns:
          Scalar float32 tensor.
        """
        return expected_sum(operations, distributions, self._value)

    def _value(self, operation: Operation, expectation: Expectation) -> Any:
        if operation.kind not in ("convolution", "depthwise", "dense", "add"):
            return 0.0
        places = expectation.product(operation.height, operation.width)
        if operation.kind == "add":
            return places * expectation.channels(operation.outputs) * expectation.additions(operation)
        rows, columns = operation.kernel_size
        if operation.kind == "depthwise":
            return rows * columns * places * expectation.channels(operation.outputs)
        products = rows * columns * places * expectation.product(operation.inputs, operation.outputs) / operation.groups
        return products * (self.binary_weight if operation.binary and operation.reads_bits else 1.0)


class Parameters:
    """Numbers that training changes: kernels, biases, scale and offset of normalisations.

    Args:
      biases: Whether convolutions in front of a normalisation count as if they had a bias, as in the authors' release
        of BSN; the normalisation cancels it. Default: False.
    """

    name, unit, shown = "parameters", "parameters", Unit("parameters")

    def __init__(self, *, biases: bool = False):
        self.biases = biases

    def of(self, architecture: Architecture) -> float:
        """Parameters of a closed network."""
        return total(architecture, self.of_operation)

    def over(self, architecture: Architecture) -> Callable[[Kept], float]:
        """Function from the kept modules of a graph to their parameters."""
        return over_modules(architecture, self.of_operation)

    def of_operation(self, operation: Operation) -> float:
        """Parameters of one operation."""
        if operation.kind == "normalization":
            return 2.0 * CLOSED.channels(operation.outputs)
        if operation.kind not in ("convolution", "dense"):
            return float(operation.other_weights)
        rows, columns = operation.kernel_size
        bias = operation.bias or (self.biases and operation.kind == "convolution")
        weights = rows * columns * CLOSED.product(operation.inputs, operation.outputs) // operation.groups
        return float(weights + (CLOSED.channels(operation.outputs) if bias else 0))
