"""Stacked horizontal bars, one for each layer in the order of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes

from tfbnas.report import style

Parts = Mapping[str, float]
SHOWN = 24


def largest(layers: Mapping[str, Sequence[Parts]], shown: int = SHOWN) -> dict[str, Sequence[Parts]]:
    """The layers that weigh most, in their order, and the sum of the others as one more.

    Args:
      layers: For each layer its parts in each panel of a figure.
      shown: How many layers are kept. Default: 24.
    """
    if len(layers) <= shown + 1:
        return dict(layers)
    panels = range(max(len(panels) for panels in layers.values()))
    totals = [sum(sum(parts[p].values()) for parts in layers.values()) or 1.0 for p in panels]

    def weight(name: str) -> float:
        return max(sum(layers[name][p].values()) / totals[p] for p in panels)

    kept = set(sorted(layers, key=weight, reverse=True)[:shown])
    rest = [parts for name, parts in layers.items() if name not in kept]
    names = {part for panels in rest for parts in panels for part in parts}
    summed = [{part: sum(parts[p].get(part, 0.0) for parts in rest) for part in names} for p in panels]
    return {name: parts for name, parts in layers.items() if name in kept} | {f"{len(rest)} others": summed}


def stacked(
    axis: Axes,
    layers: Mapping[str, Parts],
    looks: Sequence[tuple[str, str, str]],
    *,
    text: Callable[[float], str],
    room: float,
    longest: int,
) -> None:
    """Draws the bars, the first layer on top, with the sum behind each.

    Args:
      axis: Where.
      layers: For each layer the values of its parts.
      looks: Part, name of its colour, and its label in the legend, in the order of stacking.
      text: Writes a sum.
      room: Length of the axis as a multiple of the longest bar, so that the text fits behind it.
      longest: Characters of a layer's name.
    """
    names = list(layers)
    start = [0.0] * len(names)
    for part, color, label in looks:
        values = [layers[name].get(part, 0.0) for name in names]
        if any(values):
            drawn = axis.barh(range(len(names)), values, 0.62, left=start, color=style.COLORS[color], label=label)
            for name, bar in zip(names, drawn, strict=True):
                bar.set_gid(f"{part}:{name}")
        start = [a + b for a, b in zip(start, values, strict=True)]
    for i, total in enumerate(start):
        note = axis.annotate(text(total), (total, i), (5, 0), textcoords="offset points", va="center", fontsize=11)
        note.set_color(style.COLORS["muted"])
    axis.set_yticks(range(len(names)), style.labels(names, longest=longest))
    axis.tick_params(axis="y", labelcolor=style.COLORS["ink"])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlim(0, (max(start, default=0.0) or 1.0) * room)
    axis.grid(axis="y", visible=False)
    axis.grid(axis="x", visible=True)
