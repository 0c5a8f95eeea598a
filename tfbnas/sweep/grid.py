"""The grid of a sweep: its points, and the trials that run each point once for every seed."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfbnas.sweep import recipe as recipes
from tfbnas.sweep.axes import Axes, Choice
from tfbnas.sweep.recipe import PENALTY_WEIGHT, SEED, Recipe

_SEARCH = "search."
_LONGEST = 40  # characters of a value in a name


@dataclass(frozen=True)
class Point:
    """One point of the grid: what its trials have in common.

    Attributes:
      name: In the names of its trials; "" for a grid of one point.
      label: For people.
      budget: Limit of the cost, in the unit of the recipe's budget; None for a recipe that has none.
      penalty_weight: Weight of exceeding it; None likewise.
      varied: The varied settings with their values.
    """

    name: str
    label: str
    budget: float | None
    penalty_weight: float | None
    varied: Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """One run of the recipe.

    Attributes:
      name: Of its run directory.
      point: What it is a run of.
      seed: Of this run; None for a recipe without seeds.
      options: Settings that are its own, with their values.
      common: Name of the trial that trains the networks to compare with which are the same for both; None where this
        one trains all of its own.
    """

    name: str
    point: Point
    seed: int | None
    options: Mapping[str, Any]
    common: str | None = None

    def arguments(self) -> list[str]:
        """The settings that are its own, as options of a command line."""
        shown = {key: value if isinstance(value, str) else json.dumps(value) for key, value in self.options.items()}
        return [text for key, value in shown.items() for text in (f"--{key}", value)]


def grid(recipe: Recipe, passed: Sequence[str], axes: Axes) -> list[Trial]:
    """The trials, in the order in which they run: all points with the first seed, then with the next.

    The largest budget comes first: it takes longest and is the likeliest to work, so it trains what all share.

    Args:
      recipe: The recipe.
      passed: Options of every trial.
      axes: What varies.

    Raises:
      UserError: As the recipe itself would with the options of a trial.
    """
    trials: list[Trial] = []
    first_of: dict[str, str] = {}
    known: dict[str, Any] = {}
    base = recipe.parse(passed, checked=False).settings
    seeds: Sequence[int | None] = axes.seeds or [recipes.setting(base, SEED)]
    for seed, (point, options) in itertools.product(seeds, _points(base, axes)):
        own = dict(options) if seed is None else {**options, SEED: seed}
        name = "_".join(part for part in (point.name, f"seed-{seed}" if seed is not None else "") if part) or "run"
        trial = Trial(name, point, seed, own)
        if point.name not in known or point is trials[0].point:  # all seeds, but not all of them at each point
            known[point.name] = recipe.parse([*passed, *trial.arguments()]).settings
        settings = known[point.name]
        key = json.dumps([seed, _decisive(point.varied, settings)])
        common = first_of.setdefault(key, name)
        if common != name and (left_out := recipes.without_common(settings)):
            trial = Trial(name, point, seed, {**own, **left_out}, common)
        trials.append(trial)
    return trials


def _decisive(varied: Mapping[str, Any], settings: Any) -> dict[str, Any]:
    """The varied settings that decide how networks are trained which are the same whatever is found.

    Those of the search do not, but where the network that is found is trained on from the search's weights: then the
    others are trained as long as both.
    """
    fine_tuned = getattr(getattr(settings, "search", None), "fine_tune", False)
    return {name: value for name, value in varied.items() if fine_tuned or not name.startswith(_SEARCH)}


def _points(settings: Any, axes: Axes) -> list[tuple[Point, dict[str, Any]]]:
    """The points with their own options."""
    option, budget, weight = recipes.limit(settings)
    budgets: Sequence[float | None] = sorted(axes.budgets, reverse=True) or [budget]
    weights: Sequence[float | None] = sorted(axes.penalty_weights) or [weight]
    names = _short([name for axis in axes.varied for choice in axis for name in choice.values])
    several = [choice for axis in axes.varied if len(axis) > 1 for choice in axis]
    found: dict[str, tuple[Point, dict[str, Any]]] = {}
    for chosen, limit, penalty in itertools.product(itertools.product(*axes.varied), budgets, weights):
        parts = [part for choice in chosen for part in _parts(choice, names)]
        label = [choice.name or _label(choice, names) for choice in chosen if choice in several]
        pairs = [pair for choice in chosen for pair in choice.values.items()]
        options: dict[str, Any] = {name: value.text for name, value in pairs}
        if axes.budgets or axes.penalty_weights:
            options = {option: limit, PENALTY_WEIGHT: penalty, **options}
            parts = [f"budget-{limit:.12g}", f"weight-{penalty:.12g}", *parts]
            weighed = [f"weight {penalty:g}"] if len(weights) > 1 else []
            label = [f"{limit:g} {settings.budget.unit}", *weighed, *label]
        name = "_".join(parts)
        name += f"_{len(found)}" if name in found else ""  # values may differ in what a file's name cannot have
        varied = {name: value.value for name, value in pairs}
        found[name] = Point(name, ", ".join(label), limit, penalty, varied), options
    return list(found.values())


def _parts(choice: Choice, names: Mapping[str, str]) -> list[str]:
    """A choice in a file's name."""
    if choice.name:
        return [_part(choice.name)]
    return [f"{names[name]}-{_part(str(value))}" for name, value in choice.values.items()]


def _label(choice: Choice, names: Mapping[str, str]) -> str:
    return ", ".join(f"{names[name]} {value}" for name, value in choice.values.items())


def _short(names: Sequence[str]) -> dict[str, str]:
    """The last part of each setting's name, or all of it where two end alike."""
    ends = [name.split(".")[-1] for name in dict.fromkeys(names)]
    return {name: end if ends.count(end) == 1 else name for name in names for end in [name.split(".")[-1]]}


def _part(text: str) -> str:
    """A value in a file's name."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-")[:_LONGEST] or "empty"
