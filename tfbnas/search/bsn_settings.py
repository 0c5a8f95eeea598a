"""Hyperparameters of budgeted super networks. TensorFlow is not imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from tfbnas.errors import UserError, require_positive, require_range

Baseline = Literal["greedy", "batch", "moving", "none"]


@dataclass
class Settings:
    """Budgeted super networks (BSN): weights and gates are trained together.

    Attributes:
      epochs: Passes over the training images, those of the warm-up among them. Paper: 300.
      warm_up_epochs: Epochs in which the whole network is trained. Paper: 50.
      batch_size: Images per step. Paper: 64.
      groups: Architectures drawn for a batch, a divisor of batch_size; null draws one for each image (paper). With 1,
        what is cut is not computed.
      baseline: What a sample's loss is compared with: greedy (the more probable network on the same images, and the
        mean of that difference in the steps before), batch (the mean of the batch's other groups; paper), moving (the
        mean of the steps before), or none.
      baseline_momentum: Of the means over the steps before.
      initial_logit: Of every gate; its sigmoid is the probability to keep. Paper: 3.0, a probability of 0.95.
      learning_rate: Of SGD for the weights, at the start. Paper: 0.1.
      schedule: steps (divided by ten at each of `drops`), or cosine (to zero).
      drops: Fractions of the epochs at which the learning rate drops, for `steps`.
      momentum: Of SGD. Paper: 0.9.
      weight_decay: Of SGD.
      architecture_optimizer: Of the gates' logits: sgd (paper, without momentum) or adam.
      architecture_learning_rate: Of that optimiser. Paper: 1e-3.
    """

    epochs: int = 300
    warm_up_epochs: int = 50
    batch_size: int = 64
    groups: int | None = 1
    baseline: Baseline = "greedy"
    baseline_momentum: float = 0.9
    initial_logit: float = 3.0
    learning_rate: float = 0.1
    schedule: Literal["cosine", "steps"] = "steps"
    drops: list[float] = field(default_factory=lambda: [0.5, 0.75])
    momentum: float = 0.9
    weight_decay: float = 1e-4
    architecture_optimizer: Literal["sgd", "adam"] = "sgd"
    architecture_learning_rate: float = 1e-3

    def check(self, group: str = "search") -> None:
        """Refuses values that no search can have; messages name them behind `group` and a dot.

        Raises:
          UserError: A value is out of its range, or two do not go together.
        """
        scope = f"{group}." if group else ""
        names = ("epochs", "batch_size", "learning_rate", "architecture_learning_rate")
        require_positive(group, **{name: getattr(self, name) for name in names})
        require_range(group, 0, 1, momentum=self.momentum, baseline_momentum=self.baseline_momentum)
        require_range(group, 0, None, weight_decay=self.weight_decay)
        if not 0 <= self.warm_up_epochs < self.epochs:
            raise UserError(
                f"Expected `{scope}warm_up_epochs` to be at least 0 and below `{scope}epochs`. "
                f"Received: {self.warm_up_epochs} of {self.epochs}."
            )
        if self.groups is not None and (self.groups < 1 or self.batch_size % self.groups):
            raise UserError(
                f"Expected `{scope}groups` to divide `{scope}batch_size`. "
                f"Received: groups={self.groups}, batch_size={self.batch_size}."
            )
        if self.baseline not in get_args(Baseline):
            raise UserError(
                f"Expected `{scope}baseline` to be one of {', '.join(get_args(Baseline))}. "
                f"Received: baseline={self.baseline!r}."
            )
        if self.baseline == "batch" and self.groups == 1:
            raise UserError(
                f'Expected at least two `{scope}groups` for the baseline "batch", the mean of the other groups. '
                'Received: groups=1; choose the baseline "moving".'
            )
        if not all(0 < drop < 1 for drop in self.drops) or self.drops != sorted(self.drops):
            raise UserError(f"Expected `{scope}drops` to be rising fractions in (0, 1). Received: {self.drops}.")
