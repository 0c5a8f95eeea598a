"""The mathematics of channel interactions, against tables, enumeration and finite differences."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.search import interactions
from tfbnas.search.interactions import Blocks


def test_blocks_divide_channels_and_put_them_together_again():
    blocks = Blocks((20, 8, 48), 0.1)
    assert blocks.shape == (3, 3, 16, 16) and blocks.counts == [2, 1, 3]
    allowed = blocks.allowed()
    assert allowed.sum(axis=(1, 2, 3)).tolist() == [16 * 15 + 4 * 3, 8 * 7, 3 * 16 * 15]
    chance = np.random.default_rng(0)
    graphs = chance.integers(-5, 6, blocks.shape) * allowed
    matrices = [blocks.matrix(tf.constant(graphs[layer]), layer).numpy() for layer in range(3)]
    assert [matrix.shape for matrix in matrices] == [(20, 20), (8, 8), (48, 48)]
    assert matrices[0][17, 19] == graphs[0, 1, 1, 3] and matrices[2][40, 35] == graphs[2, 2, 8, 3]
    assert not matrices[0][:16, 16:].any() and not np.diag(matrices[2]).any()
    np.testing.assert_array_equal(blocks.of_matrices(matrices), graphs)


def test_limits_are_the_last_whole_number_of_edges_within_the_density():
    assert Blocks((16, 20, 8), 0.1).limits().tolist() == [24, 25, 5]  # 240, 252 and 56 pairs
    assert Blocks((16,), 0.005).limits().tolist() == [1]
    assert Blocks((16,), 0.0).limits().tolist() == [0]


def test_state_is_existence_and_signed_strength():
    found = interactions.state(tf.constant([0, 3, -3, 5, -5]), 2).numpy()
    np.testing.assert_allclose(found, [[0, 0], [1, 0.5], [1, -0.5], [1, 1], [1, -1]])


def test_influences_of_weights():
    weights = [-1.0, -0.51, -0.5, -0.01, 0.0, 0.01, 0.5, 0.51, 1.0]
    assert interactions.influence_of(tf.constant(weights), 2).numpy().tolist() == [-5, -5, -3, -3, 3, 3, 3, 5, 5]
    assert interactions.influence_of(tf.constant([0.3, 0.34, -0.7]), 3).numpy().tolist() == [3, 5, -7]


def hat(w, influence, levels):
    """Equation 6, pieces read with "and" for its union sign."""
    a, size = influence, 2.0 * levels
    if a > 0:
        if w < 0:
            return 0.0
        if (a - 3) / size < w <= (a - 2) / size:
            return size * w - a + 3
        if (a - 2) / size < w <= (a - 1) / size:
            return -size * w + a - 1
        return 0.0
    return hat(-w, -a, levels)


def slope(weights, influences, levels):
    weights = tf.constant(weights, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(weights)
        total = tf.reduce_sum(interactions.surrogate(weights, tf.constant(influences), levels))
    return tape.gradient(total, weights).numpy()


def printed(weights, influences, levels):
    """Equation 7 as it is printed."""
    middle = (np.abs(influences) - 2) / (2 * levels)
    return 2 * levels * np.sign(weights - middle) * np.sign(influences)


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_slope_of_the_surrogate_is_that_of_the_hat(levels):
    """At 20 000 points, by differences; where the hat has a corner within the difference there is no slope."""
    chance = np.random.default_rng(levels)
    weights = chance.uniform(-1, 1, 20_000)
    step = 1e-4
    corners = np.abs(2 * levels * weights - np.round(2 * levels * weights)) / (2 * levels) < 2 * step
    weights = np.where(corners, np.float32(0.3 / levels), weights).astype(np.float32)
    influences = interactions.influence_of(tf.constant(weights), levels).numpy()
    pairs = list(zip(weights.astype(np.float64), influences, strict=True))
    by_difference = [(hat(w + step, a, levels) - hat(w - step, a, levels)) / (2 * step) for w, a in pairs]
    np.testing.assert_allclose(slope(weights, influences, levels), by_difference, rtol=1e-3)
    np.testing.assert_allclose(
        interactions.surrogate(tf.constant(weights), tf.constant(influences), levels),
        [hat(w, a, levels) for w, a in pairs],
        atol=1e-5,
    )


def test_a_rewarded_influence_stays_and_the_printed_sign_drives_it_away():
    start = np.random.default_rng(0).uniform(-1, 1, 500).astype(np.float32)
    influences = interactions.influence_of(tf.constant(start), 2).numpy()
    kept = []
    for direction in (slope, printed):
        weights = start.copy()
        for _ in range(400):
            weights = np.clip(weights + 0.001 * direction(weights, influences, 2), -1, 1).astype(np.float32)
        same = interactions.influence_of(tf.constant(weights), 2).numpy() == influences
        kept.append(same.mean())
        if direction is slope:
            np.testing.assert_allclose(np.abs(weights), (np.abs(influences) - 2) / 4, atol=0.005)
    assert kept[0] == 1.0 and kept[1] < 0.5


def small(chance, layers=2, size=3):
    blocks = Blocks((size,) * layers, 1.0, size)
    logits = chance.normal(size=blocks.shape).astype(np.float32)
    return blocks, tf.constant(blocks.allowed()), tf.Variable(logits)


def test_log_probabilities_against_enumeration():
    blocks, allowed, logits = small(np.random.default_rng(0))
    creation = interactions.log_creation(logits, allowed)
    deletion = interactions.log_deletion(creation, allowed)
    pairs = [pair for pair in range(9) if pair % 4]  # all but the diagonal
    for layer in range(2):
        flat = logits.numpy()[layer].ravel()
        weights = {pair: np.exp(flat[pair]) / sum(np.exp(flat[other]) for other in pairs) for pair in pairs}
        total = sum(-np.log(weights[pair]) for pair in pairs)
        for pair in range(9):
            if pair in pairs:
                assert creation[layer, pair].numpy() == pytest.approx(np.log(weights[pair]), rel=1e-5)
                expected = np.log(-np.log(weights[pair]) / total)
                assert deletion[layer, pair].numpy() == pytest.approx(expected, rel=1e-5)
            else:
                assert creation[layer, pair].numpy() < -1e6 and deletion[layer, pair].numpy() < -1e6


def test_hierarchical_probabilities_against_enumeration():
    blocks = Blocks((7, 5), 1.0, 3)  # three and two blocks; the last ones have one channel, thus no pair, and two
    chance = np.random.default_rng(0)
    logits = chance.normal(size=blocks.shape).astype(np.float32)
    scores = chance.normal(size=(2, 3)).astype(np.float32)
    allowed = blocks.allowed()
    found = interactions.log_creation(tf.constant(logits), tf.constant(allowed), tf.constant(scores)).numpy()
    for layer, there in ((0, [0, 1]), (1, [0, 1])):
        total = 0.0
        for block in there:
            inside = np.exp(logits[layer, block]) * allowed[layer, block]
            chosen = np.exp(scores[layer, block]) / sum(np.exp(scores[layer, other]) for other in there)
            expected = inside / inside.sum() * chosen
            got = np.exp(found.reshape(blocks.shape)[layer, block])
            np.testing.assert_allclose(got, expected, atol=1e-6)
            total += expected.sum()
        assert total == pytest.approx(1.0) and np.exp(found[layer]).sum() == pytest.approx(1.0, abs=1e-5)


def test_draws_have_their_probabilities_and_depend_on_the_seed_alone():
    probabilities = np.array([0.5, 0.25, 0.2, 0.05, 0.0])
    logs = tf.constant(np.tile(np.log(np.maximum(probabilities, 1e-30)), (20_000, 1)), tf.float32)
    drawn = interactions.draw(logs, tf.constant([1, 2])).numpy()
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 20_000, probabilities, atol=0.015)
    np.testing.assert_array_equal(drawn, interactions.draw(logs, tf.constant([1, 2])))
    assert np.any(drawn != interactions.draw(logs, tf.constant([1, 3])).numpy())


def test_steps_create_set_anew_delete_and_stop_at_the_limit():
    graph = np.zeros((1, 1, 3, 3), np.int32)
    limits = tf.constant([2])

    def act(graph, created, new, deleted):
        one = [tf.constant([value]) for value in (created, new, deleted)]
        found = interactions.act(tf.constant(graph), *one, limits)
        return found[0].numpy(), bool(found[1]), bool(found[2])

    graph, creates, deletes = act(graph, 1, 3, 1)
    assert graph.ravel().tolist() == [0, 3, 0, 0, 0, 0, 0, 0, 0] and creates and not deletes  # nothing there to delete
    graph, creates, deletes = act(graph, 5, -5, 7)
    assert graph.ravel().tolist() == [0, 3, 0, 0, 0, -5, 0, 0, 0] and creates and deletes
    graph, creates, deletes = act(graph, 2, 3, 7)
    assert np.count_nonzero(graph) == 2 and not creates  # at the limit
    graph, _, _ = act(graph, 2, 3, 5)
    assert graph.ravel().tolist() == [0, 3, 0, 0, 0, 0, 0, 0, 0]
    graph, creates, _ = act(graph, 1, -5, 2)
    assert graph.ravel().tolist() == [0, -5, 0, 0, 0, 0, 0, 0, 0] and creates
    one = [tf.constant([value]) for value in (5, 3, 1)]
    found, creates, deletes = interactions.act(tf.constant(graph), *one, limits, tf.constant(False))
    assert not np.any(found) and not creates and deletes  # no room in the budget


def test_density_is_never_above_its_limit():
    blocks = Blocks((20, 8), 0.07)
    allowed, limits = tf.constant(blocks.allowed()), tf.constant(blocks.limits())
    creation = interactions.log_creation(tf.zeros([5, *blocks.shape]), allowed)
    deletion = interactions.log_deletion(creation, allowed)
    graph = tf.zeros([5, *blocks.shape], tf.int32)
    most = 0
    for step in range(60):
        created = interactions.draw(creation, tf.constant([step, 0]))
        deleted = interactions.draw(deletion, tf.constant([step, 1]))
        graph, _, _ = interactions.act(graph, created, tf.fill([5, 2], 3), deleted, limits)
        edges = tf.math.count_nonzero(graph, axis=[2, 3, 4]).numpy()
        assert np.all(edges <= blocks.limits()) and np.all(edges <= 0.07 * blocks.allowed().sum((1, 2, 3)))
        most = max(most, edges.max())
    assert most == blocks.limits().max()
    assert not np.any(graph.numpy()[:, ~blocks.allowed()])


def test_confidence_against_a_loop():
    counts = np.random.default_rng(0).integers(-9, 10, (2, 3, 3, 5)).astype(np.float32)
    found = interactions.confidence(tf.constant(counts), 3, 3).numpy()
    rows = np.abs(counts.reshape(-1, 5))
    for block, t, s in itertools.product(range(3), range(3), range(3)):
        teacher, student = 3 * block + t, 3 * block + s
        expected = np.sign(rows[:, teacher] - rows[:, student]).mean() if max(teacher, student) < 5 else 0.0
        assert found[block, t, s] == pytest.approx(expected, abs=1e-6)


def test_activity_against_a_loop():
    terms, counts = 27, np.random.default_rng(0).integers(-27, 28, (2, 3, 3, 4))
    graph = np.zeros((4, 4), np.int32)
    graph[0, 1], graph[2, 1], graph[2, 3] = 3, -5, 5
    found = interactions.activity(tf.constant(counts, tf.float32), tf.constant(graph), terms, 2).numpy()
    for teacher, student in itertools.product(range(4), repeat=2):
        own = counts.reshape(-1, 4)[:, teacher]
        size = abs(graph[teacher, student])
        # The middle interval: open on the left, closed on the right.
        moved = [not -terms / size < count <= terms / size for count in own] if size else [False]
        assert found[teacher, student] == pytest.approx(np.mean(moved), abs=1e-6)
    assert found[2, 1] == found[2, 3] > 0 < found[0, 1]


def test_reward():
    confidences = np.zeros((1, 1, 3, 3), np.float32)
    confidences[0, 0, 0, 1], confidences[0, 0, 2, 1] = 0.5, -0.1
    graph = np.zeros((4, 1, 1, 3, 3), np.int32)
    graph[1:, 0, 0, 0, 1] = 3
    graph[2:, 0, 0, 2, 1] = -5
    change = tf.constant([0.004, -0.004, 0.002, 0.0])
    found = interactions.reward(change, tf.constant(confidences), tf.constant(graph), 0.003)
    np.testing.assert_allclose(found, [1.0, -1.0 + 0.5, 0.2, 0.2], rtol=1e-6)


def test_discounted_returns():
    rewards = tf.constant([[1.0, 0.0], [2.0, 1.0], [4.0, -1.0]])
    np.testing.assert_allclose(interactions.discounted_returns(rewards, 0.5), [[3.0, 0.25], [4.0, 0.5], [4.0, -1.0]])


def test_mean_of_the_estimates_is_the_exact_gradient():
    """Two layers of three channels, one step from a graph with an edge in each: all actions can be counted."""
    blocks, allowed, logits = small(np.random.default_rng(1))
    limits = tf.constant([5, 5])
    start = np.zeros(blocks.shape, np.int32)
    start[0, 0, 0, 1] = start[1, 0, 2, 0] = 3
    worth = tf.constant(np.random.default_rng(2).normal(size=blocks.shape).astype(np.float32))

    def value(graphs):
        """Of the graph behind the step; not a sum over layers."""
        exists = tf.cast(graphs != 0, tf.float32)
        total = tf.reduce_sum(exists * worth, axis=[2, 3, 4])
        return total[:, 0] + total[:, 1] + total[:, 0] * total[:, 1]

    def after(created, deleted):
        graphs = tf.tile(start[None], [len(created), 1, 1, 1, 1])
        return interactions.act(graphs, created, tf.fill(tf.shape(created), 3), deleted, limits)[0]

    def log_probability(created, deleted):
        creation = interactions.log_creation(logits, allowed)
        deletion = interactions.log_deletion(creation, allowed)
        both = ((creation, created), (deletion, deleted))
        return tf.add_n([tf.reduce_sum(tf.gather(log, at, axis=1, batch_dims=1), 0) for log, at in both])

    pairs = [1, 2, 3, 5, 6, 7]
    actions = tf.constant(list(itertools.product(pairs, repeat=4)), tf.int32)
    rewards = value(after(actions[:, :2], actions[:, 2:]))
    with tf.GradientTape() as tape:
        expected = -tf.reduce_sum(
            tf.exp(log_probability(tf.transpose(actions[:, :2]), tf.transpose(actions[:, 2:]))) * rewards
        )
    exact = tape.gradient(expected, logits).numpy()
    count, estimates = 4000, []
    creation = interactions.log_creation(logits, allowed)
    deletion = interactions.log_deletion(creation, allowed)
    for run in range(20):
        created = interactions.draw(tf.tile(creation[None], [count, 1, 1]), tf.constant([run, 0]))
        deleted = interactions.draw(tf.tile(deletion[None], [count, 1, 1]), tf.constant([run, 1]))
        advantages = value(after(created, deleted)) - 0.3  # a baseline changes nothing
        with tf.GradientTape() as tape:
            logs = log_probability(tf.transpose(created), tf.transpose(deleted))
            loss = interactions.objective(logs[None], advantages[None])
        estimates.append(tape.gradient(loss, logits).numpy())
    mean, error = np.mean(estimates, axis=0), np.std(estimates, axis=0, ddof=1) / np.sqrt(len(estimates))
    assert np.abs(exact).max() > 0.1
    np.testing.assert_array_less(np.abs(mean - exact), 5 * error + 1e-6)
    assert np.abs(mean + exact).max() > 20 * error.max()  # the other sign would be seen
