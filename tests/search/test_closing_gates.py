"""Closing gates, on graphs so small that every set of gates can be tried, and on a fabric."""

import itertools

import numpy as np
import pytest

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Distributed, FunctionCost, MultiplyAdds
from tfbnas.errors import UserError
from tfbnas.layers import Dense, FloatConv2D
from tfbnas.networks.graph import NetworkGraph
from tfbnas.search.closing_gates import ClosingGates, filled, ways, within
from tfbnas.search.priced_graph import PricedGraph


def ladder(*, input_shape=(4, 4, 2), classes=3):
    """in -> a -> b -> sum -> out, in -> c -> sum, in -> d -> sum: a and b are there together or not at all."""

    def layer(name, tensors):
        return FloatConv2D(3, 3, name=name)(sum(tensors[1:], tensors[0]))

    def classifier(name, tensors):
        return Dense(classes, name=name)(layer(f"{name}_conv", tensors)[:, 0, 0])

    graph = NetworkGraph()
    first = graph.add("in", layer)
    a = graph.add("a", layer, inputs=[first], choice="a")
    b = graph.add("b", layer, inputs=[a], choice="b")
    others = [graph.add(name, layer, inputs=[first], choice=name) for name in "cd"]
    graph.add("out", classifier, inputs=[graph.add("sum", layer, inputs=[b, *others])])
    return graph


def ladder_network(choose, *, input_shape=(4, 4, 2), classes=3):
    return ladder(input_shape=input_shape, classes=classes).build(choose, input_shape=input_shape, name="ladder")


networks.register("test-ladder", ladder_network, graph=ladder)
TEMPLATE = Architecture("t", "test-ladder", {}, (4, 4, 2), 3, {})
EVERY = [np.array(row) for row in itertools.product([False, True], repeat=4)]


class Weighed:
    """What is kept of a, b, c and d, each at its own price."""

    unit = "grams"

    def __init__(self, *prices):
        self.prices, self.asked = dict(zip("abcd", prices, strict=True)), 0

    def of(self, architecture):
        self.asked += 1
        return float(sum(price for name, price in self.prices.items() if architecture.choices[name]))

    def over(self, architecture):
        graph = networks.graph(architecture)
        prices = np.array([self.prices.get(node.choice, 0.0) for node in graph.nodes])
        return lambda kept: float(prices @ kept)


def closed(probabilities, *budgets, fill=True):
    priced = PricedGraph(TEMPLATE, budgets)
    gates = ClosingGates(priced, fill=fill)(np.array(probabilities))
    return "".join(name for name, kept in zip(priced.graph.choices, gates, strict=True) if kept)


def test_ways_are_the_shortest_paths_between_what_is_kept():
    graph = PricedGraph(TEMPLATE, ()).graph
    lengths = [0.0, 1.0, 2.0, 0.5, 0.7, 0.0, 0.0]
    assert ways(graph, np.array([False, False, True, False]), lengths) == {frozenset({0, 1}), frozenset({3})}
    assert ways(graph, np.ones(4, bool), lengths) == set()
    # Two columns of two scales: from the kept upper path, down and up again by either of two ways.
    fabric = networks.graph(Architecture("t", "cnf", {}, (8, 8, 3), 4, {"columns": 2, "scales": 2, "filters": 4}))
    chance = np.random.default_rng(0)
    for _ in range(10):
        path = fabric.cheapest_path(chance.uniform(size=len(fabric.nodes)).tolist())
        kept = fabric.prune(path[None]).modules[0]
        lengths = chance.uniform(0.1, 1.0, len(fabric.nodes))
        found = ways(fabric, path, lengths.tolist())
        for gate in np.flatnonzero(~path):
            # By trying all sets of closed gates: those in which each gate matters, with this one, and none to spare.
            closed_gates = [other for other in np.flatnonzero(~path) if other != gate]
            sums = {}
            for count in range(len(closed_gates) + 1):
                for others in itertools.combinations(closed_gates, count):
                    wider = path.copy()
                    wider[[gate, *others]] = True
                    pruned = fabric.prune(wider[None])
                    if np.array_equal(pruned.gates[0], wider):
                        sums[frozenset((gate, *others))] = lengths[pruned.modules[0] & ~kept].sum()
            if sums:
                assert min(sums, key=sums.get) in found


@pytest.mark.parametrize("network", ["resnet_fabric", "cnf"])
def test_ways_lead_somewhere_in_graphs_with_dead_ends(network):
    """With thresholds for each tensor nothing reads the sums themselves behind some blocks."""
    graph = networks.graph(Architecture("t", network, {}, (32, 32, 3), 4, {"thresholds": "tensor"}))
    chance = np.random.default_rng(0)
    for _ in range(5):
        kept = graph.cheapest_path(chance.uniform(size=len(graph.nodes)).tolist())
        found = ways(graph, kept, chance.uniform(size=len(graph.nodes)).tolist())
        assert found
        for way in found:
            wider = kept.copy()
            wider[list(way)] = True
            assert np.array_equal(graph.prune(wider[None]).gates[0], wider)


@pytest.mark.parametrize(
    ("limit", "expected"), [(1.0, "c"), (2.9, "c"), (3.0, "cd"), (4.5, "cd"), (6.0, "abc"), (8.0, "abcd")]
)
def test_what_is_opened_has_the_most_probability_for_its_price(limit, expected):
    # c is probable; a with b costs 5 at 0.81 * 0.45, d costs 2 at 0.1.
    assert closed([0.81, 0.45, 0.9, 0.1], Budget(Weighed(2.0, 3.0, 1.0, 2.0), limit)) == expected
    assert closed([0.81, 0.45, 0.9, 0.1], Budget(Weighed(2.0, 3.0, 1.0, 2.0), limit), fill=False) == "c"


def test_what_costs_nothing_is_opened_first():
    assert closed([0.4, 0.4, 0.9, 0.01], Budget(Weighed(1.0, 1.0, 1.0, 0.0), 1.9)) == "cd"


def test_nothing_more_fits_behind_filling_and_no_budget_is_exceeded():
    chance = np.random.default_rng(0)
    for _ in range(60):
        first, second = (Weighed(*chance.integers(1, 9, 4).tolist()) for _ in range(2))
        budgets = [Budget(first, float(chance.integers(9, 30))), Budget(second, float(chance.integers(9, 30)))]
        priced = PricedGraph(TEMPLATE, budgets)
        probabilities = chance.uniform(0.01, 0.99, 4)
        gates = ClosingGates(priced, fill=True)(probabilities)
        assert priced.kept(gates).any() and priced.affordable(priced.kept(gates))
        assert np.array_equal(priced.graph.prune(gates[None]).gates[0], gates)  # nothing leads nowhere
        for more in EVERY:
            wider = priced.graph.prune((gates | more)[None]).gates[0]
            assert np.array_equal(wider, gates) or not priced.affordable(priced.kept(wider))


def test_the_last_resort_is_within_all_budgets():
    """Every path that one budget calls cheapest exceeds the other; only c is within both."""
    grams, litres = Weighed(1.0, 1.0, 4.0, 9.0), Weighed(9.0, 9.0, 4.0, 1.0)
    budgets = [Budget(grams, 5.0), Budget(litres, 5.0)]
    priced = PricedGraph(TEMPLATE, budgets)
    priced.check_budgets()
    for start in ([0, 0, 0, 1], [1, 1, 0, 0]):
        gates = within(priced, np.array(start, bool), np.array([0.6, 0.6, 0.1, 0.9]))
        assert gates.tolist() == [False, False, True, False]
    assert closed([0.6, 0.6, 0.1, 0.9], *budgets) == "c"


def test_budgets_that_no_path_keeps_together_are_refused():
    grams, litres = Weighed(1.0, 1.0, 4.0, 9.0), Weighed(9.0, 9.0, 4.0, 1.0)
    with pytest.raises(UserError, match="one path through test-ladder keeps together; .* 4 grams and 4 grams.*limit=3"):
        PricedGraph(TEMPLATE, [Budget(grams, 3.0), Budget(litres, 3.5)]).check_budgets()


def test_the_best_path_is_the_most_probable_of_those_within_all_budgets():
    """Against all paths of a fabric, with two random costs."""
    chance = np.random.default_rng(0)
    template = Architecture("t", "cnf", {}, (16, 16, 3), 4, {"columns": 3, "scales": 3, "filters": 4})
    graph = networks.graph(template)

    class Random:
        unit = "grams"

        def __init__(self):
            self.prices = chance.uniform(0.1, 1.0, len(graph.nodes))

        def of(self, architecture):
            raise NotImplementedError

        def over(self, architecture):
            return lambda kept: float(self.prices @ kept)

    def paths(module):
        sources = graph.predecessors[module]
        return [(*path, module) for source in sources for path in paths(source)] if sources else [(module,)]

    every = paths(graph.order[-1])
    assert len(every) == 17
    several = 0
    for _ in range(30):
        costs, doubts = [Random(), Random()], chance.uniform(0.0, 3.0, len(graph.nodes))
        sums = np.array([[cost.prices[list(path)].sum() for cost in costs] for path in every])
        limits = 1.5 * sums[int(np.argmin(sums.max(axis=1)))]
        budgets = [Budget(c, float(limit)) for c, limit in zip(costs, limits, strict=True)]
        allowed = [
            path
            for path, own in zip(every, sums, strict=True)
            if np.all(own <= limits) and not np.any(np.all(sums < own, axis=1))
        ]
        several += len(allowed) > 1
        best = min(allowed, key=lambda path: doubts[list(path)].sum())
        priced = PricedGraph(template, budgets)
        priced.check_budgets()
        kept = priced.kept(priced.best_path(doubts.tolist()))
        assert np.flatnonzero(kept).tolist() == sorted(best)
    assert several > 5


@pytest.mark.parametrize("stochastic", [False, True])
def test_a_cost_that_is_dear_is_asked_at_most_once_for_each_way(stochastic):
    cost = Weighed(1.0, 1.0, 1.0, 1.0)
    budget = Budget(FunctionCost(lambda architecture: cost.of(architecture), stochastic=stochastic), 3.0)
    priced = PricedGraph(TEMPLATE, [budget])
    gates = filled(priced, np.array([False, False, True, False]), np.array([0.3, 0.3, 0.9, 0.05]))
    assert gates.tolist() == [True, True, True, False]  # the most probable way first, whatever it costs
    assert cost.asked == 2


@pytest.mark.parametrize("cost", [Distributed(2), MultiplyAdds()], ids=["steps", "multiply_adds"])
def test_a_whole_graph_and_a_module_too_much_are_said(cost):
    template = Architecture("t", "resnet_fabric", {}, (8, 8, 3), 4, {"n": 1, "base": 4})
    whole = PricedGraph(template, [Budget(cost, 1e9)])
    probabilities = np.full(len(whole.graph.choices), 0.4)
    closing = ClosingGates(whole, fill=True)
    assert closing(probabilities).all()
    assert "of its budget: every module is kept." in closing.unspent(probabilities)
    path = whole.price(whole.kept(ClosingGates(whole, fill=False)(probabilities)))[0]
    tight = ClosingGates(PricedGraph(template, [Budget(cost, 1.0001 * path)]), fill=True)
    assert tight.unspent(probabilities) == ""
    bare = ClosingGates(PricedGraph(template, [Budget(cost, 1e9)]), fill=False)
    assert bare.unspent(probabilities).endswith("of its budget: `fill_budget` is false.")
