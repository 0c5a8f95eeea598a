"""The network that a search over the modules of a fabric found, drawn as a picture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import FancyArrowPatch

from tfbnas.report import style
from tfbnas.report.choices import closed, last
from tfbnas.report.figure import Figure
from tfbnas.report.reading import Run
from tfbnas.report.values import mapping

Point = tuple[float, float]

_FABRIC = re.compile(r"group(\d+)/block(\d+)/(body|skip|from_input|from\d+)")
_CNF = re.compile(r"l(\d+)_s(\d+)/from_l(\d+)_s(\d+)")
_ARROWS_FROM = 30.0  # pixels between two nodes, below which there is no room for arrowheads


@dataclass(frozen=True)
class Edge:
    """A module behind a choice, from what it reads to what it is added to; `value` is from 0 to 1."""

    name: str
    start: Point
    end: Point
    bend: float
    value: float
    kept: bool


@dataclass(frozen=True)
class Drawing:
    """Where everything is; one unit lies between neighbouring nodes, y runs upward.

    Attributes:
      caption: What one sees.
      edges: The modules.
      nodes: Where they meet.
      rows: Label of each row, with its y.
      passes: Connections without a choice.
      first: The node that reads the images.
      last: The node that is classified.
      height: Pixels of a row.
    """

    caption: str
    edges: list[Edge]
    nodes: list[Point]
    rows: dict[float, str]
    passes: list[tuple[Point, Point]]
    first: Point
    last: Point
    height: float


def figures(run: Run) -> list[Figure]:
    """The picture, for networks that there is one of."""
    found = drawing(run)
    if found is None or run.search is None:
        return []
    return [
        Figure(
            "architecture",
            "The network that was found",
            f"{found.caption} Blue ones stay, grey ones were left out. The width of a line tells the last value: "
            f"{run.search.choice_label.lower()}. Thick grey ones were left out because nothing reaches them or reads "
            "them.",
            lambda narrow: draw(found, narrow),
        )
    ]


def drawing(run: Run) -> Drawing | None:
    """Where the modules of a run's network are; None for networks that there is no picture of."""
    values = {name: min(1.0, max(0.0, float(choice["value"]))) for name, choice in last(run).items()}
    kept = {name for name, value in closed(run).items() if value is True}
    return _fabric(values, kept) or _cnf(values, kept, mapping(run.found))


def _fabric(probabilities: Mapping[str, float], kept: set[str]) -> Drawing | None:
    """Groups as rows that turn at their ends, so that links, which are mirrored, are short."""
    matches = {name: match for name in probabilities if (match := _FABRIC.fullmatch(name))}
    if not matches:
        return None
    groups = max(int(match[1]) for match in matches.values())
    blocks = 1 + max(int(match[2]) for match in matches.values())

    def node(group: int, place: int) -> Point:
        """Output of block `place` - 1, for place 0 what the group reads."""
        return float(place if group % 2 else blocks - place), -float(group - 1)

    edges = []
    for name, match in matches.items():
        group, block, kind = int(match[1]), int(match[2]), match[3]
        start, bend = node(group, block), 0.0
        if kind == "skip":
            bend = -0.5 if group % 2 else 0.5
        elif kind != "body":
            start = node(group - 1, 0 if kind == "from_input" else int(kind.removeprefix("from")) + 1)
        edges.append(Edge(name, start, node(group, block + 1), bend, probabilities[name], name in kept))
    return Drawing(
        caption="Every block of the fabric, one row for each group of blocks; rows are read in turn from left to right "
        "and from right to left. Straight lines along a row are blocks, arcs are shortcuts, lines between the rows are "
        "links.",
        edges=edges,
        nodes=[node(group, place) for group in range(1, groups + 1) for place in range(blocks + 1)],
        rows={-float(group - 1): f"Group {group}" for group in range(1, groups + 1)},
        passes=[(node(group, blocks), node(group + 1, 0)) for group in range(1, groups)],
        first=node(1, 0),
        last=node(groups, blocks),
        height=115.0,
    )


def _cnf(probabilities: Mapping[str, float], kept: set[str], found: Mapping[str, object]) -> Drawing | None:
    """Columns from left to right, scales from fine to coarse."""
    matches = {name: match for name in probabilities if (match := _CNF.fullmatch(name))}
    if not matches:
        return None
    places = {name: tuple(int(part) for part in match.groups()) for name, match in matches.items()}
    columns = 1 + max(place[0] for place in places.values())
    scales = 1 + max(max(place[1], place[3]) for place in places.values())

    def node(column: int, scale: int) -> Point:
        return float(column), -float(scale)

    edges = [
        Edge(name, node(*place[2:]), node(*place[:2]), 0.0, probabilities[name], name in kept)
        for name, place in places.items()
    ]
    segmentation = mapping(found.get("options")).get("segmentation") is True
    shape = found.get("input_shape")
    sizes = [side for side in shape[:2] if isinstance(side, int)] if isinstance(shape, list) else []
    labels = {
        -float(scale): "×".join(str(max(1, side >> scale)) for side in sizes) if sizes else f"1/{2**scale}"
        for scale in range(scales)
    }
    return Drawing(
        caption="Every convolution of the fabric, from one node to the next: columns are layers, read from left to "
        "right, rows are sizes of the maps, the whole image on top. Lines that rise go through an upsampling.",
        edges=edges,
        nodes=[node(column, scale) for column in range(columns) for scale in range(scales)],
        rows=labels,
        passes=[],
        first=node(0, 0),
        last=node(columns - 1, 0 if segmentation else scales - 1),
        height=74.0,
    )


def draw(found: Drawing, narrow: bool) -> Canvas:
    """The picture: what stays in colour, as thick as it is probable, what was left out behind it."""
    columns = max(x for x, _ in found.nodes)
    rows = len(found.rows)
    figure, (axis,) = style.canvas(narrow, found.height * (0.8 if narrow else 1.0) * rows + 70)
    room = 0.8 * (style.PHONE_WIDTH if narrow else style.PAGE_WIDTH) / max(1.0, columns)
    scale = min(1.0, room / 24)
    arrows = room >= _ARROWS_FROM
    # What was kept is drawn last, over what was left out.
    for edge in sorted(found.edges, key=lambda edge: (edge.kept, edge.value)):
        axis.add_patch(_arrow(edge, scale, arrows))
    used = {found.first, found.last} | {end for edge in found.edges if edge.kept for end in (edge.start, edge.end)}
    read = {edge.start for edge in found.edges if edge.kept} | {found.last}
    used |= {start for start, end in found.passes if end in read}
    for start, end in found.passes:
        color = style.COLORS["accent" if end in read else "bar"]
        axis.plot(*zip(start, end, strict=True), color=color, lw=1.4 * scale, ls=(0, (2, 2)), zorder=0)
    for there, color, order in ((False, "bar", 3), (True, "ink", 4)):
        points = [point for point in found.nodes if (point in used) is there]
        x, y = [point[0] for point in points], [point[1] for point in points]
        size = (6 if there else 4) * max(scale, 0.5)
        axis.plot(x, y, "o", ms=size, color=style.COLORS[color], zorder=order, gid="used" if there else "unused")
    _end(axis, found.first, "in", found.nodes)
    _end(axis, found.last, "out", found.nodes)
    axis.set_yticks(list(found.rows), list(found.rows.values()))
    axis.set_xticks([])
    margin = 34 / room if columns else 0.5  # for the words at both ends
    axis.set_xlim(-margin, columns + margin)
    axis.set_ylim(-rows + 0.55, 0.55 if rows > 1 else 1.0)
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    _legend(figure, axis, found, scale, narrow)
    return figure


def width(edge: Edge, scale: float) -> float:
    """Of a line, in points."""
    return scale * ((0.8 + 3.2 * edge.value) if edge.kept else (0.6 + 1.2 * edge.value))


def _arrow(edge: Edge, scale: float, arrows: bool) -> FancyArrowPatch:
    head = 4.0 + 0.7 * width(edge, scale)
    arrow = FancyArrowPatch(
        edge.start,
        edge.end,
        connectionstyle=f"arc3,rad={edge.bend}",
        arrowstyle=f"-|>,head_length={head / 10:.3g},head_width={head / 24:.3g}" if edge.kept and arrows else "-",
        mutation_scale=10.0,
        shrinkA=0.0,
        shrinkB=3.5 if edge.kept and arrows else 0.0,
        color=style.COLORS["accent" if edge.kept else "bar"],
        lw=width(edge, scale),
        joinstyle="miter",
        capstyle="butt",
        zorder=2 if edge.kept else 1,
    )
    arrow.set_gid(f"{'kept' if edge.kept else 'left'}:{edge.name}")
    return arrow


def _end(axis: Axes, point: Point, text: str, nodes: list[Point]) -> None:
    """Writes beside a node on the rim what goes in or comes out there."""
    left = point[0] <= min(x for x, _ in nodes)
    look = {"color": style.COLORS["ink"], "fontsize": 11.5, "fontweight": "bold"}
    style.note(axis, text, point, (-8 if left else 8, 0), ha="right" if left else "left", **look)


def _legend(figure: Canvas, axis: Axes, found: Drawing, scale: float, narrow: bool) -> None:
    least = min([edge.value for edge in found.edges if edge.kept], default=1.0)
    for value in [least, 1.0] if least < 0.95 else [1.0]:
        sample = Edge("", (0.0, 0.0), (0.0, 0.0), 0.0, value, True)
        text = "Kept" if least == 1 else f"Kept, {value:.2f}"
        axis.plot([], [], color=style.COLORS["accent"], lw=width(sample, scale), label=text)
    axis.plot([], [], color=style.COLORS["bar"], lw=1.2 * scale, label="Left out")
    style.below(figure, axis, columns=1 if narrow else 3)
