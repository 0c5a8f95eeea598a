"""The units in which people read and write costs. TensorFlow is not imported here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tfbnas.errors import UserError, nearest
from tfbnas.hints import has_type


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


_IN_TEXTS: dict[str, dict[str, float]] = {
    "bytes": {"B": 1, "bytes": 1, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30},
    "ms": {"us": 1e-3, "ms": 1, "s": 1e3},
    "multiply-adds": {"multiply-adds": 1, "million": 1e6, "million multiply-adds": 1e6, "billion": 1e9},
}
"""By the unit that a cost is computed in: the units that a text may name, and what each is in that unit."""


_AMOUNT = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*")


def amount(value: Any, unit: str) -> float:
    """A cost in its own unit, from a number in it or from a text with a unit: "8 KiB", "0.12 MiB", "2.5 ms".

    Args:
      value: Number or text.
      unit: What the cost is computed in, for instance "bytes".

    Raises:
      UserError: It is neither, or the unit is none of that cost's.
    """
    if has_type(value, float):
        return value
    units = _IN_TEXTS.get(unit, {unit: 1.0})
    found = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    factors = {name.lower(): factor for name, factor in units.items()}
    if found is None or found[2].lower() not in factors:
        hint = nearest(found[2], units) if found else ""
        raise UserError(
            f"Expected `limit` to be a number of {unit}, or a text with a unit ({', '.join(units)}), for instance "
            f'"8 {list(units)[-2:][0]}". Received: limit={value!r}.{hint}'
        )
    return float(found[1]) * factors[found[2].lower()]


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


SPENT = 0.97
"""The share of a budget from which on it counts as used."""
