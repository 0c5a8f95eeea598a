"""Writes a TFLite flatbuffer anew: the same model in fewer bytes, or with inner tensors as further outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import flatbuffers
import numpy as np

# The schema asks for this alignment of constants, so that kernels can read them as vectors where they are.
_ALIGNMENT = 16
_METADATA = b"TFLITE_METADATA"


def compact(flatbuffer: bytes) -> bytes:
    """The same model without what no runtime reads.

    Left out: names of constants, and of other tensors what stands behind the first operation; empty quantisation
    parameters; empty buffers. Equal shapes, options and constants are stored once. Operators, constants, tensor numbers
    and signatures stay.
    """

    def change(model: Any) -> None:
        for graph in model.subgraphs:
            for tensor in graph.tensors:
                constant = _is_filled(model.buffers[tensor.buffer])
                tensor.name = None if constant or not tensor.name else tensor.name.split(b";")[0]
                if tensor.quantization is not None and not _carries(tensor.quantization):
                    tensor.quantization = None
        drop_buffers(model)

    return rewritten(flatbuffer, change)


def with_outputs(flatbuffer: bytes, tensors: Iterable[int]) -> bytes:
    """The same model with these tensors as outputs behind its own, by their numbers."""

    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.outputs = np.array([*graph.outputs, *tensors], np.int32)

    return rewritten(flatbuffer, change)


def with_metadata(flatbuffer: bytes, content: bytes) -> bytes:
    """The same model with TFLite metadata, see `metadata.py`; in a file that has some, it takes their place."""

    def change(model: Any) -> None:
        from tensorflow.lite.python import schema_py_generated as schema

        entry, buffer = schema.MetadataT(), schema.BufferT()
        entry.name, entry.buffer = _METADATA, len(model.buffers)
        buffer.data = np.frombuffer(content, np.uint8)
        model.metadata = [old for old in model.metadata or [] if old.name != _METADATA] + [entry]
        model.buffers.append(buffer)
        drop_buffers(model)

    return rewritten(flatbuffer, change)


def rewritten(flatbuffer: bytes, change: Callable[[Any], None]) -> bytes:
    """The model after `change` of its object form; equal constants are stored once."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(flatbuffer, 0))
    change(model)
    builder = _Builder(len(flatbuffer))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _Builder(flatbuffers.Builder):
    """Stores equal vectors of numbers once, and aligns bytes, of which constants consist."""

    def __init__(self, size: int):
        super().__init__(size)
        self._stored: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802  (called by the generated code)
        content = x.tobytes()
        key = (x.dtype.str, content)
        if key not in self._stored:
            if x.dtype == np.uint8:
                self.StartVector(1, x.size, _ALIGNMENT)
                self.head -= x.size
                self.Bytes[self.head : self.head + x.size] = content
                self._stored[key] = self.EndVector()
            else:
                self._stored[key] = super().CreateNumpyVector(x)
        return self._stored[key]


def _is_filled(buffer: Any) -> bool:
    return buffer.data is not None and len(buffer.data) > 0


def _carries(quantization: Any) -> bool:
    """Whether quantisation parameters say anything."""
    return any(getattr(quantization, name) is not None for name in ("min", "max", "scale", "zeroPoint", "details"))


def drop_buffers(model: Any) -> None:
    """Leaves one empty buffer, number 0, and the filled ones that a tensor or metadata has."""
    users = [tensor for graph in model.subgraphs for tensor in graph.tensors] + list(model.metadata or [])
    kept = [model.buffers[0]]
    numbers: dict[int, int] = {}
    for user in users:
        if not _is_filled(model.buffers[user.buffer]):
            user.buffer = 0
            continue
        if user.buffer not in numbers:
            numbers[user.buffer] = len(kept)
            kept.append(model.buffers[user.buffer])
        user.buffer = numbers[user.buffer]
    model.buffers = kept
    model.metadataBuffer = None
