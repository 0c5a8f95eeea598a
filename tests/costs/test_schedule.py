"""Schedule lengths: the paper's tables and figure 8, and bounds that hold for every graph."""

import numpy as np
import pytest

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Distributed
from tfbnas.costs.schedule import ALLOCATIONS, allocation_order, length
from tfbnas.errors import UserError


def steps(costs, successors, machines, allocation="depth_first", kept=None):
    order = allocation_order(allocation, costs, successors)
    return length(costs, successors, machines=machines, order=order, kept=[True] * len(costs) if kept is None else kept)


def layers_of(*sizes):
    """Successor lists of fully connected layers of modules."""
    first = np.concatenate([[0], np.cumsum(sizes)])
    return [
        list(range(first[layer + 1], first[layer + 2])) if layer + 1 < len(sizes) else []
        for layer, size in enumerate(sizes)
        for _ in range(size)
    ]


def random_graph(chance, zeros=0.2):
    """Costs and successors of a random graph without cycles, numbered in no useful order."""
    count = int(chance.integers(1, 30))
    names = chance.permutation(count)
    successors = [[] for _ in range(count)]
    for early in range(count):
        for late in range(early + 1, count):
            if chance.random() < 0.15:
                successors[names[early]].append(int(names[late]))
    return (chance.random(count) >= zeros).astype(int).tolist(), successors


def longest_path(costs, successors, kept):
    def below(module):
        return costs[module] + max((below(after) for after in successors[module] if kept[after]), default=0)

    return max((below(module) for module in range(len(costs)) if kept[module]), default=0)


@pytest.mark.parametrize(
    ("network", "options", "expected"),
    [
        ("cnf", {"columns": 8}, (171, 90, 53)),
        ("cnf", {"columns": 4}, (83, 47, 31)),
        ("cnf", {"columns": 2}, (39, 26, 19)),
        ("cnf", {"columns": 1}, (12, 12, 12)),
        ("resnet_fabric", {"n": 18, "links": False}, (112, 110, 110)),
        ("resnet_fabric", {"n": 9, "links": False}, (58, 56, 56)),
        ("resnet_fabric", {"n": 7, "links": False}, (46, 44, 44)),
        ("resnet_fabric", {"n": 5, "links": False}, (34, 32, 32)),
        ("resnet_fabric", {"n": 3, "links": False}, (22, 20, 20)),
        ("resnet_fabric", {"n": 18}, (320, 179, 110)),
    ],
)
def test_networks_of_the_tables(network, options, expected):
    architecture = Architecture("test", network, {}, options=options)
    assert tuple(Distributed(machines).of(architecture) for machines in (1, 2, 4)) == expected


def test_critical_path_as_allocation():
    whole = Architecture("test", "cnf", {})
    assert [Distributed(machines, allocation="critical_path").of(whole) for machines in (1, 2, 4)] == [171, 87, 48]


@pytest.mark.parametrize("n", [3, 5])
def test_resnet_is_the_fabric_without_links(n):
    """The priority of the whole fabric's order schedules the ResNet inside it as the ResNet's own does."""
    fabric = Architecture("test", "resnet_fabric", {}, options={"n": n})
    closed = {name: "from" not in name for name in networks.graph(fabric).choices}
    inside = Architecture("test", "resnet_fabric", closed, options={"n": n})
    alone = Architecture("test", "resnet_fabric", {}, options={"n": n, "links": False})
    for machines in (1, 2, 4):
        assert Distributed(machines).of(inside) == Distributed(machines).of(alone)


def test_figure_8():
    blue, red = layers_of(1, 2, 1, 2, 1, 2), layers_of(2, 2, 2, 2, 2)
    assert len(blue) == 9 and len(red) == 10
    assert steps([1] * 9, blue, 2) == 6 and steps([1] * 10, red, 2) == 5
    assert steps([1] * 9, blue, 1) == 9 and steps([1] * 10, red, 1) == 10


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_bounds_on_random_graphs(allocation):
    chance = np.random.default_rng(0)
    for _ in range(200):
        costs, successors = random_graph(chance, zeros=0.0)
        kept = (chance.random(len(costs)) < 0.8).tolist()
        work, path = sum(kept), longest_path(costs, successors, kept)
        for machines in (1, 2, 3, 8):
            found = steps(costs, successors, machines, allocation, kept)
            assert max(path, -(-work // machines)) <= found <= work
        assert steps(costs, successors, 1, allocation, kept) == work
        assert steps(costs, successors, 100, allocation, kept) == path


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_modules_without_cost_take_no_step_of_their_own(allocation):
    chance = np.random.default_rng(1)
    for _ in range(100):
        costs, successors = random_graph(chance)
        everything = [True] * len(costs)
        bound = max(longest_path(costs, successors, everything), -(-sum(costs) // 2))
        assert bound <= steps(costs, successors, 2, allocation)
        assert steps(costs, successors, 1, allocation) == sum(costs)
    assert steps([0, 0], [[1], []], 2, allocation) == 0


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_orders_put_modules_before_their_successors(allocation):
    chance = np.random.default_rng(2)
    for _ in range(100):
        costs, successors = random_graph(chance)
        order = allocation_order(allocation, costs, successors)
        place = {module: position for position, module in enumerate(order)}
        assert sorted(order) == list(range(len(costs)))
        assert all(place[module] < place[after] for module in place for after in successors[module])


def test_a_cycle_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        allocation_order("depth_first", [1, 1, 1], [[1], [2], [0]])


def test_nothing_kept_takes_no_step():
    assert steps([1, 1], [[1], []], 2, kept=[False, False]) == 0


def test_bad_arguments():
    with pytest.raises(UserError, match="machines=0"):
        Distributed(0)
    with pytest.raises(UserError, match="allocation='random'"):
        Distributed(2, allocation="random")
    with pytest.raises(UserError, match="Received: 'vgg11'"):
        Distributed(2).of(Architecture("test", "vgg11", {}))
