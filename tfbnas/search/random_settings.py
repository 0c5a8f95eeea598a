"""Settings of random search. TensorFlow is not imported here."""

from __future__ import annotations

from dataclasses import dataclass

from tfbnas.errors import require_positive, require_range
from tfbnas.shipped_tables import table_file
from tfbnas.weight_settings import WeightSettings


@dataclass
class Settings(WeightSettings):
    """Random search: draws architectures within the budget, trains each briefly, and gives the best one.

    The learning rates fall to zero (cosine) with each candidate.

    Attributes:
      candidates: Architectures to compare; 1 gives a random one.
      epochs: Passes of each candidate over one half of the training images; the other half says which is best.
      least_share: Part of the budget that a candidate takes at least, so that candidates compare.
      draws: Architectures drawn at most to find the candidates; of widths, which are closed to the budget, at most 20
        for each candidate.
      batch_size: Images per step.
      fast_on: Latency table by which candidates get widths that kernels like: of the number found and the next
        multiples of 8 and of 32 the fastest, within the budgets. A latency budget's own table comes first. null for
        none.
    """

    candidates: int = 8
    epochs: int = 1
    least_share: float = 0.9
    draws: int = 5_000
    batch_size: int = 128
    fast_on: str | None = "raspberry_pi_4b"

    def check(self, group: str = "search") -> None:
        """Refuses values out of range.

        Args:
          group: Of the settings, for the message; empty in a program that calls the constructor.

        Raises:
          UserError: A value is out of range.
        """
        names = ("candidates", "epochs", "draws", "batch_size")
        require_positive(group, **{name: getattr(self, name) for name in names})
        require_range(group, 0, 1, least_share=self.least_share)
        self.check_updates(group, self.epochs)
        if self.fast_on is not None:
            table_file(self.fast_on, argument=f"{group}.fast_on" if group else "fast_on")
