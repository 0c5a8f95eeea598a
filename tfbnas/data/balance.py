"""Subsets that hold as many images of each class as they can."""

from __future__ import annotations

import numpy as np


def halves(labels: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint sets of positions that hold every class half and half.

    Of a class with an odd number of images the odd one goes to the two halves in turn.

    Args:
      labels: int [n].
      seed: Decides who goes where.

    Returns:
      Two sorted int64 arrays of positions; together all of `range(n)`.
    """
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    odd = 0
    for label in np.unique(labels):
        members = _shuffled(labels, int(label), seed)
        cut = (len(members) + (1 - odd)) // 2
        odd = (odd + len(members)) % 2
        parts[0].append(members[:cut])
        parts[1].append(members[cut:])
    first, second = (np.sort(np.concatenate(part)) for part in parts)
    return first, second


def take(labels: np.ndarray, n: int, *, seed: int) -> np.ndarray:
    """`n` positions, equally many of each class as far as the classes reach.

    With the same seed, the smaller subset lies within the larger one.

    Returns:
      A sorted int64 array of positions.
    """
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = _shuffled(labels, int(label), seed)
        rank[members] = np.arange(len(members))
    return np.sort(np.lexsort((labels, rank))[:n])


def hold_out(labels: np.ndarray, n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All positions but those of `take`, sorted, and those."""
    held = take(labels, n, seed=seed)
    return np.setdiff1d(np.arange(len(labels)), held), held


def _shuffled(labels: np.ndarray, label: int, seed: int) -> np.ndarray:
    # default_rng's streams are stable across numpy versions in practice, but Generator's methods are not promised
    # to be; sorting raw bits keeps a run's halves the same after an upgrade.
    members = np.flatnonzero(labels == label)
    bits = np.random.PCG64([seed, label]).random_raw(len(members))
    return members[np.argsort(bits, kind="stable")]
