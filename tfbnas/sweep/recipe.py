"""What a sweep has to know of a recipe; it asks the recipe, and has no table of recipes."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from tfbnas.errors import UserError, nearest
from tfbnas.recipes.schema import OPTIONS, schema_of
from tfbnas.recipes.settings import Command, parse, preset_files
from tfbnas.serialization import load_yaml, plain

PENALTY_WEIGHT = "budget.penalty_weight"
SEED = "seed"


@dataclass(frozen=True)
class Recipe:
    """A recipe's program.

    Its module has an object `RECIPE` with `settings_class`, or `main(command: Command[ItsSettings])`. The settings may
    have `seed`, a group `budget` with `limit_option` (name of the setting that is the limit), `unit` and
    `penalty_weight`, and a group `baselines` with `without_common()`.

    Attributes:
      name: For instance "bsn_resnet_fabric".
      module: What `python -m` runs.
      settings_class: Dataclass of its settings.
      presets: Name and YAML file of each preset.
    """

    name: str
    module: str
    settings_class: type
    presets: dict[str, Path]

    def parse(self, options: Sequence[str], *, checked: bool = True) -> Command[Any]:
        """The settings that the recipe makes of command line options.

        Raises:
          UserError: As the recipe itself would.
        """
        program = f"python -m {self.module}"
        return parse(
            self.settings_class, options, program=program, description="", presets=self.presets, checked=checked
        )

    def knows(self, option: str) -> bool:
        """Whether an option (without dashes) is one of the recipe's."""
        return option in OPTIONS or option in schema_of(self.settings_class).leaves

    def unknown(self, option: str, others: Sequence[str] = (), place: str = "") -> NoReturn:
        """Refuses an option, with the nearest of `others` and of the recipe's own ones.

        Args:
          option: Its name, without dashes.
          others: Options that are known as well.
          place: Where it is, behind a space; then it is the name of a setting and has no dashes. Default: an option.
        """
        schema = schema_of(self.settings_class)
        if place or option in schema.renamed:
            schema.unknown(option, "" if place else "--", [], place)
        ends = [key.split(".")[-1] for key in schema.leaves]
        hint = nearest(option, [*others, *ends])
        if any(f"'{other}'" in hint for other in others):
            raise UserError(f"Unknown option `--{option}`.{hint.replace(chr(39), chr(39) + '--', 1)}")
        schema.unknown(option, "--", list(OPTIONS))


def known() -> list[str]:
    """The recipes that come with tfbnas: those that have presets."""
    package = Path(__file__).resolve().parent.parent
    folders = [folder for folder in (package / "presets", package.parent / "recipes") if folder.is_dir()]
    named = {str(load_yaml(file).get("recipe")) for folder in folders[:1] for file in folder.glob("*.yaml")}
    return sorted(named - {"None"})


def load(name: str) -> Recipe:
    """The recipe of a name, or of a module of one's own (a dotted name, with its presets `<name>_*.yaml` beside it).

    Raises:
      UserError: There is no such recipe.
    """
    own = "." in name
    if not own and name not in known():
        raise UserError(
            f"Expected RECIPE to be one of {', '.join(known())}. Received: {name!r}.{nearest(name, known())}"
        )
    module_name = name if own else f"tfbnas.recipes.{name}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise UserError(
            f"Expected RECIPE to be a module that can be imported. Received: {name!r} ({error})."
        ) from error
    settings = getattr(getattr(module, "RECIPE", None), "settings_class", None) or _settings_of(module)
    if not dataclasses.is_dataclass(settings):
        raise UserError(
            "Expected RECIPE to be a module with an object `RECIPE`, or with a function "
            f"`main(command: Command[Settings])`. Received: {name!r}."
        )
    short = module_name.split(".")[-1]
    beside = sorted(Path(str(module.__file__)).parent.glob(f"{short}_*.yaml"))
    presets = {file.stem[len(short) + 1 :]: file for file in beside} if own else preset_files(short)
    return Recipe(short, module_name, typing.cast(type, settings), presets)


def _settings_of(module: ModuleType) -> Any:
    """What the type of `main(command: Command[Settings])` says; None where there is no such function."""
    hints = typing.get_type_hints(module.main) if hasattr(module, "main") else {}
    return next(iter(typing.get_args(hints.get("command"))), None)


def limit(settings: Any) -> tuple[str, float | None, float | None]:
    """Name of the setting that limits the cost, for instance "budget.limit", its value, and the penalty's weight.

    The name is "" and the values are None for a recipe that searches under no budget.
    """
    budget: Any = getattr(settings, "budget", None)
    name = getattr(budget, "limit_option", None)
    if name is None:
        return "", None, None
    return f"budget.{name}", getattr(budget, name), budget.penalty_weight


def setting(settings: Any, name: str) -> Any:
    """The value of a setting, for instance of "search.rounds"; None where there is no such setting."""
    for part in name.split("."):
        settings = getattr(settings, part, None)
    return settings


def without_common(settings: Any) -> dict[str, Any]:
    """The settings to change so that no network is trained that is the same in every trial; with their values."""
    baselines: Any = getattr(settings, "baselines", None)
    if not hasattr(baselines, "without_common"):
        return {}
    left = plain(dataclasses.asdict(baselines.without_common()))
    now = plain(dataclasses.asdict(baselines))
    return {f"baselines.{name}": value for name, value in left.items() if value != now[name]}
