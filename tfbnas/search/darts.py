"""How mixed edges become a cell: DARTS' rule.

Source: Liu, Simonyan & Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, section 2.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

NONE = "none"
IDENTITY = "identity"


def nodes_of(edges: Sequence[str]) -> dict[str, list[str]]:
    """The edges of each node: those whose names have the same part in front of the last "/"."""
    found: dict[str, list[str]] = {}
    for name in edges:
        found.setdefault(name.rpartition("/")[0], []).append(name)
    return found


def close(
    probabilities: Mapping[str, np.ndarray], candidates: Mapping[str, Sequence[str]], *, edges_per_node: int = 2
) -> dict[str, str]:
    """The operation of each edge: of every node the strongest edges keep their best operation, the others are "none".

    The strength of an edge is the largest probability of its operations but "none". Of equal ones the first is taken.

    Args:
      probabilities: Of the operations of each edge, by the edge's name.
      candidates: The names of those operations.
      edges_per_node: Edges that a node keeps; a node with fewer keeps all. Default 2.
    """
    closed: dict[str, str] = {}
    for edges in nodes_of(list(probabilities)).values():
        best = {name: _best(probabilities[name], candidates[name]) for name in edges}
        kept = sorted(edges, key=lambda name: -best[name][0])[:edges_per_node]
        closed |= {name: best[name][1] if name in kept else NONE for name in edges}
    return closed


def _best(probabilities: np.ndarray, candidates: Sequence[str]) -> tuple[float, str]:
    real = [(float(p), name) for p, name in zip(probabilities, candidates, strict=True) if name != NONE]
    return max(real, key=lambda pair: pair[0])


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Of each distribution along the last axis, in bits."""
    p = np.asarray(probabilities, np.float64)
    return -np.sum(p * np.log2(np.where(p > 0, p, 1.0)), axis=-1)


def collapsing(operations: Iterable[str]) -> bool:
    """Whether cells have begun to collapse: half of their edges, or more, have become identities.

    Args:
      operations: Of all edges; those with "none" do not count.
    """
    kept = [operation for operation in operations if operation != NONE]
    return bool(kept) and 2 * kept.count(IDENTITY) >= len(kept)
