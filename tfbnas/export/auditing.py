"""Which operator Larq Compute Engine made of each layer, what it weighs, and where a binary layer came out float."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import tensorflow as tf

from tfbnas.errors import UserError, nearest
from tfbnas.export.convert import ExportError
from tfbnas.export.declared import Declared, declarations, input_quantizer, is_sign
from tfbnas.export.flatbuffer import BINARY_CONVOLUTION, QUANTIZE, Operator, operators, outputs
from tfbnas.export.matching import match
from tfbnas.export.reasons import grouped, why_float, why_wrong
from tfbnas.export.tracing import writer_of
from tfbnas.lce.graph import all_layers
from tfbnas.lce.signs import constant_bits


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
      reason: Why a layer that declares itself quantised is not so here; empty if all is well.
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
      allow: Names of layers that may come out float although they declare themselves quantised.
      conversions: Names of layers that the deploy form had to add, with the reason.

    Returns:
      One row per operator, and one for each quantised kernel that is in no operator. Rows with a `reason` that
      are not `allowed` are failures; see `check`.
    """
    found = operators(flatbuffer)
    kernels = declarations(model) if model is not None else []
    matched = match(found, kernels)
    missing = [declared for declared in kernels if declared.is_quantized and declared not in matched.values()]
    names = [layer.name for layer in all_layers(model)] if model is not None else []
    named = {operator.outputs[0].index: _layer_of(operator.outputs[0].name, names) for operator in found}
    if model is not None:
        # The converter gives the outputs of the model other names.
        for tensor, output in zip(outputs(flatbuffer), model.outputs, strict=False):
            writer = writer_of(output)
            named[tensor.index] = named.get(tensor.index) or (writer.name if writer else "")
    rows = [
        _row(operator, matched.get(i), named[operator.outputs[0].index], conversions or {})
        for i, operator in enumerate(found)
    ]
    if model is not None:
        _warn_of_constant_bits(rows, model)
    _tell_of_kernels_at_run_time(found, rows)
    for declared in missing:
        reason, remedy = why_float(declared)
        row = Row(declared.layer.name, declared.precision, "none", [], reason=reason, remedy=remedy)
        rows.append(row)
    allowed = set(allow)
    for row in rows:
        row.allowed = bool(row.reason) and row.layer in allowed
    return rows


def check_allowed(model: tf.keras.Model, allow: Iterable[str]) -> None:
    """Refuses names that no layer has.

    Raises:
      UserError: `allow` holds one.
    """
    names = [layer.name for layer in all_layers(model)]
    for name in allow:
        if name not in names:
            raise UserError(
                f"Expected the name of a layer that may be float. Received: {name!r}, which the model does not have."
                f"{nearest(name, names)} The audit shows the names."
            )


def check(rows: Iterable[Row], *, spell: Callable[[list[str]], str] = lambda names: f"allow={names}") -> None:
    """Refuses a model of which a layer is not what it declares.

    Args:
      rows: Of the audit.
      spell: How layers are allowed by name, for the message. Default: as an argument of `export`.

    Raises:
      ExportError: Names each layer with reason and remedy.
    """
    failures = [row for row in rows if row.reason and not row.allowed]
    if failures:
        lines = [f"layer {row.layer!r} (operator {row.operator}): {row.reason}; {row.remedy}" for row in failures]
        raise ExportError(
            "Not exported: " + "\n  and ".join(lines) + "\nWhere this is intended, allow the layer by name: "
            f"{spell([row.layer for row in failures])}."
        )


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


def _row(operator: Operator, declared: Declared | None, guess: str, conversions: dict[str, str]) -> Row:
    output = operator.outputs[0]
    packed = operator.name in (BINARY_CONVOLUTION, QUANTIZE, "LceBMaxPool2d") and output.dtype == "int32"
    weight_bytes = operator.weights.bytes if operator.weights is not None else 0
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
    elif declared.is_quantized and (operator.is_bit_packed or operator.has_float_weights):
        reason = why_wrong(declared) or grouped(declared.layer) if operator.is_bit_packed else why_float(declared)
        row.reason, row.remedy = reason or ("", "")
    return row


def _warn_of_constant_bits(rows: list[Row], model: tf.keras.Model) -> None:
    """Notes at which layers a sign is taken of values that are never negative."""
    constant = {
        call.layer.name: source.name
        for call, source in constant_bits(model)
        if is_sign(input_quantizer(call.layer) or call.layer) is not False
    }
    for row in rows:
        if row.layer in constant:
            row.note = (
                f"every bit that {row.layer!r} takes is +1: it reads {constant[row.layer]!r}, which is never negative; "
                "put BatchNormalization in between"
            )


def _tell_of_kernels_at_run_time(found: list[Operator], rows: list[Row]) -> None:
    """Notes which operators read nothing but constants and what is computed from these."""
    computed: set[int] = set()
    for operator, row in zip(found, rows, strict=True):
        if all(tensor.data is not None or tensor.index in computed for tensor in operator.inputs):
            computed |= {tensor.index for tensor in operator.outputs}
            row.note = "computes a kernel anew at every run"


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
    "RESIZE_NEAREST_NEIGHBOR": "upsampling: repeats real values; LCE cannot resize bits",
    "RESHAPE": "another shape of the same values, between vectors and images",
    "PAD": "padding that the convolution does not do itself",
}
