"""Settings of the recipes of differentiable dimension search. TensorFlow is not imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfbnas.errors import UserError, require_positive, require_range
from tfbnas.recipes.options import (
    BaselineSettings,
    DataSettings,
    ExportSettings,
    RecipeSettings,
    TrainSettings,
)


@dataclass
class BudgetSettings:
    """What the searched network may cost.

    Attributes:
      cost: memory of the weights, or the predicted latency on a device.
      memory: MiB of the weights, binary ones at one bit.
      counting: paper (kernels and the last bias) or deployed (and two floats per normalised channel).
      latency: Milliseconds of one inference on one thread.
      device: Latency table: raspberry_pi_4b, pixel1, or a file that tools/build_latency_table.py wrote.
      penalty_weight: Loss that twice the budget adds; times penalty_unit's share of the budget.
      penalty_unit: What the weight is per: the budget itself, or a KiB of excess (DMS Eq. 7 names no unit).
    """

    cost: Literal["memory", "latency"] = "memory"
    memory: float = 0.12
    counting: Literal["paper", "deployed"] = "paper"
    latency: float | None = None
    device: str = "raspberry_pi_4b"
    penalty_weight: float = 0.3
    penalty_unit: Literal["budget", "KiB"] = "budget"

    @property
    def limit_option(self) -> str:
        """Name of the setting that `cost` is limited by: what a sweep varies."""
        return self.cost

    @property
    def limit(self) -> float:
        """The limit in `unit`."""
        return self.memory if self.cost == "memory" else self.latency or 0.0

    @property
    def unit(self) -> str:
        return "MiB" if self.cost == "memory" else "ms"

    def check(self) -> None:
        if self.cost == "latency" and self.latency is None:
            raise UserError("Expected `budget.latency`, in milliseconds, with --budget.cost latency. Received: none.")
        require_positive("budget", **{self.cost: self.limit})
        if not self.penalty_weight >= 0:
            raise UserError(
                f"Expected `budget.penalty_weight` to be at least 0. Received: penalty_weight={self.penalty_weight}."
            )
        if self.penalty_unit == "KiB" and self.cost != "memory":
            raise UserError("Expected `budget.penalty_unit` to be budget for a latency. Received: penalty_unit=KiB.")


@dataclass
class SearchSettings:
    """Differentiable dimension search (DMS).

    Attributes:
      rounds: Changes of the widths; a round trains weights, then the ratios.
      weight_epochs: Epochs of the weights in a round, on one half of the training images.
      architecture_steps: Updates of the ratios in a round, on the other half; null for one pass.
      batch_size: Images per step, of both kinds.
      initial_ratio: Expansion ratio mu of every width at the start.
      initial_sigma: Scale of the distribution in the first round.
      final_sigma: The same in the last round.
      minimal_ratio: Least ratio of a candidate.
      minimal_edge: Least value of mu - 0.4 sigma.
      temperature: Of the Gumbel-softmax.
      learning_rate: Of SGD for the weights, at the start of a round.
      final_learning_rate: The same at its end (cosine).
      momentum: Of SGD.
      weight_decay: Of SGD.
      architecture_learning_rate: Of Adam for the ratios.
      best_effort: Whether weights survive a change of widths.
      width_multiple: The architecture that comes out has widths that are multiples of this; 32 suits bit packing.
      compare_best_effort: Whether the search runs a second time without best_effort, for the report's figure.
    """

    rounds: int = 12
    weight_epochs: int = 1
    architecture_steps: int | None = None
    batch_size: int = 128
    initial_ratio: float = 1.5
    initial_sigma: float = 1.0
    final_sigma: float = 0.3
    minimal_ratio: float = 0.3
    minimal_edge: float = 0.25
    temperature: float = 1.0
    learning_rate: float = 0.05
    final_learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    architecture_learning_rate: float = 4e-3
    best_effort: bool = True
    width_multiple: int = 1
    compare_best_effort: bool = False

    def check(self) -> None:
        names = (
            "rounds weight_epochs batch_size initial_ratio initial_sigma final_sigma minimal_ratio temperature "
            "width_multiple learning_rate final_learning_rate architecture_learning_rate"
        )
        require_positive("search", **{name: getattr(self, name) for name in names.split()})
        require_range("search", 0, 1, momentum=self.momentum)
        require_range("search", 0, None, weight_decay=self.weight_decay, minimal_edge=self.minimal_edge)
        if self.compare_best_effort and not self.best_effort:
            raise UserError(
                "Expected `search.best_effort` to be true with `search.compare_best_effort`. "
                "Received: best_effort=false."
            )
        if self.final_learning_rate > self.learning_rate:
            raise UserError(
                "Expected `search.final_learning_rate` to be at most `search.learning_rate`. "
                f"Received: {self.final_learning_rate} above {self.learning_rate}."
            )
        if self.architecture_steps is not None:
            require_positive("search", architecture_steps=self.architecture_steps)
        if self.final_sigma > self.initial_sigma:
            raise UserError(
                "Expected `search.final_sigma` to be at most `search.initial_sigma`. "
                f"Received: {self.final_sigma} above {self.initial_sigma}."
            )


@dataclass
class Settings(RecipeSettings):
    """Settings of a DMS recipe."""

    data: DataSettings = field(default_factory=DataSettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    baselines: BaselineSettings = field(default_factory=BaselineSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
