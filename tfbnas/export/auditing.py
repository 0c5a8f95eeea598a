"""Which operator Larq Compute Engine made of each layer, what it weighs, and where a binary layer came out float."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.export.convert import ExportError
from tfbnas.export.declared import Declared, all_layers, declarations, declarations_of
from tfbnas.export.flatbuffer import BINARY_CONVOLUTION, QUANTIZE, Operator, operators, unpack_kernel
from tfbnas.export.reasons import grouped, why_float, why_wrong

OVERHEAD_FACTOR = 1.10
OVERHEAD_BYTES = 16 * 1024


@dataclass
class Row:
    """One operator of the flatbuffer.

    Attributes:
      layer: Keras layer whose work it does; empty where none can be told.
      declared: Precision that the layer declares, inputs x weights; empty for layers without a kernel.
      operator: TFLite's or LCE's name.
      shape: Of the output.
      weight_bytes: Of the kernel.
      constant_bytes: Of the other constants (scales, offsets, thresholds).
      bit_packed: Whether the kernel holds 32 weights per int32.
      output: "float32", "int8" or "bitpacked".
      note: What a float operator between binary ones is for.
      reason: Why a layer of declared binary weights is not binary here; empty if all is well.
      remedy: What to do about it.
      allowed: Whether the user allowed it by name.
    """

    layer: str
    declared: str
    operator: str
    shape: list[int]
    weight_bytes: int = 0
    constant_bytes: int = 0
    bit_packed: bool = False
    output: str = "float32"
    note: str = ""
    reason: str = ""
    remedy: str = ""
    allowed: bool = False


@dataclass
class Sizes:
    """Bytes of the file against the information in it.

    Attributes:
      file: Bytes of the flatbuffer.
      binary_weights: Bytes of the binary kernels at 1 bit per weight.
      float_parameters: Bytes of all other parameters: 4 each, 2 parameters per channel of a BatchNormalization.
      limit: 1.10 x (both) + 16 KB, what the file should not exceed.
      largest_float: Layers by the bytes of their float parameters, largest first (at most 5).
    """

    file: int
    binary_weights: int
    float_parameters: int
    limit: int
    largest_float: list[tuple[str, int]] = field(default_factory=list)

    @property
    def information(self) -> int:
        """Bytes that the parameters need."""
        return self.binary_weights + self.float_parameters

    def summary(self) -> str:
        """One or two sentences."""
        text = (
            f"size: {self.file} bytes for {self.binary_weights} bytes of binary weights and {self.float_parameters} of "
            f"float parameters (should be at most {self.limit})"
        )
        if self.float_parameters > self.binary_weights:
            largest = ", ".join(f"{name} {size}" for name, size in self.largest_float[:3])
            text += f"\nmost bytes of the parameters are float, in the layers {largest}"
        return text

    def to_json(self) -> dict[str, Any]:
        """Content for a JSON file."""
        return {**asdict(self), "information": self.information, "within_limit": self.file <= self.limit}


def audit(
    flatbuffer: bytes,
    model: tf.keras.Model | None = None,
    *,
    allow: Iterable[str] = (),
    conversions: dict[str, str] | None = None,
) -> list[Row]:
    """Lists the operators of a converted model beside the layers that it was made of.

    Kernels are matched by their content (up to the sign and scale per filter that conversion folds into them), other
    operators by the names that the converter keeps.

    Args:
      flatbuffer: The converted model.
      model: The Keras model that was converted; without it `layer` is a guess and nothing is declared.
      allow: Names of layers that may come out float although they declare themselves binary.
      conversions: Names of layers that the deploy form had to add, with the reason.

    Returns:
      One row per operator, and one for each binary kernel that is in no operator. Rows with a `reason` that
      are not `allowed` are failures; see `check`.
    """
    found = operators(flatbuffer)
    matched: dict[int, Declared] = {}
    missing: list[Declared] = []
    for declared in declarations(model) if model is not None else []:
        index = _match(declared, found, matched)
        if index is not None:
            matched[index] = declared
        elif declared.is_binary:
            missing.append(declared)
    names = [layer.name for layer in all_layers(model)] if model is not None else []
    rows = [_row(operator, matched.get(i), names, conversions or {}) for i, operator in enumerate(found)]
    _warn_of_constant_bits(found, rows)
    for declared in missing:
        reason, remedy = why_float(declared)
        row = Row(declared.layer.name, declared.precision, "none found", [], reason=reason, remedy=remedy)
        rows.append(row)
    allowed = set(allow)
    for row in rows:
        row.allowed = bool(row.reason) and row.layer in allowed
    return rows


def check(rows: Iterable[Row]) -> None:
    """Refuses a model of which a layer is not what it declares.

    Raises:
      ExportError: Names each layer with reason and remedy.
    """
    failures = [row for row in rows if row.reason and not row.allowed]
    if failures:
        lines = [f"layer {row.layer!r} ({row.operator}): {row.reason}; {row.remedy}" for row in failures]
        raise ExportError(
            "Not exported: " + "\n  and ".join(lines) + "\nWhere this is intended, allow the layer by name: "
            f"allow={[row.layer for row in failures]}."
        )


def sizes(flatbuffer: bytes, model: tf.keras.Model) -> Sizes:
    """Compares the size of a converted model with what its parameters need."""
    binary, floats = 0, {}
    for layer in all_layers(model):
        kernels = [d for d in declarations_of(layer) if d.is_binary]
        weights = sum(int(np.prod(v.shape)) for v in layer.trainable_weights + layer.non_trainable_weights)
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            weights = 2 * int(layer.moving_mean.shape[-1])
        bits = sum(d.kernel.size for d in kernels)
        binary += -(-bits // 8)
        if weights - bits > 0:
            floats[layer.name] = 4 * (weights - bits)
    total = sum(floats.values())
    limit = int(OVERHEAD_FACTOR * (binary + total)) + OVERHEAD_BYTES
    largest = sorted(floats.items(), key=lambda item: -item[1])[:5]
    return Sizes(len(flatbuffer), binary, total, limit, largest)


def table(rows: Iterable[Row]) -> str:
    """The audit as aligned text."""
    head = ("layer", "declared", "operator", "weights", "packed", "output", "remark")
    lines = [head]
    for row in rows:
        remark = f"{row.reason}; {row.remedy}" if row.reason else row.note
        weight = f"{row.weight_bytes} B" if row.weight_bytes else ""
        packed = "yes" if row.bit_packed else ("no" if row.weight_bytes else "")
        lines.append((row.layer, row.declared, row.operator, weight, packed, row.output, remark))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head) - 1)] + [0]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _match(declared: Declared, found: list[Operator], taken: dict[int, Declared]) -> int | None:
    """Index of the operator that holds this kernel."""
    kernel = declared.matrix
    for index, operator in enumerate(found):
        data = None if operator.weights is None else operator.weights.data
        if index in taken or data is None:
            continue
        if operator.is_bit_packed and kernel.ndim == 4:
            packed = (*kernel.shape[:3], -(-kernel.shape[3] // 32))
            data = unpack_kernel(data, kernel.shape[3]) if data.shape == packed else None
        if data is not None and data.shape == kernel.shape and _same_up_to_scale(kernel, data, declared):
            return index
    return None


def _same_up_to_scale(kernel: np.ndarray, data: np.ndarray, declared: Declared) -> bool:
    if data.dtype == np.int8:
        return True  # quantised: shape and order have to do
    depthwise = "Depthwise" in type(declared.layer).__name__
    a, b = (np.moveaxis(x, -1, 0) if depthwise else x for x in (kernel, data))
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return bool(np.all(np.abs(np.abs((a * b).sum(axis=1)) - norms) <= 1e-4 * norms + 1e-30))


def _row(operator: Operator, declared: Declared | None, names: list[str], conversions: dict[str, str]) -> Row:
    output = operator.outputs[0]
    packed = operator.name in (BINARY_CONVOLUTION, QUANTIZE, "LceBMaxPool2d") and output.dtype == "int32"
    weight_bytes = operator.weights.bytes if operator.weights is not None else 0
    guess = _layer_of(output.name, names)
    row = Row(
        layer=declared.layer.name if declared else ("" if operator.name == BINARY_CONVOLUTION else guess),
        declared=declared.precision if declared else "",
        operator=operator.name,
        shape=list(output.shape),
        weight_bytes=weight_bytes,
        constant_bytes=sum(tensor.bytes for tensor in operator.constants) - weight_bytes,
        bit_packed=operator.is_bit_packed,
        output="bitpacked" if packed else output.dtype,
    )
    if operator.is_custom and not operator.name.startswith("Lce"):
        row.reason = f"TFLite has no operator for TensorFlow's {operator.name}: no runtime can load the file"
        row.remedy = "replace it by standard Keras layers, and give the input a fixed height and width"
    elif declared is None:
        row.note = conversions.get(guess) or _NOTES.get(operator.name, "")
    elif declared.is_binary:
        reason = why_wrong(declared) or grouped(declared.layer) if operator.is_bit_packed else why_float(declared)
        row.reason, row.remedy = reason or ("", "")
    return row


def _warn_of_constant_bits(found: list[Operator], rows: list[Row]) -> None:
    """Notes where a sign is taken of values that are never negative."""
    writers = {operator.outputs[0].index: operator.name for operator in found}
    for operator, row in zip(found, rows, strict=True):
        if operator.name == QUANTIZE and writers.get(operator.inputs[0].index) in ("RELU", "RELU6", "RELU_0_TO_1"):
            row.note = (
                "every bit is +1: it reads a ReLU, which is never negative; put BatchNormalization behind the ReLU"
            )


def _layer_of(tensor_name: str, names: list[str]) -> str:
    """The layer that a tensor's name speaks of, `model/layer/operation;model/...`, or an empty string."""
    known = set(names)
    for part in tensor_name.split(";"):
        pieces = part.split("/")
        for start in range(len(pieces)):
            for end in range(len(pieces), start, -1):
                if (name := "/".join(pieces[start:end])) in known:
                    return name
    return ""


_NOTES = {
    QUANTIZE: "binarises a float tensor for the next binary convolution",
    "LceDequantize": "turns bits into floats for a float operator",
    "LceBMaxPool2d": "maximum pooling on bits",
    "ADD": "shortcut: a sum of real tensors, or the offset of a BatchNormalization that no convolution absorbs",
    "SUB": "difference of real tensors, or the offset of a normalisation",
    "MUL": "scale of a BatchNormalization that no convolution absorbs, or product of real tensors",
    "MEAN": "global average pooling",
    "AVERAGE_POOL_2D": "average pooling of real values",
    "MAX_POOL_2D": "maximum pooling in front of BatchNormalization: float; behind it LCE would pool bits",
    "CONCATENATION": "concatenation of real tensors; LCE cannot concatenate bits",
    "PRELU": "activation that is not fused into the convolution",
    "RESHAPE": "another shape of the same values, between vectors and images",
    "PAD": "padding that the convolution does not do itself",
}
