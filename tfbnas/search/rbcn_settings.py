"""Hyperparameters of adversarial pruning. TensorFlow is not imported here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tfbnas.errors import UserError, require_positive, require_range
from tfbnas.weight_settings import WeightSettings


@dataclass
class Settings(WeightSettings):
    """Adversarial pruning by soft masks (RBCN).

    Attributes:
      epochs: Passes over the training images, those of the warm-up among them.
      warm_up_epochs: First of them, in which all filters are trained without masks; the network they end with is what
        the pruned one is held against. 0 for a network that comes with weights.
      batch_size: Images per step.
      start: Run directory of a training of the same network, from whose weights the search starts; null for fresh ones
        (of a Keras file: its own).
      schedule: steps (divided by ten at each of `drops`), or cosine (to zero), of the weights' learning rate.
      drops: Fractions of the epochs at which the learning rates drop, for `steps`; that of the masks drops, too.
      criterion: By what filters go: masks, which are learned, or magnitude, the control: those whose batch
        normalisation has the smallest scales, all at once when the warm-up ends. What else is learned is the same.
      mask_interval: Steps of the weights between two of the masks.
      architecture_learning_rate: Of the masks (FISTA).
      initial_spread: Standard deviation of the masks around 1 when pruning begins.
      sparsity: Weight lambda of the masks' L1 norm at the start.
      sparsity_rate: By how much lambda rises with each step of the masks at which the network costs twice what it
        should by then; below that it falls.
      budget_reached: Share of the pruning after which the network should be within the budget; up to there the cost
        it should have falls in a straight line.
      pruning_rate: Share of all filters to be cut, beside the budget; null for the budget alone.
      least_share: Share of a width's channels that stay, whatever lambda is: those with the largest masks.
      width_multiple: The architecture that comes out has widths that are multiples of this; 32 suits bit packing.
      data_weight: Of the relative distance to the logits of the unpruned network.
      adversarial_weight: Of the discriminator's verdict.
      discriminator_units: Of its two hidden layers.
      discriminator_learning_rate: Of Adam for the discriminator.
      fine_tune: Whether the training behind the search starts from the weights that are left, not from scratch.
    """

    epochs: int = 60
    warm_up_epochs: int = 30
    batch_size: int = 128
    start: str | None = None
    recipe: Literal["sgd", "adam", "adam_sgd"] = "adam_sgd"
    learning_rate: float = 0.05
    schedule: Literal["cosine", "steps"] = "cosine"
    drops: list[float] = field(default_factory=lambda: [0.5, 0.8])
    criterion: Literal["masks", "magnitude"] = "masks"
    mask_interval: int = 4
    architecture_learning_rate: float = 1.0
    initial_spread: float = 0.05
    sparsity: float = 0.005
    sparsity_rate: float = 0.001
    budget_reached: float = 0.7
    pruning_rate: float | None = None
    least_share: float = 0.1
    width_multiple: int = 1
    data_weight: float = 1.0
    adversarial_weight: float = 0.1
    discriminator_units: int = 64
    discriminator_learning_rate: float = 1e-3
    fine_tune: bool = True

    @property
    def label(self) -> str | None:
        """What the network found is called in tables, if not by the method's name."""
        return "magnitude pruning" if self.criterion == "magnitude" else None

    def absolute(self) -> Settings:
        """With the path of the run directory from the root."""
        return self if self.start is None else replace(self, start=os.path.abspath(self.start))

    def check(self, group: str = "search") -> None:
        """Refuses values that no search can have; messages name them behind `group` and a dot.

        Raises:
          UserError: A value is out of its range, or two do not go together.
        """
        scope = f"{group}." if group else ""
        names = (
            "epochs batch_size mask_interval architecture_learning_rate sparsity_rate width_multiple "
            "discriminator_units discriminator_learning_rate"
        )
        require_positive(group, **{name: getattr(self, name) for name in names.split()})
        names = "sparsity initial_spread data_weight adversarial_weight"
        require_range(group, 0, None, **{name: getattr(self, name) for name in names.split()})
        require_range(group, 0, 1, least_share=self.least_share, budget_reached=self.budget_reached)
        self.check_updates(group, self.epochs)
        if not 0 <= self.warm_up_epochs < self.epochs:
            raise UserError(
                f"Expected `{scope}warm_up_epochs` to be at least 0 and below `{scope}epochs`. "
                f"Received: {self.warm_up_epochs} of {self.epochs}."
            )
        if self.pruning_rate is not None and not 0 < self.pruning_rate < 1:
            raise UserError(f"Expected `{scope}pruning_rate` to be above 0 and below 1. Received: {self.pruning_rate}.")
        if self.start is not None and not Path(self.start).is_dir():
            raise UserError(f"Expected `{scope}start` to be a run directory. Received: {self.start!r}, which is none.")
        if not self.data_weight and not self.adversarial_weight:
            raise UserError(
                f"Expected `{scope}data_weight` or `{scope}adversarial_weight` to be above 0: they tell which masks "
                "matter. Received: both are 0."
            )
