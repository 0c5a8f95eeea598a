"""The exported model in the report: audit, parity and size by layer, from export.json."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure as Canvas

from tfbnas.report import bars, latency, style
from tfbnas.report.figure import Figure
from tfbnas.report.reading import Run
from tfbnas.report.values import mapping, number, percent, rows_of, size
from tfbnas.results import TrainingResult

_HEADS = {
    "layer": "Layer",
    "operator": "Operator",
    "declared": "Declared",
    "shape": "Output",
    "weight_bytes": "Weights",
    "constant_bytes": "Constants",
    "bit_packed": "Packed",
}


@dataclass(frozen=True)
class Line:
    """One operator of the audit as text.

    Attributes:
      cells: As many as the table has columns; the second is the operator.
      note: Number of its note, from 1; None where there is none.
      wrong: Whether the note says why a layer of binary weights came out float.
    """

    cells: list[str]
    note: int | None
    wrong: bool


@dataclass(frozen=True)
class Audit:
    """A table as text.

    Attributes:
      heads: Name and small print of each column.
      numeric: Which columns are numbers.
      lines: One for each operator.
      notes: What operators are for, or why a binary layer came out float and what to do; each text once.
    """

    heads: list[tuple[str, str]]
    numeric: list[bool]
    lines: list[Line]
    notes: list[str]


def audit(run: Run) -> Audit | None:
    """The audit of export.json with the times of its operators; None where there is none."""
    rows = rows_of(run.export.get("audit"))
    if not rows:
        return None
    times = [(p.title, "predicted, ms", latency.predicted_rows(rows, p)) for p in latency.predictions(run)]
    times.append(("Measured", "ms", latency.measured_rows(run, rows)))
    times = [column for column in times if any(time is not None for time in column[2])]
    notes: list[str] = []
    lines = []
    for i, row in enumerate(rows):
        note = _note(row)
        if note and note not in notes:
            notes.append(note)
        cells = [_cell(row, key) for key in _HEADS] + [latency.rough(column[2][i]) for column in times]
        lines.append(Line(cells, notes.index(note) + 1 if note else None, bool(row.get("reason"))))
    return Audit(
        heads=[(name, "") for name in _HEADS.values()] + [(name, unit) for name, unit, _ in times],
        numeric=[key.endswith("_bytes") or key == "shape" for key in _HEADS] + [True] * len(times),
        lines=lines,
        notes=notes,
    )


def _note(row: Mapping[str, Any]) -> str:
    said = [str(row[key]) for key in ("note", "reason", "remedy") if row.get(key)]
    return "; ".join(said + (["allowed by name"] if row.get("allowed") else []))


def _cell(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if key == "bit_packed":
        return "" if not row.get("weight_bytes") else "yes" if value else "no"  # without a kernel nothing to pack
    if key.endswith("_bytes"):
        return size(number(value)) if value else ""
    if key == "shape" and isinstance(value, list):
        kind = row.get("output")
        text = " × ".join(str(item) for item in (value[1:] if value[:1] == [1] and len(value) > 1 else value))
        kind = "words" if kind == "bitpacked" else kind
        return f"{text} {kind}" if kind and kind != "float32" else text
    return "" if value is None else str(value)


def facts(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """Parity, sizes, conversions and versions, as (group, [(name, value)]); only what export.json has."""
    parity, sizes = mapping(run.export.get("parity")), mapping(run.export.get("sizes"))
    images, random = number(parity.get("images")), number(parity.get("random"))
    error, tolerance = number(parity.get("error")), number(parity.get("tolerance"))
    other, undecided = parity.get("other_class"), parity.get("undecided")
    pixels, other_pixels = number(parity.get("pixels")), number(parity.get("other_pixels"))
    compared = f"{images:.0f}" if images is not None else ""
    compared += f" and {random:.0f} random" if images is not None and random else ""
    groups = {
        "Parity with the trained model": {
            "Images compared": compared,
            "Largest relative error": "" if error is None else f"{error:.1e}",
            "Tolerance": "" if tolerance is None else f"{tolerance:g}",
            "Same predicted class" if pixels is None else "Same class at every pixel": (
                f"{images - len(other):.0f} of {images:.0f}" if images is not None and isinstance(other, list) else ""
            ),
            "Pixels of the same class": (
                f"{pixels - other_pixels:,.0f} of {pixels:,.0f}".replace(",", "\N{NO-BREAK SPACE}")
                if pixels is not None and other_pixels is not None
                else ""
            ),
            "Decided by float rounding": f"{len(undecided)}" if isinstance(undecided, list) else "",
            "Accuracy on them, trained, %": percent(number(parity.get("accuracy"))),
            "Accuracy on them, exported, %": percent(number(parity.get("accuracy_converted"))),
        },
        "Size": {
            "model.tflite": size(number(sizes.get("file"))),
            "Binary weights, 1 bit each": size(number(sizes.get("binary_weights"))),
            "Other parameters, 4 bytes each": size(number(sizes.get("float_parameters"))),
            "Limit for the file": size(number(sizes.get("limit"))),
        },
        "Layers added for the conversion": mapping(run.export.get("conversions")),
    }
    shown = [
        (group, [(str(k), str(v)) for k, v in items.items() if v not in ("", None)]) for group, items in groups.items()
    ]
    return [(group, items) for group, items in shown if items]


def made_with(run: Run) -> str:
    """The packages that made the file, in one line; "" where nothing tells them."""
    versions = mapping(run.export.get("versions")).items()
    return ", ".join(f"{name} {version}" for name, version in versions if version != "not installed")


def converter(run: Run) -> str:
    """Version of the Larq Compute Engine that made the file; "" where nothing tells it."""
    return str(mapping(run.export.get("versions")).get("larq-compute-engine") or "")


def file_size(run: Run) -> float | None:
    """Bytes of model.tflite: of the file itself, else what export.json says."""
    file = run.path / "model.tflite"
    return float(file.stat().st_size) if file.is_file() else number(mapping(run.export.get("sizes")).get("file"))


def file_of(run: Run, one: TrainingResult) -> float:
    """Bytes of a network's file, or what it is predicted to have; 0 where neither is known."""
    known = file_size(run) if one is run.searched else None
    return one.file or known or one.memory.get("file", 0.0)


def time_of(run: Run, one: TrainingResult) -> float:
    """Predicted milliseconds of a network, as it was exported; 0 where the table says nothing of it."""
    rows = rows_of(run.forms.get("forms"))[:1] if one is run.searched else []
    return next((time for row in rows if (time := number(row.get("milliseconds")))), one.milliseconds)


PARTS = (
    ("packed", "accent", "Bit-packed kernel"),
    ("plain", "second", "Other kernel"),
    ("constants", "bar", "Constants"),
)


def layers(run: Run) -> dict[str, dict[str, float]]:
    """Bytes of each layer in the file by part, in its order; operators of no known layer count under their own name."""
    found: dict[str, dict[str, float]] = {}
    for row in rows_of(run.export.get("audit")):
        layer = found.setdefault(str(row.get("layer") or row.get("operator") or "?"), {})
        kernel = "packed" if row.get("bit_packed") else "plain"
        for part, key in ((kernel, "weight_bytes"), ("constants", "constant_bytes")):
            layer[part] = layer.get(part, 0.0) + (number(row.get(key)) or 0.0)
    return {name: parts for name, parts in found.items() if sum(parts.values()) > 0}


def figures(run: Run) -> list[Figure]:
    """Size by layer, where the audit tells sizes."""
    shown = layers(run)
    if not shown:
        return []
    rest = f" The {len(shown) - bars.SHOWN} smallest are summed up." if len(shown) > bars.SHOWN + 1 else ""
    caption = (
        "Bytes that each layer takes in model.tflite, in the order of the network. Bit-packed kernels hold 32 weights "
        "in four bytes; other kernels hold one. Constants are scales, offsets and thresholds, which weigh most where a "
        f"layer is small.{rest}"
    )
    return [Figure("size-by-layer", "Size by layer", caption, functools.partial(size_by_layer, shown))]


def size_by_layer(shown: Mapping[str, Mapping[str, float]], narrow: bool) -> Canvas:
    """Stacked horizontal bars in the order of the network."""
    parts = {name: [{part: value / 1024 for part, value in layer.items()}] for name, layer in shown.items()}
    kept = {name: panels[0] for name, panels in bars.largest(parts).items()}
    figure, (axis,) = style.canvas(narrow, 90 + 23 * len(kept))
    room, longest = (1.38, 22) if narrow else (1.14, 40)
    bars.stacked(axis, kept, PARTS, text=lambda kib: size(1024 * kib), room=room, longest=longest)
    axis.set_xlabel("Size (KiB)")
    style.below(figure, axis, columns=2 if narrow else 3)
    return figure
