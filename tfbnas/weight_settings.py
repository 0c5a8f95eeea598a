"""How weights are updated, in a training as in a search. TensorFlow is not imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfbnas.errors import UserError, require_positive, require_range


@dataclass
class WeightSettings:
    """The optimiser of the weights; see `tfbnas.training.weight_optimizer`.

    Attributes:
      recipe: sgd for all weights; adam for all weights; or adam_sgd, Adam for the latent weights of the binary kernels
        and SGD with Nesterov momentum for the rest.
      learning_rate: Of SGD, at the start; of Adam, for adam.
      momentum: Of SGD.
      weight_decay: Of the recipe sgd, on all weights, decoupled: a step takes learning_rate * weight_decay of each
        weight away. The L2 penalty of other frameworks acts through the momentum: there, 1e-4 with momentum 0.9 is 1e-3
        here. The other recipes have no decay.
      kernel_learning_rate: Of Adam, at the start; it falls as that of SGD does. For adam_sgd.
      kernel_bound: Latent weights of binary kernels are clipped to [-kernel_bound, kernel_bound] after each step; null
        for no clipping. For adam_sgd.
      warm_up: Epochs in which both rates rise in a straight line from zero, once, at the beginning; may be a fraction.
        For adam_sgd.
    """

    recipe: Literal["sgd", "adam", "adam_sgd"] = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    kernel_learning_rate: float = 1e-2
    kernel_bound: float | None = None
    warm_up: float = 0.5

    def check_updates(self, group: str, epochs: int, name: str = "epochs") -> None:
        """Refuses values that no optimiser can have; messages name them behind `group` and a dot.

        Args:
          group: Of the settings; empty for arguments of a constructor.
          epochs: Epochs of the weights, which the warm-up must not reach.
          name: How the message calls the setting that says how many. Default: "epochs".

        Raises:
          UserError: A value is out of its range, or two do not go together.
        """
        scope = f"{group}." if group else ""
        require_positive(group, **{name: getattr(self, name) for name in ("learning_rate", "kernel_learning_rate")})
        require_range(group, 0, 1, momentum=self.momentum)
        require_range(group, 0, None, weight_decay=self.weight_decay)
        if self.kernel_bound is not None:
            require_positive(group, kernel_bound=self.kernel_bound)
            if self.recipe != "adam_sgd":
                raise UserError(
                    f"Expected `{scope}recipe` to be adam_sgd with a `{scope}kernel_bound`. "
                    f"Received: recipe={self.recipe}, kernel_bound={self.kernel_bound}."
                )
        drops = list(getattr(self, "drops", ()))
        if not all(0 < drop < 1 for drop in drops) or drops != sorted(drops):
            raise UserError(f"Expected `{scope}drops` to be rising fractions in (0, 1). Received: {drops}.")
        if not 0 <= self.warm_up < epochs:
            raise UserError(
                f"Expected `{scope}warm_up` to be at least 0 and below `{scope}{name}`. "
                f"Received: {self.warm_up} of {epochs}."
            )
