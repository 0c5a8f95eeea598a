"""Pruning by bit masks against a plain search of the graph, one example at a time."""

import numpy as np
import pytest

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.networks.pruning import prune

GRAPHS = {
    "fabric": Architecture("test", "resnet_fabric", {}, options={"n": 3}),
    "cnf": Architecture("test", "cnf", {}, options={"columns": 4, "scales": 4}),
    "segmentation": Architecture("test", "cnf", {}, options={"columns": 3, "scales": 3, "segmentation": True}),
}


def searched(graph, gates):
    """Sets of modules: reached from the input; with those that lead to the output; gates that matter."""
    opened = [gate < 0 or gates[gate] for gate in graph.guard]

    def walk(start, neighbours):
        found, waiting = set(), [start]
        while waiting:
            module = waiting.pop()
            if opened[module] and module not in found:
                found.add(module)
                waiting += neighbours[module]
        return found

    reached = walk(0, graph.successors)
    leads = walk(len(graph.nodes) - 1, graph.predecessors)
    kept = reached & leads if len(graph.nodes) - 1 in reached else set()
    leads |= {m for m in range(len(graph.nodes)) if leads.intersection(graph.successors[m])}
    matters = {
        graph.guard[module]
        for module in leads
        if graph.guard[module] >= 0 and any(source in reached for source in graph.predecessors[module])
    }
    return matters, kept


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("examples", [1, 7, 64, 130])
def test_equals_a_plain_graph_search(name, examples):
    graph = networks.graph(GRAPHS[name])
    chance = np.random.default_rng(examples)
    # From nearly nothing to nearly everything, so that many draws are disconnected and many are not.
    probabilities = np.linspace(0.05, 1.0, examples)[:, None] if examples > 1 else 0.8
    gates = chance.random((examples, len(graph.choices))) < probabilities
    found = graph.prune(gates)
    assert found.matters.shape == found.gates.shape == gates.shape
    assert found.modules.shape == (examples, len(graph.nodes))
    for example in range(examples):
        matters, kept = searched(graph, gates[example])
        assert set(np.flatnonzero(found.matters[example])) == matters
        assert set(np.flatnonzero(found.modules[example])) == kept
        assert set(np.flatnonzero(found.gates[example])) == {graph.guard[m] for m in kept} - {-1}


@pytest.mark.parametrize("name", GRAPHS)
def test_matters_means_that_the_other_side_leaves_something_else(name):
    graph = networks.graph(GRAPHS[name])
    chance = np.random.default_rng(5)
    for probability in (0.2, 0.5, 0.9):
        gates = chance.random(len(graph.choices)) < probability
        flipped = gates ^ np.eye(len(gates), dtype=bool)
        here, there = graph.prune(gates[None]), graph.prune(flipped)
        differs = (there.modules != here.modules).any(axis=1)
        assert np.array_equal(here.matters[0], differs)


@pytest.mark.parametrize("name", GRAPHS)
def test_everything_or_nothing(name):
    graph = networks.graph(GRAPHS[name])
    gates = np.array([[True], [False]]) & np.ones(len(graph.choices), bool)
    found = graph.prune(gates)
    assert found.modules[0].all() and found.gates[0].all() and found.matters[0].all()
    assert not found.modules[1].any() and not found.gates[1].any()


def test_a_gate_matters_where_its_two_sides_differ():
    """input 0 -> 1 (gate a) -> 2 (gate b) -> 4, and 0 -> 3 (gate c), read by 2 only."""
    predecessors, order, guard = [[], [0], [1, 3], [0], [2]], [0, 1, 3, 2, 4], [-1, 0, 1, 2, -1]
    found = prune(
        np.array([[True, True, False], [False, True, False]]), order=order, predecessors=predecessors, guard=guard
    )
    assert found.matters.tolist() == [[True, True, True], [True, False, True]]
    assert found.gates.tolist() == [[True, True, False], [False, False, False]]


def test_families_keep_the_promise_of_gates():
    """Modules behind one gate read the same modules and are read by the same."""
    for architecture in GRAPHS.values():
        graph = networks.graph(architecture)
        for gate in range(len(graph.choices)):
            modules = [module for module, guard in enumerate(graph.guard) if guard == gate]
            assert len({tuple(graph.predecessors[module]) for module in modules}) == 1
            assert len({tuple(graph.successors[module]) for module in modules}) == 1


def test_cheapest_path_is_connected_and_cheapest():
    chance = np.random.default_rng(0)
    graph = networks.graph(Architecture("test", "cnf", {}, options={"columns": 2, "scales": 2}))
    count = len(graph.choices)
    every = (np.arange(2**count)[:, None] >> np.arange(count)) % 2 == 1
    connected = every[graph.prune(every).modules.any(axis=1)]
    for _ in range(20):
        weights = chance.random(len(graph.nodes))
        path = graph.cheapest_path(weights)
        found = graph.prune(path[None])
        assert found.gates[0].tolist() == path.tolist()
        least = (graph.prune(connected).modules @ weights).min()
        assert found.modules[0] @ weights == pytest.approx(least)
