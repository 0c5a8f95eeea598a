"""DARTS' rule against all ways to close a cell."""

import itertools

import numpy as np
import pytest

from tfbnas.search.darts import NONE, close, collapsing, entropy, nodes_of

CANDIDATES = ("identity", NONE, "conv", "pool")
EDGES = tuple(f"normal/node{node}/from{source}" for node in (2, 3, 4) for source in range(node))


def drawn(seed):
    chance = np.random.default_rng(seed)
    return {name: chance.dirichlet(np.ones(len(CANDIDATES))) for name in EDGES}


@pytest.mark.parametrize("seed", range(5))
def test_closed_cell_is_the_best_of_all(seed):
    """Of all closings with two edges at each node, the one whose operations have the largest sum of probabilities."""
    probabilities = drawn(seed)
    closed = close(probabilities, dict.fromkeys(EDGES, CANDIDATES))
    for edges in nodes_of(EDGES).values():
        best, found = -1.0, {}
        for pair in itertools.combinations(edges, 2):
            for operations in itertools.product([name for name in CANDIDATES if name != NONE], repeat=2):
                value = sum(
                    probabilities[edge][CANDIDATES.index(name)] for edge, name in zip(pair, operations, strict=True)
                )
                if value > best:
                    best, found = value, dict(zip(pair, operations, strict=True))
        assert {edge: closed[edge] for edge in edges} == dict.fromkeys(edges, NONE) | found


def test_none_never_wins_and_does_not_make_an_edge_strong():
    probabilities = {
        "c/node4/from0": np.array([0.01, 0.97, 0.01, 0.01]),
        "c/node4/from1": np.array([0.1, 0.3, 0.4, 0.2]),
        "c/node4/from2": np.array([0.6, 0.0, 0.2, 0.2]),
    }
    closed = close(probabilities, dict.fromkeys(probabilities, CANDIDATES))
    assert closed == {"c/node4/from0": NONE, "c/node4/from1": "conv", "c/node4/from2": "identity"}
    one = close(probabilities, dict.fromkeys(probabilities, CANDIDATES), edges_per_node=1)
    assert [name for name in one if one[name] != NONE] == ["c/node4/from2"]


def test_equal_edges_are_taken_in_their_order():
    probabilities = dict.fromkeys(EDGES, np.full(4, 0.25))
    closed = close(probabilities, dict.fromkeys(EDGES, CANDIDATES))
    kept = [name for name in EDGES if closed[name] != NONE]
    assert kept == [f"normal/node{node}/from{source}" for node in (2, 3, 4) for source in (0, 1)]
    assert {closed[name] for name in kept} == {"identity"}


def test_entropy_in_bits():
    np.testing.assert_allclose(entropy(np.array([[0.5, 0.5, 0, 0], [0.25] * 4, [1, 0, 0, 0]])), [1, 2, 0])


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        (["identity", "conv", "conv", NONE, NONE], False),
        (["identity", "conv", "identity", "pool", NONE], True),
        ([NONE], False),
    ],
)
def test_cells_collapse_when_half_of_what_is_kept_are_identities(operations, expected):
    assert collapsing(operations) is expected
