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
PARTS = ("all", "binary", "float")


def _given(inputs: Any, outputs: Any) -> tuple[Any, Any, Any]:
    """Moments of channel numbers that are known."""
    return inputs, outputs, inputs * outputs


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
        bits: Any = 0.0
        floats: Any = 0.0
        for operation in operations:
            if operation.kind not in WEIGHTED:
                floats += 4.0 * operation.other_weights
                continue
            _, outputs, product = moments(operation.inputs, operation.outputs)
            if operation.kind == "normalization":
                if self.counting == "deployed":
                    floats += 8.0 * outputs
                continue
            height, width = operation.kernel_size
            weights = height * width * product / operation.groups
            if operation.binary:
                bits += 0.125 * weights
            else:
                floats += 4.0 * weights
            if operation.bias:
                floats += 4.0 * outputs
        return {"all": bits + floats, "binary": bits, "float": floats}[self.part]
