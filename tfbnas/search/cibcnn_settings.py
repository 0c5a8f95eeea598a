"""Hyperparameters of channel-wise interactions. TensorFlow is not imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfbnas.errors import UserError, require_positive, require_range
from tfbnas.weight_settings import WeightSettings


@dataclass
class Settings(WeightSettings):
    """Channel-wise interactions (CI-BCNN): a policy changes the channel graphs while the network trains.

    The paper trains the weights by Adam with a rate of 1e-3.

    Attributes:
      epochs: Passes over the training images. Paper: 100.
      batch_size: Images per step. Paper: 128.
      warm_up_epochs: Epochs before the policy begins, without edges.
      interval: Steps of the weights between two episodes of the policy; an episode sees the batch of its step.
      rollouts: Sequences that are drawn in an episode, at least 2 for the baseline, the mean of the others.
      rollout_steps: Actions of a sequence; each changes up to one edge of every layer.
      reward_images: Images of the batch on which rewards are measured; null for all.
      discount: Of later rewards. Authors' code: 0.99.
      loss_threshold: Change of the loss below which an action has no effect. Authors' code: 0.003.
      density_limit: Largest share of a layer's pairs that may be edges. Paper: 0.1.
      hierarchical: Whether the policy draws a block of channels, then an edge in it (ours), or from a layer (paper).
      policy_units: Of the policy's dense and recurrent layers.
      normalization_epochs: Epochs after the search in which batch normalisation alone is trained behind weights that
        stay; 0 trains what was found from scratch. Paper: 1.
      schedule: steps (divided by ten at each of `drops`), or cosine (to zero).
      drops: Fractions of the epochs at which the learning rate drops, for `steps`. Paper: 0.5, 0.9.
      architecture_learning_rate: Of Adam for the policy.
    """

    epochs: int = 100
    batch_size: int = 128
    warm_up_epochs: int = 1
    interval: int = 20
    rollouts: int = 4
    rollout_steps: int = 4
    reward_images: int | None = 64
    discount: float = 0.99
    loss_threshold: float = 0.003
    density_limit: float = 0.1
    hierarchical: bool = False
    policy_units: int = 64
    normalization_epochs: int = 1
    recipe: Literal["sgd", "adam", "adam_sgd"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "steps"] = "steps"
    drops: list[float] = field(default_factory=lambda: [0.5, 0.9])
    architecture_learning_rate: float = 1e-3

    def check(self, group: str = "search") -> None:
        """Refuses values that no search can have; messages name them behind `group` and a dot.

        Raises:
          UserError: A value is out of its range, or two do not go together.
        """
        scope = f"{group}." if group else ""
        names = "epochs batch_size interval rollout_steps policy_units architecture_learning_rate"
        require_positive(group, **{name: getattr(self, name) for name in names.split()})
        names = "loss_threshold normalization_epochs"
        require_range(group, 0, None, **{name: getattr(self, name) for name in names.split()})
        self.check_updates(group, self.epochs)
        if self.reward_images is not None:
            require_positive(group, reward_images=self.reward_images)
        for name in ("discount", "density_limit"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(
                    f"Expected `{scope}{name}` to be above 0 and at most 1. Received: {name}={getattr(self, name)}."
                )
        if self.rollouts < 2:
            raise UserError(
                f"Expected at least two `{scope}rollouts`, which are compared with each other. "
                f"Received: rollouts={self.rollouts}."
            )
        if not 0 <= self.warm_up_epochs < self.epochs:
            raise UserError(
                f"Expected `{scope}warm_up_epochs` to be at least 0 and below `{scope}epochs`. "
                f"Received: {self.warm_up_epochs} of {self.epochs}."
            )
