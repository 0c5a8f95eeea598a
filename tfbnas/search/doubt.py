"""Whether a search has weighed anything, told by what it recorded. TensorFlow is not imported here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_AT_AN_END = 1e-5
"""Share of a choice's range within which its value stands at an end: float32 rounds when it is clipped."""


def doubt(records: Sequence[Mapping[str, Any]], rate: float | None = None) -> str:
    """One sentence where a search came to its result without weighing; else an empty text.

    Every choice that says so has an end below ("least") and above ("most") which its value cannot pass in an epoch. A
    step of a learning rate that is far too large throws the value from end to end: then no choice ever comes to stand
    anywhere else. A search that weighs moves choices little by little, so one epoch with one such move is enough for
    it to be trusted.

    Args:
      records: What the search recorded of each epoch (`Search.record`), in order.
      rate: The learning rate of the architecture, for the sentence. Default: not named.
    """
    at_ends = between = 0
    before: Mapping[str, Any] = {}
    for record in records:
        choices = record.get("choices", {})
        for name, choice in choices.items():
            value = choice["value"]
            if not math.isfinite(value):
                return f"The search has no meaning: its choice {name!r} became {value}.{_remedy(rate)}"
            if "least" not in choice or (name in before and before[name]["value"] == value):
                continue
            distance = min(value - choice["least"], choice["most"] - value)
            if distance <= _AT_AN_END * (choice["most"] - choice["least"]):
                at_ends += 1
            elif before:
                between += 1
        before = choices
    if not at_ends or between:
        return ""
    return (
        f"The search has weighed nothing: in all {len(records)} epochs no choice moved to a value between the ends of "
        f"what it could reach.{_remedy(rate)}"
    )


def _remedy(rate: float | None) -> str:
    return f" Lower `architecture_learning_rate`{'' if rate is None else f', which was {rate:g}'}, and search again."
