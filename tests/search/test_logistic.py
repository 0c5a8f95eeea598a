"""The distribution over expansion ratios, against the printed formulas (with their signs corrected) in numpy."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.search import logistic

MU = np.array([1.5, 0.4, 2.5, 3.7])
ANCHOR = np.array([1.5, 0.9, 2.1, 3.9])


def cdf(x, mu, sigma):
    return 1 / (1 + np.exp(-(x - mu) / sigma))


def probabilities(ratios, mu, sigma):
    """Eq. 4 and 5 as they are meant, in float64."""
    half = 0.4 * sigma
    mass = cdf(ratios + half, mu[:, None], sigma) - cdf(ratios - half, mu[:, None], sigma)
    return mass / mass.sum(axis=1, keepdims=True)


def as_tensors(*values):
    return [tf.constant(value, tf.float32) for value in values]


@pytest.mark.parametrize("sigma", [1.0, 0.3, 0.05])
def test_probabilities_are_differences_of_the_cdf(sigma):
    ratios = np.maximum(ANCHOR[:, None] + sigma * np.array([-0.8, 0, 0.8]), 0.3)
    found = tf.exp(logistic.log_probabilities(*as_tensors(ratios, MU, sigma))).numpy()
    np.testing.assert_allclose(found, probabilities(ratios, MU, sigma), rtol=2e-4, atol=1e-7)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)


def test_probabilities_stay_finite_far_from_mu():
    ratios, mu = tf.constant([[0.3, 20.0, 40.0]]), tf.Variable([30.0])
    with tf.GradientTape() as tape:
        log = logistic.log_probabilities(ratios, mu, tf.constant(0.05))
    gradient = tape.jacobian(log, mu).numpy()
    assert np.all(np.isfinite(log)) and np.all(np.isfinite(gradient))
    # 600, 200 and 200 standardised distances away, where the density falls by e per sigma
    np.testing.assert_allclose(log.numpy()[0] - log.numpy()[0, 1], [-394.0, 0.0, 0.0], atol=0.01)


def test_probabilities_of_anchored_candidates_follow_mu():
    sigma, step = 0.5, 1e-5
    ratios = ANCHOR[:, None] + sigma * np.array([-0.8, 0, 0.8])
    mu = tf.Variable(MU, dtype=tf.float32)
    with tf.GradientTape() as tape:
        found = tf.exp(logistic.log_probabilities(tf.constant(ratios, tf.float32), mu, tf.constant(sigma)))
    jacobian = tape.jacobian(found, mu).numpy()
    jacobian = np.einsum("ijk->ij", jacobian)  # a width's probabilities depend on its own mu only
    expected = (probabilities(ratios, MU + step, sigma) - probabilities(ratios, MU - step, sigma)) / (2 * step)
    np.testing.assert_allclose(jacobian, expected, rtol=1e-3, atol=1e-5)
    assert np.abs(expected).max(axis=1).min() > 0.05
    assert np.all(jacobian[:, 2] > 0) and np.all(jacobian[:, 0] < 0)  # a greater mu favours the widest


def test_candidates_that_moved_with_mu_would_teach_nothing():
    """Why they are anchored: at fixed standardised distances the probabilities are constants."""
    mu = tf.Variable(MU, dtype=tf.float32)
    with tf.GradientTape() as tape:
        log = logistic.log_probabilities(logistic.candidates(mu, tf.constant(0.5), 0.0), mu, tf.constant(0.5))
        widest = log[:, 2]
    np.testing.assert_allclose(tape.gradient(widest, mu), 0.0, atol=1e-5)


def test_candidates_and_their_least_ratio():
    found = logistic.candidates(*as_tensors([1.5, 0.5], 1.0), 0.3).numpy()
    np.testing.assert_allclose(found, [[0.7, 1.5, 2.3], [0.3, 0.5, 1.3]], rtol=1e-6)
    per_width = logistic.candidates(*as_tensors([1.0, 1.0], [1.0, 0.5]), 0.3).numpy()
    np.testing.assert_allclose(per_width, [[0.3, 1.0, 1.8], [0.6, 1.0, 1.4]], rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.3, 4.0])
def test_gumbel_softmax(temperature):
    chance = np.random.default_rng(0)
    log, noise = np.log(chance.dirichlet([1, 1, 1], 5)), chance.gumbel(size=(5, 3))
    exponential = np.exp((log + noise) / temperature)
    found = logistic.gumbel_softmax(*as_tensors(log, noise), temperature)
    np.testing.assert_allclose(found, exponential / exponential.sum(axis=1, keepdims=True), rtol=1e-4)


def test_gumbel_softmax_without_noise_gives_the_probabilities_back():
    given = np.array([[0.2, 0.5, 0.3]])
    found = logistic.gumbel_softmax(*as_tensors(np.log(given), np.zeros_like(given)), 1.0)
    np.testing.assert_allclose(found, given, rtol=1e-5)


def test_gumbel_noise_has_its_distribution():
    count = 40_000
    noise = np.sort(logistic.gumbel_noise([count], tf.constant([3, 4])).numpy().astype(np.float64))
    theory = np.exp(-np.exp(-noise))
    distance = np.abs(theory - (np.arange(count) + 0.5) / count).max()
    assert distance < 1.95 / math.sqrt(count)  # Kolmogorov-Smirnov, one false alarm in a thousand


def test_gumbel_noise_samples_the_candidates_by_their_probabilities():
    given, count = np.array([0.2, 0.5, 0.3]), 40_000
    noise = logistic.gumbel_noise([count, 3], tf.constant([0, 7])).numpy()
    frequency = np.bincount(np.argmax(np.log(given) + noise, axis=1), minlength=3) / count
    np.testing.assert_allclose(frequency, given, atol=4 * math.sqrt(0.25 / count))


def test_gumbel_noise_depends_on_its_seed_only():
    first, again, other = (
        logistic.gumbel_noise([4, 3], tf.constant(seed, tf.int64)).numpy() for seed in ([5, 1], [5, 1], [5, 2])
    )
    assert first.tobytes() == again.tobytes()
    assert not np.any(first == other)


def test_channel_mask_equals_padded_sums():
    weights, channels = np.array([0.2, 0.5, 0.3]), np.array([2, 4, 7])
    expected = np.zeros(7)
    for weight, count in zip(weights, channels, strict=True):
        expected[:count] += weight
    found = logistic.channel_mask(tf.constant(weights, tf.float32), tf.constant(channels, tf.int32), tf.constant(7))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(expected[:2], 1.0)


def test_channel_mask_of_equal_candidates_keeps_everything():
    found = logistic.channel_mask(tf.constant([0.2, 0.5, 0.3]), tf.constant([5, 5, 5]), tf.constant(5))
    np.testing.assert_allclose(found, np.ones(5), atol=1e-6)


@pytest.mark.parametrize("rounds", [2, 12, 50])
def test_deflation_reaches_the_final_sigma_in_the_last_round(rounds):
    sigma = 1.0
    for _ in range(rounds - 1):
        sigma *= logistic.deflation(1.0, 0.3, rounds)
    assert sigma == pytest.approx(0.3, rel=1e-12)


def test_deflation_of_a_single_round_is_defined():
    assert logistic.deflation(1.0, 0.3, 1) == pytest.approx(0.3)
