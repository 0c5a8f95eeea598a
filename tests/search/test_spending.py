"""Whatever the budget, what comes out of a search uses it: ten budgets for each method and cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Distributed, Latency, Memory, MultiplyAdds, trace
from tfbnas.costs.closed import prices_of_widths
from tfbnas.layers import OpenWidth
from tfbnas.search.closing_gates import ClosingGates
from tfbnas.search.closing_widths import ClosingWidths
from tfbnas.search.dms import DMS
from tfbnas.search.priced_graph import PricedGraph

LEAST = 0.95


class Share:
    """The share of a limit that a cost takes; the limit may change while a search is compiled, so one trace serves."""

    unit = "limits"

    def __init__(self, cost):
        self.cost, self.limit = cost, tf.Variable(1.0, trainable=False)

    def of(self, architecture):
        return self.cost.of(architecture) / float(self.limit)

    def expected(self, operations, distributions):
        return self.cost.expected(operations, distributions) / self.limit


def test_a_search_of_widths(image_batches):
    """Short real searches that end anywhere: far below their budget, or above it."""
    cost = Memory()
    share = Share(cost)
    share.limit.assign(1e9)
    search = DMS(
        "test-small",
        budget=Budget(share, 1.0, 1.0),
        input_shape=(8, 8, 3),
        classes=4,
        rounds=2,
        weight_epochs=1,
        architecture_steps=8,
        initial_sigma=0.6,
        final_sigma=0.2,
        seed=3,
    )
    search.compile(tf.keras.optimizers.SGD(0.05), tf.keras.optimizers.Adam(0.05))
    (least,) = DMS.least_costs(search.template, [Budget(cost, 1.0)], search.settings)
    largest = cost.of(replace(search.template, choices={"stream": 7, "inner": 11, "out": 15}))
    data, ends = image_batches(), []
    for limit in np.linspace(1.1 * least, largest, 10):
        share.limit.assign(limit)
        search._closing._last = None  # a limit is the same for ever outside of tests
        search.mu.assign(tf.fill([3], 1.5))
        search.sigma.assign(0.6)
        search.cluster(0, fresh=True)
        search.fit(data, data, verbose=False)
        ends.append(search.costs()[0])
        used = cost.of(search.architecture()) / limit
        assert LEAST <= used <= 1.0, (limit, search.mu.numpy(), search.architecture().choices, search.unspent())
        assert (search.unspent() == "") == (used >= 0.97)
    assert min(ends) < 0.9 and max(ends) > 1.1  # closing had something to do


@pytest.mark.parametrize("cost", [Latency("raspberry_pi_4b"), MultiplyAdds()], ids=["latency", "multiply_adds"])
def test_widths_under_other_costs(cost):
    """As a search may have left them, with any ratios, far from the budget."""
    opened, chance = {}, np.random.default_rng(0)
    network = networks.construct(
        "test-small",
        lambda name, base: opened.setdefault(name, OpenWidth(name, base)),
        input_shape=(8, 8, 3),
        classes=4,
        options={},
    )
    base = np.array([width.base for width in opened.values()])
    prices = prices_of_widths([cost], trace(network), list(opened))
    least, largest = prices(np.stack([base // 3, 5 * base]))[:, 0]
    for limit in np.linspace(1.1 * least, largest, 10):
        close = ClosingWidths(prices, np.array([limit]), base=base)
        ratios = chance.uniform(0.4, 4.0, 3).astype(np.float32)
        closed = close(ratios, 0.2, 10 * base)
        choices = dict(zip(opened, closed.channels.tolist(), strict=True))
        used = cost.of(Architecture("t", "test-small", choices, (8, 8, 3), 4)) / limit
        assert LEAST <= used <= 1.0, (limit, ratios, choices)


FABRIC = Architecture("t", "resnet_fabric", {}, (16, 16, 3), 10, {"n": 3, "base": 8})
CNF = Architecture("t", "cnf", {}, (16, 16, 3), 10, {"columns": 4, "scales": 4, "filters": 8})


def searched(priced, weight, seed, steps=60):
    """Probabilities that policy gradient finds: each gate has a random use for the loss, and the budget its penalty."""
    chance = np.random.default_rng(seed)
    use = chance.exponential(0.05, len(priced.graph.choices))
    logits = np.full(len(use), 3.0)
    (budget,) = priced.budgets
    for _ in range(steps):
        p = 1 / (1 + np.exp(-logits))
        gates = chance.random((16, len(p))) < p
        pruned, costs = priced.sample(gates)
        values = weight * np.maximum(0.0, costs[:, 0] / budget.limit - 1.0) - pruned.gates @ use
        scores = np.where(pruned.matters, gates - p, 0.0)
        logits -= 6.0 * (values - values.mean()) @ scores / len(values)
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize(
    ("template", "cost"),
    [(FABRIC, Distributed(2)), (FABRIC, Memory()), (CNF, MultiplyAdds()), (CNF, Latency("pixel1"))],
    ids=["steps", "memory", "multiply_adds", "latency"],
)
def test_a_search_of_modules(template, cost):
    priced = PricedGraph(template, [Budget(cost, 1e12)])
    (least,) = priced.least()
    (largest,) = priced.price(np.ones(len(priced.graph.nodes), bool))
    without, used = [], []
    for seed, limit in enumerate(np.linspace(1.5 * least, 0.9 * largest, 10)):
        priced.budgets = (Budget(cost, float(np.floor(limit)) if cost.unit == "steps" else float(limit)),)
        probabilities = searched(priced, 2.0, seed)
        for fill, shares in ((False, without), (True, used)):
            gates = ClosingGates(priced, fill=fill)(probabilities)
            shares.append(priced.price(priced.kept(gates))[0] / priced.budgets[0].limit)
    assert min(used) >= LEAST and max(used) <= 1.0, used
    assert min(without) < 0.9  # filling had something to do
