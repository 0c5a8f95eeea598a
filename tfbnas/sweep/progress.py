"""How far a sweep has got, in one line."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tfbnas.report.values import duration


class Progress:
    """Follows the trials' statuses and estimates the time that is left.

    Args:
      earlier: Seconds that trials took in earlier processes; used until one has ended in this one.
      clock: Tells the time in seconds. Default: the system's.
    """

    def __init__(self, earlier: Mapping[str, float] | None = None, *, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._earlier = list((earlier or {}).values())
        self._begun: dict[str, float] = {}
        self._took: list[float] = []
        self._last: dict[str, str] = {}

    def update(self, statuses: Mapping[str, str]) -> str | None:
        """The line to show, or None where nothing has changed since the last call."""
        if statuses == self._last:
            return None
        now = self._clock()
        for name, status in statuses.items():
            if status == "running":
                self._begun.setdefault(name, now)
            elif name in self._begun:
                begun = self._begun.pop(name)
                if status == "finished":
                    self._took.append(now - begun)
        self._last = dict(statuses)
        counts = {kind: list(statuses.values()).count(kind) for kind in ("finished", "failed")}
        text = f"sweep: {counts['finished']} of {len(statuses)} trials done"
        text += f", {counts['failed']} failed" if counts["failed"] else ""
        running = [name for name, status in statuses.items() if status == "running"]
        text += f", running {', '.join(running)}" if running else ""
        left = self.left()
        return text + (f", about {duration(left)} left" if left else "")

    def left(self) -> float | None:
        """Seconds until all trials have ended, from the mean time of those that have; None while none has."""
        took = self._took or self._earlier
        if not took:
            return None
        mean, now = sum(took) / len(took), self._clock()
        going = [max(0.0, mean - (now - begun)) for begun in self._begun.values()]
        waiting = mean * list(self._last.values()).count("waiting")
        return max([(sum(going) + waiting) / max(1, len(going)), *going]) if going or waiting else 0.0
