"""Memory of a network's weights, in bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs.additive import over_modules, total
from tfbnas.costs.cost import Kept
from tfbnas.costs.trace import WEIGHTED, Operation
from tfbnas.errors import UserError
from tfbnas.layers.width import Channels, OpenWidth

MIB = 2.0**20
COUNTINGS = ("paper", "deployed")


def _given(inputs: Any, outputs: Any) -> tuple[Any, Any, Any]:
    """Moments of channel numbers that are known."""
    return inputs, outputs, inputs * outputs


class Memory:
    """Bytes that the weights of a network take when binary weights are packed, one bit each.

    Args:
      counting: "paper" (DMS table 1) counts kernels and the bias of the last layer: one bit per binary weight, four
        bytes per float weight. "deployed" adds what the exported network holds besides: scale and offset, eight bytes
        per channel of each BatchNormalization; that is what `larq.models.summary` counts too. Default: "paper".
    """

    unit = "bytes"

    def __init__(self, counting: str = "paper"):
        if counting not in COUNTINGS:
            raise UserError(f"Expected `counting` to be one of {COUNTINGS}. Received: counting={counting!r}.")
        self.counting = counting

    def of(self, architecture: Architecture) -> float:
        """Bytes of a closed network."""
        return total(architecture, self.of_operation)

    def over(self, architecture: Architecture) -> Callable[[Kept], float]:
        """Function from the kept modules of a graph to their bytes."""
        return over_modules(architecture, self.of_operation)

    def of_operation(self, operation: Operation) -> float:
        """Bytes of one operation whose channels are known."""
        return float(self._total([operation], _given))

    def expected(
        self, operations: Sequence[Operation], distributions: Mapping[str, tuple[tf.Tensor, tf.Tensor]]
    ) -> tf.Tensor:
        """Expected bytes of a network with open widths, differentiable by the probabilities.

        Widths are independent; where a layer's input and output are the same width, the mean of the square is taken.

        Args:
          operations: `trace` of the open network.
          distributions: For the name of each open width, channel numbers and their probabilities, two float tensors
            of equal shape `[candidates]`.

        Returns:
          Scalar float32 tensor.
        """

        def mean(channels: Channels) -> Any:
            if not isinstance(channels, OpenWidth):
                return float(channels)
            values, probabilities = distributions[channels.name]
            return tf.reduce_sum(values * probabilities)

        def moments(inputs: Channels, outputs: Channels) -> tuple[Any, Any, Any]:
            if isinstance(inputs, OpenWidth) and inputs is outputs:
                values, probabilities = distributions[inputs.name]
                return mean(inputs), mean(outputs), tf.reduce_sum(tf.square(values) * probabilities)
            return mean(inputs), mean(outputs), mean(inputs) * mean(outputs)

        return tf.convert_to_tensor(self._total(operations, moments), tf.float32)

    def _total(self, operations: Sequence[Operation], moments: Callable[[Channels, Channels], tuple]) -> Any:
        total: Any = 0.0
        for operation in operations:
            if operation.kind not in WEIGHTED:
                total += 4.0 * operation.other_weights
                continue
            _, outputs, product = moments(operation.inputs, operation.outputs)
            if operation.kind == "normalization":
                if self.counting == "deployed":
                    total += 8.0 * outputs
                continue
            height, width = operation.kernel_size
            total += (height * width * product / operation.groups) * (0.125 if operation.binary else 4.0)
            if operation.bias:
                total += 4.0 * outputs
        return total
