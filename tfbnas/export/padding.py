"""Constant channels that make a converted model faster: what Larq Compute Engine quantises, in whole words.

LceQuantize packs whole words of 32 channels many times faster than a ragged number of them. So a tensor of 30 channels
gets two more, which are a positive number at every pixel: filters of zeros with an offset in a float convolution, a
multiplier of zero and an offset in a binary one. Their bits are those with which the kernels fill up words anyway, so
the convolutions behind stay as they are, and all outputs are the same to the bit.

A latency table says where that is faster. The function is that of the model; only the file is larger.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tfbnas.costs.latency import load_table
from tfbnas.costs.latency_features import FEATURES, Shape
from tfbnas.export.auditing import Row
from tfbnas.export.flatbuffer import BINARY_CONVOLUTION, QUANTIZE, Operator, Tensor, operators
from tfbnas.export.rewriting import drop_buffers, rewritten
from tfbnas.lce.operations import Operation

_WORD = 32
_EACH = ("ADD", "MUL", "RELU", "RELU6", "MAX_POOL_2D", "AVERAGE_POOL_2D", "RESIZE_NEAREST_NEIGHBOR", "MEAN")
"""Operators that compute every channel on its own; a positive constant stays one."""
_FILLS = {"ADD": 0.0, "MUL": 1.0}
"""What a constant of each channel gets for the new ones."""
_KEYS = {
    "CONV_2D": "convolution",
    BINARY_CONVOLUTION: "binary_convolution",
    QUANTIZE: "quantize",
    "ADD": "add",
    "MUL": "add",
    "RELU": "activation",
    "RELU6": "activation",
    "MAX_POOL_2D": "max_pool",
    "AVERAGE_POOL_2D": "average_pool",
    "RESIZE_NEAREST_NEIGHBOR": "upsampling",
    "MEAN": "global_pool",
    "FULLY_CONNECTED": "dense",
}
"""Operators by their keys in latency tables."""


@dataclass
class Padding:
    """A model with constant channels.

    Attributes:
      flatbuffer: The model; the one that was given where nothing is faster.
      bytes: By which it is larger.
      milliseconds: By which it is faster, as the table predicts.
      widened: Number of each operator that is changed, with its channels before and behind.
      table: The latency table.
    """

    flatbuffer: bytes
    bytes: int = 0
    milliseconds: float = 0.0
    widened: dict[int, tuple[int, int]] = field(default_factory=dict)
    table: str = ""

    def tell(self, rows: Sequence[Row]) -> None:
        """Writes the wider shapes and constants into the audit, with a note where channels are added."""
        for number, operator in enumerate(operators(self.flatbuffer)):
            if number not in self.widened:
                continue
            row, weights = rows[number], operator.weights
            row.shape, row.weight_bytes = list(operator.outputs[0].shape), 0 if weights is None else weights.bytes
            row.constant_bytes = sum(tensor.bytes for tensor in operator.constants) - row.weight_bytes
            if operator.name in ("CONV_2D", BINARY_CONVOLUTION):
                before, after = self.widened[number]
                note = f"{after} channels instead of {before}: constant ones, with which it is quantised faster"
                row.note = f"{row.note}; {note}" if row.note else note

    def summary(self) -> str:
        """One sentence; "" where nothing is wider."""
        if not self.widened:
            return ""
        channels = ", ".join(f"{before} to {after}" for before, after in sorted(set(self.widened.values())))
        return (
            f"constant channels ({channels}): {self.bytes} bytes more, {self.milliseconds:.3g} ms less by the table "
            f"{self.table!r}, the same outputs to the bit"
        )

    def to_json(self) -> dict[str, Any]:
        """Content for a JSON file."""
        channels = sorted({(before, after) for before, after in self.widened.values()})
        return {
            "bytes": self.bytes,
            "milliseconds": round(self.milliseconds, 4),
            "table": self.table,
            "channels": [list(one) for one in channels],
        }


@dataclass
class _Group:
    """Tensors that have the same channels, since operators add them up or hand them on.

    Attributes:
      channels: How many.
      tensors: Their numbers.
      operators: Numbers of the operators that read or write them.
      fill: What new channels hold where a convolution writes them: positive whatever is added behind.
    """

    channels: int
    tensors: set[int] = field(default_factory=set)
    operators: list[int] = field(default_factory=list)
    fill: float = 1.0


def padded(flatbuffer: bytes, device: str, *, largest: int | None = None) -> Padding:
    """A converted model with constant channels where these make it faster.

    Args:
      flatbuffer: The converted model, float32.
      device: Name or file of the latency table.
      largest: Bytes that the file may have; what saves most time for its bytes comes first. Default: any number.
    """
    found, table = operators(flatbuffer), load_table(device)
    gains = [(gain, group) for group in _groups(found) if (gain := _gain(group, found, table)) > 0]
    result = Padding(flatbuffer, table=str(device))
    for gain, group in sorted(gains, key=lambda one: -one[0] / _up(one[1].channels)):
        larger = rewritten(result.flatbuffer, functools.partial(_widen, group=group, found=found))
        if largest is not None and len(larger) > largest:
            continue
        widths = group.channels, _up(group.channels)
        result.widened |= dict.fromkeys(group.operators, widths)
        result.flatbuffer, result.milliseconds = larger, result.milliseconds + gain
    result.bytes = len(result.flatbuffer) - len(flatbuffer)
    return result


def _up(channels: int) -> int:
    return -(-channels // _WORD) * _WORD


def _groups(found: list[Operator]) -> list[_Group]:
    """Tensors that a quantiser reads and that can have more channels."""
    readers: dict[int, list[int]] = {}
    writers: dict[int, int] = {}
    for number, operator in enumerate(found):
        for tensor in operator.inputs:
            readers.setdefault(tensor.index, []).append(number)
        writers |= {tensor.index: number for tensor in operator.outputs}
    groups: list[_Group] = []
    for operator in found:
        start = operator.inputs[0] if operator.name == QUANTIZE else None
        if start is None or not start.shape[-1] % _WORD or any(start.index in group.tensors for group in groups):
            continue
        group = _Group(start.shape[-1])
        if _grow(group, start, found, readers, writers):
            group.operators = sorted({n for t in group.tensors for n in (writers[t], *readers.get(t, []))})
            groups.append(group)
    return groups


def _grow(group: _Group, start: Tensor, found, readers: Mapping[int, list[int]], writers: Mapping[int, int]) -> bool:
    """Fills the group from one tensor; whether all operators around it take more channels."""
    waiting = [start]
    while waiting:
        tensor = waiting.pop()
        if tensor.index in group.tensors:
            continue
        group.tensors.add(tensor.index)
        if tensor.index not in writers or not readers.get(tensor.index) or tensor.shape[-1] != group.channels:
            return False  # the model's input or output, or a broadcast
        writer = found[writers[tensor.index]]
        if writer.name in _EACH:
            waiting += [one for one in writer.inputs if one.data is None]
        elif not (writer.name == "CONV_2D" or writer.name == BINARY_CONVOLUTION and tensor.dtype == "float32"):
            return False
        for number in readers[tensor.index]:
            reader = found[number]
            if reader.name in _EACH:
                waiting += [*reader.outputs, *(one for one in reader.inputs if one.data is None)]
            elif reader.name not in (QUANTIZE, "FULLY_CONNECTED"):
                return False
            constants = _constants(reader)
            numbers = [float(one.data) for one in constants if one.data.size == 1]
            if reader.name == "MUL" and (not constants or min(numbers, default=1.0) <= 0):
                return False  # a product of tensors, or a scale that turns the sign
            if any(one.data.size not in (1, group.channels) for one in constants):
                return False
            group.fill += sum(max(0.0, -number) for number in numbers)
    return True


def _constants(operator: Operator) -> list[Any]:
    """The numbers that an operator adds to all channels, or multiplies them by."""
    return [one for one in operator.constants if operator.name in _FILLS]


def _gain(group: _Group, found: list[Operator], table: Mapping[str, Any]) -> float:
    """Milliseconds that the wider group saves."""
    saved = 0.0
    for number in group.operators:
        operator = found[number]
        terms = table["operators"].get(_KEYS[operator.name], {"terms": {}})["terms"]
        times = [
            sum(c * float(FEATURES[name](_shape(operator, group, width))) for name, c in terms.items())
            for width in (group.channels, _up(group.channels))
        ]
        saved += (times[0] - times[1]) * table["milliseconds_per_unit"]
    return saved


def _shape(operator: Operator, group: _Group, width: int) -> Shape:
    """Size of an operator whose channels of the group are `width`. A stride changes nothing of what widening costs."""
    reads, writes = operator.inputs[0], operator.outputs[0]
    inputs = width if reads.index in group.tensors else _channels(operator)
    outputs = width if writes.index in group.tensors or operator.name == QUANTIZE else writes.shape[-1]
    is_image = len(writes.shape) == 4
    window = reads if operator.name == "MEAN" else operator.weights if is_image else None
    kernel = (1, 1) if window is None else (window.shape[1], window.shape[2])
    height, columns = writes.shape[1:3] if is_image else (1, 1)
    return Shape(inputs, outputs, height, columns, kernel)


def _channels(operator: Operator) -> int:
    """Input channels, up to the words that hold them."""
    channels = operator.inputs[0].shape[-1]
    return channels * _WORD if operator.name == BINARY_CONVOLUTION else channels


def _widen(model: Any, group: _Group, found: list[Operator]) -> None:
    """Gives all tensors of a group more channels, in a flatbuffer's object form."""
    graph, more = model.subgraphs[0], _up(group.channels) - group.channels
    for index in group.tensors:
        graph.tensors[index].shape = np.array([*graph.tensors[index].shape[:-1], _up(group.channels)], np.int32)
    for number in group.operators:
        operator, own = found[number], graph.operators[number]
        if operator.name in ("CONV_2D", BINARY_CONVOLUTION) and operator.outputs[0].index in group.tensors:
            places = [place for place, index in enumerate(own.inputs) if place and index >= 0]
            for order, place in enumerate(places):
                # Kernel, then offset; a binary convolution has the multipliers between them.
                fill = group.fill if order == len(places) - 1 else 0.0
                _extend(model, own, place, functools.partial(_appended, more=more, value=fill))
        elif operator.name == "FULLY_CONNECTED":
            _extend(model, own, 1, functools.partial(_with_columns, more=more))
        for place, tensor in enumerate(operator.inputs):
            if tensor.data is not None and tensor.data.size > 1 and operator.name in _FILLS:
                _extend(model, own, place, functools.partial(_longer, more=more, value=_FILLS[operator.name]))
    drop_buffers(model)


def _appended(data: np.ndarray, more: int, value: float) -> np.ndarray:
    return np.concatenate([data, np.full((more, *data.shape[1:]), value, data.dtype)])


def _longer(data: np.ndarray, more: int, value: float) -> np.ndarray:
    """A constant of each channel, whatever its shape."""
    return _appended(data.reshape(-1), more, value)


def _with_columns(data: np.ndarray, more: int) -> np.ndarray:
    return np.concatenate([data, np.zeros((len(data), more), data.dtype)], axis=1)


def _extend(model: Any, operator: Any, place: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Changes a constant of an operator, for this operator alone."""
    from tensorflow.lite.python import schema_py_generated as schema

    graph = model.subgraphs[0]
    old = graph.tensors[operator.inputs[place]]
    dtype = {0: np.float32, 2: np.int32}[old.type]
    data = np.asarray(model.buffers[old.buffer].data, np.uint8).view(dtype).reshape(tuple(old.shape))
    wider = change(data)
    tensor, buffer = old, schema.BufferT()
    if sum(int(np.sum(np.asarray(one.inputs) == operator.inputs[place])) for one in graph.operators) > 1:
        tensor = schema.TensorT()
        tensor.type, tensor.hasRank = old.type, old.hasRank
        graph.tensors.append(tensor)
        inputs = [len(graph.tensors) - 1 if i == place else index for i, index in enumerate(operator.inputs)]
        operator.inputs = np.array(inputs, np.int32)
    tensor.shape, tensor.buffer = np.array(wider.shape, np.int32), len(model.buffers)
    buffer.data = np.frombuffer(wider.tobytes(), np.uint8)
    model.buffers.append(buffer)


def widened(operations: Sequence[Operation], padding: Padding, layers: Sequence[str]) -> list[Operation]:
    """The operations of a network as its file has them.

    Args:
      operations: `trace` of the network that was converted.
      padding: What was done to the file.
      layers: The layer of each operator of the file, as the audit tells.
    """
    if not padding.widened:
        return list(operations)
    found = operators(padding.flatbuffer)
    writers = {tensor.index: number for number, operator in enumerate(found) for tensor in operator.outputs}
    places = {(layer, _KEYS.get(found[i].name)): i for i, layer in enumerate(layers[: len(found)]) if layer}
    result = []
    for operation in operations:
        place = places.get((operation.layer, operation.kind))
        if operation.kind == "convolution" and place is None:
            place = places.get((operation.layer, "binary_convolution"))
        if operation.kind == "quantize":
            reader = places.get((operation.layer, "binary_convolution"))
            place = None if reader is None else writers.get(found[reader].inputs[0].index)
        before, after = padding.widened.get(-1 if place is None else place, (0, 0))
        if before:
            reads = operation.kind != "convolution" and operation.inputs == before
            writes = operation.kind != "dense" and operation.outputs == before
            operation = replace(
                operation,
                inputs=after if reads else operation.inputs,
                outputs=after if writes else operation.outputs,
            )
        result.append(operation)
    return result


def is_same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    """Whether two models gave the same numbers, to the bit."""
    return len(one) == len(other) and all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))
