"""Values of JSON files, which may be damaged, and how they read as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfbnas.results import Limited
from tfbnas.units import UNITS, Unit

MIB = 2**20


def number(value: Any) -> float | None:
    """The value as a finite float, or None: a run that diverged has NaN in its files."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def mapping(value: Any) -> dict[str, Any]:
    """The mapping itself, or an empty one."""
    return dict(value) if isinstance(value, Mapping) else {}


def rows_of(value: Any) -> list[dict[str, Any]]:
    """The mappings in a list; nothing for anything else."""
    return [dict(row) for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def series(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Epochs, and values under `key`, of the rows of a history that have a finite number there."""
    found = [(number(row.get("epoch")), number(row.get(key))) for row in rows]
    known = [(i if epoch is None else epoch, value) for i, (epoch, value) in enumerate(found, start=1)]
    return [epoch for epoch, value in known if value is not None], [v for _, v in known if v is not None]


def shown(cost: Limited, value: float) -> str:
    """A value of a cost as a number in the cost's shown unit."""
    return Unit(cost.unit, cost.scale).text(value)


def amount(cost: Limited, value: float) -> str:
    """The same with the unit, and with the name of the cost where the unit does not tell it."""
    part = f" of {cost.name.replace('_', ' ')}" if cost.unit == "MiB" and cost.name != "memory" else ""
    return f"{shown(cost, value)} {cost.unit}{part}"


def cost_name(cost: Limited) -> str:
    """The cost in words."""
    return {"multiply_adds": "multiply-adds"}.get(cost.name, cost.name.replace("_", " "))


def mib(value: float | None) -> str:
    """Bytes as MiB, without the unit."""
    return "" if value is None else UNITS["memory"].text(value)


def size(value: float | None) -> str:
    """Bytes as text with the unit that reads best."""
    if value is None:
        return ""
    if value < 1024:
        return f"{value:.0f} B"
    return f"{value / 1024:.1f} KiB" if value < MIB else f"{mib(value)} MiB"


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as percent, without the sign."""
    return "" if value is None else f"{100 * value:.{digits}f}"


def duration(seconds: float | None) -> str:
    """Seconds as "42 s", "7 min 05 s" or "2 h 10 min"."""
    if seconds is None:
        return ""
    total = round(seconds)
    if total < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"


def count(amount: int, what: str) -> str:
    """ "1 network", "2 networks"."""
    return f"{amount} {what}{'s' * (amount != 1)}"
