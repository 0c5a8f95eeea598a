"""The cells that a search over operations of edges found, drawn as graphs."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from tfbnas.report import style
from tfbnas.report.choices import closed, last
from tfbnas.report.figure import Figure
from tfbnas.report.reading import Run
from tfbnas.report.values import number

_EDGE = re.compile(r"(.+)/node(\d+)/from(\d+)")
_NONE = "none"
_INPUTS = 2
_ROW = 25  # CSS pixels


@dataclass(frozen=True)
class Edge:
    """An edge that is kept: from a node or an input to a node, with an operation; `value` as the search has it."""

    source: int
    target: int
    operation: str
    value: float | None


@dataclass(frozen=True)
class Cell:
    """A kind of cell.

    Attributes:
      name: For instance "normal".
      nodes: Inputs and nodes, also those that are left out.
      edges: In the order of the nodes that they lead to.
    """

    name: str
    nodes: int
    edges: tuple[Edge, ...]

    def reached(self, node: int) -> bool:
        """Whether anything leads to a node from an input."""
        return node < _INPUTS or any(edge.target == node and self.reached(edge.source) for edge in self.edges)


def cells(run: Run) -> list[Cell]:
    """The cells of a run; none where its choices are no edges of cells."""
    operations, values = closed(run), last(run)
    matches = {name: match for name in operations if (match := _EDGE.fullmatch(name))}
    if not matches or len(matches) < len(operations):
        return []
    found = []
    for kind in dict.fromkeys(match[1] for match in matches.values()):
        own = {name: (int(match[3]), int(match[2])) for name, match in matches.items() if match[1] == kind}
        edges = [
            Edge(source, target, str(operations[name]), number(values.get(name, {}).get("value")))
            for name, (source, target) in sorted(own.items(), key=lambda item: item[1][::-1])
            if operations[name] != _NONE
        ]
        found.append(Cell(kind, 1 + max(target for _, target in own.values()), tuple(edges)))
    return found


def figures(run: Run) -> list[Figure]:
    """One drawing of all cells, for networks of cells."""
    found = cells(run)
    if not found:
        return []
    return [
        Figure(
            "architecture",
            "The cells that were found",
            "A line for each of the two inputs and for each node of a cell; an arrow for each edge that is kept, with "
            "its operation. A node adds up what arrives, and the output of the cell is all of its nodes. Grey: "
            "operations without weights.",
            functools.partial(draw, found),
        )
    ]


def draw(found: list[Cell], narrow: bool) -> Canvas:
    """The cells, beside each other or, on a phone, one below the other."""
    rows = max(len(cell.edges) for cell in found) + 2
    shape = {"nrows": len(found), "ncols": 1} if narrow else {"nrows": 1, "ncols": len(found)}
    figure, axes = style.canvas(narrow, (40 + _ROW * rows) * (len(found) if narrow else 1), **shape)
    for axis, cell in zip(axes, found, strict=True):
        _draw(axis, cell, rows)
    return figure


def _draw(axis: Axes, cell: Cell, rows: int) -> None:
    """Inputs and nodes as columns, edges as rows; the label of a node stands where it is complete."""
    edges = dict(enumerate((edge for edge in cell.edges if cell.reached(edge.source)), 1))
    end = len(edges) + 0.8
    written: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10.5, "zorder": 4}
    box = {"boxstyle": "round,pad=0.25", "fc": style.COLORS["rule"], "ec": "none"}
    for node in filter(cell.reached, range(cell.nodes)):
        touching = [row for row, edge in edges.items() if node in (edge.source, edge.target)]
        if node < _INPUTS:
            label, place, span = f"in {node}", 0.0, (0.0, max(touching, default=0.0))
        else:
            complete = max(row for row, edge in edges.items() if edge.target == node)
            label, place, span = str(node), complete + 0.44, (min(touching), end)
        axis.plot([node] * 2, span, color=style.COLORS["bar"], lw=1.4, zorder=1)
        gid = f"node:{cell.name}:{node}"
        axis.text(node, place, label, color=style.COLORS["ink"], bbox=box, gid=gid, **written)
    for row, edge in edges.items():
        has_weights = "conv" in edge.operation
        color = style.COLORS["accent" if has_weights else "stone"]
        arrow = {"arrowstyle": "-|>", "color": color, "lw": 2.2 if has_weights else 1.4, "mutation_scale": 11}
        gid = f"edge:{cell.name}:{edge.target}:{edge.source}"
        ends = (edge.target, row), (edge.source, row)
        axis.annotate("", *ends, gid=gid, zorder=3, arrowprops={**arrow, "shrinkA": 0, "shrinkB": 0})
        share = "" if edge.value is None or not 0 <= edge.value <= 1 else f"  {edge.value:.2f}"
        axis.text(
            cell.nodes - 0.4, row, edge.operation.replace("_", " ") + share, va="center", fontsize=11, color=color
        )
    axis.text((_INPUTS + cell.nodes - 1) / 2, end + 0.4, "output", color=style.COLORS["muted"], **written)
    axis.set_title(f"{cell.name.capitalize()} cell")
    axis.set_xlim(-0.6, cell.nodes + 3.4)
    axis.set_ylim(rows - 0.4, -0.6)
    axis.set_axis_off()
