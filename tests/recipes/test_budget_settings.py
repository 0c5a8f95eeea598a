"""A budget is written once, for every recipe."""

import pytest

from tfbnas.costs import Distributed, Latency, Memory, MultiplyAdds
from tfbnas.errors import UserError
from tfbnas.recipes.budget import BudgetSettings
from tfbnas.recipes.pricing import budgets


def checked(**settings) -> BudgetSettings:
    found = BudgetSettings(**settings)
    found.check()
    return found


@pytest.mark.parametrize(
    ("settings", "option", "limits"),
    [
        ({"memory": 0.12}, "memory", {"memory": 0.12}),
        ({"limit": 0.12}, "limit", {"memory": 0.12}),
        ({"cost": "latency", "latency": 2.5, "memory": 0.12}, "latency", {"latency": 2.5}),
        ({"cost": "steps", "limit": 16, "also": {"memory": 0.1}}, "limit", {"steps": 16, "memory": 0.1}),
    ],
)
def test_the_limit_has_one_name_or_the_other(settings, option, limits):
    found = checked(**settings)
    assert (found.limit_option, found.limits) == (option, limits)
    assert list(found.limits)[0] == found.cost and found.setting(found.cost) == f"budget.{option}"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "`budget.memory`, in MiB, with --budget.cost memory. Received: none"),
        ({"cost": "steps"}, "`budget.limit`, in steps, with --budget.cost steps. Received: none"),
        ({"memory": 0.1, "limit": 0.2}, "one of `budget.limit` and `budget.memory`.* limit=0.2, memory=0.1"),
        ({"memory": -3.0}, "`budget.memory` to be positive. Received: memory=-3.0"),
        ({"memory": 1.0, "also": {"memory": 1.0}}, "names in `budget.also`"),
        ({"memory": 1.0, "also": {"flops": 1.0}}, "Received: 'flops'"),
        ({"cost": "latency", "latency": 1.0, "penalty_unit": "KiB"}, "penalty_unit=KiB"),
        ({"cost": "measured_latency", "limit": 5.0}, "`budget.target`"),
        ({"memory": 1.0, "machines": 0}, "budget.machines"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings, text):
    with pytest.raises(UserError, match=text):
        checked(**settings)


def test_limits_reach_the_costs_in_their_own_units():
    also = {"multiply_adds": 3.0, "steps": 12.0, "latency": 2.0, "binary_memory": 0.5}
    found = budgets(checked(memory=0.25, counting="deployed", also=also, penalty_weight=2.0))
    assert {name: budget.limit for name, budget in found.items()} == {
        "memory": 2.0**18,
        "multiply_adds": 3e6,
        "steps": 12.0,
        "latency": 2.0,
        "binary_memory": 2.0**19,
    }
    kinds = {"memory": Memory, "multiply_adds": MultiplyAdds, "steps": Distributed, "latency": Latency}
    assert all(isinstance(found[name].cost, kind) for name, kind in kinds.items())
    assert found["memory"].cost.counting == "deployed" and found["binary_memory"].cost.part == "binary"
    assert {budget.penalty_weight for budget in found.values()} == {2.0}


def test_a_weight_per_kib_is_one_per_budget_of_as_many_kib():
    (budget,) = budgets(checked(memory=0.12, penalty_weight=0.01, penalty_unit="KiB")).values()
    excess = 3 * 1024
    assert float(budget.penalty(budget.limit + excess)) == pytest.approx(0.01 * 3, rel=1e-5)
