"""The figure of a sweep: accuracy over cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from tfbnas.report import style
from tfbnas.report.figure import Figure
from tfbnas.sweep.front import pareto_front

_KINDS = {"accuracy": "Test accuracy (%)", "validation_accuracy": "Validation accuracy (%)"}


def figures(content: Mapping[str, Any]) -> list[Figure]:
    """The figure of sweep.json's content; none while no trial has finished.

    Two panels where the trials have a validation accuracy, by which the front is chosen then.
    """
    if not _points(content, "accuracy"):
        return []
    chosen = (
        "The front is chosen by the accuracy on held-out training images; in the other panel the same "
        "networks are marked. "
        if content["front_by"] == "validation_accuracy"
        else ""
    )
    return [
        Figure(
            "front",
            "Accuracy against cost",
            "Each dot is the network that one trial found, labelled with its budget; left and high is good. "
            f"Blue: networks on the front, which no other one beats. {chosen}Pale: the other ones. Squares: networks "
            "trained for comparison. Mirrors figure 7 of Veniat & Denoyer (CVPR 2018).",
            lambda narrow: draw(content, narrow),
        )
    ]


def _points(content: Mapping[str, Any], kind: str, rows: str = "trials") -> list[Mapping[str, Any]]:
    return [row for row in content[rows] if row["cost"] is not None and row[kind] is not None]


def draw(content: Mapping[str, Any], narrow: bool) -> Canvas:
    """One panel for each kind of accuracy."""
    kinds = ["accuracy"]
    if content["front_by"] == "validation_accuracy":
        kinds.insert(0, "validation_accuracy")
    shape = {"nrows": len(kinds), "ncols": 1} if narrow else {"nrows": 1, "ncols": len(kinds)}
    figure, axes = style.canvas(narrow, 310 * len(kinds) if narrow else 380, **shape)
    for axis, kind in zip(axes, kinds, strict=True):
        _panel(axis, content, kind)
    style.below(figure, axes, columns=1 if narrow else 3)
    return figure


def _panel(axis: Axes, content: Mapping[str, Any], kind: str) -> None:
    rows = _points(content, kind)
    front = [row for row in rows if row["name"] in content["front"]]
    others = [row for row in rows if row not in front]
    compared = _points(content, kind, "baselines")
    for name, some, color, marker, size, label in (
        ("dominated", others, "bar", "o", 6.5, "Other trials"),
        ("baselines", compared, "second", "s", 6.5, "For comparison"),
        ("front", front, "accent", "o", 8, "On the front"),
    ):
        if some:
            x, y = _xy(some, kind)
            (dots,) = axis.plot(x, y, marker, ms=size, color=style.COLORS[color], mec="none", label=label)
            dots.set_gid(f"{kind}:{name}")
            dots.set_zorder(3)
    axis.set_xlabel(f"Cost ({content['unit']})")
    axis.set_ylabel(_KINDS[kind])
    axis.margins(x=0.1, y=0.16)
    x, y = _xy(front, kind)
    best = [(x[i], y[i]) for i in pareto_front(list(zip(x, y, strict=True)))]
    right = axis.get_xlim()[1]
    (line,) = axis.step(
        [point[0] for point in best] + [right],
        [point[1] for point in best] + [best[-1][1]],
        where="post",
        color=style.COLORS["accent"],
        lw=1.6,
    )
    line.set_gid(f"{kind}:step")
    axis.set_xlim(right=right)
    _labels(axis, [(row, f"{row['budget']:g}", "accent") for row in front], kind)
    _labels(axis, [(row, style.clean(row["label"], longest=20), "second") for row in compared], kind)


def _xy(rows: Sequence[Mapping[str, Any]], kind: str) -> tuple[list[float], list[float]]:
    return [row["cost"] for row in rows], [100 * row[kind] for row in rows]


def _labels(axis: Axes, rows: Sequence[tuple[Mapping[str, Any], str, str]], kind: str) -> None:
    left, right = axis.get_xlim()
    for row, text, color in rows:
        late = (row["cost"] - left) / (right - left) > 0.75  # near the edge a label goes to the left
        axis.annotate(
            text,
            (row["cost"], 100 * row[kind]),
            (-5, 6) if late else (4, 6),
            textcoords="offset points",
            ha="right" if late else "left",
            va="bottom",
            color=style.COLORS[color],
            fontsize=11.5,
        )
