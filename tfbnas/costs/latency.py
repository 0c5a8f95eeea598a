"""Latency of the deployed network on a device, from a table of its operators."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs.additive import closed_operations
from tfbnas.costs.cost import Kept
from tfbnas.costs.expectation import Distributions, check_widths_only
from tfbnas.costs.fused import over_fused
from tfbnas.costs.latency_features import FEATURES, Shape
from tfbnas.costs.operators import calls, operator
from tfbnas.errors import UserError
from tfbnas.files import read_json
from tfbnas.layers.width import Channels, OpenWidth
from tfbnas.lce.operations import Operation
from tfbnas.shipped_tables import devices as devices
from tfbnas.shipped_tables import table_file
from tfbnas.units import UNITS

FORMAT = 1
_PARTS = ("name", "device", "label", "sources", "milliseconds_per_unit", "operators")


def load_table(device: str | os.PathLike, *, argument: str = "device") -> dict[str, Any]:
    """Reads a latency table.

    Args:
      device: Name of a shipped table, or path of a JSON file.
      argument: What messages call it. Default: "device".

    Raises:
      UserError: There is no such table, or the file is none.
    """
    path = table_file(device, argument=argument)
    table = read_json(path)
    if not isinstance(table, dict) or any(part not in table for part in _PARTS) or table.get("format") != FORMAT:
        raise UserError(f"Expected a latency table of format {FORMAT}. Received: {path}, which is none.")
    entries = table["operators"]
    if not isinstance(entries, dict) or not all(isinstance(one, dict) and "terms" in one for one in entries.values()):
        raise UserError(
            f"Expected `operators` with their `terms` in {path}. Received: a table without; measure it anew."
        )
    for key, entry in table["operators"].items():
        unknown = [name for name in entry["terms"] if name not in FEATURES]
        if unknown:
            raise UserError(f"Expected terms out of {sorted(FEATURES)} in {path}. Received: {unknown} of {key!r}.")
    return table


@dataclass(frozen=True)
class OperatorLatency:
    """Predicted time of one operator of the deployed network.

    Attributes:
      layer: Name of the Keras layer.
      operator: Key of the table, for instance "packed_convolution".
      milliseconds: Predicted time.
    """

    layer: str
    operator: str
    milliseconds: float


class Latency:
    """Milliseconds of one inference on one thread, as a latency table predicts them.

    All operators of the deployed network are charged: float stem, quantisation, shortcuts, pools, normalisations that
    cannot be folded. It is a model of the device; a benchmark tells the truth (`python -m tfbnas.device benchmark`).

    Args:
      device: Name of a shipped table ("pixel1", "raspberry_pi_4b"), or path of one that tools/build_latency_table.py
        wrote for another device.
      int8: Whether the network is one in full precision that is quantised to int8 as a whole, as TensorFlow Lite does
        it. Default: False; then what is not binary is float32.

    Attributes:
      table: The table, with its sources and errors.

    Raises:
      UserError: There is no such table.
    """

    name, unit, shown = "latency", "ms", UNITS["latency"]

    def __init__(self, device: str | os.PathLike, *, int8: bool = False):
        self.table = load_table(device)
        self.device = os.fspath(device)
        self.int8 = int8

    def of(self, architecture: Architecture) -> float:
        """Milliseconds of a closed network.

        Raises:
          UserError: The network has a layer of which the table says nothing.
        """
        return sum(row.milliseconds for row in self.operators(closed_operations(architecture)))

    def over(self, architecture: Architecture) -> Callable[[Kept], float]:
        """Function from the kept modules of a graph to their milliseconds, equal to `of` and fast.

        A sum over modules of which each is charged what it is among its neighbours: a module whose output is only read
        by quantisers writes bits, and what reads those does not quantise.

        Raises:
          UserError: The graph has a layer of which the table says nothing.
        """
        return over_fused(architecture, self.of_operation)

    def of_operation(self, operation: Operation) -> float:
        """Milliseconds of one operation whose channels are known; 0 where it is no operator."""
        return sum(row.milliseconds for row in self.operators([operation]))

    def operators(self, operations: Sequence[Operation]) -> list[OperatorLatency]:
        """The operators of a closed network and their times, in the order of the network.

        Args:
          operations: `trace` of the network, without open widths.

        Raises:
          UserError: A width is open, or the table says nothing of a layer.
        """
        rows = []
        for operation in operations:
            key = operator(operation, int8=self.int8)
            if key is None:
                continue
            for channels in (operation.inputs, operation.outputs):
                if isinstance(channels, OpenWidth):
                    raise UserError(
                        f"Expected closed widths. Received: {channels!r} at layer {operation.layer!r}; use `expected`."
                    )
            time = self._time(key, operation, operation.inputs, operation.outputs)
            rows += [OperatorLatency(operation.layer, key, float(time))] * calls(operation)
        return rows

    def expected(self, operations: Sequence[Operation], distributions: Distributions) -> tf.Tensor:
        """Expected milliseconds of a network with open widths, differentiable by the probabilities.

        The time of every combination of an operator's input and output candidates is taken from the table, so the
        stairs of bit packing are exact. Widths are independent. It is not defined over modules and operations: what is
        merged with what depends on which neighbours exist. `over` gives the latency of each draw of these.

        Args:
          operations: `trace` of the open network.
          distributions: For the name of each open width, channel numbers and their probabilities, two float tensors
            of equal shape `[candidates]`.

        Returns:
          Scalar float32 tensor.

        Raises:
          UserError: Another choice than of widths is open, or the table says nothing of a layer.
        """
        check_widths_only(operations, "a cost for which an expectation over modules is defined: Memory or MultiplyAdds")
        total = tf.zeros(())
        for operation in operations:
            key = operator(operation, int8=self.int8)
            if key is None:
                continue
            inputs, by_input = _candidates(operation.inputs, distributions)
            outputs, by_output = _candidates(operation.outputs, distributions)
            if isinstance(operation.inputs, OpenWidth) and operation.inputs is operation.outputs:
                total += calls(operation) * tf.reduce_sum(by_input * self._time(key, operation, inputs, inputs))
                continue
            times = self._time(key, operation, inputs[:, None], outputs[None, :])
            total += calls(operation) * tf.reduce_sum(by_input[:, None] * by_output[None, :] * times)
        return total

    def _time(self, key: str, operation: Operation, inputs: Any, outputs: Any) -> Any:
        entry = self.table["operators"].get(key)
        if entry is None:
            raise UserError(
                f"Layer {operation.layer!r} needs the operator {key!r}, of which the latency table {self.device!r} "
                "says nothing; replace the layer, or measure a table that has it."
            )
        size = (operation.height, operation.width, operation.kernel_size)
        shape = Shape(inputs, outputs, *size, stride=operation.stride, groups=operation.groups)
        time = sum(coefficient * FEATURES[name](shape) for name, coefficient in entry["terms"].items())
        return time * self.table["milliseconds_per_unit"]


def latency(architecture: Architecture, device: str | os.PathLike, *, int8: bool = False) -> float:
    """Predicted milliseconds of one inference of a closed network; see `Latency`."""
    return Latency(device, int8=int8).of(architecture)


def _candidates(channels: Channels, distributions: Distributions) -> tuple[tf.Tensor, tf.Tensor]:
    if isinstance(channels, OpenWidth):
        values, probabilities = distributions[channels.name]
        return tf.stop_gradient(values), probabilities
    return tf.constant([float(channels)]), tf.ones([1])
