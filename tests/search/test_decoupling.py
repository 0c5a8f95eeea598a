"""beta, L_R, and the architecture's parameters that are tracked back."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.search import decoupling

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 2, 5)).astype(np.float32)


def test_scale_is_where_the_reconstruction_error_is_least():
    scale = decoupling.filter_scale(tf.constant(KERNEL))
    np.testing.assert_allclose(scale, np.abs(KERNEL).mean(axis=(0, 1, 2)), rtol=1e-6)
    found = float(decoupling.reconstruction_error(tf.constant(KERNEL), scale))
    assert found == pytest.approx(np.square(KERNEL - scale.numpy() * np.sign(KERNEL)).sum(), rel=1e-5)
    variable = tf.Variable(scale)
    with tf.GradientTape() as tape:
        loss = decoupling.reconstruction_error(tf.constant(KERNEL), variable)
    np.testing.assert_allclose(tape.gradient(loss, variable), 0, atol=1e-4)
    for filter_index in range(5):
        for factor in (0.9, 1.1):
            other = scale.numpy()
            other[filter_index] *= factor
            assert float(decoupling.reconstruction_error(tf.constant(KERNEL), tf.constant(other))) > found


def test_gradient_of_the_reconstruction_error_is_the_finite_difference():
    """With beta at its closed form its own part of the gradient vanishes, so that holding it changes nothing."""
    kernel = tf.Variable(KERNEL)
    with tf.GradientTape() as tape:
        loss = decoupling.reconstruction_error(kernel)
    gradient = tape.gradient(loss, kernel).numpy()

    def error(values):
        beta = np.abs(values).mean(axis=(0, 1, 2))
        return np.square(values - beta * np.sign(values)).sum()

    exact = KERNEL.astype(np.float64)
    for place in [(0, 0, 0, 0), (2, 1, 1, 3), (1, 2, 0, 4)]:
        moved = np.zeros_like(exact)
        moved[place] = 1e-6
        assert gradient[place] == pytest.approx((error(exact + moved) - error(exact - moved)) / 2e-6, rel=1e-3)


def test_mean_square_is_that_of_the_binary_weights():
    kernels = [KERNEL, KERNEL[:1, :1] * 3]
    binary = [np.abs(kernel).mean(axis=(0, 1, 2)) * np.sign(kernel) for kernel in kernels]
    expected = sum(np.square(kernel).sum() for kernel in binary) / sum(kernel.size for kernel in kernels)
    assert float(decoupling.mean_square([tf.constant(kernel) for kernel in kernels])) == pytest.approx(
        expected, rel=1e-5
    )


def test_the_smallest_norms_lag():
    norms = tf.constant([[0.0, 3.0, 1.0, 2.0, 4.0], [5.0, 1.0, 1.0, 1.0, 0.0]])
    weights = tf.constant([[False, True, True, True, True], [False, True, True, True, True]])
    lagging = decoupling.less_trained(norms, weights, 0.5)
    assert lagging.numpy().tolist() == [[False, False, True, True, False], [False, True, False, False, True]]
    assert not decoupling.less_trained(norms, weights, 0.2).numpy().any()
    assert decoupling.less_trained(norms, weights, 1.0).numpy().tolist() == weights.numpy().tolist()


def test_no_strength_is_the_plain_update():
    new, old = tf.constant([[1.0, -2.0]]), tf.constant([[0.5, 0.25]])
    everywhere = tf.constant([[True, True]])
    np.testing.assert_array_equal(decoupling.tracked_back(new, old, tf.zeros([1, 2]), everywhere, 0.3), new)
    np.testing.assert_array_equal(decoupling.tracked_back(new, old, tf.ones([1, 2]), ~everywhere, 0.3), new)


def test_only_what_lags_is_tracked_back():
    new, old = tf.constant([1.0, -2.0]), tf.constant([0.5, 0.25])
    found = decoupling.tracked_back(new, old, tf.constant([2.0, 2.0]), tf.constant([True, False]), 0.1)
    np.testing.assert_allclose(found, [1.0 + 0.1 * 2.0 * 0.5, -2.0], rtol=1e-6)


def test_strength_descends_the_loss_and_stays_positive():
    """dL/dpsi against finite differences of L(tracked_back(psi))."""
    old, new = tf.constant([0.5, -0.25, 1.0]), tf.constant([0.4, -0.2, 0.7])
    lagging, strength = tf.constant([True, True, False]), tf.constant([0.1, 0.2, 0.3])
    target = tf.constant([1.0, -1.0, 0.0])

    def loss(psi):
        return tf.reduce_sum(tf.square(decoupling.tracked_back(new, old, psi, lagging, 0.5) - target))

    alpha = tf.Variable(decoupling.tracked_back(new, old, strength, lagging, 0.5))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.square(alpha - target))
    by_alpha = tape.gradient(value, alpha)
    found = decoupling.next_strength(strength, by_alpha, old, lagging, rate=0.5, step=0.01)
    slope = [(loss(strength + step) - loss(strength - step)) / 2e-3 for step in 1e-3 * np.eye(3, dtype=np.float32)]
    np.testing.assert_allclose(found, strength - 0.01 * np.array(slope), atol=1e-4)
    assert float(loss(found)) < float(loss(strength)) and found[2] == strength[2]
    far = decoupling.next_strength(strength, by_alpha, old, lagging, rate=0.5, step=-100.0)
    assert np.all(far.numpy() >= 0)
