"""The Pareto front."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other point beats.

    A point beats another that costs at least as much and is at most as accurate, unless both are equal. Of equal
    points the first one is kept.

    Args:
      points: Cost and accuracy of each.

    Returns:
      Their positions, by rising cost; accuracy rises with it.
    """
    front: list[int] = []
    best = float("-inf")
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if points[index][1] > best:
            front.append(index)
            best = points[index][1]
    return front
