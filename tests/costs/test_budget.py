"""The penalty of exceeding a budget (DMS Eq. 7)."""

import pytest
import tensorflow as tf

from tfbnas.costs import Budget, Memory
from tfbnas.errors import UserError


@pytest.mark.parametrize(("cost", "expected"), [(50.0, 0.0), (100.0, 0.0), (150.0, 0.2), (300.0, 0.8)])
def test_penalty_is_relative_to_the_limit(cost, expected):
    assert float(Budget(Memory(), 100.0, 0.4).penalty(tf.constant(cost))) == pytest.approx(expected)


def test_penalty_is_that_of_eq_7_with_its_weight_per_kib():
    limit, cost, weight = 3 * 1024.0, 5 * 1024.0, 0.01
    found = Budget(Memory(), limit, weight * limit / 1024).penalty(tf.constant(cost))
    assert float(found) == pytest.approx(weight * max(0.0, cost / 1024 - limit / 1024))


def test_gradient_is_there_above_the_limit_only():
    cost = tf.Variable([90.0, 110.0])
    with tf.GradientTape() as tape:
        penalty = tf.reduce_sum(Budget(Memory(), 100.0, 0.5).penalty(cost))
    assert tape.gradient(penalty, cost).numpy().tolist() == pytest.approx([0.0, 0.005])


@pytest.mark.parametrize("limit", [0, -3, float("nan")])
def test_limits_that_are_not_positive_are_refused(limit):
    with pytest.raises(UserError, match=f"positive number of bytes. Received: limit={limit}"):
        Budget(Memory(), limit)


def test_negative_penalty_weight_is_refused():
    with pytest.raises(UserError, match="Received: penalty_weight=-0.1"):
        Budget(Memory(), 100.0, -0.1)
