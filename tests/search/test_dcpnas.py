"""DCP-NAS on a network of one small cell; what every search must do is in tests/contract."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.costs import Budget, Distributed, Latency, Memory, MultiplyAdds
from tfbnas.errors import UserError
from tfbnas.networks.cells import NONE
from tfbnas.search import tangent
from tfbnas.search.dcpnas import DCPNAS
from tfbnas.search.dcpnas_settings import Settings

GENEROUS = Budget(Memory(), 1e9)
RATE = 0.1


SETTINGS = Settings(decoupled=False, reconstruction_weight=0.0)


def make(budget=GENEROUS, nodes=1, **hyperparameters):
    search = DCPNAS(
        "cells",
        budget=budget,
        input_shape=(8, 8, 3),
        classes=4,
        options={"depth": 1, "nodes": nodes, "channels": 4},
        settings=replace(SETTINGS, **hyperparameters),
    )
    search.compile(tf.keras.optimizers.SGD(0.05), tf.keras.optimizers.SGD(RATE))
    return search


@pytest.fixture(scope="module")
def made():
    return make()


@pytest.fixture
def search(made):
    """One search for all tests, which may set its parameters and, by `configure`, its hyperparameters."""
    made.settings = replace(SETTINGS)
    restore = kept(made)
    yield made
    restore()


def configure(search, **hyperparameters):
    search.settings = replace(SETTINGS, **hyperparameters)


def kept(search):
    """Function that gives all variables the values back that they have now."""
    variables = [*search.network.weights, *search.parent.weights, *search.state]
    before = [(variable, variable.numpy()) for variable in variables]
    return lambda: [variable.assign(value) for variable, value in before]


@pytest.fixture(scope="module")
def batch():
    chance = np.random.default_rng(0)
    return tf.constant(chance.normal(size=(6, 8, 8, 3)).astype(np.float32)), tf.constant(chance.integers(0, 4, 6))


def uneven(search, seed=0):
    """alpha apart from its symmetric start; returns it."""
    search.alpha.assign(np.random.default_rng(seed).normal(size=search.alpha.shape).astype(np.float32))
    return search.alpha.numpy()


def plain_tangents(search, images, labels, step):
    """g_P at alpha and g_G at alpha + step g_P, each by one plain backward pass."""
    alpha = search.alpha
    with tf.GradientTape() as tape:
        parent_logits = search.parent(images, training=True)
        losses = tf.keras.losses.sparse_categorical_crossentropy(labels, parent_logits, from_logits=True)
        value = -tf.reduce_mean(losses)
    parent = tape.gradient(value, alpha)
    alpha.assign_add(step * parent)
    with tf.GradientTape() as tape:
        logits = search.network(images, training=True)
        value = tf.reduce_mean(tangent.agreement(parent_logits, logits))
    return parent, tape.gradient(value, alpha)


def test_step_without_tangent_is_cp_nas(search, batch):
    """lambda = 0, beginning to end: alpha + rate g_P, and from there + rate g_G, and nothing else."""
    configure(search, distance_weight=0.0)
    start = uneven(search)
    restore = kept(search)
    parent, child = plain_tangents(search, *batch, RATE)
    restore()
    search.architecture_step(*batch)
    np.testing.assert_allclose(search.alpha, start + RATE * (parent + child), atol=2e-6)
    assert np.abs(child).max() > 1e-4 and np.abs(parent).max() > 1e-4


def test_step_with_tangent_adds_its_weight_times_the_gradient_of_the_distance(search, batch):
    uneven(search)
    restore, ends = kept(search), {}
    for weight in (0.0, 3.0):
        configure(search, distance_weight=weight)
        search.architecture_step(*batch)
        ends[weight] = search.alpha.numpy()
        restore()
    parent, parent_logits = search.parent_tangent(*batch)
    search.alpha.assign_add(RATE * parent)
    child, hessian, _, _ = search.child_tangent(batch[0], parent_logits)
    turn = tangent.distance_gradient(parent, child, hessian)
    np.testing.assert_allclose(ends[3.0] - ends[0.0], -RATE * 3.0 * turn, atol=1e-6)
    assert np.abs(turn).max() > 1e-6


def test_rows_of_the_examples_add_up_to_the_childs_tangent(search, batch):
    uneven(search)
    parent_logits = search.parent(batch[0])
    child, _, logits, agreement = search.child_tangent(batch[0], parent_logits)
    with tf.GradientTape() as tape:
        plain = search.network(batch[0], training=True)
        value = tf.reduce_mean(tangent.agreement(parent_logits, plain))
    np.testing.assert_allclose(logits, plain, atol=1e-5)
    np.testing.assert_allclose(child, tape.gradient(value, search.alpha), atol=1e-6)
    assert float(agreement) == pytest.approx(float(value), abs=1e-6)


def test_gauss_newton_product_of_the_network_is_that_of_its_jacobian(search, batch):
    """Through quantisers, pools, fan-outs and normalisations by the batch; eager and compiled."""
    configure(search, curvature="gauss_newton")
    uneven(search)
    images = batch[0][:3]
    parent_logits = search.parent(images)
    with tf.GradientTape(persistent=True) as tape:
        logits = search.network(images, training=True)
        entries = [[logits[example, label] for label in range(4)] for example in range(3)]
    jacobian = np.array([[tape.gradient(entry, search.alpha).numpy() for entry in row] for row in entries])
    prediction = tf.nn.softmax(logits).numpy()
    vector = np.random.default_rng(1).normal(size=search.alpha.shape).astype(np.float32)
    pushed = np.einsum("bceo,eo->bc", jacobian, vector)
    weighed = prediction * (pushed - np.sum(prediction * pushed, axis=1, keepdims=True)) / 3
    expected = -np.einsum("bceo,bc->eo", jacobian, weighed)

    def product():
        return search.child_tangent(images, parent_logits)[1](tf.constant(vector))

    for found in (product(), tf.function(product)()):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("curvature", ["per_sample", "sampled", "diagonal", "exact"])
def test_every_form_of_curvature_takes_a_finite_step(search, curvature, batch):
    configure(search, curvature=curvature, distance_weight=1.0)
    start = uneven(search)
    logs = search.architecture_step(*batch)
    assert np.all(np.isfinite(search.alpha)) and np.any(search.alpha.numpy() != start)
    assert all(np.isfinite(value) for value in logs.values()) and -1 <= float(logs["cosine"]) <= 1


def test_nothing_is_decided_in_the_warm_up(image_batches):
    data = image_batches(16, batch=8), image_batches(16, batch=8, seed=1)
    search = make(epochs=2, warm_up_epochs=1, batch_size=8)
    alphas = []
    watch = tf.keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: alphas.append(search.alpha.numpy()))
    start, weights = search.alpha.numpy(), [weight.numpy() for weight in search.network.trainable_weights]
    history = search.fit(*data, callbacks=[watch], verbose=False).history
    np.testing.assert_array_equal(alphas[0], start)
    assert np.any(alphas[1] != start)
    now = search.network.trainable_weights
    assert np.mean([np.any(old != new.numpy()) for old, new in zip(weights, now, strict=True)]) > 0.8
    assert {"distance", "cosine", "entropy", "identity_edges"} <= set(history)
    assert history["distance"][0] == 0 < history["distance"][1]


def test_gradient_to_noise_is_about_one_for_noise_and_large_for_a_signal(search):
    chance, count, edges = np.random.default_rng(0), 200, len(search.edges)
    for strength, low, high in ((0.0, 0.5, 1.7), (1.0, 10.0, 20.0)):
        rows = chance.normal(size=(count, *search.alpha.shape)) + strength
        search.gradients.assign([rows.sum(axis=0), np.square(rows).sum(axis=0)])
        search.gradient_count.assign(count)
        found = search.gradient_to_noise()
        means, scatter = rows.mean(axis=0), rows.std(axis=0, ddof=1) / np.sqrt(count)
        expected = np.linalg.norm(means, axis=1) / np.linalg.norm(scatter, axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-3)
        assert found.shape == (edges,) and np.all((low < found) & (found < high))


def test_less_trained_operations_are_tracked_back(search):
    """The first step is the plain one, since psi is zero; then only what lags differs."""
    uneven(search)
    restore, alphas = kept(search), {}
    for decoupled in (False, True):
        configure(search, decoupled=decoupled, strength_rate=5.0, back_tracking_rate=0.5)
        search.settle()
        lagging = search.lagging.numpy()
        alphas[decoupled] = []
        for _ in range(3):
            search._move(tf.fill(search.alpha.shape, -0.3))
            alphas[decoupled].append(search.alpha.numpy())
        restore()
    has_weights = [name.startswith("conv") for name in search.candidates[0][1]]
    assert lagging[:, has_weights].any() and not lagging[:, ~np.array(has_weights)][:, [0, 2]].any()
    np.testing.assert_array_equal(alphas[False][0], alphas[True][0])
    assert np.all((alphas[False][2] == alphas[True][2])[~lagging])
    assert np.all((alphas[False][2] != alphas[True][2])[lagging])


def decided(search, choices):
    """alpha with all probability on these operations."""
    for row, (name, candidates) in enumerate(search.candidates):
        search.alpha[row, :].assign(60.0 * tf.one_hot(candidates.index(choices[name]), len(candidates)) - 30.0)


@pytest.fixture(scope="module")
def priced():
    costs = (Memory(), Memory("deployed"), MultiplyAdds(), Latency("pixel1"))
    return make([Budget(cost, 1e12) for cost in costs], nodes=2)


def two_edges_each(search, seed):
    chance = np.random.default_rng(seed)
    found = dict.fromkeys(search.edges, NONE)
    for node in (2, 3):
        edges = [name for name in search.edges if f"node{node}" in name]
        for name in chance.choice(edges, 2, replace=False):
            found[str(name)] = str(chance.choice([one for one in search.candidates[0][1] if one != NONE]))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_expected_cost_of_decided_cells_is_their_cost(priced, seed):
    choices = two_edges_each(priced, seed)
    decided(priced, choices)
    assert priced.closed() == choices
    closed = replace(priced.template, choices=choices)
    assert priced.costs() == pytest.approx([budget.cost.of(closed) for budget in priced.budgets], rel=1e-5)


def test_shares_tell_what_changing_an_operation_costs(priced):
    """Exactly for what adds up; a latency's neighbours change it by little."""
    choices = two_edges_each(priced, 0)
    before = np.array(priced.priced.of(choices))
    name = next(name for name in choices if choices[name] != NONE)
    for operation in priced.candidates[0][1][1:]:
        after = np.array(priced.priced.of(choices | {name: operation}))
        predicted = priced.priced._share(name, operation) - priced.priced._share(name, choices[name])
        np.testing.assert_allclose((after - before)[:3], predicted[:3], rtol=1e-6, atol=1e-6)
        assert abs(after[3] - before[3] - predicted[3]) < 0.1 * before[3]


def test_gradient_of_the_expected_cost_is_the_finite_difference(priced):
    uneven(priced, seed=3)
    probabilities = tf.constant(priced.probabilities())
    with tf.GradientTape() as tape:
        tape.watch(probabilities)
        memory = priced._expected(probabilities, [0.0] * 4)[0]
    gradient = tape.gradient(memory, probabilities).numpy()
    assert np.abs(gradient).max() > 0
    for place in [(0, 3), (1, 5), (3, 4)]:
        moved = np.zeros(gradient.shape, np.float32)
        moved[place] = 1e-3
        ends = [float(priced._expected(probabilities + sign * moved, [0.0] * 4)[0]) for sign in (1, -1)]
        assert gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=2e-2, abs=0.05)


def test_what_is_delivered_fits_the_budget_and_a_tighter_one_is_refused(search):
    decided(search, dict.fromkeys(search.edges, "conv_5x5"))
    dear = Memory().of(search.architecture())
    every = [one for one in search.candidates[0][1] if one != NONE]
    pairs = itertools.product(every, ("max_pool_3x3", "conv_5x5"))
    closings = [dict(zip(search.edges, pair, strict=True)) for pair in pairs]
    costs = [Memory().of(replace(search.template, choices=choices)) for choices in closings]
    least = min(costs)
    assert dear == max(costs) and DCPNAS.least_costs(search.template, search.budgets, search.settings) == [least]
    for limit in (least, (least + dear) / 2):
        search.priced.budgets = (Budget(Memory(), limit),)
        assert Memory().of(search.architecture()) <= limit
    search.priced.budgets = (Budget(Memory(), least - 1),)
    with pytest.raises(UserError, match="budgets that cells of cells can keep"):
        search.architecture()
    search.priced.budgets = search.budgets
    with pytest.raises(UserError, match=f"at least {least:.6g} bytes.*cheapest operation"):
        make(Budget(Memory(), least - 1))


def test_a_penalty_lowers_the_expected_cost(search, batch):
    uneven(search)
    search.settle()
    configure(search, distance_weight=0.0)
    restore, ends, budgets, limit = kept(search), {}, search.budgets, search.costs()[0]
    for weight in (0.0, 30.0):
        search.budgets = (Budget(Memory(), 0.8 * limit, weight),)
        for _ in range(3):
            search.architecture_step(*batch)
        ends[weight] = float(search.latest_costs[0])
        restore()
    search.budgets = budgets
    assert ends[30.0] < ends[0.0]


def test_bad_input(search, image_batches):
    with pytest.raises(UserError, match="operations of edges.*Received: 'vgg11'"):
        DCPNAS("vgg11", budget=GENEROUS)
    with pytest.raises(UserError, match="sum over operations.*Received: Distributed"):
        make(Budget(Distributed(), 10.0))
    with pytest.raises(UserError, match="`search.curvature` to be one of per_sample.*Did you mean 'gauss_newton'"):
        Settings(curvature="gauss_newtn").check()
    with pytest.raises(UserError, match="`search.distance` to be one of frobenius"):
        Settings(distance="l2").check()
    with pytest.raises(UserError, match="one of the weights and one of the architecture"):
        search.fit(image_batches(16, batch=8))
