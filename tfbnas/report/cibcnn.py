"""Channel-wise interactions (CI-BCNN) in the report: reward, edges of each layer, their influences, and one graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from tfbnas.report import style
from tfbnas.report.bars import largest, stacked
from tfbnas.report.choices import closed, last
from tfbnas.report.figure import Figure
from tfbnas.report.methods import Method
from tfbnas.report.reading import Run
from tfbnas.report.values import count, number, rows_of, series

BLOCK = 16
"""Channels among which edges are searched."""

BOARD = "raspberry_pi_4b"
OPERATORS = ("_scaled", "_stairs", "_signs", "_correction", "_corrected")
"""How the layers end that an export puts behind a convolution with interactions."""

Edge = tuple[int, int, int]
"""Teacher, student, influence."""


def edges(run: Run) -> dict[str, list[Edge]]:
    """The edges of each layer, in the network that was found, or before there is one now."""
    return {name: [e for e in map(_edge, value) if e] for name, value in closed(run).items() if isinstance(value, list)}


def _edge(value: Any) -> Edge | None:
    known = [number(part) for part in value] if isinstance(value, list) and len(value) == 3 else [None]
    whole = [int(part) for part in known if part is not None and part == int(part)]
    return (whole[0], whole[1], whole[2]) if len(whole) == 3 else None


def figures(run: Run) -> Sequence[Figure]:
    """What the run has of them."""
    found = []
    if searching(run)[0]:
        caption = (
            "Mean over all steps of all sequences that the policy drew in each epoch. A step is paid 1 where the loss "
            "falls by more than the threshold, -1 where it rises, and the mean confidence of the teachers."
        )
        found.append(Figure("reward", "Reward of the policy", caption, lambda narrow: reward(run, narrow)))
    graphs = edges(run)
    total = sum(map(len, graphs.values()))
    if not total:
        return found
    caption = (
        "How many edges each layer has, by the sign of their influence, and which share that is of all pairs of two "
        "channels of one block of 16."
    )
    found.append(Figure("edges", "Edges of each layer", caption, lambda narrow: by_layer(run, narrow)))
    caption = (
        f"How many of the {count(total, 'edge')} have each influence. The sign says whether a student follows its "
        "teacher or the contrary, the size into how many intervals the teacher's bitcount is divided."
    )
    found.append(Figure("influences", "Influences of the edges", caption, lambda narrow: influences(run, narrow)))
    layer, block = busiest(graphs)
    own = [edge for edge in graphs[layer] if edge[0] // BLOCK == block == edge[1] // BLOCK]
    caption = (
        f"The {count(len(own), 'edge')} among channels {BLOCK * block} to {BLOCK * block + BLOCK - 1} of {layer}, the "
        "block with the most edges. Teachers stand on the left, students on the right; blue follows, orange opposes; "
        "a thick line has an influence of 5 or more."
    )
    found.append(Figure("graph", "The graph of one block", caption, lambda narrow: graph(own, block, narrow)))
    return found


def searching(run: Run) -> tuple[list[float], list[float]]:
    """Epochs in which the policy acted, and the reward of each."""
    return series([row for row in run.history if row.get("warm_up") is not True], "reward")


def reward(run: Run, narrow: bool) -> Canvas:
    """Mean reward of each epoch."""
    figure, (axis,) = style.canvas(narrow, 260 if narrow else 300)
    style.line(axis, *searching(run), "accent", gid="reward", lw=1.8)
    axis.axhline(0.0, color=style.COLORS["faint"], lw=0.9)
    axis.set_ylabel("Mean reward")
    style.epochs(axis, "epoch", run.warm_up, said=False)  # there is no room to name it: nothing is drawn in it
    return figure


def by_layer(run: Run, narrow: bool) -> Canvas:
    """Bars of the edges of each layer; the text has the density."""
    graphs, densities = edges(run), {name: number(choice.get("value")) for name, choice in last(run).items()}
    parts = {
        name: ({"follow": sum(k > 0 for *_, k in own), "oppose": sum(k < 0 for *_, k in own)},)
        for name, own in graphs.items()
    }
    shown = {name: panel for name, (panel,) in largest(parts).items()}
    titles = {
        name: f"{name} ({100 * density:.1f} %)" if (density := densities.get(name)) is not None else name
        for name in shown
    }
    figure, (axis,) = style.canvas(narrow, 90 + 24 * len(shown))
    stacked(
        axis,
        {titles[name]: panel for name, panel in shown.items()},
        [("follow", "accent", "Positive influence"), ("oppose", "second", "Negative influence")],
        text=lambda value: f"{value:.0f}",
        room=1.12,
        longest=24 if narrow else 40,
    )
    axis.set_xlabel("Edges (density of the layer in brackets)")
    style.below(figure, axis, columns=2)
    return figure


def influences(run: Run, narrow: bool) -> Canvas:
    """Histogram over all edges."""
    counted = Counter(influence for own in edges(run).values() for *_, influence in own)
    most = max(map(abs, counted))
    sizes = [size for size in range(-most, most + 1, 2) if abs(size) >= 3]
    figure, (axis,) = style.canvas(narrow, 250)
    for place, size in enumerate(sizes):
        color = style.COLORS["accent" if size > 0 else "second"]
        axis.bar(place, counted[size], 0.62, color=color, gid=f"influence:{size}")
        style.note(axis, str(counted[size]), (place, counted[size]), (0, 7), ha="center")
    axis.set_xticks(range(len(sizes)), [f"{size:+d}".replace("-", "−") for size in sizes])
    axis.set_xlabel("Influence K")
    axis.set_ylabel("Edges")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.margins(y=0.12)
    return figure


def busiest(graphs: Mapping[str, Sequence[Edge]]) -> tuple[str, int]:
    """Layer and number of the block with the most edges; the first of several."""
    blocks = Counter((name, t // BLOCK) for name, own in graphs.items() for t, s, _ in own if t // BLOCK == s // BLOCK)
    if not blocks:
        return next(name for name, own in graphs.items() if own), 0
    return blocks.most_common(1)[0][0]


def graph(own: Sequence[Edge], block: int, narrow: bool) -> Canvas:
    """Lines from teachers to students."""
    figure, (axis,) = style.canvas(narrow, 430)
    for teacher, student, influence in own:
        color, width = style.COLORS["accent" if influence > 0 else "second"], 1.0 if abs(influence) == 3 else 2.2
        ends = [teacher % BLOCK, student % BLOCK]
        axis.plot([0, 1], ends, color=color, lw=width, alpha=0.8, gid=f"edge:{teacher}:{student}")
    for x, side, aligned in ((0, -8, "right"), (1, 8, "left")):
        axis.plot([x] * BLOCK, range(BLOCK), "o", ms=5, color=style.COLORS["ink"], zorder=3)
        for channel in range(BLOCK):
            style.note(axis, str(BLOCK * block + channel), (x, channel), (side, 0), ha=aligned)
    axis.set_xticks([0, 1], ["Teacher", "Student"])
    axis.set_xlim(-0.15, 1.15)
    axis.set_ylim(BLOCK - 0.4, -0.6)
    axis.set_yticks([])
    axis.set_xlabel("Channels of the layer")
    axis.grid(visible=False)
    _frame(axis)
    return figure


def _frame(axis: Axes) -> None:
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.tick_params(length=0)


def remarks(run: Run) -> list[str]:
    """What the interactions cost, as far as the run knows it."""
    said = []
    rows = [row for one in rows_of(run.latency.get("predictions")) if one.get("name") == BOARD for row in _times(one)]
    own = [time for layer, time in rows if layer.endswith(OPERATORS)]
    if own:
        total = sum(time for _, time in rows)
        said.append(
            f"On a Raspberry Pi 4B the operators of the interactions are predicted to take {sum(own):.3f} of "
            f"{total:.3f} ms (a model, not a measurement)."
        )
    plain = next((one for one in run.trainings if one.key == "plain"), None)
    if plain and run.searched:
        parts = []
        if {"latency"} <= run.searched.costs.keys() & plain.costs.keys():
            parts.append(f"{run.searched.costs['latency'] - plain.costs['latency']:+.3f} ms")
        if {"deployed"} <= run.searched.memory.keys() & plain.memory.keys():
            parts.append(
                f"{run.searched.memory['deployed'] - plain.memory['deployed']:+.0f} bytes of weights as deployed"
            )
        if parts:
            said.append(f"Beside the network without interactions they cost {' and '.join(parts)}.")
    return said


def _times(prediction: Mapping[str, Any]) -> list[tuple[str, float]]:
    known = [(str(row.get("layer")), number(row.get("milliseconds"))) for row in rows_of(prediction.get("operators"))]
    return [(layer, time) for layer, time in known if time is not None]


METHOD = Method(
    epochs="epochs",
    axes={
        "active": "Share of pixels an edge corrects",
        "idle": "Share of edges that correct none",
        "density": "Density",
        "reward": "Mean reward",
    },
    curves=("reward", "density"),
    captions={
        "choices": "Density is the share of a layer's pairs of channels, two of one block of 16, that are edges. There "
        "are none in the warm-up.",
        "cost": "It is the mean over the steps of each epoch of what the present graphs cost, priced layer by layer. "
        "Where they exceed the budget in the end, the edges that the policy thinks least of are left out.",
    },
    figures=figures,
    remarks=remarks,
)
