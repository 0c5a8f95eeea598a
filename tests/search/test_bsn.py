"""BSN against enumeration: on a graph of four gates every architecture can be tried."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Distributed, MultiplyAdds
from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D
from tfbnas.networks.graph import NetworkGraph
from tfbnas.precision import precision
from tfbnas.search import reinforce
from tfbnas.search.bsn import BSN
from tfbnas.search.dms import DMS

SHAPE, CLASSES = (4, 4, 2), 3


def gates_graph(*, input_shape=SHAPE, classes=CLASSES, normalized=False):
    """in -> a, b -> sum -> c -> total -> out, and in -> skip -> total: c is not reached where a and b are closed."""

    def convolution(name, tensors):
        x = FloatConv2D(3, 3, name=name)(tensors[0])
        return BatchNormalization(name=f"{name}_bn")(x) if normalized else x

    def total(name, tensors):
        x = tf.keras.layers.Add(name=f"{name}_add")(tensors) if len(tensors) > 1 else tensors[0]
        return tf.keras.layers.Activation("tanh", name=f"{name}_tanh")(x)

    def classifier(name, tensors):
        x = tf.keras.layers.GlobalAveragePooling2D(name=f"{name}_pool")(tensors[0])
        return Dense(classes, name=name, dtype="float32")(x)

    graph = NetworkGraph()
    first = graph.add("in", convolution)
    a, b = (graph.add(name, convolution, inputs=[first], choice=name) for name in "ab")
    middle = graph.add("sum", total, inputs=[a, b])
    c = graph.add("c", convolution, inputs=[middle], choice="c")
    skip = graph.add("skip", lambda name, tensors: tensors[0], inputs=[first], cost=0, choice="skip")
    graph.add("out", classifier, inputs=[graph.add("total", total, inputs=[c, skip])])
    return graph


def gates_network(choose, *, input_shape=SHAPE, classes=CLASSES, normalized=False):
    graph = gates_graph(input_shape=input_shape, classes=classes, normalized=normalized)
    return graph.build(choose, input_shape=input_shape, name="gates")


networks.register("test-gates", gates_network, graph=gates_graph)
EVERY = np.array(list(itertools.product([False, True], repeat=4)))
BUDGET = Budget(Distributed(1), 4.0, 0.7)
LOGITS = [0.8, -0.4, 1.1, -0.9]


def make(budget=BUDGET, normalized=False, **arguments):
    search = BSN(
        "test-gates",
        budget=budget,
        input_shape=SHAPE,
        classes=CLASSES,
        options={"normalized": normalized},
        **arguments,
    )
    search.compile(tf.keras.optimizers.SGD(0.1, momentum=0.9), tf.keras.optimizers.SGD(1.0))
    return search


@pytest.fixture(scope="module")
def batch():
    chance = np.random.default_rng(0)
    return chance.normal(size=(2, *SHAPE)).astype(np.float32), np.array([0, 2])


@pytest.fixture(scope="module")
def search():
    found = make(baseline="none")
    found.logits.assign(LOGITS)
    return found


def closed_twin(search, choices):
    """The plain network of some choices, with the weights of the super-network."""
    architecture = Architecture("t", "test-gates", choices, SHAPE, CLASSES, search.priced.template.options)
    plain = networks.build(architecture)
    weights = {weight.name: weight for weight in search.network.weights}
    for weight in plain.weights:
        weight.assign(weights[weight.name])
    return plain


def named(row):
    return dict(zip(["a", "b", "c", "skip"], row.tolist(), strict=True))


@pytest.fixture(scope="module")
def enumerated(search, batch):
    """For every architecture: the value D of each example, the gates drawn, and the gradient of the mean loss."""
    images, labels = batch
    priced, costs = search.priced.sample(EVERY)
    values, gradients = [], []
    for row in EVERY:
        each = [search.gradients(images[i : i + 1], labels[i : i + 1], tf.constant(row[None])) for i in (0, 1)]
        values.append([float(found[0]) + float(BUDGET.penalty(found[2][0, 0])) for found in each])
        gradients.append([0.5 * (x + y) for x, y in zip(each[0][3], each[1][3], strict=True)])
    return np.array(values), priced, costs, gradients


def probabilities(logits):
    p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    return np.prod(np.where(EVERY, p, 1 - p), axis=1)


def exact(values):
    """Gradient of the expected value by the logits, by central differences of the sum over all architectures."""
    step = 1e-5
    shifts = step * np.eye(4)
    return np.array(
        [((probabilities(LOGITS + s) - probabilities(LOGITS - s)) @ values.mean(axis=1)) / (2 * step) for s in shifts]
    )


def test_costs_are_those_of_the_pruned_graph(enumerated):
    _, _, costs, _ = enumerated
    by_name = {tuple(row): cost for row, cost in zip(EVERY.tolist(), costs[:, 0], strict=True)}
    assert by_name[True, True, True, True] == 7  # in, a, b, sum, c, total, out; the skip is free
    assert by_name[False, False, True, True] == by_name[True, True, False, True] == 3
    assert by_name[False, False, True, False] == by_name[False, False, False, False] == 0


def test_gradient_without_baseline_is_exact(search, enumerated, batch):
    values, _, _, _ = enumerated
    images, labels = batch
    estimates = [search.gradients(images, labels, tf.constant(row[None]))[4].numpy() for row in EVERY]
    mean = probabilities(LOGITS) @ np.array(estimates, np.float64)
    np.testing.assert_allclose(mean, exact(values), atol=2e-6)
    assert np.abs(mean).min() > 1e-3  # there is something to estimate


def pairs(values, matters, advantages):
    """Mean and summed variance of the estimate from two examples with architectures of their own."""
    scores = reinforce.score(tf.constant(LOGITS), tf.constant(EVERY), tf.constant(matters)).numpy()
    chance = probabilities(LOGITS)
    estimates, weights = [], []
    for first in range(len(EVERY)):
        for second in range(len(EVERY)):
            both = tf.constant([values[first, 0], values[second, 1]], tf.float32)
            found = reinforce.gradient(tf.constant(scores[[first, second]]), advantages(both))
            estimates.append(found.numpy().astype(np.float64))
            weights.append(chance[first] * chance[second])
    estimates, weights = np.array(estimates), np.array(weights)
    mean = weights @ estimates
    return mean, float((weights @ (estimates - mean) ** 2).sum())


def test_gradient_with_baseline_is_exact_and_varies_less(enumerated):
    values, pruned, _, _ = enumerated
    without, variance_without = pairs(values, pruned.matters, lambda both: both)
    with_baseline, variance = pairs(values, pruned.matters, reinforce.leave_one_out)
    np.testing.assert_allclose(without, exact(values), atol=2e-6)
    np.testing.assert_allclose(with_baseline, exact(values), atol=2e-6)
    assert variance < 0.5 * variance_without


def test_leaving_out_gates_that_do_not_matter_varies_less(enumerated):
    values, pruned, _, _ = enumerated
    every, variance_of_all = pairs(values, np.ones_like(pruned.matters), lambda both: both)
    reached, variance = pairs(values, pruned.matters, lambda both: both)
    np.testing.assert_allclose(every, reached, atol=2e-6)
    assert variance < variance_of_all


def test_size_of_the_bias_under_batch_normalisation():
    """A group's loss depends on the other group's gates, too: the mean of the others is no unbiased baseline there.

    All pairs of architectures of two groups of four images: redrawing the other group moves a loss about a quarter as
    far as redrawing its own gates, and the baseline changes the expected gradient by about a tenth.
    """
    search = make(normalized=True, groups=2, baseline="batch")
    chance = np.random.default_rng(3)
    images, labels = chance.normal(size=(8, *SHAPE)).astype(np.float32), chance.integers(0, CLASSES, 8)
    step = tf.function(lambda gates: search.gradients(images, labels, gates)[1])
    pairs_of_rows = [[step(tf.constant(np.stack([first, second]))) for second in EVERY] for first in EVERY]
    logits = np.array(pairs_of_rows)
    each = np.broadcast_to(labels, logits.shape[:-1])
    losses = tf.keras.losses.sparse_categorical_crossentropy(each, logits, from_logits=True)
    first, second = np.moveaxis(np.reshape(losses, [16, 16, 2, 4]).mean(axis=3), 2, 0)
    p = probabilities(LOGITS)

    def spread(values, axis):
        """Root of the mean variance along one axis."""
        mean = np.expand_dims(np.average(values, axis=axis, weights=p), axis)
        return np.sqrt(np.average(np.average(np.square(values - mean), axis=axis, weights=p), weights=p))

    own, others = spread(first, 0), spread(first, 1)
    assert 0.1 * own < others < 0.4 * own
    score = reinforce.score(tf.constant(LOGITS), tf.constant(EVERY), search.priced.sample(EVERY)[0].matters).numpy()

    def estimate(a, b):
        """Mean of the advantages `a` and `b` of the two groups times their scores."""
        both = np.outer(p, p)
        return 0.5 * (np.einsum("ij,ij,ig->g", both, a, score) + np.einsum("ij,ij,jg->g", both, b, score))

    without, with_baseline = estimate(first, second), estimate(first - second, second - first)
    bias = np.linalg.norm(with_baseline - without) / np.linalg.norm(without)
    assert 0.01 < bias < 0.2


def test_the_step_uses_these_functions(enumerated, batch):
    """Two groups with the baseline of the batch give what the functions give for the same two architectures."""
    values, pruned, _, _ = enumerated
    search = make(groups=2, baseline="batch")
    search.logits.assign(LOGITS)
    scores = reinforce.score(search.logits, tf.constant(EVERY), tf.constant(pruned.matters)).numpy()
    for pair in ([3, 15], [2, 9], [0, 7]):
        found = search.gradients(*batch, tf.constant(EVERY[pair]))
        both = reinforce.leave_one_out(tf.constant([values[pair[0], 0], values[pair[1], 1]], tf.float32))
        np.testing.assert_allclose(found[4], reinforce.gradient(scores[pair], both), atol=1e-6)


def test_greedy_baseline_is_exact_and_takes_the_difficulty_of_a_batch_away(enumerated, batch):
    """The mean over all architectures stays; what one batch has above another in all of them drops out."""
    values, pruned, _, _ = enumerated
    search = make(baseline="greedy")
    search.logits.assign(LOGITS)
    scores = reinforce.score(search.logits, tf.constant(EVERY), tf.constant(pruned.matters)).numpy()
    greedy = EVERY.tolist().index([logit > 0 for logit in LOGITS])
    chance = probabilities(LOGITS)
    for first in range(2):
        one = tuple(part[first : first + 1] for part in batch)
        estimates = []
        for row in EVERY:
            search.level.assign(0.05)  # of the steps before, the same for all
            search.levels.assign(0.5)
            estimates.append(search.gradients(*one, tf.constant(row[None]))[4].numpy())
        expected = scores * (values[:, first] - values[greedy, first] - 0.1)[:, None]
        np.testing.assert_allclose(estimates, expected, atol=2e-6)
        exactly = chance @ (scores * values[:, first, None])
        np.testing.assert_allclose(chance @ np.array(estimates, np.float64), exactly, atol=4e-6)


def test_greedy_baseline_has_less_variance_between_batches(batch):
    """Ten pairs of images of very different difficulty: the moving mean leaves that difference in the estimates."""
    images, labels = batch
    chance = np.random.default_rng(1)
    spread = {}
    for baseline in ("greedy", "moving"):
        search = make(baseline=baseline)
        search.logits.assign(LOGITS)
        search.network.get_layer("out").bias.assign([3.0, 0.0, -3.0])  # class 0 is easy, class 2 is hard
        found = []
        for step in range(60):
            gates = tf.constant(EVERY[chance.choice(16, p=probabilities(LOGITS))][None])
            found.append(search.gradients(images, np.full_like(labels, [0, 2][step % 2]), gates)[4].numpy())
        spread[baseline] = np.var(found[10:], axis=0).sum()
    assert spread["greedy"] < 0.3 * spread["moving"]


def test_gradient_of_the_weights_is_that_of_the_closed_network(search, enumerated, batch):
    """So its mean over the drawn architectures is the gradient of the expected loss."""
    images, labels = batch
    _, pruned, _, gradients = enumerated
    connected = 0
    for row, kept, ours in zip(EVERY, pruned.modules, gradients, strict=True):
        by_name = {w.name: g.numpy() for w, g in zip(search.network.trainable_variables, ours, strict=True)}
        expected = {}
        if kept.any():
            connected += 1
            plain = closed_twin(search, named(row))
            with tf.GradientTape() as tape:
                loss = search.loss(labels, plain(images, training=True))
            found = tape.gradient(loss, plain.trainable_variables)
            expected = {w.name: g for w, g in zip(plain.trainable_variables, found, strict=True)}
        for name, gradient in by_name.items():
            if kept.any() or "out" not in name:  # a disconnected network still answers from the classifier's bias
                np.testing.assert_allclose(gradient, expected.get(name, np.zeros_like(gradient)), atol=1e-6)
    assert connected == 11


def test_gates_that_are_not_reached_or_lead_nowhere_get_no_gradient(search, batch):
    for row in EVERY:
        a, b, c, skip = row
        gradient = search.gradients(*batch, tf.constant(row[None]))[4].numpy()
        assert (gradient != 0.0).tolist() == [c, c, a or b, True]


def test_a_disconnected_sample_answers_from_the_bias(search, batch):
    images, labels = batch
    nothing = tf.zeros([1, 4], tf.bool)
    bias = search.network.get_layer("out").bias
    bias.assign([0.3, -0.2, 0.1])
    loss, logits, costs, _, gradient = search.gradients(images, labels, nothing)
    np.testing.assert_allclose(logits, np.broadcast_to(bias.numpy(), (2, 3)), atol=1e-6)
    assert costs.numpy().tolist() == [[0.0]] and np.all(np.isfinite(gradient)) and np.isfinite(loss)
    bias.assign(tf.zeros(3))


def test_closed_architecture_is_the_pruned_super_network(batch):
    """In inference and in training, for every probable architecture, with normalisation."""
    search = make(Budget(Distributed(1), 7.0), normalized=True, fill_budget=False)
    chance = np.random.default_rng(0)
    for weight in search.network.weights:
        weight.assign(chance.uniform(0.3, 1.5, weight.shape).astype(np.float32))
    for row in EVERY:
        search.logits.assign(np.where(row, 1.0, -1.0).astype(np.float32))
        architecture = search.architecture()
        plain = closed_twin(search, dict(architecture.choices))
        np.testing.assert_allclose(search(batch[0]), plain(batch[0]), atol=1e-5)
        gates = search.closing(np.where(row, 0.7, 0.3))
        assert search.priced.price(search.priced.kept(gates)) == [Distributed(1).of(architecture)]


def test_most_probable_path_where_nothing_is_connected():
    search = make(Budget(Distributed(1), 7.0), fill_budget=False)
    search.logits.assign([-1.0, -2.0, -1.0, -3.0])  # a and c: 0.27 * 0.27 against 0.05 of the skip
    assert search.architecture().choices == {"a": True, "b": False, "c": True, "skip": False}
    search.logits.assign([-1.0, -2.0, -1.0, -0.5])
    assert search.architecture().choices == {"a": False, "b": False, "c": False, "skip": True}


def test_what_is_delivered_fits_the_budget():
    for limit in (3.0, 5.0, 6.0, 7.0):
        search = make(Budget(Distributed(1), limit))
        search.logits.assign([2.0, 1.0, 1.5, 3.0])
        assert 3.0 <= Distributed(1).of(search.architecture()) <= limit
        assert search.architecture().choices["skip"]
    assert all(search.architecture().choices.values())
    # The only likely path is too dear: the cheapest one is taken.
    search = make(Budget(Distributed(1), 3.0))
    search.logits.assign([2.0, -2.0, 2.0, -9.0])
    assert search.architecture().choices == {"a": False, "b": False, "c": False, "skip": True}


def test_a_budget_below_the_cheapest_path_is_refused():
    with pytest.raises(UserError, match="at least 3 steps.*limit=2"):
        make(Budget(Distributed(1), 2.0))


@pytest.fixture
def dataset(image_batches):
    return image_batches(32, batch=16, shape=SHAPE, classes=CLASSES)


def test_entropy_is_that_of_the_gates_that_matter():
    p = 1 / (1 + np.exp(-np.array(LOGITS)))
    bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    matters = np.array([True, False, True, True])
    found = reinforce.entropy(tf.constant(LOGITS), tf.constant(matters))
    np.testing.assert_allclose(found, bits[matters].mean(), rtol=1e-6)
    assert reinforce.entropy(tf.constant([40.0, 0.0]), tf.constant([True, False])) < 1e-9
    assert reinforce.entropy(tf.constant([0.0]), tf.constant([False])) == 0


def test_a_penalty_leads_to_the_budget_and_a_generous_one_keeps_more(dataset):
    found = {}
    for limit in (3.0, 100.0):
        search = make(Budget(Distributed(1), limit, 20.0), groups=16, epochs=30, warm_up_epochs=2)
        search.architecture_optimizer.learning_rate.assign(0.5)
        history = search.fit(dataset, dataset).history
        assert history["entropy"][0] == history["entropy"][1]  # nothing moves in the warm-up
        assert history["cost"][0] == 7 and set(history) >= {
            "loss",
            "accuracy",
            "penalty",
            "validation_loss",
            "validation_accuracy",
        }
        assert Distributed(1).of(search.architecture()) <= limit
        found[limit] = float(search.cost())
        p = search.probabilities()
        assert limit == 100.0 or (p["c"] < 0.1 and p["skip"] > 0.9)  # with that, a and b do not matter any more
    assert found[3.0] < 3.5 and found[100.0] > 4.5


def test_modules_that_nobody_uses_are_not_run(batch):
    """Statistics of a normalisation move where it is run, and only there."""
    search = make(normalized=True, baseline="moving")
    step = tf.function(search.gradients)

    def means():
        return {w.name: w.numpy() for w in search.network.weights if "moving_mean" in w.name}

    for row in EVERY[-6:]:
        before = means()
        step(*batch, tf.constant(row[None]))
        used = search.priced.sample(row[None])[0].modules[0]
        names = {node.name for node, kept in zip(search.priced.graph.nodes, used, strict=True) if kept}
        moved = {name.split("_bn")[0] for name, value in means().items() if np.any(value != before[name])}
        assert moved == {"in"} | (names & {"a", "b", "c"})


def test_equal_seeds_draw_equal_gates():
    draws = [make(groups=8, seed=seed) for seed in (1, 1, 2)]
    for search in draws:
        search.logits.assign(LOGITS)
    first, again, other = ([search.draw(8).numpy() for _ in range(3)] for search in draws)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


def test_trains_in_bfloat16(batch):
    with precision("bfloat16"):
        search = make(normalized=True, groups=2)
    kept = {search.network.get_layer(f"{name}_gate").output.dtype for name in "abc"}
    assert kept == {tf.bfloat16} and {w.dtype for w in search.network.weights} == {tf.float32}
    for gates in ([[True] * 4, [False, True, True, False]], [[False, False, True, True]] * 2):
        found = tf.function(search.gradients)(*batch, tf.constant(gates))
        assert all(bool(tf.reduce_all(tf.math.is_finite(tensor))) for tensor in tf.nest.flatten(found))


def test_binary_modules_train_in_bfloat16():
    """Their compiled gradient stands inside the branch of a module that may be left out."""
    with precision("bfloat16"):
        search = BSN(
            "resnet_fabric", budget=Budget(MultiplyAdds(), 1e9), input_shape=(8, 8, 3), options={"n": 1, "base": 4}
        )
    search.compile(tf.keras.optimizers.SGD(0.1), tf.keras.optimizers.SGD(0.1))
    whole = tf.constant([[True] * len(search.gates)])
    images, labels = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32), np.array([0, 2, 1, 1])
    _, _, _, found, _ = tf.function(search.gradients)(images, labels, whole)
    assert all(bool(tf.reduce_all(tf.math.is_finite(tensor))) for tensor in found)
    by_step = [g for g, v in zip(found, search.network.trainable_variables, strict=True) if "step" in v.name]
    assert by_step and all(bool(gradient != 0) for gradient in by_step)


def test_expected_cost_lies_between_the_cheapest_and_the_whole():
    search = make([BUDGET, Budget(MultiplyAdds(), 1e6)])
    search.logits.assign(LOGITS)
    steps, multiply_adds = search.costs(4096)
    _, costs = search.priced.sample(EVERY)
    np.testing.assert_allclose([steps, multiply_adds], probabilities(LOGITS) @ costs, rtol=0.05)


class Odd:
    """A cost of a user's own: one function of the architecture."""

    unit = "modules"

    def __init__(self, value):
        self.value, self.asked = value, 0

    def of(self, architecture):
        self.asked += 1
        return self.value(architecture)


def test_a_cost_of_the_users_own_is_asked_once_for_each_pruned_architecture():
    cost = Odd(lambda architecture: sum(architecture.choices.values()))
    search = make(Budget(cost, 2.0))
    _, costs = search.priced.sample(np.concatenate([EVERY, EVERY]))
    # Dead ends are pruned: of 16 draws 11 are connected, and these are 7 different networks.
    assert cost.asked == 7
    assert costs[:16, 0].tolist() == costs[16:, 0].tolist() and costs.max() == 4


def test_a_stochastic_cost_is_asked_each_time():
    cost = Odd(lambda architecture: cost.asked)
    cost.stochastic = True
    search = make(Budget(cost, 2.0))
    search.priced.sample(np.ones((3, 4), bool))
    assert cost.asked == 3


@pytest.mark.parametrize("value", [float("nan"), -1, float("inf"), "cheap", None])
def test_a_cost_that_is_no_number_is_refused(value, dataset):
    search = make(Budget(Odd(lambda architecture: value), 2.0), epochs=1, warm_up_epochs=0)
    with pytest.raises(UserError, match="Expected the cost Odd to be a finite number of modules"):
        search.fit(dataset, verbose=False) if value == -1 else search.cost()


def test_bad_arguments():
    with pytest.raises(UserError, match="groups=0"):
        make(groups=0)
    with pytest.raises(UserError, match="groups=1"):
        make(groups=1, baseline="batch")
    with pytest.raises(UserError, match="baseline='mean'"):
        make(baseline="mean")
    with pytest.raises(UserError, match="modules of a graph.*Received: 'vgg11'"):
        BSN("vgg11", budget=BUDGET)


def test_a_search_of_widths_refuses_a_cost_without_expectation():
    with pytest.raises(UserError, match="expectation is differentiable.*Received: Distributed"):
        DMS("test-small", budget=BUDGET)


def expected_steps(groups, values):
    """Expected gradient by the logits over all draws of a batch: by `reinforce`, and as the authors' sum over it."""
    draws = np.array(list(itertools.product(range(len(EVERY)), repeat=groups)))
    chances = probabilities(LOGITS)[draws].prod(axis=1)
    logits, matters = tf.constant(LOGITS), tf.ones([groups, 4], tf.bool)

    def own(rows):
        scores = reinforce.score(logits, tf.gather(EVERY, rows), matters)
        return reinforce.gradient(scores, reinforce.leave_one_out(tf.gather(values, rows)))

    means = tf.vectorized_map(own, tf.constant(draws)).numpy()
    scores = EVERY - 1 / (1 + np.exp(-np.array(LOGITS)))
    theirs = values[draws] - values[draws].mean(axis=1, keepdims=True)
    sums = np.einsum("dg,dgi->di", theirs, scores[draws])
    return chances @ means, chances @ sums


def test_the_expected_step_of_a_logit_does_not_depend_on_the_batch_size():
    """The mean over the examples gives it; the authors' sum of the same grows with the examples of a batch.

    So their rate of 1e-3 with 64 examples is a rate of 0.063 here, up to their mean over a batch with the example
    itself in it, which makes 64 of it.
    """
    values = np.random.default_rng(0).normal(size=len(EVERY)).astype(np.float32)
    true = exact(values[:, None].astype(np.float64))
    for groups in (2, 3):
        mean, total = expected_steps(groups, values)
        np.testing.assert_allclose(mean, true, atol=2e-5)
        np.testing.assert_allclose(total, (groups - 1) * true, atol=2e-5)
    assert BSN.settings_class().architecture_learning_rate == pytest.approx(1e-3 * 64)
