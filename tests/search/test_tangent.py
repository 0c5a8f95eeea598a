"""Tangents of parent and child: every formula against finite differences, enumeration, or the exact Hessian."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.search import tangent

BATCH, CLASSES, SHAPE = 6, 4, (2, 3)
PARAMETERS = SHAPE[0] * SHAPE[1]


@pytest.fixture(autouse=True)
def double_precision():
    """Finite differences of float32 hide what is tested."""
    before = tf.keras.backend.floatx()
    tf.keras.backend.set_floatx("float64")
    yield
    tf.keras.backend.set_floatx(before)


class Case:
    """A child whose logits depend on six parameters, linearly or not, and a parent."""

    def __init__(self, *, linear: bool, seed: int = 0):
        chance = np.random.default_rng(seed)
        self.jacobian = tf.constant(chance.normal(size=(BATCH, CLASSES, PARAMETERS)))
        self.offset = tf.constant(chance.normal(size=(BATCH, CLASSES)))
        self.parent_logits = tf.constant(chance.normal(size=(BATCH, CLASSES)))
        self.alpha = tf.constant(chance.normal(size=SHAPE) * 0.5)
        self.parent = tf.constant(chance.normal(size=SHAPE) * 0.3)
        self.vector = tf.constant(chance.normal(size=SHAPE))
        self.linear = linear

    def logits(self, alpha):
        flat = tf.reshape(alpha, [-1])
        shared = flat if self.linear else tf.sin(flat) + 0.3 * tf.square(flat)
        return self.offset + tf.linalg.matvec(self.jacobian, shared)

    def agreement(self, alpha):
        return tf.reduce_mean(tangent.agreement(self.parent_logits, self.logits(alpha)))

    def tangent(self, alpha):
        with tf.GradientTape() as tape:
            tape.watch(alpha)
            value = self.agreement(alpha)
        return tape.gradient(value, alpha)

    def distance(self, alpha, kind="frobenius"):
        return float(tangent.distance(self.parent, self.tangent(alpha), kind))

    def rows(self):
        """Gradient of each example's G, `[batch, 2, 3]`, one by one."""
        found = []
        for example in range(BATCH):
            with tf.GradientTape() as tape:
                tape.watch(self.alpha)
                value = tangent.agreement(self.parent_logits, self.logits(self.alpha))[example]
            found.append(tape.gradient(value, self.alpha))
        return tf.stack(found)

    def hessian(self):
        return functools.partial(tangent.hessian_product, self.agreement, self.alpha)

    def gauss_newton(self):
        return functools.partial(tangent.gauss_newton_product, self.logits, self.alpha)


def finite_differences(function, alpha, step=1e-5):
    found = np.zeros(SHAPE)
    for place in np.ndindex(SHAPE):
        moved = np.zeros(SHAPE)
        moved[place] = step
        found[place] = (function(alpha + moved) - function(alpha - moved)) / (2 * step)
    return found


def test_agreement_is_minus_the_divergence():
    parent, child = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.6, 0.3])
    found = tangent.agreement(tf.math.log(parent)[None], tf.math.log(child)[None] + 3.0)
    assert float(found[0]) == pytest.approx(sum(p * np.log(q / p) for p, q in zip(parent, child, strict=True)))
    np.testing.assert_allclose(tangent.agreement(tf.math.log(parent)[None], tf.math.log(parent)[None]), 0, atol=1e-12)


def test_agreement_leaves_the_parent_alone():
    parent = tf.Variable(np.random.default_rng(0).normal(size=(2, 3)))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tangent.agreement(parent, tf.zeros([2, 3], tf.float64)))
    assert tape.gradient(value, parent) is None


@pytest.mark.parametrize("kind", tangent.DISTANCES)
@pytest.mark.parametrize("linear", [True, False])
def test_gradient_of_the_distance_is_the_finite_difference(kind, linear):
    case = Case(linear=linear)
    expected = finite_differences(functools.partial(case.distance, kind=kind), case.alpha)
    found = tangent.distance_gradient(case.parent, case.tangent(case.alpha), case.hessian(), kind)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    assert np.abs(expected).max() > 1e-2


def test_discrepancy_of_the_frobenius_norm_is_twice_the_difference():
    case = Case(linear=True)
    child = case.tangent(case.alpha)
    np.testing.assert_allclose(tangent.discrepancy(case.parent, child), 2 * (child - case.parent))


def test_distances_by_hand():
    parent, child = tf.constant([[3.0, 0.0]]), tf.constant([[0.0, -4.0]])
    assert float(tangent.distance(parent, child)) == 25
    assert float(tangent.distance(parent, child, "l1")) == 7
    assert float(tangent.distance(parent, child, "cosine")) == 1
    assert float(tangent.cosine(parent, -2 * parent)) == -1 and float(tangent.cosine(parent, 0 * parent)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_gauss_newton_is_minus_the_hessian_where_logits_are_linear(seed):
    case = Case(linear=True, seed=seed)
    np.testing.assert_allclose(case.gauss_newton()(case.vector), -case.hessian()(case.vector), rtol=1e-4, atol=1e-9)


def test_gauss_newton_is_only_near_the_hessian_where_logits_are_not_linear():
    """The part that is left out weighs with the residual p^ - p: none where the child agrees with the parent."""
    case = Case(linear=False)
    exact, found = -case.hessian()(case.vector), case.gauss_newton()(case.vector)
    error = float(tf.norm(found - exact) / tf.norm(exact))
    assert 0.01 < error < 2
    case.parent_logits = case.logits(case.alpha)
    np.testing.assert_allclose(case.gauss_newton()(case.vector), -case.hessian()(case.vector), rtol=1e-4, atol=1e-9)


def whole_matrix(case):
    """GGN from its definition, with the Jacobian by finite differences."""
    columns = []
    for place in np.ndindex(SHAPE):
        moved = np.zeros(SHAPE)
        moved[place] = 1e-6
        columns.append((case.logits(case.alpha + moved) - case.logits(case.alpha - moved)).numpy() / 2e-6)
    jacobian = np.stack(columns, axis=-1)
    prediction = tf.nn.softmax(case.logits(case.alpha)).numpy()
    middle = prediction[:, :, None] * np.eye(CLASSES) - prediction[:, :, None] * prediction[:, None, :]
    return np.einsum("bci,bcd,bdj->ij", jacobian, middle, jacobian) / BATCH, jacobian


@pytest.mark.parametrize("linear", [True, False])
def test_gauss_newton_is_its_definition(linear):
    case = Case(linear=linear)
    matrix, jacobian = whole_matrix(case)
    vector = case.vector.numpy().ravel()
    np.testing.assert_allclose(case.gauss_newton()(case.vector).numpy().ravel(), matrix @ vector, rtol=1e-6, atol=1e-8)
    pushed = tangent.jacobian_product(case.logits, case.alpha, case.vector)
    np.testing.assert_allclose(pushed, jacobian @ vector, rtol=1e-6, atol=1e-8)
    compiled = tf.function(case.gauss_newton())(case.vector)
    np.testing.assert_allclose(compiled, case.gauss_newton()(case.vector), rtol=1e-9)


@tf.custom_gradient
def straight_through(x):
    return tf.sign(x), lambda upstream: upstream * tf.cast(tf.abs(x) < 1, x.dtype)


@pytest.mark.parametrize("compiled", [False, True])
def test_jacobian_product_passes_through_quantisers(compiled):
    """The transpose of the straight-through gradient; a ForwardAccumulator in a `tf.function` would find zero."""
    case = Case(linear=True)
    weights = tf.constant(np.random.default_rng(4).normal(size=(BATCH, CLASSES, PARAMETERS)))

    def logits(alpha):
        return straight_through(tf.linalg.matvec(weights, tf.reshape(alpha, [-1])))

    product = functools.partial(tangent.jacobian_product, logits, case.alpha)
    found = (tf.function(product) if compiled else product)(case.vector)
    inside = np.abs(np.einsum("bcp,p->bc", weights, case.alpha.numpy().ravel())) < 1
    expected = inside * np.einsum("bcp,p->bc", weights, case.vector.numpy().ravel())
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert inside.any() and not inside.all()


def test_per_sample_and_diagonal_products_are_sums_over_examples():
    case = Case(linear=False)
    rows = case.rows()
    flat = rows.numpy().reshape(BATCH, -1)
    matrix = sum(np.outer(row, row) for row in flat) / BATCH
    vector = case.vector.numpy().ravel()
    np.testing.assert_allclose(tangent.per_sample_product(rows, case.vector).numpy().ravel(), matrix @ vector)
    np.testing.assert_allclose(tangent.diagonal_product(rows, case.vector).numpy().ravel(), np.diag(matrix) * vector)


def test_rank_one_form_of_the_mean_gradient_only_rescales_it():
    """Why the examples' own gradients are needed: the printed form cannot turn a step."""
    case = Case(linear=True)
    rows = case.rows()
    mean = tf.reduce_mean(rows, axis=0)
    printed = tangent.per_sample_product(mean[None], case.vector)
    assert abs(float(tangent.cosine(printed, mean))) == pytest.approx(1.0)
    assert abs(float(tangent.cosine(tangent.per_sample_product(rows, case.vector), mean))) < 0.99


def test_sampled_labels_give_the_gauss_newton_matrix_in_the_mean():
    case = Case(linear=False)
    logits = case.logits(case.alpha)
    prediction = tf.nn.softmax(logits).numpy()
    draws = np.stack([tangent.sampled_residual(logits, [3, step]).numpy() for step in range(4000)])
    moments = np.einsum("nbc,nbd->bcd", draws, draws) / len(draws)
    expected = prediction[:, :, None] * np.eye(CLASSES) - prediction[:, :, None] * prediction[:, None, :]
    np.testing.assert_allclose(moments, expected, atol=0.03)
    # And exactly, by all labels of all examples: rows for one label at a time, weighed by its probability.
    _, jacobian = whole_matrix(case)
    total = np.zeros(PARAMETERS)
    for label in range(CLASSES):
        rows = np.einsum("bc,bcp->bp", np.eye(CLASSES)[label] - prediction, jacobian) * np.sqrt(prediction[:, [label]])
        total += tangent.per_sample_product(tf.constant(rows.reshape(BATCH, *SHAPE)), case.vector).numpy().ravel()
    np.testing.assert_allclose(total, case.gauss_newton()(case.vector).numpy().ravel(), rtol=1e-5)


def stepped(case, product, sign):
    """D behind a small step along grad D, with the right sign or with the other."""
    gradient = tangent.distance_gradient(case.parent, case.tangent(case.alpha), product)
    return case.distance(case.alpha - sign * 1e-4 * gradient / tf.norm(gradient))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("form", ["gauss_newton", "hessian"])
def test_the_distance_falls_along_the_step_and_rises_with_the_printed_sign(form, seed):
    """The concluding formula of the paper has +GGN where the Hessian of G is -GGN."""
    case = Case(linear=True, seed=seed)
    product = case.hessian() if form == "hessian" else lambda vector: -case.gauss_newton()(vector)
    before = case.distance(case.alpha)
    assert stepped(case, product, 1.0) < before < stepped(case, product, -1.0)


@pytest.mark.parametrize("form", [tangent.per_sample_product, tangent.diagonal_product])
def test_cheap_forms_nearly_always_step_down(form):
    """They are not the matrix: 17 of 20 cases at least, and with the printed sign 3 at most."""
    falls = {1.0: 0, -1.0: 0}
    for seed in range(20):
        case = Case(linear=True, seed=seed)
        rows = case.rows()
        for sign in falls:
            falls[sign] += stepped(case, lambda vector, rows=rows: -form(rows, vector), sign) < case.distance(
                case.alpha
            )
    assert falls[1.0] >= 17 and falls[-1.0] <= 3


def test_objective_without_its_weight_is_cp_nas():
    """lambda = 0: -dG/d alpha^, and nothing of second order is computed."""
    case = Case(linear=False)
    child = case.tangent(case.alpha)

    def never(vector):
        raise AssertionError

    found = tangent.objective_gradient(case.parent, child, never, weight=0.0)
    expected = finite_differences(lambda alpha: -float(case.agreement(alpha)), case.alpha)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_objective_is_the_gradient_of_the_printed_loss():
    case, weight = Case(linear=False), 0.7
    loss = lambda alpha: -float(case.agreement(alpha)) + weight * case.distance(alpha)  # noqa: E731
    found = tangent.objective_gradient(case.parent, case.tangent(case.alpha), case.hessian(), weight=weight)
    np.testing.assert_allclose(found, finite_differences(loss, case.alpha), rtol=1e-6, atol=1e-8)


def test_hessian_product_is_symmetric_and_of_finite_differences():
    case = Case(linear=False)
    basis = np.eye(PARAMETERS).reshape(PARAMETERS, *SHAPE)
    matrix = np.stack([case.hessian()(tf.constant(row)).numpy().ravel() for row in basis])
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    for place, row in itertools.islice(zip(np.ndindex(SHAPE), matrix, strict=True), 3):
        slope = finite_differences(lambda alpha, place=place: case.tangent(alpha).numpy()[place], case.alpha)
        np.testing.assert_allclose(row, slope.ravel(), rtol=1e-5, atol=1e-8)


def test_an_unknown_distance_is_refused():
    with pytest.raises(UserError, match="frobenius, l1, cosine.*Received: 'cosin'"):
        tangent.distance(tf.zeros(2), tf.zeros(2), "cosin")
