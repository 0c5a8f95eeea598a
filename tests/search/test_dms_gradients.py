"""Gradients by mu: of the expected memory and of the loss, against finite differences and the paper's formulas."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import precision

MU = np.array([1.32, 0.85])
NOISE = np.array([[0.3, -0.4, 1.1], [-0.2, 0.9, 0.1]])


def prepared(chains, randomised, *, binary, noise=NOISE, **options):
    """A search in the middle of a round: mu has left the anchor, and weights are as training leaves them."""
    search = chains.make(
        binary=binary, architecture=tf.keras.optimizers.SGD(1.0), initial_ratio=1.1, initial_sigma=0.6, **options
    )
    randomised(search.network, seed=5)
    search.mu.assign(MU)
    search.noise.assign(noise)
    return search


def gradient_of_step(search, images, labels):
    """What one update subtracts from mu, with plain gradient descent of rate 1."""
    before = search.mu.numpy().astype(float)
    loss, _ = search.architecture_step(images, labels)
    reach = 0.8 * float(search.sigma.numpy())
    moved = search.mu.numpy() - search.anchor.numpy()
    assert np.all(np.abs(moved) < 0.99 * reach), "the trust region would hide the gradient"
    return before - search.mu.numpy(), float(loss)


def finite_difference(function, mu, step=1e-5):
    ends = []
    for sign in (1, -1):
        for index in range(len(mu)):
            moved = mu.copy()
            moved[index] += sign * step
            ends.append(float(function(moved)))
    return (np.array(ends[: len(mu)]) - np.array(ends[len(mu) :])) / (2 * step)


@pytest.fixture
def batch(image_batches):
    return next(iter(image_batches(16)))


def test_gradient_of_expected_memory(chains, randomised):
    search = prepared(chains, randomised, binary=True)
    reference = chains.reference(search, binary=True)
    with tf.GradientTape() as tape:
        cost = search.cost()
    mu = search.mu.numpy().astype(float)
    assert float(cost) == pytest.approx(reference.expected_memory(mu), rel=1e-5)
    expected = finite_difference(reference.expected_memory, mu)
    np.testing.assert_allclose(tape.gradient(cost, search.mu), expected, rtol=1e-3)
    assert np.all(expected > 10)  # bytes per unit of mu


def test_cost_of_what_the_next_round_would_search(chains, randomised):
    """The candidates anchored at the present mu, whose probabilities are then the same for every width."""
    search = prepared(chains, randomised, binary=True)
    sigma, mu = float(search.sigma.numpy()), search.mu.numpy().astype(float)
    ratios = np.maximum(mu[:, None] + sigma * np.array([-0.8, 0, 0.8]), 0.3)

    def cdf(x):
        return 1 / (1 + np.exp(-(x - mu[:, None]) / sigma))

    mass = cdf(ratios + 0.4 * sigma) - cdf(ratios - 0.4 * sigma)
    channels = np.round(ratios * np.array([[8], [6]]))
    mean = np.sum(mass / mass.sum(axis=1, keepdims=True) * channels, axis=1)
    assert search.costs()[0] == pytest.approx(chains.memory(*mean), rel=1e-5)
    before = float(search.cost())
    search.cluster(1)
    assert float(search.cost()) == pytest.approx(chains.memory(*mean), rel=1e-5) != pytest.approx(before, rel=1e-2)


@pytest.mark.parametrize("noise", [NOISE, np.zeros((2, 3))], ids=["sampled", "expected"])
def test_gradient_of_the_loss_in_full_precision_is_its_finite_difference(chains, randomised, batch, noise):
    images, labels = batch
    search = prepared(chains, randomised, binary=False, noise=noise)
    reference = chains.reference(search, binary=False)
    mu = search.mu.numpy().astype(float)
    expected = finite_difference(lambda moved: reference.loss(tf.constant(moved), images, labels), mu)
    found, loss = gradient_of_step(search, images, labels)
    assert loss == pytest.approx(float(reference.loss(tf.constant(mu), images, labels)), rel=1e-4)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-5)
    assert np.abs(expected).min() > 1e-3


def test_gradient_of_the_binary_loss_is_that_of_the_straight_through_paper(chains, randomised, batch):
    """The binary loss has steps; its gradient is that of Eq. 1-6 with straight-through roundings, computed apart."""
    images, labels = batch
    search = prepared(chains, randomised, binary=True)
    reference = chains.reference(search, binary=True)
    mu = tf.Variable(search.mu.numpy().astype(float))
    with tf.GradientTape() as tape:
        loss = reference.loss(mu, images, labels)
    expected = tape.gradient(loss, mu).numpy()
    found, own_loss = gradient_of_step(search, images, labels)
    assert own_loss == pytest.approx(float(loss), rel=1e-3)
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=1e-5)
    assert np.abs(expected).min() > 1e-3


def test_update_is_that_of_loss_and_penalty(chains, randomised, batch):
    """Eq. 7: above the budget the gradient of the penalty is added, within it nothing."""
    images, labels = batch
    updates = {}
    for limit in (1e9, 900.0):
        search = prepared(chains, randomised, binary=True, limit=limit, penalty_weight=0.2)
        reference = chains.reference(search, binary=True)
        mu = search.mu.numpy().astype(float)
        updates[limit], loss = gradient_of_step(search, images, labels)
    assert reference.expected_memory(mu) > 900
    penalty = finite_difference(lambda moved: 0.2 * (reference.expected_memory(moved) / 900.0 - 1), mu)
    np.testing.assert_allclose(updates[900.0] - updates[1e9], penalty, rtol=1e-3, atol=1e-6)
    # The reported loss is the one without penalty.
    assert loss == pytest.approx(float(reference.loss(tf.constant(mu), images, labels)), rel=1e-3)


def test_bfloat16_has_the_same_gradient_but_for_its_noise(chains, randomised, batch):
    images, labels = batch
    found = {}
    for name in ("float32", "bfloat16"):
        with precision.precision(name):
            search = prepared(chains, randomised, binary=False)
        assert search.network.get_layer("conv2").compute_dtype == name
        found[name], _ = gradient_of_step(search, images, labels)
    np.testing.assert_allclose(found["bfloat16"], found["float32"], rtol=0.1, atol=5e-3)


def test_only_mu_moves_in_an_architecture_step_and_only_weights_in_a_weight_step(chains, randomised, batch):
    search = prepared(chains, randomised, binary=True)

    def trainable():
        return [variable.numpy() for variable in search.network.trainable_variables]

    weights, mu = trainable(), search.mu.numpy()
    search.architecture_step(*batch)
    assert all(np.array_equal(old, new) for old, new in zip(weights, trainable(), strict=True))
    assert np.all(search.mu.numpy() != mu)
    mu = search.mu.numpy()
    search.weight_step(*batch)
    assert not any(np.array_equal(old, new) for old, new in zip(weights, trainable(), strict=True))
    assert np.array_equal(search.mu.numpy(), mu)
