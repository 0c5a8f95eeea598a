"""FISTA against coordinate descent in numpy, and its proximal step against the definition."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.search import fista
from tfbnas.search.fista import Fista

CHANCE = np.random.default_rng(0)
A = CHANCE.normal(size=(40, 25))
B = A @ np.where(np.arange(25) % 4 == 0, CHANCE.normal(size=25) * 2, 0.0) + 0.1 * CHANCE.normal(size=40)
WEIGHT = 6.0
RATE = 1.0 / np.linalg.norm(A, 2) ** 2


def coordinate_descent(nonnegative):
    """The minimum of 1/2 |A x - b|^2 + WEIGHT |x|_1: each element in turn to where the others leave its own minimum."""
    x = np.zeros(A.shape[1])
    for _ in range(1000):
        for j in range(len(x)):
            along = A[:, j] @ (B - A @ x + A[:, j] * x[j])
            size = max(abs(along) - WEIGHT, 0.0) / (A[:, j] @ A[:, j])
            x[j] = size * np.sign(along)
            if nonnegative:
                x[j] = max(along - WEIGHT, 0.0) / (A[:, j] @ A[:, j])
    return x


def gradient(x):
    return tf.linalg.matvec(A, tf.linalg.matvec(A, x) - B, transpose_a=True)


def test_lasso():
    @tf.function
    def step(x, before, a):
        y = fista.extrapolated(x, before, a)
        return fista.shrunk(y - RATE * gradient(y), RATE * WEIGHT), x, fista.next_momentum(a)

    x = before = tf.zeros([25], tf.float64)
    a = tf.ones([], tf.float64)
    for _ in range(1000):
        x, before, a = step(x, before, a)
    expected = coordinate_descent(nonnegative=False)
    np.testing.assert_allclose(x, expected, atol=1e-6)
    assert np.count_nonzero(x.numpy() == 0.0) > 3 and np.array_equal(x.numpy() == 0.0, expected == 0.0)


def test_lasso_above_zero_with_the_masks_own_steps():
    masks = Fista(tf.ones([25], tf.float64))

    @tf.function
    def step():
        point = masks.point()
        masks.step(point, gradient(point), RATE, WEIGHT)

    for _ in range(1000):
        step()
    expected = coordinate_descent(nonnegative=True)
    np.testing.assert_allclose(masks.values, expected, atol=1e-6)
    found = masks.values.numpy()
    assert found.min() == 0.0 and np.array_equal(found == 0.0, expected == 0.0)


def test_momentum_is_the_recurrence():
    a, found = tf.constant(1.0, tf.float64), []
    for _ in range(3):
        a = fista.next_momentum(a)
        found.append(float(a))
    golden = (1 + np.sqrt(5)) / 2
    second = (1 + np.sqrt(1 + 4 * golden**2)) / 2
    assert found[:2] == pytest.approx([golden, second]) and found[2] > second
    now, before = np.array([1.0, 3.0]), np.array([2.0, 1.0])
    share = (golden - 1) / second
    np.testing.assert_allclose(
        fista.extrapolated(now, before, tf.constant(golden, tf.float64)), now + share * (now - before)
    )


@pytest.mark.parametrize("value", [-2.0, -0.3, 0.0, 0.3, 1.7])
def test_the_proximal_step_is_the_minimum_that_defines_it(value):
    threshold, grid = 0.5, np.linspace(-3, 3, 60_001)
    for function, allowed in ((fista.shrunk, grid), (fista.shrunk_above_zero, grid[grid >= -1e-12])):
        expected = allowed[np.argmin(0.5 * (allowed - value) ** 2 + threshold * np.abs(allowed))]
        assert float(function(value, threshold)) == pytest.approx(expected, abs=1e-4)


def test_the_l1_norm_acts_once_and_not_on_what_it_leaves_alone():
    """Without a gradient a step is lower by rate * weight, once; `least` keeps elements up; a restart forgets."""
    masks = Fista(tf.constant([1.0, 1.0, 0.05, 0.05]))
    masks.step(masks.point(), tf.zeros([4]), 0.1, tf.constant([2.0, 0.0, 2.0, 2.0]), least=tf.constant([0, 0, 0, 0.01]))
    np.testing.assert_allclose(masks.values, [0.8, 1.0, 0.0, 0.01], rtol=1e-6)
    masks.step(masks.point(), tf.zeros([4]), 0.1, 0.0)
    momentum = 0.8 + (float(fista.next_momentum(tf.constant(1.0))) - 1) / float(masks.a) * (0.8 - 1.0)
    assert float(masks.values[0]) == pytest.approx(momentum, rel=1e-5)
    masks.restart()
    np.testing.assert_array_equal(masks.point(), masks.values)
    assert len(masks.variables) == 3 and float(masks.a) == 1.0
