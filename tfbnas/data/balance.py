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


def spread(labels: np.ndarray, n: int) -> np.ndarray:
    """`n` positions out of the whole: of each class its share, at least one where `n` is not below the classes.

    Args:
      labels: int [size].
      n: At most size.

    Returns:
      A sorted int64 array of positions, always the same.
    """
    classes, counts = np.unique(labels, return_counts=True)
    # Shares of at least one that add up to n, none above its class; their running sums are rounded.
    share = np.full(len(classes), n / len(classes))
    if n >= len(classes):
        share = 1 + (n - len(classes)) * (counts - 1) / max(1, len(labels) - len(classes))
    wanted = np.diff(np.floor(np.cumsum(share) + 1e-6).astype(np.int64), prepend=0)
    chosen = [_shuffled(labels, int(label), 0)[:some] for label, some in zip(classes, wanted, strict=True)]
    return np.sort(np.concatenate(chosen))


def rarest(maps: np.ndarray) -> np.ndarray:
    """Of each label map the class that the fewest pixels of all maps have: int64 [n] from uint8 [n, height, width]."""
    order = np.argsort(np.bincount(maps.reshape(-1)), kind="stable")
    rank = np.empty(len(order), np.uint8)
    rank[order] = np.arange(len(order))
    return order[rank[maps].min(axis=(1, 2))]


def _shuffled(labels: np.ndarray, label: int, seed: int) -> np.ndarray:
    # default_rng's streams are stable across numpy versions in practice, but Generator's methods are not promised
    # to be; sorting raw bits keeps a run's halves the same after an upgrade.
    members = np.flatnonzero(labels == label)
    bits = np.random.PCG64([seed, label]).random_raw(len(members))
    return members[np.argsort(bits, kind="stable")]
