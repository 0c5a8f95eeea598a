"""Reads the operators of a TFLite flatbuffer, LCE's among them."""

from __future__ import annotations

import builtins
from dataclasses import dataclass

import numpy as np

from tfbnas.errors import UserError

_DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}
BINARY_CONVOLUTION = "LceBconv2d"
QUANTIZE = "LceQuantize"


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the flatbuffer; `data` is `None` unless it is a constant."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    data: np.ndarray | None

    @property
    def bytes(self) -> int:
        """Bytes of the constant, 0 for others."""
        return 0 if self.data is None else self.data.nbytes

    @property
    def content(self) -> builtins.bytes:
        """The constant as it is stored, nothing for others."""
        return b"" if self.data is None else self.data.tobytes()


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator: TFLite's name of it, or the code of a custom one (LCE's, or one that no runtime knows)."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    is_custom: bool = False

    @property
    def constants(self) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in self.inputs if tensor.data is not None)

    @property
    def weights(self) -> Tensor | None:
        """The kernel: the largest constant of two or more dimensions."""
        kernels = [tensor for tensor in self.constants if len(tensor.shape) >= 2]
        return max(kernels, key=lambda tensor: tensor.bytes, default=None)

    @property
    def is_bit_packed(self) -> bool:
        """Whether its kernel holds 32 binary weights in each int32."""
        return self.name == BINARY_CONVOLUTION and self.weights is not None and self.weights.dtype == "int32"

    @property
    def has_float_weights(self) -> bool:
        """Whether it multiplies with floats, whatever values these have."""
        return self.weights is None or self.weights.dtype in ("float32", "float16")


def operators(flatbuffer: bytes) -> list[Operator]:
    """The operators of a flatbuffer in the order in which they run.

    Raises:
      UserError: It is no TFLite file, or has several subgraphs (control flow).
    """
    return _read(flatbuffer)[0]


def input_output_types(flatbuffer: bytes) -> tuple[list[str], list[str]]:
    """The dtypes of the inputs and of the outputs.

    Raises:
      UserError: As `operators`.
    """
    _, inputs, outputs = _read(flatbuffer)
    return [tensor.dtype for tensor in inputs], [tensor.dtype for tensor in outputs]


def outputs(flatbuffer: bytes) -> list[Tensor]:
    """The tensors that the model gives out, in the order of the Keras model's outputs.

    Raises:
      UserError: As `operators`.
    """
    return _read(flatbuffer)[2]


def softmax_input(flatbuffer: bytes) -> int | None:
    """Number of the tensor of which the model's only output is the softmax, or `None`.

    Raises:
      UserError: As `operators`.
    """
    found, _, given = _read(flatbuffer)
    last = [operator for operator in found if operator.name == "SOFTMAX" and operator.outputs[0] in given]
    return last[0].inputs[0].index if last and len(given) == 1 else None


def _read(flatbuffer: bytes) -> tuple[list[Operator], list[Tensor], list[Tensor]]:
    """Operators, inputs and outputs."""
    from tensorflow.lite.python import schema_py_generated as schema

    if flatbuffer[4:8] != b"TFL3":
        raise UserError("Expected a TFLite flatbuffer (identifier TFL3). Received: other bytes; convert a model first.")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(flatbuffer, 0))
    if len(model.subgraphs) != 1:
        raise UserError(
            f"Expected a flatbuffer with 1 subgraph. Received: {len(model.subgraphs)}; remove control flow."
        )
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    graph = model.subgraphs[0]
    tensors = [_tensor(index, tensor, model.buffers) for index, tensor in enumerate(graph.tensors)]
    result = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = code.customCode.decode() if code.customCode else names.get(builtin, str(builtin))
        inputs = tuple(tensors[i] for i in operator.inputs if i >= 0)
        outputs = tuple(tensors[i] for i in operator.outputs)
        result.append(Operator(name, inputs, outputs, bool(code.customCode)))
    return result, [tensors[i] for i in graph.inputs], [tensors[i] for i in graph.outputs]


def _tensor(index: int, tensor, buffers) -> Tensor:
    dtype = _DTYPES.get(tensor.type, f"type {tensor.type}")
    shape = tuple(int(size) for size in tensor.shape) if tensor.shape is not None else ()
    raw = buffers[tensor.buffer].data
    data = None
    if raw is not None and len(raw):
        data = np.asarray(raw, np.uint8)
        if not dtype.startswith("type"):
            data = data.view(dtype).reshape(shape)
    return Tensor(index, (tensor.name or b"").decode("utf-8", "replace"), shape, dtype, data)


def unpack_kernel(packed: np.ndarray, channels: int) -> np.ndarray:
    """The +-1 kernel `[filters, height, width, channels]` of a bit-packed one (bit 1 is -1, lowest bit first)."""
    bits = (packed[..., None].astype(np.uint32) >> np.arange(32, dtype=np.uint32)) & 1
    kernel = bits.reshape(*packed.shape[:-1], -1)[..., :channels]
    return 1.0 - 2.0 * kernel.astype(np.float32)
