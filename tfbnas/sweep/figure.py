"""The figures of a sweep: accuracy over cost, and the points beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from tfbnas.report import style
from tfbnas.report.figure import Figure
from tfbnas.sweep.front import pareto_front
from tfbnas.sweep.results import searched

_KINDS = {"accuracy": "Test accuracy (%)", "validation_accuracy": "Validation accuracy (%)"}
_LONGEST = 20  # characters of a label
_SPACE = 34  # pixels of a line of the figure of points
_COLORS = {"searched": "accent", "baseline": "second", "reference": "third", "control": "stone"}
_MARKS = {"searched": "D", "baseline": "o", "reference": "s", "control": "^"}
_ROLES = {
    "searched": "Network found",
    "baseline": "Ordinary network of the family",
    "reference": "Reference",
    "control": "Control",
}

Network = Mapping[str, Any]


def figures(content: Mapping[str, Any]) -> list[Figure]:
    """The figures of sweep.json's content; none while no trial has finished."""
    points = _found(content)
    found = []
    costs = {network["cost"]["mean"] for network in [*points.values(), *_compared(content)] if _is_at(network)}
    several = len(set(content["budgets"])) > 1 or len(set(content["penalty_weights"])) > 1
    if len(costs) > 1 and any(_is_at(network) for network in points.values()):
        chosen = (
            "The front is chosen by the accuracy on held-out training images; in the other panel the same "
            "networks are marked. "
            if content["front_by"] == "validation_accuracy"
            else ""
        )
        front = (
            f"Blue: networks on the front, which no other one beats. {chosen}Pale: the other ones. "
            if len(points) > 1
            else ""
        )
        mirrors = " Mirrors figure 7 of Veniat & Denoyer (CVPR 2018)." if several else ""
        labelled = ", labelled with its budget" if several else ""
        found.append(
            Figure(
                "front",
                "Accuracy against cost",
                f"Each dot is the network found at one point{labelled}; left and high is good. {front}Squares: "
                f"networks trained for comparison.{_whiskers(content)}{mirrors}",
                lambda narrow: draw(content, narrow),
            )
        )
    if points and (_varies(content) or not found):
        found.append(
            Figure(
                "points",
                "Accuracy of each point",
                "Test accuracy of the network found at each point, and of those that were trained for comparison."
                f"{_whiskers(content)}",
                lambda narrow: dots(content, narrow),
            )
        )
    return found


def _whiskers(content: Mapping[str, Any]) -> str:
    if len(content["seeds"]) < 2:
        return ""
    return " A mark is the mean over the seeds, its whiskers are one standard deviation long on either side."


def _varies(content: Mapping[str, Any]) -> bool:
    return any(point["varied"] for point in content["points"])


def _found(content: Mapping[str, Any]) -> dict[str, Network]:
    """The network found at each point that has one, by the point's name."""
    found = {point["name"]: searched(point) for point in content["points"]}
    return {name: network for name, network in found.items() if network and network["accuracy"]}


def _compared(content: Mapping[str, Any]) -> list[Network]:
    """The other networks; one that several points share is there once."""
    others = [one for point in content["points"] for one in point["networks"] if one["role"] != "searched"]
    return list({(one["key"], *one["run_dirs"]): one for one in others}.values())


def _is_at(network: Network) -> bool:
    return bool(network["cost"] and network["accuracy"])


def draw(content: Mapping[str, Any], narrow: bool) -> Canvas:
    """One panel for each kind of accuracy, over the cost."""
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
    points = {name: one for name, one in _found(content).items() if _is_at(one) and one[kind]}
    front = [one for name, one in points.items() if name in content["front"]]
    others = [one for one in points.values() if one not in front]
    compared = [one for one in _compared(content) if _is_at(one) and one[kind]]
    several = len(points) > 1
    for name, some, color, marker, size, label in (
        ("dominated", others, "bar", "o", 6.5, "Other points"),
        ("baselines", compared, "second", "s", 6.5, "For comparison"),
        ("front", front, "accent", "o", 8, "On the front" if several else "Network found"),
    ):
        if some:
            x, y = _xy(some, kind)
            (marks,) = axis.plot(x, y, marker, ms=size, color=style.COLORS[color], mec="none", label=label)
            marks.set_gid(f"{kind}:{name}")
            marks.set_zorder(3)
            for network in some:
                _cross(axis, network, kind, color)
    axis.set_xlabel(f"Cost ({content['unit']})")
    axis.set_ylabel(_KINDS[kind])
    axis.margins(x=0.1, y=0.16)
    if several:
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
    labels = {point["name"]: point["label"] or "" for point in content["points"]}
    named = [(one, labels[name].partition(" ")[0], "accent") for name, one in points.items() if one in front]
    if _varies(content):
        named = []  # the figure of points names them
    elif not several:
        named = [(one, one["label"], "accent") for one in front]
    _labels(axis, named, kind)
    each = {one["label"]: one for one in reversed(compared)}  # a label that several have stands at the first
    _labels(axis, [(one, style.clean(name, longest=_LONGEST), "second") for name, one in each.items()], kind)


def _cross(axis: Axes, network: Network, kind: str, color: str) -> None:
    """Whiskers of one standard deviation in both directions, where there are several seeds."""
    cost, accuracy = network["cost"], network[kind]
    if accuracy["deviation"] is not None:
        axis.errorbar(
            cost["mean"],
            100 * accuracy["mean"],
            xerr=cost["deviation"] or None,
            yerr=100 * accuracy["deviation"],
            fmt="none",
            ecolor=style.COLORS[color],
            elinewidth=1.2,
            zorder=2,
        )


def _xy(networks: Sequence[Network], kind: str) -> tuple[list[float], list[float]]:
    return [one["cost"]["mean"] for one in networks], [100 * one[kind]["mean"] for one in networks]


def _labels(axis: Axes, rows: Sequence[tuple[Network, str, str]], kind: str) -> None:
    left, right = axis.get_xlim()
    for network, text, color in rows:
        x = network["cost"]["mean"]
        late = (x - left) / (right - left) > 0.75  # near the edge a label goes to the left
        axis.annotate(
            text,
            (x, 100 * network[kind]["mean"]),
            (-5, 6) if late else (4, 6),
            textcoords="offset points",
            ha="right" if late else "left",
            va="bottom",
            color=style.COLORS[color],
            fontsize=11.5,
        )


def dots(content: Mapping[str, Any], narrow: bool) -> Canvas:
    """A line for each network, grouped by point: mean, deviation, and every seed as a pale dot."""
    lines: list[tuple[str, Network | None]] = []
    several = len(content["points"]) > 1
    for point in content["points"]:
        known = [one for one in point["networks"] if one["accuracy"]]
        only = len(known) == 1 and several
        if several and known and not only:
            lines.append((point["label"], None))
        lines += [(point["label"] if only else one["label"], one) for one in known]
    figure, (axis,) = style.canvas(narrow, 90 + _SPACE * len(lines))
    longest = 24 if narrow else 48
    for y, (_, network) in enumerate(lines):
        if network:
            _dot(axis, y, network)
    axis.set_yticks(range(len(lines)), [style.clean(text, longest=longest) for text, _ in lines])
    for tick, (_, network) in zip(axis.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if network is None else "normal")
        tick.set_color(style.COLORS["ink" if network is None else "muted"])
    axis.set_ylim(len(lines) - 0.4, -0.6)
    axis.margins(x=0.08)
    axis.set_xlabel(_KINDS["accuracy"])
    axis.grid(visible=True, axis="x")
    axis.grid(visible=False, axis="y")
    style.below(figure, axis, columns=1 if narrow else 2)
    return figure


def _dot(axis: Axes, y: float, network: Network) -> None:
    accuracy, role = network["accuracy"], network["role"]
    color = style.COLORS[_COLORS[role]]
    mean, deviation = 100 * accuracy["mean"], accuracy["deviation"]
    if deviation is not None:
        axis.plot([100 * value for value in accuracy["values"]], [y] * len(accuracy["values"]), "o", ms=3.5, alpha=0.4)
        axis.lines[-1].set_color(color)
        axis.errorbar(mean, y, xerr=100 * deviation, fmt="none", ecolor=color, elinewidth=1.4, capsize=3)
    (mark,) = axis.plot(mean, y, _MARKS[role], ms=7.5, color=color, mec="none", label=_ROLES[role])
    mark.set_gid(f"point:{network['key']}")
    mark.set_zorder(3)
