"""The figure of benchmark_training.py: images per second, one panel for each width and batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from training_variants import VARIANTS

from tfbnas.files import write_text
from tfbnas.report import style

Entry = Mapping[str, Any]
_BOUNDS = {"bound-float32": ("muted", "Only the convolutions, float32"), "bound-bfloat16": ("accent", "in bfloat16")}


def write(path: Path, entries: Sequence[Entry]) -> None:
    """Writes the figure as an SVG file of its own."""
    text = style.svg(lambda narrow: draw(entries, narrow))
    write_text(path, style.standalone(text, title="Images per second in training"))


def draw(entries: Sequence[Entry], narrow: bool) -> Figure:
    """Bars: tfbnas dark, the others pale. Dashed lines: the convolutions alone."""
    widths, batches = (sorted({entry[key] for entry in entries}) for key in ("width", "batch"))
    rows = [row for row in VARIANTS if row not in _BOUNDS and any(entry["row"] == row for entry in entries)]
    height = 60 + len(widths) * (54 + 19 * len(rows))
    figure, axes = style.canvas(narrow, height, nrows=len(widths), ncols=len(batches), sharey=True, sharex="row")
    for i, width in enumerate(widths):
        axes[i * len(batches)].set_xlim(0, 1.2 * max(e["images_per_second"] for e in entries if e["width"] == width))
        for j, batch in enumerate(batches):
            own = {e["row"]: e["images_per_second"] for e in entries if (e["width"], e["batch"]) == (width, batch)}
            axis = axes[i * len(batches) + j]
            _panel(axis, own, rows)
            axis.set_title(f"{width:g}× channels, batch {batch}")
    for axis in axes[-len(batches) :]:
        axis.set_xlabel("Images per second")
    style.below(figure, axes, columns=2)
    return figure


def _panel(axis: Axes, speeds: Mapping[str, float], rows: Sequence[str]) -> None:
    values = [speeds.get(row, 0.0) for row in rows]
    colors = [style.COLORS["accent" if row.startswith("tfbnas") else "bar"] for row in rows]
    axis.barh(range(len(rows)), values, 0.68, color=colors)
    for row, value in enumerate(values):
        note = axis.annotate(
            f"{value:.0f}", (value, row), (4, 0), textcoords="offset points", va="center", fontsize=10.5
        )
        note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # a line may run behind it
    for bound, (color, label) in _BOUNDS.items():
        if bound in speeds:
            axis.axvline(speeds[bound], color=style.COLORS[color], lw=1.3, ls=(0, (4, 3)), label=label, zorder=0.5)
    axis.set_yticks(range(len(rows)), [VARIANTS[row].label for row in rows])
    axis.tick_params(axis="y", labelcolor=style.COLORS["ink"])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.locator_params(axis="x", nbins=4)
    axis.grid(axis="y", visible=False)
    axis.grid(axis="x", visible=True)
