"""What a sweep varies, as its command line says it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tfbnas.errors import UserError
from tfbnas.recipes.schema import RESERVED
from tfbnas.serialization import plain
from tfbnas.sweep import recipe as recipes
from tfbnas.sweep.recipe import PENALTY_WEIGHT, SEED, Recipe

_COST = "budget.cost"


@dataclass(frozen=True)
class Value:
    """A value of a varied setting: as the command line has it, and as the recipe understands it (JSON)."""

    text: str
    value: Any

    def __str__(self) -> str:
        if isinstance(self.value, str):
            return self.value
        return f"{self.value:.12g}" if isinstance(self.value, float) else json.dumps(self.value)


@dataclass(frozen=True)
class Choice:
    """Settings with the values that they have together; those of a case have a name."""

    values: Mapping[str, Value]
    name: str = ""


@dataclass(frozen=True)
class Axes:
    """What a sweep varies. Each is empty where the command line does not name it.

    Attributes:
      budgets: Limits of the cost.
      penalty_weights: Weights of exceeding it.
      seeds: Seeds of each point.
      varied: For each `--vary` its choices, and all cases together; a point has one of each.
    """

    budgets: Sequence[float] = ()
    penalty_weights: Sequence[float] = ()
    seeds: Sequence[int] = ()
    varied: Sequence[Sequence[Choice]] = ()

    def __bool__(self) -> bool:
        return bool(self.budgets or self.penalty_weights or self.seeds or self.varied)


class Texts(NamedTuple):
    """The words behind the options that say what varies: of each option, and of each --vary and --case."""

    budgets: Sequence[str] | None
    penalty_weights: Sequence[str] | None
    seeds: Sequence[str] | None
    vary: Sequence[Sequence[str]]
    case: Sequence[Sequence[str]]

    @property
    def settings(self) -> set[str]:
        """The settings that vary."""
        cases = [text.partition("=")[0] for _, *texts in self.case for text in texts]
        return {name for name, *_ in self.vary} | set(cases)


def read(texts: Texts, recipe: Recipe, passed: Sequence[str]) -> Axes:
    """What varies.

    Args:
      texts: As the command line has it.
      recipe: The recipe.
      passed: Options of every trial.

    Raises:
      UserError: Nothing varies, a setting or a value is wrong, or something that varies is among the other options.
    """
    option, *_ = recipes.limit(recipe.parse(passed, checked=False).settings)
    reader = _Reader(recipe, passed, {PENALTY_WEIGHT: "penalty-weights", SEED: "seeds", option: "budgets"})
    cases = [reader.case(words) for words in texts.case]
    axes = Axes(
        [] if texts.budgets is None else _numbers("budgets", texts.budgets, above=0),
        [] if texts.penalty_weights is None else _numbers("penalty-weights", texts.penalty_weights),
        [] if texts.seeds is None else _seeds(texts.seeds),
        [*([cases] if cases else []), *(reader.vary(words) for words in texts.vary)],
    )
    if not axes:
        raise UserError("Expected what varies: `--budgets`, `--seeds`, `--vary` or `--case`. Received: none of them.")
    if not option and (axes.budgets or axes.penalty_weights):
        raise UserError("Expected a recipe that searches under a budget. Received: one without budget.limit_option.")
    if axes.seeds and not recipe.knows(SEED):
        raise UserError(f"Expected a recipe with a setting `{SEED}`, with --seeds. Received: {recipe.name}.")
    names = [choice.name for choice in cases]
    if len(set(names)) < len(names):
        raise UserError(f"Expected different names after --case. Received: {', '.join(names)}.")
    given = [token.removeprefix("--").partition("=")[0] for token in passed if token.startswith("--")]
    each = [name for words in texts.vary for name in words[:1]]
    for name in texts.settings:
        times = each.count(name) + any(name in choice.values for choice in cases) + (name in given and name in each)
        if times > 1:
            raise UserError(f"Expected `{name}` once: all its values after one --vary. Received: it twice.")
    taken = [option, PENALTY_WEIGHT] if axes.budgets else [PENALTY_WEIGHT] if axes.penalty_weights else []
    for name in [*taken, *([SEED] if axes.seeds else [])]:
        if name in given:
            raise UserError(f"`--{name}` is what the sweep varies: give its values after --{reader.instead[name]}.")
    return axes


@dataclass(frozen=True)
class _Reader:
    """Reads what stands behind --vary and --case.

    Attributes:
      recipe: Whose settings vary.
      passed: Options of every trial.
      instead: Settings whose values have an option of their own, and that option.
    """

    recipe: Recipe
    passed: Sequence[str]
    instead: Mapping[str, str]

    def vary(self, words: Sequence[str]) -> list[Choice]:
        """The choices of one --vary."""
        name, *texts = words
        self._check(name, "--vary")
        if not texts:
            raise UserError(f"Expected values after `--vary {name}`. Received: none.")
        found: list[Value] = []
        for text in texts:
            value = self._values({name: text})[name]
            if any(other.value == value.value for other in found):
                raise UserError(f"Expected different values of `{name}` after --vary. Received: {text} twice.")
            found.append(value)
        return [Choice({name: value}) for value in found]

    def case(self, words: Sequence[str]) -> Choice:
        """The choice of one --case."""
        name, *texts = words
        if "=" in name:
            raise UserError(f"Expected a name first after --case. Received: {name!r}.")
        pairs = [text.partition("=") for text in texts]
        for setting, equals, _ in pairs:
            if not equals:
                raise UserError(f"Expected SETTING=VALUE after `--case {name}`. Received: {setting!r}.")
            self._check(setting, "--case")
        if len({setting for setting, *_ in pairs}) < len(pairs):
            raise UserError(f"Expected each setting once after `--case {name}`. Received: {' '.join(texts)}.")
        return Choice(self._values({setting: text for setting, _, text in pairs}), name)

    def _check(self, name: str, option: str) -> None:
        if not self.recipe.knows(name) or name in RESERVED:
            self.recipe.unknown(name, place=f" after `{option}`")
        if name in self.instead:
            raise UserError(f"`{name}` has an option of its own: give its values after --{self.instead[name]}.")
        if name == _COST:
            raise UserError(f"Expected one `{_COST}` for the whole sweep. Received: it after {option}.")

    def _values(self, texts: Mapping[str, str]) -> dict[str, Value]:
        """The values of settings, as the recipe's settings understand them."""
        options = [token for name, text in texts.items() for token in (f"--{name}", text)]
        settings = self.recipe.parse([*self.passed, *options], checked=False).settings
        return {name: Value(text, plain(recipes.setting(settings, name))) for name, text in texts.items()}


def _seeds(texts: Sequence[str]) -> list[int]:
    for text in texts:
        if not text.isdecimal():
            raise UserError(f"Expected integers of at least 0 after `--seeds`. Received: {text}.")
    return [int(seed) for seed in _numbers("seeds", texts)]


def _numbers(name: str, texts: Sequence[str], *, above: float | None = None) -> list[float]:
    wanted = "positive numbers" if above is not None else "numbers of at least 0"
    if not texts:
        raise UserError(f"Expected {wanted} after `--{name}`. Received: none.")
    values = []
    for text in texts:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0 or (above is not None and value <= above):
            raise UserError(f"Expected {wanted} after `--{name}`. Received: {text}.")
        if value in values:
            raise UserError(f"Expected different numbers after `--{name}`. Received: {text} twice.")
        values.append(value)
    return values
