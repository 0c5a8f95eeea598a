"""The units in which people read and write costs. TensorFlow is not imported here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """How a cost is shown.

    Attributes:
      name: The unit that people read, for instance "MiB".
      scale: What one such unit is in the unit that the cost is computed in, for instance 2^20 bytes.
    """

    name: str
    scale: float = 1.0

    def text(self, value: float) -> str:
        """A cost in its own unit as a number in the shown unit, without the unit's name."""
        shown = value / self.scale
        if shown == int(shown):
            return f"{int(shown)}"
        return f"{shown:.3f}" if shown < 10 else f"{shown:.1f}"


UNITS: dict[str, Unit] = {
    "memory": Unit("MiB", 2.0**20),
    "binary_memory": Unit("MiB", 2.0**20),
    "float_memory": Unit("MiB", 2.0**20),
    "latency": Unit("ms"),
    "measured_latency": Unit("ms"),
    "multiply_adds": Unit("million multiply-adds", 1e6),
    "steps": Unit("steps"),
    "edges": Unit("edges"),
}
"""The unit of each cost that has a name in the settings."""
