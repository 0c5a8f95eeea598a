"""Hyperparameters of differentiable dimension search. TensorFlow is not imported here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tfbnas.errors import UserError, require_positive, require_range
from tfbnas.shipped_tables import table_file
from tfbnas.weight_settings import WeightSettings


@dataclass
class Settings(WeightSettings):
    """Differentiable dimension search (DMS).

    Attributes:
      rounds: Changes of the widths; a round trains weights, then the ratios. Paper: 50.
      weight_epochs: Epochs of the weights in a round, on one half of the training images. Paper: 5.
      architecture_steps: Updates of the ratios in a round, on the other half; null for one pass.
      batch_size: Images per step, of both kinds. Paper: 64.
      initial_ratio: Expansion ratio mu of every width at the start, raised to its lower bound. Paper: 1.5 (DMS-A).
      initial_sigma: Scale of the distribution in the first round. Paper: 1.0.
      final_sigma: The same in the last round. Paper: 0.3.
      minimal_ratio: Least ratio of a candidate, and of mu. Paper: 0.3.
      minimal_edge: Least value of mu - 0.4 sigma. Paper: 0.25.
      temperature: Of the Gumbel-softmax. Paper: 1.0.
      learning_rate: Of SGD for the weights, at the start of a round. Paper: 0.05.
      final_learning_rate: The same at its end (cosine); the rate of the kernels falls in proportion. Paper: 0.01.
      architecture_learning_rate: Of Adam for the ratios. Paper: 1e-3 for ResNet-18, 2e-3 for VGG-11.
      architecture_momentum: beta_1 of that Adam. With the usual 0.9 the ratios coast on, down past the budget, when the
        penalty has long ended. The paper does not give it.
      best_effort: Whether weights survive a change of widths (Eq. 9-10).
      width_multiple: The architecture that comes out has widths that are multiples of this; 32 suits bit packing.
      fill_budget: Whether the architecture that comes out is widened to its budget where mu leaves it below, up to the
        widest channels that the search has tried. The paper takes mu as it is.
      fast_on: Latency table by which the architecture that comes out gets widths that kernels like: the fastest of the
        number found and the next multiples of 8 and of 32, within the budgets. A latency budget's own table comes
        first. null: widths are taken as they were found, as the paper does.
      compare_best_effort: Whether the search runs a second time without best_effort, for the report's figure.
    """

    rounds: int = 50
    weight_epochs: int = 5
    architecture_steps: int | None = None
    batch_size: int = 64
    initial_ratio: float = 1.5
    initial_sigma: float = 1.0
    final_sigma: float = 0.3
    minimal_ratio: float = 0.3
    minimal_edge: float = 0.25
    temperature: float = 1.0
    learning_rate: float = 0.05
    final_learning_rate: float = 0.01
    architecture_learning_rate: float = 4e-3
    architecture_momentum: float = 0.5
    best_effort: bool = True
    width_multiple: int = 1
    fill_budget: bool = True
    fast_on: str | None = "raspberry_pi_4b"
    compare_best_effort: bool = False

    def check(self, group: str = "search") -> None:
        """Refuses values that no search can have; messages name them behind `group` and a dot.

        Raises:
          UserError: A value is out of its range, or two do not go together.
        """
        names = (
            "rounds weight_epochs batch_size initial_ratio initial_sigma final_sigma minimal_ratio temperature "
            "width_multiple final_learning_rate architecture_learning_rate"
        )
        require_positive(group, **{name: getattr(self, name) for name in names.split()})
        require_range(group, 0, 0.999, architecture_momentum=self.architecture_momentum)
        self.check_updates(group, self.rounds * self.weight_epochs, "rounds * weight_epochs")
        require_range(group, 0, None, minimal_edge=self.minimal_edge)
        if self.architecture_steps is not None:
            require_positive(group, architecture_steps=self.architecture_steps)
        scope = f"{group}." if group else ""
        if self.fast_on is not None:
            table_file(self.fast_on, argument=f"{scope}fast_on")
        if self.compare_best_effort and not self.best_effort:
            raise UserError(
                f"Expected `{scope}best_effort` to be true with `{scope}compare_best_effort`. "
                "Received: best_effort=false."
            )
        for last, first in (("final_learning_rate", "learning_rate"), ("final_sigma", "initial_sigma")):
            if getattr(self, last) > getattr(self, first):
                raise UserError(
                    f"Expected `{scope}{last}` to be at most `{scope}{first}`. "
                    f"Received: {getattr(self, last)} above {getattr(self, first)}."
                )

    def variants(self) -> dict[str, Settings]:
        """Further searches to compare with, by name."""
        if not self.compare_best_effort:
            return {}
        return {"no-bei": replace(self, best_effort=False, compare_best_effort=False)}
