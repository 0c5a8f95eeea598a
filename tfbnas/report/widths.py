"""The widths that a search chose, beside those of the ordinary network."""

from __future__ import annotations

from matplotlib.figure import Figure as Canvas

from tfbnas.report import style
from tfbnas.report.choices import closed, last
from tfbnas.report.figure import Figure
from tfbnas.report.methods import Method
from tfbnas.report.reading import Run
from tfbnas.report.values import mapping, number
from tfbnas.results import TrainingResult


def widths(run: Run) -> dict[str, tuple[float, float]]:
    """Channels found and base channels of each choice that is a width."""
    found = closed(run)
    known = {name: (number(found.get(name)), number(choice.get("base"))) for name, choice in last(run).items()}
    return {name: (own, base) for name, (own, base) in known.items() if own is not None and base}


def baseline(run: Run) -> TrainingResult | None:
    """The first baseline, where it differs from the base widths."""
    first = next((one for one in run.trainings if one.role == "baseline"), None)
    if first is None:
        return None
    own = mapping(first.architecture.get("choices"))
    return first if any(own.get(name) != base for name, (_, base) in widths(run).items()) else None


def figures(run: Run, method: Method) -> list[Figure]:
    """Bars for each width; none for a search over other choices."""
    if not widths(run):
        return []
    return [
        Figure(
            "channels",
            "Channels per layer",
            "Output channels that the search chose for each group of layers, beside the base network, with their "
            "ratio on the right. Layers in the order of the network, from the image to the classes.",
            lambda narrow: draw(run, method, narrow),
        )
    ]


def draw(run: Run, method: Method, narrow: bool) -> Canvas:
    """Bars of each width, and marks of the baseline."""
    shown = widths(run)
    figure, (axis,) = style.canvas(narrow, 95 + 32 * len(shown))
    other = baseline(run)
    marks = {name: number(mapping(other.architecture.get("choices")).get(name)) for name in shown} if other else {}
    for i, (name, (found, base)) in enumerate(shown.items()):
        labels = ("Base, 1×", method.label) if i == 0 else (None, None)
        axis.barh(i + 0.2, base, 0.36, color=style.COLORS["bar"], gid=f"base:{name}", label=labels[0])
        axis.barh(i - 0.2, found, 0.36, color=style.COLORS["accent"], gid=f"searched:{name}", label=labels[1])
        end = max(found, base, marks.get(name) or 0)
        text = f"{found:.0f} ({found / base:.2f}×)"
        style.note(axis, text, (end, i), (5, 0), color=style.COLORS["ink"], fontsize=11.5)
    marked = [(value, i) for i, value in enumerate(marks.values()) if value]
    if other and marked:
        x, y = zip(*marked, strict=True)
        (points,) = axis.plot(x, y, "|", ms=19, mew=1.6, color=style.COLORS["second"], label=style.clean(other.label))
        points.set_gid("baseline")
    longest = max([1.0, *(end for pair in shown.values() for end in pair), *(value for value, _ in marked)])
    axis.set_xlim(0, longest * (1.38 if narrow else 1.16))
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.set_yticks(range(len(shown)), style.labels(list(shown), longest=20 if narrow else 34))
    axis.tick_params(axis="y", labelcolor=style.COLORS["ink"])
    axis.grid(axis="y", visible=False)
    axis.grid(axis="x", visible=True)
    axis.set_xlabel("Output channels")
    style.below(figure, axis, columns=2 if narrow else 3, last_first=True)
    return figure
