"""What every cost must do. A new cost adds one row."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Distributed, Latency, Memory, MultiplyAdds, Parameters, trace
from tfbnas.errors import UserError
from tfbnas.layers import Dense, FloatConv2D, Gated, OpenGate, OpenWidth


@dataclass(frozen=True)
class Row:
    """A cost, and whether it rises with every channel (latency has stairs)."""

    name: str
    make: Callable
    strict: bool


COSTS = [
    Row("memory", Memory, True),
    Row("memory, deployed", lambda: Memory("deployed"), True),
    Row("memory, file", lambda: Memory("file"), True),
    Row("multiply-adds", MultiplyAdds, True),
    Row("latency", lambda: Latency("pixel1"), False),
]
NETWORKS = {
    "test-small": ((8, 8, 3), {}),
    "resnet18": ((32, 32, 3), {"base": 4}),
    "vgg11": ((32, 32, 3), {"base": 4}),
    "quicknet": ((8, 8, 3), {"blocks": [1, 1], "filters": [8, 12]}),
}


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
    assert row.make().name and row.make().shown.text(row.make().shown.scale) == "1"
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


def test_expectation_is_between_the_extremes(row, opened):
    widths, operations, _ = opened
    candidates = random_candidates(widths, seed=2)
    cost = row.make()

    def expected(probability):
        weights = {name: [1 - probability, 0.0, probability] for name in widths}
        return float(cost.expected(operations, distributions(candidates, weights)))

    values = [expected(p) for p in (0.0, 0.5, 1.0)]
    assert values[0] <= values[1] <= values[2] and values[0] < values[2]


def test_expectation_is_linear_in_the_probabilities_of_each_width(row, opened):
    """Also where a width is the input and the output of one layer: the mean of its square, not its mean squared."""
    widths, operations, _ = opened
    candidates, cost = random_candidates(widths, seed=4), row.make()
    even = {name: np.full(3, 1 / 3) for name in widths}
    for name in list(widths)[:3]:

        def expected(weights, name=name):
            return float(cost.expected(operations, distributions(candidates, even | {name: np.array(weights)})))

        corners = [expected(corner) for corner in np.eye(3)]
        assert expected([0.2, 0.5, 0.3]) == pytest.approx(np.dot([0.2, 0.5, 0.3], corners), rel=1e-5)
        assert max(corners) > min(corners)


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
    "memory, file": lambda: Memory("file"),
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


# Over modules and operations. A choice of a module is [absent, present].

KIND_COSTS = {"memory": Memory, "memory, deployed": lambda: Memory("deployed"), "multiply-adds": MultiplyAdds}
FABRIC = Architecture("test", "resnet_fabric", {}, (8, 8, 3), 4, {"n": 1, "base": 4})


class Mixed(tf.keras.layers.Layer):
    """The sum of several operations of one input, of which a search keeps one."""

    def __init__(self, modules, **kwargs):
        super().__init__(**kwargs)
        self.alternatives = [(module, "edge", index) for index, module in enumerate(modules)]

    def call(self, inputs):
        return tf.add_n([module(inputs) for module, *_ in self.alternatives])


def operation_network(kept=None):
    """A stem, one of three operations, a sum with the stem behind a module, a classifier; `kept` closes the choices."""
    makers = [lambda x: x, lambda x: FloatConv2D(4, 3, name="large")(x), lambda x: FloatConv2D(4, 1, name="small")(x)]
    inputs = tf.keras.Input((8, 8, 3))
    x = FloatConv2D(4, 3, name="stem")(inputs)
    inner = tf.keras.Input((8, 8, 4))
    module = tf.keras.Model(inner, FloatConv2D(4, 5, name="body")(inner))
    if kept is None:
        models = []
        for make in makers:
            copy = tf.keras.Input((8, 8, 4))
            models.append(tf.keras.Model(copy, make(copy)))
        terms = [Mixed(models)(x), Gated(module, OpenGate("body"))(x)]
    else:
        terms = [makers[kept["edge"]](x)] + ([module(x)] if kept["body"] else [])
    x = tf.keras.layers.Add()(terms) if len(terms) > 1 else terms[0]
    return tf.keras.Model(inputs, Dense(4)(tf.keras.layers.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope="module")
def fabric():
    """A graph of modules that are all open, its operations, and the names of its choices."""
    graph = networks.graph(FABRIC)
    model = networks.construct(
        FABRIC.network, lambda name, default: OpenGate(name), input_shape=(8, 8, 3), classes=4, options=FABRIC.options
    )
    return graph, trace(model), graph.choices


def vectors(probabilities):
    return {name: tf.constant([1.0 - p, p], tf.float32) for name, p in probabilities.items()}


@pytest.mark.parametrize("name", KIND_COSTS)
def test_expectation_over_modules_is_the_closed_cost_where_nothing_dangles(name, fabric):
    graph, operations, choices = fabric
    cost, chance, seen = KIND_COSTS[name](), np.random.default_rng(0), set()
    for _ in range(200):
        gates = chance.random(len(choices)) < 0.7
        kept = graph.prune(gates[None]).modules[0]
        asked = [guard < 0 or bool(gates[guard]) for guard in graph.guard]
        if kept.any() and asked == kept.tolist() and gates.tobytes() not in seen and len(seen) < 6:
            seen.add(gates.tobytes())
            closed = dict(zip(choices, gates.tolist(), strict=True))
            found = cost.expected(operations, vectors(dict(zip(choices, gates.astype(float), strict=True))))
            assert float(found) == pytest.approx(cost.of(replace(FABRIC, choices=closed)), rel=1e-6)
    assert len(seen) >= 3


@pytest.mark.parametrize("name", KIND_COSTS)
def test_expectation_over_modules_equals_enumeration_and_has_its_gradient(name, fabric):
    _, operations, choices = fabric
    cost, chance = KIND_COSTS[name](), np.random.default_rng(1)
    free = list(choices)[:5]
    probabilities = {
        choice: float(p) for choice, p in zip(choices, chance.uniform(0.1, 0.9, len(choices)), strict=True)
    }
    total, corners = 0.0, []
    for bits in itertools.product([0.0, 1.0], repeat=len(free)):
        weight = np.prod([probabilities[c] if bit else 1 - probabilities[c] for c, bit in zip(free, bits, strict=True)])
        fixed = probabilities | dict(zip(free, bits, strict=True))
        corners.append(float(cost.expected(operations, vectors(fixed))))
        total += weight * corners[-1]
    found = cost.expected(operations, vectors(probabilities))
    assert found.shape == () and found.dtype == tf.float32
    assert float(found) == pytest.approx(total, rel=1e-5)
    assert min(corners) < float(found) < max(corners)
    for choice in choices:
        variables = vectors(probabilities)
        with tf.GradientTape() as tape:
            tape.watch(variables[choice])
            value = cost.expected(operations, variables)
        gradient = tape.gradient(value, variables[choice], unconnected_gradients="zero").numpy()
        ends = [float(cost.expected(operations, vectors(probabilities | {choice: p}))) for p in (1.0, 0.0)]
        # Linear in each probability. Index 0 says how probable it is to be absent, of which nothing else depends here.
        assert gradient[1] - gradient[0] == pytest.approx(ends[0] - ends[1], rel=1e-3, abs=1e-3 * abs(float(value)))


@pytest.mark.parametrize("name", KIND_COSTS)
def test_expectation_over_operations_equals_enumeration(name):
    cost = KIND_COSTS[name]()
    operations = trace(operation_network())
    edge, body = np.array([0.2, 0.5, 0.3]), 0.6
    total = 0.0
    for index, there in itertools.product(range(3), (0, 1)):
        closed = trace(operation_network({"edge": index, "body": there}))
        value = sum(cost.of_operation(operation) for operation in closed)
        corner = {"edge": tf.constant(np.eye(3)[index], tf.float32), **vectors({"body": float(there)})}
        assert float(cost.expected(operations, corner)) == pytest.approx(value, rel=1e-6)
        total += edge[index] * (body if there else 1 - body) * value
    found = cost.expected(operations, {"edge": tf.constant(edge, tf.float32), **vectors({"body": body})})
    assert float(found) == pytest.approx(total, rel=1e-5)


def test_a_sum_whose_terms_may_all_be_absent_costs_no_less_than_nothing():
    """E[max(terms - 1, 0)], not E[terms] - 1."""
    inputs = tf.keras.Input((4, 4, 3))
    terms = []
    for name in "abc":
        copy = tf.keras.Input((4, 4, 3))
        terms.append(Gated(tf.keras.Model(copy, copy), OpenGate(name))(inputs))
    operations = trace(tf.keras.Model(inputs, tf.keras.layers.Add()(terms)))
    found = MultiplyAdds().expected(operations, vectors(dict.fromkeys("abc", 0.1)))
    mean = 3 * 0.1**2 * 0.9 * 1 + 0.1**3 * 2
    assert float(found) == pytest.approx(48 * mean, rel=1e-4)


def test_latency_over_modules_is_refused(fabric):
    _, operations, choices = fabric
    with pytest.raises(UserError, match="only widths are open.*group1/block0.*for which .* is defined"):
        Latency("pixel1").expected(operations, vectors(dict.fromkeys(choices, 1.0)))


def test_an_open_choice_needs_a_distribution(fabric):
    _, operations, choices = fabric
    with pytest.raises(UserError, match=f"distribution of the open choice '{choices[0]}'"):
        Memory().expected(operations, {})
