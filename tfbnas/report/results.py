"""Accuracy, memory and time of the trained networks, beside a paper's: what every method's report shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from tfbnas.report import style
from tfbnas.report.parts import Figure, Published
from tfbnas.report.reading import MIB, Run, Training, number, numbers

_LEAST_POINTS = 4.0  # percentage points that an axis of accuracies spans at least
_DASHES = ("solid", (0, (5, 2)), (0, (2, 2)), (0, (1, 2)))


@dataclass(frozen=True)
class Row:
    """One line of the results table, as text; "" where there is no value."""

    label: str
    key: str
    accuracy: str = ""
    mean_iou: str = ""
    memory: str = ""
    deployed: str = ""
    seconds: str = ""
    epochs: str = ""
    published: str = ""
    published_accuracy: str = ""
    published_memory: str = ""


def mib(value: float | None) -> str:
    """Bytes as MiB with three significant digits, at least three decimals below one MiB."""
    if value is None:
        return ""
    value /= MIB
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def size(value: float | None) -> str:
    """Bytes as text with the unit that reads best."""
    if value is None:
        return ""
    if value < 1024:
        return f"{value:.0f} B"
    return f"{value / 1024:.1f} KiB" if value < MIB else f"{mib(value)} MiB"


def percent(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{100 * value:.{digits}f}"


def duration(seconds: float | None) -> str:
    """Seconds as "42 s", "7 min 05 s" or "2 h 10 min"."""
    if seconds is None:
        return ""
    total = round(seconds)
    if total < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"


def table(run: Run, published: Sequence[Published]) -> list[Row]:
    """Every trained network beside its counterpart in the paper, then what only the paper has."""
    beside = {row.key: row for row in published if row.key}
    rows = []
    for training in run.trainings:
        twin = beside.pop(training.key, None)
        rows.append(
            Row(
                label=training.label,
                key=training.key,
                accuracy=percent(training.accuracy),
                mean_iou=percent(training.mean_iou),
                memory=mib(training.memory),
                deployed=mib(training.deployed),
                seconds=duration(training.seconds),
                epochs="" if training.epochs is None else str(training.epochs),
                published="" if twin is None else twin.label,
                published_accuracy="" if twin is None else f"{twin.accuracy:.2f}",
                published_memory="" if twin is None else f"{twin.memory:.2f}",
            )
        )
    rest = [row for row in published if not row.key or row.key in beside]
    return rows + [
        Row("", "", published=row.label, published_accuracy=f"{row.accuracy:.2f}", published_memory=f"{row.memory:.2f}")
        for row in rest
    ]


def gains(run: Run) -> list[tuple[float, Training]]:
    """Percentage points by which the searched network beats each other one of at most 1.25 times its memory."""
    searched = run.training("searched")
    if searched is None or searched.accuracy is None:
        return []
    limit = 1.25 * searched.memory if searched.memory else None
    return [
        (100 * (searched.accuracy - other.accuracy), other)
        for other in run.trainings
        if other.key != "searched"
        and other.accuracy is not None
        and (limit is None or other.memory is None or other.memory <= limit)
    ]


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
    """`chance` of the searched network, or of the first; "" for networks that classify pixels, which are no samples."""
    for training in sorted(run.trainings, key=lambda training: training.key != "searched"):
        if training.accuracy is not None and training.test_images and classified(run) == "images":
            return chance(training.accuracy, training.test_images)
    return ""


def classified(run: Run) -> str:
    """What the networks classify: images, or pixels."""
    return "images" if all(training.mean_iou is None for training in run.trainings) else "pixels"


def common_epochs(run: Run) -> int | None:
    """The number of epochs, where all networks were trained for the same."""
    epochs = {training.epochs for training in run.trainings}
    return epochs.pop() if len(epochs) == 1 else None


def look(training: Training) -> tuple[str, object]:
    """Colour and dashes of a network, the same in every figure."""
    if training.key == "searched":
        return style.COLORS["accent"], "solid"
    if training.key == "equal-memory":
        return style.COLORS["second"], "solid"
    if training.ratio is not None:
        return style.COLORS["stone"], _DASHES[min(3, max(0, round(training.ratio) - 1))]
    return style.COLORS["third"], "solid"


def described(training: Training) -> str:
    """A network within a sentence."""
    if training.key == "equal-memory":
        return "the uniform network of equal memory"
    return f"the uniform network at {training.ratio:g}×" if training.ratio is not None else training.label


def short(training: Training) -> str:
    """Label beside a point."""
    if training.ratio is not None:
        return f"{training.ratio:g}×"
    return style.clean(training.label, longest=22)


def figures(run: Run, published: Sequence[Published], source: str) -> list[Figure]:
    """Accuracy against memory and the training curves, as far as the run has them."""
    found = []
    if any(t.accuracy is not None and (t.memory or t.deployed) for t in run.trainings):
        pale = f" Pale: the results of {source}, after full schedules." if published else ""
        budget = " The dashed vertical line is the budget of the search." if run.budget else ""
        mirrors = " Mirrors table 1 of the paper." if published else ""
        found.append(
            Figure(
                "accuracy-memory",
                "Accuracy against memory",
                "Test accuracy of each trained network over its memory, counted as in the table; higher and further "
                f"left is better.{budget}{pale}{mirrors}",
                lambda narrow: accuracy_memory(run, published, narrow),
            )
        )
    shown = _with_history(run)
    if shown:
        going = " Networks still in training are shown as far as they are." if run.in_training else ""
        found.append(
            Figure(
                "training",
                "Training of the final networks",
                "All networks were trained from the beginning with the same schedule. "
                + (
                    "Accuracy on the test images."
                    if _curve_key(run) == "test_accuracy"
                    else "Accuracy on the training images, shifted and mirrored, while the epoch went on; only the "
                    "table above tells that on the test images."
                )
                + going,
                lambda narrow: training_curves(run, narrow),
            )
        )
    return found


def accuracy_memory(run: Run, published: Sequence[Published], narrow: bool) -> Canvas:
    """One panel for each way of counting memory; the paper's points are in the panel of its own way."""
    measured = [t for t in run.trainings if t.accuracy is not None]
    ways = [way for way in ("memory", "deployed") if any(getattr(t, way) for t in measured)]
    if len(measured) == 1:
        ways = ways[:1]  # one point of its own tells nothing that the table does not
    stacked = narrow and len(ways) == 2
    shape = {"nrows": 2, "ncols": 1} if stacked else {"nrows": 1, "ncols": len(ways)}
    figure, axes = style.canvas(narrow, 580 if stacked else 350, **shape)
    for axis, way in zip(axes, ways, strict=True):
        _scatter(axis, run, way, published if way == "memory" else ())
        axis.set_title("As the paper counts" if way == "memory" else "As deployed, with BatchNormalization")
        axis.set_xlabel("Memory (MiB, logarithmic)")
        axis.set_ylabel("Test accuracy (%)")
    return figure


def _scatter(axis: Axes, run: Run, way: str, published: Sequence[Published]) -> None:
    spread = [row.memory for row in published]
    wide = sorted((row for row in published if row.key.startswith("uniform-")), key=lambda row: row.memory)
    axis.plot(
        [r.memory for r in wide], [r.accuracy for r in wide], color=style.COLORS["bar"], lw=1, gid="published-uniform"
    )
    for row in published:
        marker = "o" if row in wide else "D" if row.key or "DMS" in row.label else "s"
        (point,) = axis.plot(row.memory, row.accuracy, marker, ms=5, mfc="none", mec=style.COLORS["faint"])
        point.set_gid(f"published:{row.label}")
        left = row is wide[0] if row in wide else bool(run.budget) and row.key == "searched"
        place = "left" if left else "right" if row in wide else "above"
        text = row.label.rpartition(" ")[2] if row in wide else row.label
        _tag(axis, text, row.memory, row.accuracy, color=style.COLORS["stone"], place=place)
    shown = [t for t in run.trainings if getattr(t, way) and t.accuracy is not None]
    uniform = sorted((t for t in shown if t.ratio is not None), key=lambda t: getattr(t, way))
    spread += [getattr(t, way) / MIB for t in shown]
    axis.plot(
        [getattr(t, way) / MIB for t in uniform],
        [100 * (t.accuracy or 0) for t in uniform],
        color=style.COLORS["stone"],
        lw=1.2,
        gid="uniform",
    )
    for training in reversed(shown):
        x, y = getattr(training, way) / MIB, 100 * (training.accuracy or 0)
        color, _ = look(training)
        searched = training.key == "searched"
        (point,) = axis.plot(x, y, "D" if searched else "o", ms=7.5 if searched else 6, color=color, mec="none")
        point.set_gid(f"network:{training.key}")
        color = style.COLORS["ink"] if training.ratio is not None else color
        # Beside, not across the line of the budget, which a good search comes close to.
        place = ("left" if way == "memory" and run.budget else "above") if searched else "right"
        _tag(axis, short(training), x, y, color=color, place=place, bold=searched)
    if way == "memory" and run.budget:
        spread.append(run.budget / MIB)
        axis.axvline(run.budget / MIB, color=style.COLORS["faint"], lw=1, ls=(0, (4, 3)), gid="budget")
    style.memory_axis(axis, spread)
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
    axis.annotate(
        style.clean(text),
        (x, y),
        offset,
        textcoords="offset points",
        ha=horizontal,
        va=vertical,
        color=color,
        fontsize=11.5,
        fontweight="bold" if bold else "normal",
    )


def _with_history(run: Run) -> list[Training]:
    return [training for training in (*run.trainings, *run.in_training) if training.history]


def _curve_key(run: Run) -> str:
    tested = any(number(row.get("test_accuracy")) is not None for t in _with_history(run) for row in t.history)
    return "test_accuracy" if tested else "accuracy"


def training_curves(run: Run, narrow: bool) -> Canvas:
    """Test accuracy and training loss of every network over the epochs."""
    key = _curve_key(run)
    shape = {"nrows": 2, "ncols": 1} if narrow else {"nrows": 1, "ncols": 2}
    figure, (accuracy, loss) = style.canvas(narrow, 560 if narrow else 320, **shape)
    shown = _with_history(run)
    for training in reversed(shown):
        color, dashes = look(training)
        for axis, name, scale in ((accuracy, key, 100.0), (loss, "loss", 1.0)):
            at, values = numbers(training.history, name)
            epochs = [number(training.history[i].get("epoch")) for i in at]
            x = [i + 1 if epoch is None else epoch + _first(training) for i, epoch in zip(at, epochs, strict=True)]
            (line,) = axis.plot(
                x, [scale * v for v in values], color=color, ls=dashes, label=style.clean(training.label)
            )
            line.set_gid(f"{name}:{training.key}")
            line.set_zorder(3 if training.key == "searched" else 2)
            if len(values) < 3:
                line.set_marker("o")
    accuracy.set_title("Accuracy on test images" if key == "test_accuracy" else "Accuracy on training images")
    accuracy.set_ylabel("Accuracy (%)")
    loss.set_title("Training loss")
    loss.set_ylabel("Loss (nats)")
    last = max(len(training.history) for training in shown)
    for axis in (accuracy, loss):
        axis.set_xlabel("Epoch")
        axis.set_xlim(1 - 0.03 * (last - 1), last + 0.03 * (last - 1) if last > 1 else 1.4)
        style.whole_numbers(axis)
    style.below(figure, accuracy, columns=1 if narrow else 3, last_first=True)
    return figure


def _first(training: Training) -> int:
    """Epochs may be counted from 0 or from 1; the figure counts from 1."""
    return 1 if any(number(row.get("epoch")) == 0 for row in training.history[:1]) else 0
