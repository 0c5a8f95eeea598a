"""Hyperparameters of budgeted super networks. TensorFlow is not imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from tfbnas.errors import UserError, require_positive, require_range
from tfbnas.weight_settings import WeightSettings

Baseline = Literal["greedy", "batch", "moving", "none"]


@dataclass
class Settings(WeightSettings):
    """Budgeted super networks (BSN): weights and gates are trained together.

    The paper trains the weights by SGD with a rate of 0.1 and momentum of 0.9.

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
      schedule: steps (divided by ten at each of `drops`), or cosine (to zero).
      drops: Fractions of the epochs at which the learning rate drops, for `steps`.
      architecture_optimizer: Of the gates' logits: sgd (paper, without momentum) or adam.
      architecture_learning_rate: Of that optimiser. Its gradient is the mean over the batch's examples. Paper: 1e-3
        for the sum over 64 of them, which is 0.064 here.
      fill_budget: Whether the network that comes out also has the less probable modules that its budget has room for,
        those with the most probability for their cost first. The paper leaves them out.
    """

    epochs: int = 300
    warm_up_epochs: int = 50
    batch_size: int = 64
    groups: int | None = 1
    baseline: Baseline = "greedy"
    baseline_momentum: float = 0.9
    initial_logit: float = 3.0
    schedule: Literal["cosine", "steps"] = "steps"
    drops: list[float] = field(default_factory=lambda: [0.5, 0.75])
    architecture_optimizer: Literal["sgd", "adam"] = "sgd"
    architecture_learning_rate: float = 0.064
    fill_budget: bool = True

    def check(self, group: str = "search") -> None:
        """Refuses values that no search can have; messages name them behind `group` and a dot.

        Raises:
          UserError: A value is out of its range, or two do not go together.
        """
        scope = f"{group}." if group else ""
        names = ("epochs", "batch_size", "architecture_learning_rate")
        require_positive(group, **{name: getattr(self, name) for name in names})
        require_range(group, 0, 1, baseline_momentum=self.baseline_momentum)
        self.check_updates(group, self.epochs)
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
