"""Hyperparameters of the discrepant child-parent search. TensorFlow is not imported here."""

from __future__ import annotations

from dataclasses import dataclass

from tfbnas.errors import UserError, nearest, require_positive, require_range
from tfbnas.weight_settings import WeightSettings

DISTANCES = ("frobenius", "l1", "cosine")
CURVATURES = ("per_sample", "sampled", "diagonal", "gauss_newton", "exact")


@dataclass
class Settings(WeightSettings):
    """Discrepant child-parent search (DCP-NAS); with `distance_weight` 0 it is CP-NAS.

    Attributes:
      epochs: Passes over the two halves of the training images together.
      warm_up_epochs: Epochs in which only the weights move.
      batch_size: Images per step, of either half.
      distance_weight: lambda, of the distance of the two tangents. Paper: 5e-3, elsewhere at most 1e-3.
      distance: "frobenius", "l1" or "cosine". Paper: "frobenius".
      curvature: What stands for the Hessian: "per_sample", the examples' own gradients; "diagonal" of that; "sampled",
        the same with labels that the child draws; "gauss_newton", the true product; "exact", the Hessian, slow.
      reconstruction_weight: mu, of the distance of the child's weights from their signs times a scale. Paper: 0.2.
      decoupled: Whether the parameters of less trained operations are tracked back.
      lagging_share: Of an edge's operations with weights, how many count as less trained. Not published.
      back_tracking_rate: eta, how far those are tracked back. Not published.
      strength_rate: eta_psi, the step of the strength psi that is learned for each of them. Not published.
      edges_per_node: Edges that a node keeps when the cells are closed. Paper: 2.
      learning_rate: Of SGD for the weights of parent and child; falls to zero (cosine).
      architecture_learning_rate: Of Adam for the architecture.
      architecture_weight_decay: Of Adam, decoupled.
    """

    epochs: int = 50
    warm_up_epochs: int = 0
    batch_size: int = 256
    distance_weight: float = 5e-3
    distance: str = "frobenius"
    curvature: str = "per_sample"
    reconstruction_weight: float = 0.2
    decoupled: bool = True
    lagging_share: float = 0.5
    back_tracking_rate: float = 1e-3
    strength_rate: float = 0.1
    edges_per_node: int = 2
    learning_rate: float = 0.025
    architecture_learning_rate: float = 6e-4
    architecture_weight_decay: float = 1e-3

    def check(self, group: str = "search") -> None:
        """Refuses values that no search can have; messages name them behind `group` and a dot.

        Raises:
          UserError: A value is out of its range, or not one of its names.
        """
        names = "epochs batch_size edges_per_node architecture_learning_rate"
        require_positive(group, **{name: getattr(self, name) for name in names.split()})
        names = (
            "warm_up_epochs distance_weight reconstruction_weight back_tracking_rate strength_rate "
            "architecture_weight_decay"
        )
        require_range(group, 0, None, **{name: getattr(self, name) for name in names.split()})
        require_range(group, 0, 1, lagging_share=self.lagging_share)
        self.check_updates(group, self.epochs)
        scope = f"{group}." if group else ""
        for name, known in (("distance", DISTANCES), ("curvature", CURVATURES)):
            value = getattr(self, name)
            if value not in known:
                raise UserError(
                    f"Expected `{scope}{name}` to be one of {', '.join(known)}. "
                    f"Received: {value!r}.{nearest(str(value), known)}"
                )
