"""How the figures look, and how they become SVG that fits into a page."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

# Each colour is a CSS variable on the page as well, so that one drawing serves light, dark and print.
COLORS = {
    "ink": "#1d232b",
    "muted": "#5f6975",
    "faint": "#a3abb5",
    "rule": "#e3e6ea",
    "accent": "#1f5fb8",
    "wash": "#d5e2f4",
    "second": "#c4570c",
    "third": "#3f7d5a",
    "stone": "#7b8490",
    "bar": "#c9ced5",
}
_MARGIN = 14  # of a drawing in a file of its own
PAGE_WIDTH, PHONE_WIDTH = 840, 350  # CSS pixels; one pixel is one unit of the SVG
_FONTS = "Inter, 'Helvetica Neue', 'Segoe UI', Roboto, Arial, 'Liberation Sans', sans-serif"
_RC: Any = {
    "font.family": ["DejaVu Sans"],  # ships with matplotlib: the same metrics on every machine
    "font.size": 12,
    "axes.labelsize": 12,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": COLORS["muted"],
    "axes.titlecolor": COLORS["ink"],
    "axes.edgecolor": COLORS["faint"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "grid.color": COLORS["rule"],
    "grid.linewidth": 0.8,
    "text.color": COLORS["ink"],
    "text.parse_math": False,  # names come from users: a dollar sign is a dollar sign
    "xtick.color": COLORS["faint"],
    "ytick.color": COLORS["faint"],
    "xtick.labelcolor": COLORS["muted"],
    "ytick.labelcolor": COLORS["muted"],
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "tfbnas",
}


def _layout() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=4 / 72, h_pad=4 / 72, wspace=0.06, hspace=0.06)


def canvas(narrow: bool, height: float, **grid: Any) -> tuple[Figure, list[Axes]]:
    """A figure of the page's or the phone's width and its axes, row by row.

    Args:
      narrow: Whether it is for a phone.
      height: In CSS pixels.
      grid: Arguments of `Figure.subplots`.
    """
    figure = Figure(figsize=((PHONE_WIDTH if narrow else PAGE_WIDTH) / 72, height / 72), layout=_layout())
    axes = figure.subplots(squeeze=False, **grid)
    return figure, [axis for row in axes for axis in row]


def draw(drawing: Callable[[bool], Figure], *, narrow: bool = False) -> Figure:
    """Calls `drawing` with the house style and leaves matplotlib's settings as they were."""
    with matplotlib.rc_context(_RC):
        return drawing(narrow)


def svg(drawing: Callable[[bool], Figure], *, narrow: bool = False) -> str:
    """A drawing as a standalone SVG document: real text, no metadata, the same bytes for the same numbers."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a glyph that DejaVu lacks; the browser has it
        figure = drawing(narrow)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue().decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!DOCTYPE.*?>", "", text, flags=re.DOTALL)
    # An id may occur only once, matplotlib writes the same one for artists of several axes: only those in use stay.
    used = set(re.findall(r'(?:url\(#|xlink:href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text)
    return re.sub(r"'DejaVu Sans'(, [^;\"]*?sans-serif)?", _FONTS, text)


def standalone(document: str, *, title: str) -> str:
    """An SVG document for a file: on white paper with a margin, so that it can be read on a dark page, too."""
    size = re.search(r'<svg [^>]*?viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>', document)
    if size is None:
        return document
    width, height = (float(size[i]) + 2 * _MARGIN for i in (1, 2))
    shown = f'width="{width:g}" height="{height:g}" viewBox="{-_MARGIN} {-_MARGIN} {width:g} {height:g}"'
    head = re.sub(r' (?:width|height|viewBox)="[^"]*"', "", size[0])
    head = head.replace("<svg ", f"<svg {shown} ", 1)
    name = title.replace("&", "&amp;").replace("<", "&lt;")
    paper = f'<rect x="{-_MARGIN}" y="{-_MARGIN}" width="{width:g}" height="{height:g}" style="fill: #ffffff"/>'
    return f"{document[: size.start()]}{head}\n <title>{name}</title>\n {paper}{document[size.end() :]}"


def inline(document: str, *, prefix: str, label: str) -> str:
    """An SVG document as an element of an HTML page.

    Args:
      document: What `svg` returned.
      prefix: Put in front of every id, because a page may hold an id only once.
      label: Read aloud instead of the drawing.
    """
    body = document[document.index("<svg") :]
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', body)
    width, height = (float(size[1]), float(size[2])) if size else (PAGE_WIDTH, PAGE_WIDTH)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'xlink:href="#', f'href="#{prefix}-', body)
    body = re.sub(r"url\(#", f"url(#{prefix}-", body)
    for name, color in COLORS.items():
        body = body.replace(color, f"var(--{name})")
    escaped = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    head = f'<svg viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" role="img" aria-label="{escaped}">'
    return re.sub(r"<svg.*?>", lambda _: head, body, count=1, flags=re.DOTALL).strip()


def clean(text: object, *, longest: int = 28) -> str:
    """One line of printable text; the middle of a longer one gives way, since ends tell names apart."""
    line = "".join(c if c.isprintable() else " " for c in str(text))
    if len(line) <= longest:
        return line
    head = (longest - 1) // 3
    return f"{line[:head]}…{line[head - longest + 1 :]}"


def labels(names: Sequence[str], *, longest: int) -> list[str]:
    """Names as labels: where one is too long, all lose what they have in common at both ends, then their middle."""
    if len(names) > 1 and any(len(name) > longest for name in names):
        head = os.path.commonprefix(names)
        head = head[: 1 + max(head.rfind(mark) for mark in "/_")]  # whole parts of the names only
        tail = os.path.commonprefix([name[len(head) :][::-1] for name in names])[::-1]
        names = [
            ("…" if head else "") + name[len(head) : len(name) - len(tail)] + ("…" if tail else "") for name in names
        ]
    return [clean(name, longest=longest) for name in names]


def line(axis: Axes, x: Sequence[float], y: Sequence[float], color: str, label: str | None = None, **look: Any) -> None:
    """A line in a colour of `COLORS`; dots where it has too few points to be seen."""
    marker = "o" if len(x) < 3 else None
    axis.plot(x, y, **{"color": COLORS[color], "marker": marker, "label": label, "lw": 1.6, "ms": 4, **look})


def limit(axis: Axes, value: float, label: str) -> None:
    """The dashed line of a budget."""
    axis.axhline(value, color=COLORS["second"], lw=1.3, ls=(0, (5, 3)), gid="budget", label=label)


def epochs(axis: Axes, name: str, warm_up: int, *, said: bool = True) -> None:
    """The x axis of epochs, which are called `name`, with the end of a warm-up of so many; `said` names it."""
    axis.set_xlabel(name.capitalize())
    if warm_up:
        end = warm_up + 0.5
        axis.axvline(end, color=COLORS["faint"], lw=0.9, gid="warm-up")
        note(
            axis,
            "Warm-up" if said else "",
            (end, 0),
            (-5, 6),
            xycoords=("data", "axes fraction"),
            ha="right",
            va="bottom",
        )
    whole_numbers(axis)


def note(axis: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], **look: Any) -> None:
    """Small print beside a point, `offset` points from it."""
    shown = {"fontsize": 11, "color": COLORS["muted"], "va": "center", **look}
    axis.annotate(clean(text, longest=60), point, offset, textcoords="offset points", **shown)


def whole_numbers(axis: Axes) -> None:
    """Ticks of the x axis only at whole numbers from 1: there is no round 2.5 and no epoch 0."""
    low, high = axis.get_xlim()
    if low < 0.5 < high:
        axis.set_xlim(left=0.5)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if high - low < 1:
        axis.set_xlim(low - 0.5, high + 0.5)


def cost_axis(axis: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis with plain decimals as ticks, spread over `values`."""
    low, high = min(values) / 1.5, max(values) * 1.5
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    steps = [m * 10.0**e for e in range(-5, 6) for m in (1, 2, 5)]
    ticks = [step for step in steps if low <= step <= high]
    if len(ticks) < 3:
        finer = [m * 10.0**e for e in range(-5, 6) for m in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
        ticks = [step for step in finer if low <= step <= high]
    if len(ticks) < 2:
        ticks = [float(f"{low + (high - low) * k / 4:.2g}") for k in range(1, 4)]
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def below(figure: Figure, axes: Axes | Sequence[Axes], *, columns: int, last_first: bool = False) -> None:
    """The legend of `axes` under the whole figure, in the order of drawing or backwards; each label once."""
    entries: dict[str, Any] = {}
    for axis in [axes] if isinstance(axes, Axes) else axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if len(entries) > 1:
        shown = list(entries.items())[:: -1 if last_first else 1]
        figure.legend(
            [handle for _, handle in shown],
            [label for label, _ in shown],
            loc="outside lower left",
            ncols=columns,
            handlelength=1.8,
            columnspacing=1.6,
        )
