"""A recipe: one method on one network family, as a program. Its settings need no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from functools import cached_property
from typing import Any

from tfbnas.recipes.budget import BudgetSettings
from tfbnas.recipes.families import FAMILIES
from tfbnas.recipes.options import DataSettings, ExportSettings, RecipeSettings, TrainingRecipeSettings, TrainSettings
from tfbnas.recipes.settings import Command, run_main
from tfbnas.search.registry import METHODS, Method


@dataclass(frozen=True)
class Recipe:
    """One method on one network family.

    Its presets are the files `recipes/<name>_<preset>.yaml`.

    Args:
      name: Of the module in `tfbnas.recipes`: the method's name, "_", and the family's.
      description: The card: what the recipe does, and the paper. Usually the module's docstring.
      family: Of the settings in `families.FAMILIES`. Default: that of the name.
      searches: Whether it searches; else it trains the network as it is. Default: True.
    """

    name: str
    description: str = ""
    family: str = ""
    searches: bool = True

    @property
    def method(self) -> Method:
        """The method that searches."""
        return METHODS[self.name.partition("_")[0]]

    @cached_property
    def settings_class(self) -> type:
        """Dataclass of all settings; its groups belong to the method, to the family, or to every recipe."""
        family = FAMILIES[self.family or self.name.partition("_")[2]]
        groups: dict[str, Any] = {
            "data": DataSettings,
            "network": family,
            "budget": BudgetSettings,
            "search": self.method.settings,
            "train": TrainSettings,
            "baselines": family.baselines,
            "export": ExportSettings,
        }
        if not self.searches:
            groups = {name: groups[name] for name in ("data", "network", "train", "export")}
        base = RecipeSettings if self.searches else TrainingRecipeSettings
        fields = [(name, group, field(default_factory=group)) for name, group in groups.items()]
        return make_dataclass("Settings", fields, bases=(base,))

    def main(self, argv: Sequence[str] | None = None) -> None:
        """The program: parses the command line, runs all stages, and ends the process.

        Args:
          argv: Arguments. Default: those of the process.
        """
        run_main(self.run, self.settings_class, recipe=self.name, description=self.description, argv=argv)

    def run(self, command: Command[Any]) -> None:
        """Runs all stages that the run directory does not hold yet."""
        from tfbnas.quiet import import_tensorflow  # late: `--help` does without TensorFlow

        import_tensorflow()
        from tfbnas.recipes import runner

        runner.run(command, self.method)
