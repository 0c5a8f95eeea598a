"""What the stages of a run share."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

from tfbnas.architecture import Architecture
from tfbnas.costs import Budget
from tfbnas.data import ImageData
from tfbnas.recipes.devices import Devices
from tfbnas.run import RunDirectory
from tfbnas.search.registry import Method


@dataclass(frozen=True)
class Context:
    """One run, as its stages see it.

    Attributes:
      run: Where results and checkpoints lie.
      settings: Of the recipe, complete; `precision` is "float32" or "bfloat16".
      images: The data set.
      template: The network that is searched, with no choice closed.
      method: What searches it.
      budgets: By the names of the costs; without those that only a machine can measure.
      devices: What trains.
    """

    run: RunDirectory
    settings: Any
    images: ImageData
    template: Architecture
    method: Method
    budgets: dict[str, Budget]
    devices: Devices

    def on_one_device(self) -> Context:
        """The same run for work that one process does alone."""
        return replace(self, devices=Devices())

    def with_search(self, search: Any) -> Context:
        """The same run with other settings of the search."""
        return replace(self, settings=replace(self.settings, search=search))


def say(text: str) -> None:
    """Tells the user what goes on, beside the progress bars."""
    print(text, file=sys.stderr, flush=True)
