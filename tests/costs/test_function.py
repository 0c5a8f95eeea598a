"""Costs of the user's own: functions, and what is refused."""

import numpy as np
import pytest

from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, FunctionCost, Memory
from tfbnas.errors import UserError
from tfbnas.search.priced_graph import PricedGraph

WHOLE = Architecture("test", "resnet_fabric", {}, (8, 8, 3), 2, {"n": 1, "base": 4})


def priced(function, limit=10.0):
    return PricedGraph(WHOLE, [Budget(function, limit, 1.0)])


def price_whole(graph):
    return graph.sample(np.ones((1, len(graph.graph.choices)), bool))[1]


def test_a_budget_takes_a_plain_function_of_the_pruned_architecture():
    asked = []

    def blocks(architecture):
        asked.append(architecture)
        return sum(architecture.choices.values())

    graph = priced(blocks)
    gates = np.ones((1, len(graph.graph.choices)), bool)
    gates[0, graph.graph.choices.index("group1/block0/body")] = False
    gates[0, graph.graph.choices.index("group1/block0/skip")] = False  # now nothing leads from here into group 2
    _, costs = graph.sample(gates)
    assert isinstance(asked[0], Architecture) and asked[0].network == "resnet_fabric" and asked[0].classes == 2
    assert costs[0, 0] == sum(asked[0].choices.values()) < gates.sum()
    graph.sample(gates)
    assert len(asked) == 1
    assert graph.budgets[0].cost.unit == "units" and graph.budgets[0].cost.name == "blocks"


def test_a_stochastic_function_is_asked_every_time():
    asked = []
    graph = priced(FunctionCost(lambda architecture: asked.append(1) or 1.0, unit="watts", stochastic=True))
    gates = np.ones((3, len(graph.graph.choices)), bool)
    graph.sample(gates)
    assert len(asked) == 3 and graph.budgets[0].cost.unit == "watts"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "nan"),
        (-1.0, "-1.0"),
        (float("inf"), "inf"),
        (None, "None"),
        ("12", "'12'"),
        (True, "True"),
        ([1.0, 2.0], r"\[1.0, 2.0\]"),
    ],
)
def test_what_is_no_number_from_0_on_is_refused_in_a_sentence(value, shown):
    def mine(architecture):
        return value

    with pytest.raises(UserError, match=f"Expected the cost mine to be a finite number of units.*Received: {shown}"):
        price_whole(priced(mine))


@pytest.mark.parametrize("value", [3, 2.5, np.float32(2.5), np.array(1.0), np.array([1.0])[0]])
def test_numbers_of_other_libraries_are_numbers(value):
    assert price_whole(priced(lambda architecture: value))[0, 0] == float(value)


def test_a_function_that_fails_says_where():
    def mine(architecture):
        return architecture.choices["no such block"]

    with pytest.raises(
        UserError, match=r"cost mine to give a number. Received: KeyError.*test_function.py, line"
    ) as info:
        price_whole(priced(mine))
    assert isinstance(info.value.__cause__, KeyError)


def test_a_budget_refuses_what_is_no_cost():
    with pytest.raises(UserError, match=r"cost or a function.*Memory'>; write Memory\(\)"):
        Budget(Memory, 5.0)
    with pytest.raises(UserError, match="Received: 'memory'"):
        Budget("memory", 5.0)
    with pytest.raises(UserError, match="function of an Architecture"):
        FunctionCost(3)
    with pytest.raises(UserError, match="positive number of units"):
        Budget(lambda architecture: 1.0, 0)


def test_several_budgets_at_once():
    graph = PricedGraph(
        WHOLE,
        [Budget(Memory(part="binary"), 1e6), Budget(Memory(part="float"), 1e6), Budget(lambda a: len(a.choices), 1e6)],
    )
    pruned, costs = graph.sample(np.ones((2, len(graph.graph.choices)), bool))
    whole = graph.closed(pruned.modules[0])
    assert costs.shape == (2, 3)
    assert costs[0, 0] == Memory(part="binary").of(whole) and costs[0, 1] == Memory(part="float").of(whole)
    assert costs[0, :2].sum() == pytest.approx(Memory().of(whole)) and costs[0, 2] == len(graph.graph.choices)
