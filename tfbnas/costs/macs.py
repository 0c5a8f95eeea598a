"""Multiply-adds and parameters, as papers count them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfbnas.architecture import Architecture
from tfbnas.costs.additive import over_modules, total
from tfbnas.costs.cost import Kept
from tfbnas.costs.trace import Operation
from tfbnas.errors import UserError


class MultiplyAdds:
    """Multiplications with an addition, of convolutions and dense layers, and the additions of tensors, for one image.

    Normalisation, activations and pools are not counted. So counted, the networks of BSN cost what its authors report.

    Args:
      binary_weight: What a multiply-add of two bits counts. Default 1.0; 1/64 is common for speed on 64-bit words.
    """

    unit = "multiply-adds"

    def __init__(self, *, binary_weight: float = 1.0):
        if not binary_weight >= 0:
            raise UserError(f"Expected `binary_weight` to be at least 0. Received: binary_weight={binary_weight}.")
        self.binary_weight = binary_weight

    def of(self, architecture: Architecture) -> float:
        """Multiply-adds of a closed network."""
        return total(architecture, self.of_operation)

    def over(self, architecture: Architecture) -> Callable[[Kept], float]:
        """Function from the kept modules of a graph to their multiply-adds."""
        return over_modules(architecture, self.of_operation)

    def of_operation(self, operation: Operation) -> float:
        """Multiply-adds of one operation."""
        places = _given(operation.height) * _given(operation.width)
        outputs = _given(operation.outputs) if operation.kind in ("convolution", "depthwise", "dense", "add") else 0
        if operation.kind == "add":
            return float(places * outputs * (operation.terms - 1))
        if not outputs:
            return 0.0
        inputs = 1 if operation.kind == "depthwise" else _given(operation.inputs) // operation.groups
        rows, columns = operation.kernel_size
        products = rows * columns * inputs * outputs * places
        return products * (self.binary_weight if operation.binary and operation.reads_bits else 1.0)


class Parameters:
    """Numbers that training changes: kernels, biases, scale and offset of normalisations.

    Args:
      biases: Whether convolutions in front of a normalisation count as if they had a bias, as in the authors' release
        of BSN; the normalisation cancels it. Default: False.
    """

    unit = "parameters"

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
            return 2.0 * _given(operation.outputs)
        if operation.kind not in ("convolution", "dense"):
            return float(operation.other_weights)
        outputs = _given(operation.outputs)
        inputs = _given(operation.inputs) // operation.groups
        rows, columns = operation.kernel_size
        bias = operation.bias or (self.biases and operation.kind == "convolution")
        return float(rows * columns * inputs * outputs + (outputs if bias else 0))


def _given(channels: Any) -> int:
    """A number that is known: these costs are of closed networks."""
    if not isinstance(channels, int):
        raise UserError(f"Expected a network whose widths are closed. Received: {channels!r}.")
    return channels
