"""What every cost must do. A new cost adds one row."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Distributed, Latency, Memory, MultiplyAdds, Parameters, trace
from tfbnas.layers import OpenWidth


@dataclass(frozen=True)
class Row:
    """A cost, and whether it rises with every channel (latency has stairs)."""

    name: str
    make: Callable
    strict: bool


COSTS = [
    Row("memory", Memory, True),
    Row("memory, deployed", lambda: Memory("deployed"), True),
    Row("latency", lambda: Latency("pixel1"), False),
]
NETWORKS = {"test-small": ((8, 8, 3), {}), "resnet18": ((32, 32, 3), {"base": 4}), "vgg11": ((32, 32, 3), {"base": 4})}


@pytest.fixture(params=COSTS, ids=lambda row: row.name)
def row(request):
    return request.param


@pytest.fixture(params=NETWORKS, scope="module")
def opened(request):
    """Name of a network, its widths, its operations, and a function that closes it."""
    shape, options = NETWORKS[request.param]
    widths = {}

    def choose(name, base):
        return widths.setdefault(name, OpenWidth(name, base))

    model = networks.construct(request.param, choose, input_shape=shape, classes=4, options=options)

    def close(choices):
        return Architecture("test", request.param, choices, shape, 4, options)

    return widths, trace(model), close


def distributions(candidates, probabilities):
    return {
        name: (tf.constant(values, tf.float32), tf.constant(probabilities[name], tf.float32))
        for name, values in candidates.items()
    }


def random_candidates(widths, seed=0):
    chance = np.random.default_rng(seed)
    return {name: sorted(chance.integers(1, 3 * width.base, 3).tolist()) for name, width in widths.items()}


def test_has_a_unit_that_a_budget_can_name(row):
    assert isinstance(row.make().unit, str)
    assert Budget(row.make(), 5.0).cost.unit


def test_expectation_of_certain_choices_is_the_closed_cost(row, opened):
    """Rule 5 of the architecture: both agree where every probability is 0 or 1."""
    widths, operations, close = opened
    candidates = random_candidates(widths)
    chance = np.random.default_rng(1)
    picks = {name: int(chance.integers(3)) for name in widths}
    certain = {name: np.eye(3)[pick] for name, pick in picks.items()}
    cost = row.make()
    found = cost.expected(operations, distributions(candidates, certain))
    assert found.shape == () and found.dtype == tf.float32
    closed = cost.of(close({name: candidates[name][pick] for name, pick in picks.items()}))
    assert float(found) == pytest.approx(closed, rel=1e-5) and closed > 0


def test_expectation_is_between_the_extremes_and_linear_in_each_probability(row, opened):
    widths, operations, _ = opened
    candidates = random_candidates(widths, seed=2)
    cost = row.make()

    def expected(probability):
        weights = {name: [1 - probability, 0.0, probability] for name in widths}
        return float(cost.expected(operations, distributions(candidates, weights)))

    values = [expected(p) for p in (0.0, 0.5, 1.0)]
    assert values[0] <= values[1] <= values[2] and values[0] < values[2]


def test_gradient_by_the_probabilities_is_the_finite_difference(row, opened):
    widths, operations, _ = opened
    candidates, cost = random_candidates(widths, seed=3), row.make()
    name = list(widths)[-1]
    weights = {other: np.array([0.2, 0.5, 0.3]) for other in widths}
    variables = distributions(candidates, weights)
    values, probability = variables[name]
    with tf.GradientTape() as tape:
        tape.watch(probability)
        total = cost.expected(operations, {**variables, name: (values, probability)})
    gradient = tape.gradient(total, probability).numpy()
    for index in range(3):
        # Linear in the probabilities of one width, up to its square: a large central step is exact.
        ends = []
        for sign in (1, -1):
            moved = weights[name].copy()
            moved[index] += sign * 0.1
            ends.append(float(cost.expected(operations, distributions(candidates, {**weights, name: moved}))))
        assert gradient[index] == pytest.approx((ends[0] - ends[1]) / 0.2, rel=2e-2)


def test_more_channels_never_cost_less(row, opened):
    widths, operations, _ = opened
    cost = row.make()
    costs = [
        float(
            cost.expected(
                operations, distributions({name: [count] for name in widths}, {name: [1.0] for name in widths})
            )
        )
        for count in (1, 7, 8, 40)
    ]
    assert costs == sorted(costs) and costs[0] < costs[-1]
    assert not row.strict or len(set(costs)) == 4


MODULE_COSTS = {
    "memory": Memory,
    "memory, deployed": lambda: Memory("deployed"),
    "steps": Distributed,
    "multiply-adds": MultiplyAdds,
    "parameters": Parameters,
    "latency": lambda: Latency("pixel1"),
}


@pytest.mark.parametrize("name", MODULE_COSTS)
def test_of_modules_is_the_closed_cost_and_less_for_less(name):
    """Costs of networks whose choices are modules: `over` is the fast form of `of`."""
    cost = MODULE_COSTS[name]()
    assert Budget(cost, 5.0).cost.unit
    whole = Architecture("test", "resnet_fabric", {}, (8, 8, 3), 4, {"n": 1, "base": 4})
    graph = networks.graph(whole)
    over = cost.over(whole)
    closed = {name: "from" not in name for name in graph.choices}
    fewer = {name: name.endswith("skip") for name in graph.choices}
    kept = graph.prune(np.concatenate([graph.gates(choices) for choices in ({}, closed, fewer)])).modules
    values = [over(row) for row in kept]
    assert values[0] > values[1] > values[2] > 0
    assert cost.of(replace(whole, choices=closed)) == pytest.approx(values[1])
