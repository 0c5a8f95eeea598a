"""Accuracy, costs and time of the trained networks, beside a paper's."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from tfbnas.paired import Difference, difference, unpacked
from tfbnas.report import countings, exported, latency, style
from tfbnas.report.figure import Figure
from tfbnas.report.methods import Method, Published
from tfbnas.report.reading import Run
from tfbnas.report.values import MIB, amount, cost_name, duration, mib, number, percent, series, shown, size
from tfbnas.results import Limited, TrainingResult

_LEAST_POINTS = 4.0  # percentage points that an axis of accuracies spans at least
_DASHES = ("solid", (0, (5, 2)), (0, (2, 2)), (0, (1, 2)))


@dataclass(frozen=True)
class Row:
    """One line of the results table, as text; `cells` is empty for a network that only the paper has."""

    label: str
    searched: bool
    cells: list[str]
    published: list[str]


@dataclass(frozen=True)
class Table:
    """The results table, as text.

    Attributes:
      heads: Name and small print of each column behind the first, without those of the paper.
      rows: Every trained network beside its counterpart in the paper, then what only the paper has.
    """

    heads: list[tuple[str, str]]
    rows: list[Row]


def table(run: Run, published: Sequence[Published]) -> Table:
    """Accuracy, costs, memory and time of each trained network."""
    pixels, costs, epochs = classified(run) == "pixels", further_costs(run), common_epochs(run)
    heads = [("Accuracy", f"test{' pixels' * pixels}, %"), *([("Mean IoU", "test, %")] if pixels else [])]
    heads += [(cost_name(cost).capitalize(), cost.unit if cost.unit != cost.name else "") for cost in costs]
    second, deployed = countings.beside(run), countings.has_int8(run)
    heads += [("Memory", "paper’s count, MiB"), ("Memory", second.head)]
    heads += [("File", ".tflite"), ("Time", "predicted, ms")] if deployed else []
    plural = "s" * (epochs != 1)
    heads += [("Time", f"training, {epochs} epoch{plural}")] if epochs else [("Time", "training"), ("Epochs", "")]
    beside = {row.key: row for row in published if row.key}
    rows = []
    for one in run.trainings:
        cells = [percent(one.test.get("accuracy")), *([percent(one.test.get("mean_iou"))] if pixels else [])]
        cells += ["" if (price := run.price(one, cost)) is None else shown(cost, price) for cost in costs]
        cells += [mib(one.memory.get("paper")), mib(one.memory.get(second.key))]
        if deployed:
            cells += [size(exported.file_of(run, one) or None), latency.rough(exported.time_of(run, one) or None)]
        cells += [duration(one.seconds or None), *([] if epochs else [str(one.epochs)])]
        rows.append(Row(one.label, one is run.searched, cells, _printed(beside.pop(one.key, None))))
    rest = [row for row in published if not row.key or row.key in beside]
    return Table(heads, rows + [Row("", False, [], _printed(row)) for row in rest])


def _printed(row: Published | None) -> list[str]:
    return [row.label, f"{row.accuracy:.2f}", f"{row.memory:.2f}"] if row else [""] * 3


def further_costs(run: Run) -> list[Limited]:
    """The limited costs that are not the memory of all weights, which stands in every table."""
    return [cost for cost in run.costs if cost.name != "memory"]


def limits(run: Run) -> list[str]:
    """What the search limited, and what came out of it, in sentences."""
    said: list[str] = []
    for cost in further_costs(run):
        if cost.found is None:
            continue
        others = [f"{one.label} {shown(cost, one.costs[cost.name])}" for one in run.compared if cost.name in one.costs]
        compared = f" (for comparison: {', '.join(others)})" if others else ""
        what = "At the same time it was limited to" if said else "The search limited the network to"
        said.append(f"{what} {amount(cost, cost.limit)}; the one found takes {shown(cost, cost.found)}{compared}.")
    return said


@dataclass(frozen=True)
class Gain:
    """How the searched network compares with another one.

    Attributes:
      points: Percentage points of accuracy that it has more.
      other: The other one.
      difference: The same as a fraction of the test images, with its interval; None where a stage has not kept which
        images are classified correctly.
    """

    points: float
    other: TrainingResult
    difference: Difference | None = None

    @property
    def interval(self) -> str:
        """The 95 % interval and what it says, for a sentence; "" where it is not known."""
        return "" if self.difference is None else interval(self.difference)


def interval(found: Difference) -> str:
    """The 95 % interval of a difference, and what it says."""
    ends = " to ".join(signed(100 * end) for end in (found.low, found.high))
    return f"95 % interval {ends}: {found.verdict}"


def signed(points: float) -> str:
    """Percentage points with their sign."""
    return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")


def gains(run: Run) -> list[Gain]:
    """How the searched network compares with each other binary one of about its memory or cost."""
    searched = run.searched
    if searched is None or "accuracy" not in searched.test:
        return []
    return [
        Gain(100 * (searched.test["accuracy"] - other.test["accuracy"]), other, paired(searched, other))
        for other in run.compared
        if "accuracy" in other.test and other.form == "binary" and _is_near(run, searched, other)
    ]


def _is_near(run: Run, searched: TrainingResult, other: TrainingResult) -> bool:
    """Whether another network has at most 1.25 times the memory, or of what the search limits first."""
    pairs = [(searched.memory.get("paper"), other.memory.get("paper"))]
    pairs += [(run.price(searched, cost), run.price(other, cost)) for cost in run.costs[:1]]
    known = [(own, its) for own, its in pairs if own and its]
    return not known or any(its <= 1.25 * own for own, its in known)


def paired(one: TrainingResult, other: TrainingResult) -> Difference | None:
    """The difference of two networks on the same images; None where it is not known which they classify correctly."""
    if not one.correct or not other.correct or one.test_images != other.test_images:
        return None
    return difference(*(unpacked(found.correct, found.test_images) for found in (one, other)))


def chance(accuracy: float, images: int) -> str:
    """What the number of test images leaves open, as a sentence.

    Args:
      accuracy: From 0 to 1.
      images: Test images; the standard error of a fraction p of n images is sqrt(p (1 - p) / n).
    """
    error = 100 * math.sqrt(accuracy * (1 - accuracy) / images)
    return (
        f"With {images} test images an accuracy has a standard error of {error:.2g} percentage points; training again "
        "with another seed moves it, too."
    )


def uncertainty(run: Run) -> str:
    """How the searched network compares, and `chance` of its accuracy, or of the first network's.

    It is "" for networks that classify pixels, which are no samples.
    """
    for one in sorted(run.trainings, key=lambda one: one is not run.searched):
        if "accuracy" in one.test and one.test_images and classified(run) == "images":
            said = [
                f"On the same images {one.label} has {abs(gain.points):.1f} percentage points "
                f"{'more' if gain.points >= 0 else 'less'} than “{gain.other.label}” ({gain.interval})."
                for gain in gains(run)
                if gain.difference
            ]
            return " ".join([*said, chance(one.test["accuracy"], one.test_images)])
    return ""


def classified(run: Run) -> str:
    """What the networks classify: images, or pixels."""
    return "pixels" if any("mean_iou" in one.test for one in run.trainings) else "images"


def common_epochs(run: Run) -> int | None:
    """The number of epochs, where all networks were trained for the same."""
    epochs = {one.epochs for one in run.trainings}
    return epochs.pop() if len(epochs) == 1 else None


def looks(run: Run) -> dict[str, tuple[str, object]]:
    """Name of the colour, and dashes, of each network: the same in every figure."""
    roles = {"baseline": "stone", "reference": "third", "control": "second", "searched": "accent"}
    found: dict[str, tuple[str, object]] = {}
    used: list[str] = []
    for one in sorted((*run.trainings, *run.in_training), key=lambda one: (one.order, one.key)):
        # The first one to compare with stands out.
        color = "second" if one.role != "searched" and "second" not in used else roles.get(one.role, "stone")
        found[one.key] = color, _DASHES[min(3, used.count(color))]
        used.append(color)
    return found


@dataclass(frozen=True)
class Panel:
    """An axis of costs: its title, the cost in words, the unit shown, and in it the networks' costs and the budget."""

    title: str
    name: str
    unit: str
    values: dict[str, float]
    limit: float | None


def memory_panels(run: Run) -> list[Panel]:
    """The two ways to count the memory of all weights; the budget belongs to the one that the search counted."""
    known = [one for one in run.trainings if "accuracy" in one.test]
    budget = next((cost for cost in run.costs if cost.name == "memory"), None)
    panels = []
    second = countings.beside(run)
    for way, title in (("paper", "As the paper counts"), (second.key, second.title)):
        values = {one.key: one.memory[way] / MIB for one in known if one.memory.get(way)}
        counted = all(one.costs.get("memory") == one.memory.get(way) for one in known)
        panels.append(Panel(title, "Memory", "MiB", values, budget.limit / MIB if budget and counted else None))
    # One point of its own tells nothing that the table does not.
    return [panel for panel in panels[: 1 if len(known) == 1 else 2] if panel.values]


def cost_panels(run: Run) -> list[Panel]:
    """The other costs that the search limits."""
    panels = []
    for cost in further_costs(run):
        prices = {one.key: run.price(one, cost) for one in run.trainings if "accuracy" in one.test}
        values = {key: price / cost.scale for key, price in prices.items() if price}
        name = cost_name(cost).capitalize()
        panels.append(Panel(name, name, cost.unit, values, cost.limit / cost.scale))
    return [panel for panel in panels if panel.values]


def figures(run: Run, method: Method, published: Sequence[Published]) -> list[Figure]:
    """Accuracy against costs and the training curves, as far as the run has them."""
    found = []
    for name, title, panels, rows in (
        ("accuracy-cost", "Accuracy against cost", cost_panels(run), ()),
        ("accuracy-memory", "Accuracy against memory", memory_panels(run), published),
    ):
        if not panels:
            continue
        pale = f" Pale: the results of the paper ({method.source}), after full schedules." if rows else ""
        budget = " The dashed vertical line is the budget of the search." if any(p.limit for p in panels) else ""
        mirrors = f" Mirrors {method.table} of the paper." if rows else ""
        what = "its memory, counted as in the table" if name == "accuracy-memory" else "what the search limits"
        found.append(
            Figure(
                name,
                title,
                f"Test accuracy of each trained network over {what}; higher and further left is better."
                f"{budget}{pale}{mirrors}",
                functools.partial(accuracy_against, run, panels, rows),
            )
        )
    on_tested = "Accuracy on the test images."
    on_trained = (
        "Accuracy on the training images, shifted and mirrored, while the epoch went on; only the table above tells "
        "that on the test images."
    )
    if _with_history(run):
        going = " Networks still in training are shown as far as they are." if run.in_training else ""
        found.append(
            Figure(
                "training",
                "Training of the final networks",
                (f"All networks were trained for {common_epochs(run)} epochs. " if common_epochs(run) else "")
                + f"{on_tested if _curve_key(run) == 'test_accuracy' else on_trained}{going}",
                functools.partial(training_curves, run),
            )
        )
    return found


def accuracy_against(run: Run, panels: Sequence[Panel], published: Sequence[Published], narrow: bool) -> Canvas:
    """One panel for each cost; the paper's points are in the first."""
    stacked = narrow and len(panels) > 1
    columns = 1 if narrow else min(2, len(panels))
    lines = math.ceil(len(panels) / columns)
    height = 290 * lines if stacked else 350 * lines
    figure, axes = style.canvas(narrow, height, nrows=lines, ncols=columns)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for i, (axis, panel) in enumerate(zip(axes, panels, strict=False)):
        _scatter(axis, run, panel, published if i == 0 else ())
        axis.set_title(panel.title)
        unit_text = f"{panel.unit}, " if panel.unit != panel.name.lower() else ""
        axis.set_xlabel(f"{panel.name} ({unit_text}logarithmic)")
        axis.set_ylabel("Test accuracy (%)")
    return figure


def _scatter(axis: Axes, run: Run, panel: Panel, published: Sequence[Published]) -> None:
    budget = panel.limit is not None
    wide = sorted((row for row in published if row.role == "baseline"), key=lambda row: row.memory)
    style.line(
        axis, [r.memory for r in wide], [r.accuracy for r in wide], "bar", lw=1, marker="", gid="published-baselines"
    )
    for row in published:
        marker = {"baseline": "o", "searched": "D"}.get(row.role, "s")
        (point,) = axis.plot(row.memory, row.accuracy, marker, ms=5, mfc="none", mec=style.COLORS["faint"])
        point.set_gid(f"published:{row.label}")
        left = row is wide[0] if row in wide else budget and bool(row.key)
        place = "left" if left else "right" if row in wide else "above"
        text = row.label.rpartition(" ")[2] if row in wide else row.label
        _tag(axis, text, row.memory, row.accuracy, color=style.COLORS["stone"], place=place)
    known = [one for one in run.trainings if one.key in panel.values]
    points = [(one, panel.values[one.key], 100 * one.test["accuracy"]) for one in known]
    ordinary = sorted((x, y) for one, x, y in points if one.role == "baseline")
    style.line(axis, [x for x, _ in ordinary], [y for _, y in ordinary], "stone", lw=1.2, marker="", gid="baselines")
    colors = looks(run)
    for one, x, y in reversed(points):
        searched, color = one is run.searched, colors[one.key][0]
        (point,) = axis.plot(x, y, "D" if searched else "o", ms=7.5 if searched else 6, mec="none")
        point.set_color(style.COLORS[color])
        point.set_gid(f"network:{one.key}")
        text_color = style.COLORS["ink" if color == "stone" else color]
        # Beside, not across the line of the budget, which a good search comes close to.
        place = ("left" if budget else "above") if searched else "right"
        _tag(axis, style.clean(one.label, longest=22), x, y, color=text_color, place=place, bold=searched)
    spread = [*(row.memory for row in published), *panel.values.values()]
    if panel.limit:
        spread.append(panel.limit)
        axis.axvline(panel.limit, color=style.COLORS["faint"], lw=1, ls=(0, (4, 3)), gid="budget")
    style.cost_axis(axis, spread)
    axis.margins(y=0.14)
    low, high = axis.get_ylim()
    if high - low < _LEAST_POINTS:  # a few tenths of a point must not look like a gulf
        middle = (low + high) / 2
        axis.set_ylim(middle - _LEAST_POINTS / 2, middle + _LEAST_POINTS / 2)


_PLACES = {
    "above": ((0, 7), "center", "bottom"),
    "left": ((-5, 3), "right", "bottom"),
    "right": ((6, -3), "left", "top"),
}


def _tag(axis: Axes, text: str, x: float, y: float, *, color: str, place: str, bold: bool = False) -> None:
    """A label above its point, or at its upper left or lower right, so that neighbouring points keep theirs apart."""
    offset, horizontal, vertical = _PLACES[place]
    weight = "bold" if bold else "normal"
    style.note(axis, text, (x, y), offset, ha=horizontal, va=vertical, color=color, fontsize=11.5, fontweight=weight)


def _with_history(run: Run) -> list[TrainingResult]:
    return [one for one in (*run.trainings, *run.in_training) if one.history]


def _curve_key(run: Run) -> str:
    tested = any(number(row.get("test_accuracy")) is not None for one in _with_history(run) for row in one.history)
    return "test_accuracy" if tested else "accuracy"


def training_curves(run: Run, narrow: bool) -> Canvas:
    """Accuracy and training loss of every network over the epochs."""
    key = _curve_key(run)
    shape = {"nrows": 2, "ncols": 1} if narrow else {"nrows": 1, "ncols": 2}
    figure, (accuracy, loss) = style.canvas(narrow, 560 if narrow else 320, **shape)
    curves, colors = _with_history(run), looks(run)
    for one in reversed(curves):
        color, dashes = colors[one.key]
        for axis, name, scale in ((accuracy, key, 100.0), (loss, "loss", 1.0)):
            x, values = series(one.history, name)
            look = {"ls": dashes, "lw": 1.8, "zorder": 3 if one is run.searched else 2, "gid": f"{name}:{one.key}"}
            style.line(axis, x, [scale * value for value in values], color, style.clean(one.label), **look)
    accuracy.set_title("Accuracy on test images" if key == "test_accuracy" else "Accuracy on training images")
    accuracy.set_ylabel("Accuracy (%)")
    loss.set_title("Training loss")
    loss.set_ylabel("Loss (nats)")
    last = max(len(one.history) for one in curves)
    for axis in (accuracy, loss):
        axis.set_xlabel("Epoch")
        axis.set_xlim(1 - 0.03 * (last - 1), last + 0.03 * (last - 1) if last > 1 else 1.4)
        style.whole_numbers(axis)
    style.below(figure, accuracy, columns=1 if narrow else 3, last_first=True)
    return figure
