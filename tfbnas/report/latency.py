"""How long the exported model takes: as latency tables predict it, and as a device measured it.

Predictions come from latency.json and a measurement from benchmark.json in the run directory; both are only read.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from matplotlib.figure import Figure as Canvas

from tfbnas.report import bars, style
from tfbnas.report.figure import Figure
from tfbnas.report.reading import Run
from tfbnas.report.values import mapping, number, rows_of

_ARM = ("aarch64", "arm64", "armv8l", "armv8")
_FIRST = "raspberry_pi_4b"
_DELEGATE = re.compile("delegate|xnnpack", re.IGNORECASE)
_MEASURED = "Measured"
_MODEL = "model, not a measurement"
OTHERS = "Other operators"


class Kind(NamedTuple):
    """Operators that a table sums up: keys of latency tables, the converter's names, and the part of a bar."""

    keys: tuple[str, ...]
    names: tuple[str, ...]
    part: str


KINDS = {
    "Binary convolutions": Kind(("binary_convolution", "packed_convolution"), ("LceBconv2d",), "binary"),
    "Float convolutions": Kind(("convolution", "depthwise"), ("CONV_2D", "DEPTHWISE_CONV_2D"), "float"),
    "Dense layers": Kind(("dense",), ("FULLY_CONNECTED",), "float"),
    "Quantising to bits": Kind(("quantize",), ("LceQuantize",), "glue"),
    "Sums and normalisations": Kind(("add", "normalization"), ("ADD", "SUB", "MUL"), "glue"),
    "Pools": Kind(
        ("max_pool", "packed_max_pool", "average_pool", "global_pool"),
        ("MAX_POOL_2D", "LceBMaxPool2d", "AVERAGE_POOL_2D", "MEAN"),
        "glue",
    ),
    OTHERS: Kind(("activation", "concatenate"), (), "glue"),
}
_PARTS = (
    ("binary", "accent", "Binary convolution"),
    ("float", "second", "Float convolution or dense layer"),
    ("glue", "bar", "Quantising, sums, normalisation, pools"),
)


def _kind_of(key: str) -> str:
    return next((kind for kind, entry in KINDS.items() if key in entry.keys), OTHERS)


def _kind_named(name: str) -> str:
    return next((kind for kind, entry in KINDS.items() if name in entry.names), OTHERS)


@dataclass(frozen=True)
class Prediction:
    """What one latency table says of the exported model.

    Attributes:
      name: Of the table.
      device: In full, with its clock and threads.
      label: "model, not a measurement", or what else the table calls itself.
      error: What the table says of its errors; may be empty.
      sources: Where its numbers come from.
      operators: Rows with "layer", "operator", "milliseconds" and, where known, "mean_error" and "largest_error".
    """

    name: str
    device: str
    label: str
    error: str
    sources: list[str]
    operators: list[dict[str, Any]]

    @property
    def title(self) -> str:
        """The device in short."""
        return re.split(r"[(,]", self.device)[0].strip() or self.name

    @property
    def total(self) -> float:
        return sum(_ms(row) for row in self.operators)


def _ms(row: Mapping[str, Any]) -> float:
    return number(row.get("milliseconds")) or 0.0


def predictions(run: Run) -> list[Prediction]:
    """Those of latency.json that tell any time; that of the device which the settings name comes first."""
    found = []
    for entry in rows_of(run.latency.get("predictions")):
        name = str(entry.get("name") or "latency table")
        device, label = (str(entry.get(key) or default) for key, default in (("device", name), ("label", _MODEL)))
        sources = entry.get("sources")
        told = [str(source) for source in sources] if isinstance(sources, list) else []
        error = str(entry.get("error") or "")
        found.append(Prediction(name, device, label, error, told, rows_of(entry.get("operators"))))
    asked = run.group("budget").get("device") or _FIRST
    return sorted((p for p in found if p.total > 0), key=lambda prediction: prediction.name != asked)


def rough(value: float | None) -> str:
    """Milliseconds with three significant digits, at most four decimals."""
    if value is None:
        return ""
    for limit, digits in ((100, 0), (10, 1), (1, 2), (0.01, 3)):
        if value >= limit:
            return f"{value:.{digits}f}"
    return f"{value:.4f}"


def on_device(run: Run) -> str:
    """ " on the Raspberry Pi 4B" where a latency budget's device is known, else ""."""
    name = run.group("budget").get("device")
    title = next((prediction.title for prediction in predictions(run) if prediction.name == name), name)
    return f" on {title}" if title else ""


def headline(run: Run) -> tuple[str, str, str, str] | None:
    """Name, value, unit and note for the top of the page: the measured time on an ARM device, else a predicted one."""
    mean, device = number(run.benchmark.get("mean")), mapping(run.benchmark.get("device"))
    if mean is not None and device.get("machine") in _ARM and not _other_model(run):
        return "Latency", rough(mean), "ms", f"measured on {device.get('model') or run.benchmark.get('target')}"
    known = predictions(run)
    if not known:
        return None
    return "Predicted latency", rough(known[0].total), "ms", f"{known[0].title}, a model, not measured"


def facts(run: Run) -> list[tuple[str, str]]:
    """The measurement in figures; empty where there is none."""
    seen, device = run.benchmark, mapping(run.benchmark.get("device"))
    settings = mapping(seen.get("settings"))
    mean, deviation = number(seen.get("mean")), number(seen.get("deviation"))
    if mean is None:
        return []
    where = ", ".join(str(device[key]) for key in ("model", "machine") if device.get(key))
    governors = device.get("governors")
    before, after = number(device.get("temperature")), number(device.get("temperature_after"))
    memory, count = number(seen.get("memory")), number(seen.get("count"))
    threads = number(settings.get("threads"))
    found = {
        "Device": f"{seen.get('target') or ''}{f' ({where})' if where else ''}",
        "Mean": f"{rough(mean)} ms",
        "Standard deviation": "" if deviation is None else f"{rough(deviation)} ms ({deviation / mean:.1%})",
        "Minimum": _suffixed(seen.get("minimum"), "ms"),
        "Median": _suffixed(seen.get("median"), "ms"),
        "First inference": _suffixed(seen.get("first"), "ms"),
        "Runs": "" if count is None else f"{count:.0f}",
        "Peak memory": "" if memory is None else f"{memory:.1f} MB",
        "Threads": "" if threads is None else f"{threads:.0f}",
        "CPU mask": str(settings.get("cpu_mask") or ""),
        "CPU governor": ", ".join(map(str, governors)) if isinstance(governors, list) else "",
        "Temperature": f"{before:.0f} to {after:.0f} °C" if before is not None and after is not None else "",
    }
    return [(name, value) for name, value in found.items() if value]


def _suffixed(value: Any, unit: str) -> str:
    known = number(value)
    return "" if known is None else f"{rough(known)} {unit}"


def warnings(run: Run) -> list[str]:
    """Why the measured figures may be wrong."""
    told = run.benchmark.get("warnings")
    other = ["The benchmark measured another file than the present model.tflite; measure again."]
    return (other if _other_model(run) else []) + [
        str(text).replace("`", "") for text in (told if isinstance(told, list) else [])
    ]


def _other_model(run: Run) -> bool:
    expected, file = run.benchmark.get("model_sha256"), run.path / "model.tflite"
    return bool(expected) and file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() != expected


def predicted_rows(audit: Sequence[Mapping[str, Any]], prediction: Prediction) -> list[float | None]:
    """Predicted milliseconds of each row of the audit, by layer and kind; an operator's time stands only once."""
    found: list[float | None] = [None] * len(audit)
    for operator in prediction.operators:
        kind = _kind_of(str(operator.get("operator")))
        for i, row in enumerate(audit):
            same = row.get("layer") == operator.get("layer") and _kind_named(str(row.get("operator"))) == kind
            if same and found[i] is None:
                found[i] = _ms(operator)
                break
    return found


def measured_rows(run: Run, audit: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Measured milliseconds of each row of the audit: operators of one type come in the same order.

    A type whose operators are not as many in both (most of XNNPACK's run as one) is left out, and so is everything
    where the benchmark is of another file.
    """
    found: list[float | None] = [None] * len(audit)
    if _other_model(run):
        return found
    profile = rows_of(run.benchmark.get("operators"))
    for name in {str(row.get("type")) for row in profile}:
        times = [number(row.get("milliseconds")) for row in profile if row.get("type") == name]
        places = [i for i, row in enumerate(audit) if row.get("operator") == name]
        if len(times) == len(places):
            for i, time in zip(places, times, strict=True):
                found[i] = time
    return found


@dataclass(frozen=True)
class Table:
    """Times by kind of operator, as text.

    Attributes:
      heads: Name and small print of each column behind the first.
      rows: Kind, then the cells of the columns; the last row is the sum.
    """

    heads: list[tuple[str, str]]
    rows: list[list[str]]


def by_kind(run: Run) -> Table | None:
    """Predicted times with their errors, and measured ones; None where there are no operators' times."""
    known, profile = predictions(run), rows_of(run.benchmark.get("operators"))
    if not known and not profile:
        return None
    heads = [head for p in known for head in ((p.title, "predicted, ms"), ("Error", "of the table"))]
    heads += [("Measured", "ms")] if profile else []
    rows = []
    for kind in KINDS:
        cells = []
        for prediction in known:
            own = [row for row in prediction.operators if _kind_of(str(row.get("operator"))) == kind]
            cells += [rough(sum(map(_ms, own))), _error(own)] if own else ["", ""]
        if profile:
            own = [row for row in profile if _kind_named(str(row.get("type"))) == kind and not _delegated(row)]
            cells += [rough(sum(map(_ms, own)))] if own else [""]
        rows += [[kind, *cells]] if any(cells) else []
    delegated = [row for row in profile if _delegated(row)]
    if delegated:
        rows.append(["Float operators in XNNPACK, together", *[""] * 2 * len(known), rough(sum(map(_ms, delegated)))])
    totals = [cell for prediction in known for cell in (rough(prediction.total), "")]
    return Table(heads, [*rows, ["Sum", *totals, *([rough(sum(map(_ms, profile)))] if profile else [])]])


def _delegated(row: Mapping[str, Any]) -> bool:
    return bool(_DELEGATE.search(str(row.get("type"))))


def _error(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean error, weighted by time, and the largest one; told apart where some or all operators have none."""
    known = [row for row in rows if None not in (number(row.get("mean_error")), number(row.get("largest_error")))]
    weight = sum(map(_ms, known))
    if not weight:
        return "not known"
    mean = sum(row["mean_error"] * _ms(row) for row in known) / weight
    largest = max(row["largest_error"] for row in known)
    text = f"{100 * mean:.0f} %, up to {100 * largest:.0f} %" if largest >= 0.005 else "below 1 %"
    return text if len(known) == len(rows) else f"{text}; in part not known"


def notes(run: Run) -> list[str]:
    """What the predictions are, from where and how exact; and what the profile is."""
    said = []
    for prediction in predictions(run):
        error = f" {prediction.error.rstrip('.')}." if prediction.error else ""
        sources = " ".join(prediction.sources)
        said.append(f"{prediction.device}: {prediction.label}.{error}{f' Sources: {sources}' if sources else ''}")
    mean, profiled = number(run.benchmark.get("mean")), number(run.benchmark.get("profile_mean"))
    if mean is not None and profiled is not None:
        said.append(
            f"Measured times of operators come from a second run of {rough(profiled)} ms, because a profile disturbs; "
            f"the mean of {rough(mean)} ms is from the run without one."
        )
    return said


Panel = tuple[str, list[tuple[str, str, float]]]
"""Title, and (layer, part, milliseconds) of each operator."""


def _panels(run: Run) -> list[Panel]:
    """The predictions, and last the measurement."""
    panels: list[Panel] = []
    for prediction in predictions(run):
        kinds = [KINDS[_kind_of(str(row.get("operator")))] for row in prediction.operators]
        rows = [
            (str(row.get("layer")), kind.part, _ms(row)) for row, kind in zip(prediction.operators, kinds, strict=True)
        ]
        panels.append((f"{prediction.title}, predicted", rows))
    audit = rows_of(run.export.get("audit"))
    timed = [
        (str(row.get("layer") or row.get("operator")), KINDS[_kind_named(str(row.get("operator")))].part, time)
        for row, time in zip(audit, measured_rows(run, audit), strict=True)
        if time is not None
    ]
    return [*panels, (_MEASURED, timed)] if timed else panels


def figures(run: Run) -> list[Figure]:
    """Time by layer, where there are predictions or a profile."""
    panels = _panels(run)
    if not panels:
        return []
    measured = panels[-1][0] == _MEASURED
    caption = (
        "Milliseconds of one inference that go to each layer, in the order of the network. Each panel has its own "
    )
    caption += "scale."
    if measured:
        device = mapping(run.benchmark.get("device")).get("model") or run.benchmark.get("target") or "the device"
        caption = (
            f"Measured times are those of the profile on {device}; float operators that run together in XNNPACK are "
            f"missing. {caption}"
        )
    if not measured or len(panels) > 1:
        caption = f"Predicted times are a model, not a measurement; sources and errors stand above. {caption}"
    title = "Latency by layer" if measured else "Predicted latency by layer"
    return [Figure("latency-by-layer", title, caption, functools.partial(by_layer, run))]


def by_layer(run: Run, narrow: bool) -> Canvas:
    """One panel of stacked bars for each device, all with the same layers."""
    panels = _panels(run)
    order = [str(row["layer"]) for row in rows_of(run.export.get("audit")) if row.get("layer")]
    order += [layer for _, rows in panels for layer, _, _ in rows]
    layers: dict[str, list[dict[str, float]]] = {layer: [{} for _ in panels] for layer in order}
    for i, (_, rows) in enumerate(panels):
        for layer, part, time in rows:
            layers[layer][i][part] = layers[layer][i].get(part, 0.0) + time
    timed = {layer: parts for layer, parts in layers.items() if any(parts)}
    shown = bars.largest(timed, 12 if narrow else bars.SHOWN)
    shape = {"nrows": len(panels), "ncols": 1} if narrow else {"nrows": 1, "ncols": len(panels), "sharey": True}
    height = (70 + 23 * len(shown)) * (len(panels) if narrow else 1) + 60
    figure, axes = style.canvas(narrow, height, **shape)
    for i, (axis, (title, _)) in enumerate(zip(axes, panels, strict=True)):
        one = {layer: parts[i] for layer, parts in shown.items()}
        room = 1.3 if narrow or len(panels) > 1 else 1.14
        bars.stacked(axis, one, _PARTS, text=lambda t: rough(t) if t else "", room=room, longest=20 if narrow else 28)
        axis.set_title(title)
        axis.set_xlabel("Time (ms)")
    style.below(figure, axes, columns=1 if narrow else 3)
    return figure
