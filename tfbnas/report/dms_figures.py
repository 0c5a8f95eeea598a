"""The drawings of a differentiable dimension search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from tfbnas.report import style
from tfbnas.report.reading import Run, mapping, number, numbers, ordered, rows_of

_SPREAD, _HALF = 0.8, 0.4  # candidates at μ and μ ± 0.8σ, each with the range ± 0.4σ
_PAPER_MINIMUM = 0.3


def _choices(row: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The choices of one round that have finite numbers, in the order of the layers."""
    found = {}
    choices = mapping(row.get("choices"))
    for name in ordered([str(name) for name in choices]):
        choice = mapping(choices.get(name))
        values = {key: number(choice.get(key)) for key in ("mu", "sigma", "base", "channels")}
        if values["mu"] is not None:
            found[name] = {key: value for key, value in values.items() if value is not None}
    return found


def final_choices(run: Run) -> dict[str, dict[str, float]]:
    return _choices(run.rounds[-1]) if run.rounds else {}


def _uniform(run: Run, name: str, key: str) -> float | None:
    """Channels of a choice in a trained uniform network."""
    training = run.training(key)
    return number(mapping(training.architecture.get("choices")).get(name)) if training else None


def channels(run: Run, narrow: bool) -> Canvas:
    """Bars per choice: the searched network beside the uniform one (figure 4)."""
    choices = final_choices(run)
    names = list(choices)
    figure, (axis,) = style.canvas(narrow, 95 + 32 * len(names))
    base = [choices[name].get("base") or 0.0 for name in names]
    found = [choices[name].get("channels", round(choices[name]["mu"] * b)) for name, b in zip(names, base, strict=True)]
    at = range(len(names))
    if any(base):
        bars = axis.barh([i + 0.2 for i in at], base, 0.36, color=style.COLORS["bar"], label="Uniform, 1×")
        for name, bar in zip(names, bars, strict=True):
            bar.set_gid(f"uniform:{name}")
    bars = axis.barh([i - 0.2 for i in at], found, 0.36, color=style.COLORS["accent"], label="DMS")
    for name, bar in zip(names, bars, strict=True):
        bar.set_gid(f"searched:{name}")
    equal = [_uniform(run, name, "equal-memory") for name in names]
    marked = [(i, value) for i, value in zip(at, equal, strict=True) if value is not None and value >= 1]
    if marked:
        x, y = [v for _, v in marked], [i for i, _ in marked]
        (marks,) = axis.plot(x, y, "|", ms=19, mew=1.6, color=style.COLORS["second"], label="Uniform, equal memory")
        marks.set_gid("equal-memory")
    longest = max([*found, *base, *(v for _, v in marked), 1])
    for i, name in enumerate(names):
        end = max(found[i], base[i], (equal[i] or 0) if marked else 0)
        text = f"{found[i]:.0f} ({choices[name]['mu']:.2f}×)"
        axis.annotate(text, (end, i), (5, 0), textcoords="offset points", va="center", fontsize=11.5)
    axis.set_xlim(0, longest * (1.38 if narrow else 1.16))
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_yticks(list(at), style.labels(names, longest=20 if narrow else 34))
    axis.tick_params(axis="y", labelcolor=style.COLORS["ink"])
    axis.grid(axis="y", visible=False)
    axis.grid(axis="x", visible=True)
    axis.set_xlabel("Output channels")
    style.below(figure, axis, columns=2 if narrow else 3, last_first=True)
    return figure


def ratios(run: Run, narrow: bool) -> Canvas:
    """Small multiples of μ with a band of ± σ over the rounds."""
    history = [_choices(row) for row in run.rounds]
    names = list(history[-1])
    columns = min(len(names), 2 if narrow else min((5, 4), key=lambda n: -len(names) % n))
    lines = math.ceil(len(names) / columns)
    figure, axes = style.canvas(narrow, 50 + 140 * lines, nrows=lines, ncols=columns, sharex=True, sharey=True)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    for axis, label in zip(axes, style.labels(names, longest=20), strict=False):
        axis.set_title(label, fontsize=11, fontweight="normal", pad=5)
    for i, (axis, name) in enumerate(zip(axes, names, strict=False)):
        known = [(r, row[name]) for r, row in enumerate(history, start=1) if name in row]
        x = [r for r, _ in known]
        mu = [choice["mu"] for _, choice in known]
        sigma = [choice.get("sigma", 0.0) for _, choice in known]
        low = [m - s for m, s in zip(mu, sigma, strict=True)]
        high = [m + s for m, s in zip(mu, sigma, strict=True)]
        axis.axhline(1, color=style.COLORS["faint"], lw=0.9, ls=(0, (1, 2)))
        if len(x) > 1:
            axis.fill_between(x, low, high, color=style.COLORS["wash"], lw=0, gid=f"band:{name}")
        else:
            axis.vlines(x, low, high, color=style.COLORS["wash"], lw=7, gid=f"band:{name}")
        (line,) = axis.plot(x, mu, color=style.COLORS["accent"], marker="o" if len(x) == 1 else None, ms=4)
        line.set_gid(f"mu:{name}")
        axis.set_title(f"{mu[-1]:.2f}", loc="right", fontsize=11, pad=5, color=style.COLORS["accent"])
        if i + columns >= len(names):  # the lowest axes of its column carries the labels of the shared axis
            axis.tick_params(axis="x", labelbottom=True)
            axis.set_xlabel("Round")
        if i % columns == 0:
            axis.set_ylabel("Ratio μ ± σ")
    style.whole_numbers(axes[0])
    axes[0].set_ylim(bottom=min(0.0, axes[0].get_ylim()[0]))
    return figure


def errors(history: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float], list[float]]:
    """Epochs counted from 1, training error in percent, and the epoch after which each round ended."""
    x: list[float] = []
    y: list[float] = []
    ends: list[float] = []
    epoch = 0
    for row in history:
        epochs = rows_of(row.get("epochs")) or [dict(row)]
        at, accuracy = numbers(epochs, "accuracy")
        x += [float(epoch + i + 1) for i in at]
        y += [100 * (1 - value) for value in accuracy]
        epoch += len(epochs)
        ends.append(float(epoch))
    return x, y, ends


def boundaries(history: Sequence[Mapping[str, Any]]) -> list[float]:
    """Epochs after which the widths change, where lines at them are neither everywhere nor too dense."""
    _, _, ends = errors(history)
    return ends[:-1] if 1 < len(ends) <= 60 and ends[-1] > len(ends) else []


def training_error(run: Run, narrow: bool) -> Canvas:
    """Training error over the epochs of weights, with and without best-effort initialisation (figure 3)."""
    figure, (axis,) = style.canvas(narrow, 260 if narrow else 300)
    x, y, _ = errors(run.rounds)
    for end in boundaries(run.rounds):
        axis.axvline(end + 0.5, color=style.COLORS["rule"], lw=0.8)
    other = rows_of(run.searches.get("search-no-bei", {}).get("history"))
    if other:
        x_other, y_other, _ = errors(other)
        color, dots = style.COLORS["second"], "o" if len(x_other) < 3 else None
        label = "Without best-effort initialisation"
        axis.plot(x_other, y_other, color=color, marker=dots, lw=1.4, label=label, gid="error:search-no-bei")
    dots = "o" if len(x) < 3 else None
    label = "With best-effort initialisation"
    axis.plot(x, y, color=style.COLORS["accent"], marker=dots, lw=1.6, label=label, gid="error:search")
    axis.set_xlabel("Epoch of weights" if any(row.get("epochs") for row in run.rounds) else "Round")
    axis.set_ylabel("Training error (%)")
    style.whole_numbers(axis)
    style.below(figure, axis, columns=1 if narrow else 2, last_first=True)
    return figure


def cost(run: Run, narrow: bool) -> Canvas:
    """Expected memory or latency after each round, the budget, and the network that came out."""
    figure, (axis,) = style.canvas(narrow, 250 if narrow else 280)
    goal = run.goal
    known = [(r, value / goal.scale) for r, value in enumerate(run.expected_cost, start=1) if value is not None]
    x, y = [r for r, _ in known], [value for _, value in known]
    dots = "o" if len(x) < 3 else None
    axis.plot(x, y, color=style.COLORS["accent"], marker=dots, label=f"Expected {goal.name}", gid="cost")
    shown = list(y)
    if goal.limit:
        limit = goal.limit / goal.scale
        shown += [0.9 * limit, 1.1 * limit]  # nothing within a tenth of the budget is made to look far from it
        line = axis.axhline(limit, color=style.COLORS["second"], lw=1.3, ls=(0, (5, 3)), gid="budget")
        line.set_label(f"Budget, {limit:.3g} {goal.unit}")
    searched = run.training("searched")
    found = goal.found
    if found is None and goal.name == "memory" and searched:
        found = searched.memory
    if found is not None and x:
        shown.append(found / goal.scale)
        (point,) = axis.plot([x[-1]], [found / goal.scale], "D", ms=6, color=style.COLORS["ink"], gid="found")
        point.set_label(f"Network found, {goal.text(found)} {goal.unit}")
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    low = 0.0 if low < 0.4 * high else low - 0.08 * (high - low)
    axis.set_ylim(low, high + 0.08 * (high - low) or 1)
    axis.set_xlabel("Round")
    axis.set_ylabel(f"{goal.name.capitalize()} ({goal.unit})")
    style.whole_numbers(axis)
    style.below(figure, axis, columns=1 if narrow else 3)
    return figure


def logistic_cdf(r: float, mu: float, sigma: float) -> float:
    """CDF of the logistic distribution L(μ, σ)."""
    return 0.5 * (1 + math.tanh(0.5 * (r - mu) / sigma))


def logistic_density(r: float, mu: float, sigma: float) -> float:
    """Derivative of `logistic_cdf` by r."""
    below = logistic_cdf(r, mu, sigma)
    return below * (1 - below) / sigma


def distribution(mu: float, sigma: float, minimum: float = 0.0) -> list[tuple[float, float, float]]:
    """The three candidates, none below `minimum`, as (ratio, probability of its range p, share among the three p̂)."""
    found = [max(minimum, r) for r in (mu - _SPREAD * sigma, mu, mu + _SPREAD * sigma)]
    half = _HALF * sigma
    mass = [logistic_cdf(r + half, mu, sigma) - logistic_cdf(r - half, mu, sigma) for r in found]
    return [(r, p, p / sum(mass)) for r, p in zip(found, mass, strict=True)]


def most_moved(run: Run) -> str:
    """Name of the choice whose μ is furthest from where it was after the first round."""
    first, last = _choices(run.rounds[0]), final_choices(run)
    return max(last, key=lambda name: abs(last[name]["mu"] - first.get(name, last[name])["mu"]), default="")


def distributions(run: Run) -> list[tuple[int, dict[str, float]]]:
    """Round (from 1) and choice of the first and the last round that the candidates' figure shows."""
    if not run.rounds:
        return []
    name = most_moved(run)
    chosen = [(r, _choices(run.rounds[r - 1]).get(name, {})) for r in sorted({1, len(run.rounds)})]
    return [(r, choice) for r, choice in chosen if choice.get("sigma", 0) > 0]


def candidates(run: Run, narrow: bool) -> Canvas:
    """Logistic density and the three candidates at the first and the last round (figure 1)."""
    panels = distributions(run)
    shape = {"nrows": len(panels), "ncols": 1} if narrow else {"nrows": 1, "ncols": len(panels)}
    height = 50 + 230 * len(panels) if narrow else 310
    figure, axes = style.canvas(narrow, height, sharex=True, sharey=True, **shape)
    low = max(0.0, min(choice["mu"] - 3.5 * choice["sigma"] for _, choice in panels))
    high = max(choice["mu"] + 3.5 * choice["sigma"] for _, choice in panels)
    pixels = (1 if narrow or len(panels) == 1 else 0.5) * (290 if narrow else 780) / (high - low)
    for axis, (r, choice) in zip(axes, panels, strict=True):
        _candidates(axis, choice, _minimum(run.settings), roomy=pixels * 2 * _HALF * choice["sigma"] > 46)
        axis.set_title(f"Round {r}: μ = {choice['mu']:.2f}, σ = {choice['sigma']:.2f}")
        axis.set_xlabel("Expansion ratio r")
        axis.tick_params(labelbottom=True)
    for axis in axes if narrow else axes[:1]:
        axis.set_ylabel("Probability density (1/ratio)")
    axes[0].set_xlim(low, high)
    tallest = max(logistic_density(choice["mu"], choice["mu"], choice["sigma"]) for _, choice in panels)
    axes[0].set_ylim(0, 1.3 * tallest)
    return figure


def _minimum(settings: Mapping[str, Any]) -> float:
    """The least ratio of the search's settings, wherever they are nested; the paper's 0.3 where there is none."""
    for key, value in settings.items():
        if key in ("minimal_ratio", "minimum_ratio") and number(value) is not None:
            return float(value)
        if isinstance(value, Mapping) and (found := _minimum(value)) != _PAPER_MINIMUM:
            return found
    return _PAPER_MINIMUM


def _candidates(axis: Axes, choice: Mapping[str, float], minimum: float, *, roomy: bool) -> None:
    """One panel; `roomy` where a bar is wide enough to hold its label."""
    mu, sigma = choice["mu"], choice["sigma"]
    grid = [mu + sigma * k / 20 for k in range(-240, 241)]
    width = 2 * _HALF * sigma
    for place, (r, mass, share) in enumerate(distribution(mu, sigma, minimum)):
        (bar,) = axis.bar(r, mass / width, width, color=style.COLORS["wash"], ec=style.COLORS["accent"], lw=0.8)
        bar.set_gid(f"candidate:{place}")
        text = f"p̂ {share:.2f}"
        if choice.get("base"):
            text += f"\n{max(1, round(r * choice['base'])):d} ch."
        if roomy:
            at, offset, horizontal, vertical = (r, mass / width / 2), (0, 0), "center", "center"
        else:  # the middle label stands above the density, the outer ones beside their bars
            offset, horizontal = (((-6, 2), "right"), ((0, 16), "center"), ((6, 2), "left"))[place]
            at, vertical = (r + (place - 1) * width / 2, mass / width), "bottom"
        label = axis.annotate(text, at, offset, textcoords="offset points", ha=horizontal, va=vertical, fontsize=10.5)
        label.set_color(style.COLORS["muted"])
    density = [logistic_density(r, mu, sigma) for r in grid]
    (line,) = axis.plot(grid, density, color=style.COLORS["accent"], lw=1.6)
    line.set_gid("density")
