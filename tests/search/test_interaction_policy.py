"""The policy on toys whose best answer is known."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.search import interactions
from tfbnas.search.interaction_policy import InteractionPolicy, log_probabilities, roll_out
from tfbnas.search.interactions import Blocks
from tfbnas.search.reinforce import leave_one_out

BLOCKS = Blocks((8, 20), 0.2)


@pytest.mark.parametrize("hierarchical", [False, True])
def test_emits_distributions_over_the_allowed_pairs(hierarchical):
    policy = InteractionPolicy(BLOCKS, 2, hierarchical=hierarchical, seed=3)
    graph = np.random.default_rng(0).choice([0, 3, -5], size=(3, *BLOCKS.shape)) * BLOCKS.allowed()
    creation, deletion, weights = policy(tf.constant(graph, tf.int32))
    forbidden = ~BLOCKS.allowed().reshape(2, -1)
    for logs in (creation.numpy(), deletion.numpy()):
        assert logs.shape == (3, 2, 2 * 256)
        np.testing.assert_allclose(np.exp(logs).sum(axis=-1), 1.0, rtol=1e-4)
        assert np.all(logs[:, forbidden] < -1e6)
    assert np.abs(weights).max() <= 1 and weights.shape == creation.shape
    assert not np.allclose(creation[0], creation[1])  # the graph is seen
    names = [type(layer).__name__ for layer in (*policy.encoder.layers, policy.recurrent, *policy.decoder.layers)]
    kinds = ["Conv2D", "Conv2D", "Flatten", "Dense", "GRU", "Dense", "Reshape", "Conv2DTranspose", "Conv2DTranspose"]
    assert names == kinds


def test_layers_are_read_one_behind_the_other():
    """What the first layer's graph is reaches the second one's answer, and not the other way round."""
    policy = InteractionPolicy(BLOCKS, 2)
    graphs = np.zeros((3, *BLOCKS.shape), np.int32)
    graphs[1, 0, 0, 1, 2] = graphs[2, 1, 1, 1, 2] = 5
    creation = policy(tf.constant(graphs))[0].numpy()
    assert not np.allclose(creation[0, 1], creation[1, 1], atol=1e-7)
    np.testing.assert_allclose(creation[0, 0], creation[2, 0], atol=1e-6)


def test_the_seed_decides_the_initial_weights():
    tf.keras.utils.set_random_seed(1)
    first = InteractionPolicy(BLOCKS, 2, seed=4, hierarchical=True)
    tf.keras.utils.set_random_seed(2)
    second = InteractionPolicy(BLOCKS, 2, seed=4, hierarchical=True)
    other = InteractionPolicy(BLOCKS, 2, seed=5, hierarchical=True)
    for one, same in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)
    assert any(np.any(a != b) for a, b in zip(first.get_weights(), other.get_weights(), strict=True))


def rolled_out(policy, *, start=None, evaluate=None, confidences=None, seed=0, **sizes):
    """Roll-outs from graphs without edges, without loss and confidences, if nothing else is given."""
    shape = policy.blocks.shape

    def no_loss(graphs):
        return tf.zeros(tf.shape(graphs)[0]), tf.zeros(tf.shape(graphs)[0])

    return roll_out(
        policy,
        tf.constant(np.zeros(shape) if start is None else start, tf.int32),
        evaluate or no_loss,
        tf.zeros(shape) if confidences is None else confidences,
        threshold=0.0,
        seed=tf.convert_to_tensor(seed),
        **sizes,
    )


def test_rollouts_follow_the_actions():
    policy, start = InteractionPolicy(BLOCKS, 2), np.zeros(BLOCKS.shape, np.int32)
    start[0, 0, 0, 1] = 3
    draw = functools.partial(rolled_out, policy, start=start, steps=12, count=4)
    found = draw(seed=7)
    assert found.before.shape == (12, 4, *BLOCKS.shape) and found.rewards.shape == (12, 4)
    np.testing.assert_array_equal(found.before[0], np.tile(start, (4, 1, 1, 1, 1)))
    np.testing.assert_array_equal(found.before[1:], found.after[:-1])
    edges = tf.math.count_nonzero(found.after, axis=[3, 4, 5]).numpy()
    assert np.all(edges <= BLOCKS.limits()) and np.all(edges[-1].sum(axis=-1) > 5)
    np.testing.assert_array_equal(found.after, draw(seed=7).after)
    assert np.any(found.after != draw(seed=8).after)


def test_rollouts_stop_where_nothing_can_be_done():
    """Above the limit nothing is created; what is deleted is there."""
    policy, certain = InteractionPolicy(BLOCKS, 2), tf.ones(BLOCKS.shape)
    policy.limits = tf.constant([0, 0])
    found = rolled_out(policy, confidences=certain, seed=1, steps=3, count=2)
    assert found.active.numpy().tolist() == [[True, True], [False, False], [False, False]]
    full = np.where(BLOCKS.allowed(), 3, 0)
    found = rolled_out(policy, start=full, confidences=certain, seed=1, steps=3, count=2)
    assert np.all(found.active) and not np.any(found.creates)
    np.testing.assert_allclose(found.rewards, 1.0)  # all confidences are 1


def test_log_probabilities_of_what_was_drawn():
    """Against the policy's answers one by one."""
    policy = InteractionPolicy(BLOCKS, 2)
    found = rolled_out(policy, steps=3, count=2)
    logs = log_probabilities(policy, found).numpy()
    for step in range(3):
        creation, deletion, weights = (values.numpy() for values in policy(found.before[step]))
        for one in range(2):
            expected = 0.0
            for layer in range(2):
                pair, influence = int(found.created[step, one, layer]), int(found.new[step, one, layer])
                weight = weights[one, layer, pair]
                assert interactions.influence_of(tf.constant(weight), 2) == influence
                expected += creation[one, layer, pair] + 1 - 4 * abs(abs(weight) - (abs(influence) - 2) / 4)
                if step:
                    expected += deletion[one, layer, int(found.deleted[step, one, layer])]
            assert logs[step, one] == pytest.approx(expected, rel=1e-4)
            assert bool(found.deletes[step, one, 0]) == (step > 0)


class Learner:
    """Trains one policy anew for each seed, so that the step is traced once."""

    def __init__(self, policy, evaluate, *, steps, count):
        self.policy, self.optimizer = policy, tf.keras.optimizers.Adam(0.01)
        self.optimizer.build(policy.trainable_variables)

        @tf.function
        def update(seed):
            drawn = rolled_out(policy, evaluate=evaluate, seed=seed, steps=steps, count=count)
            with tf.GradientTape() as tape:
                returns = interactions.discounted_returns(drawn.rewards, 0.99)
                advantages = tf.map_fn(leave_one_out, returns)
                loss = interactions.objective(log_probabilities(policy, drawn), advantages)
            variables = policy.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

        self.update = update

    def train(self, seed, updates):
        """The policy's answer to the empty graphs, behind so many updates."""
        old = self.policy
        fresh = InteractionPolicy(old.blocks, old.levels, units=16, hierarchical=old.hierarchical, seed=seed)
        old.set_weights(fresh.get_weights())
        for variable in self.optimizer.variables:
            if "learning_rate" not in variable.name:
                variable.assign(tf.zeros_like(variable))
        for number in range(updates):
            self.update(tf.constant(1000 * seed + number))
        return old(tf.zeros([1, *old.blocks.shape], tf.int32))


@pytest.mark.parametrize(
    ("hierarchical", "seeds"),
    [(False, 4), (True, 4)] + [pytest.param(value, 10, marks=pytest.mark.slow) for value in (False, True)],
)
def test_finds_the_edge_that_helps(hierarchical, seeds):
    """One of 140 edges of two layers lowers the loss; all seeds but one must find it."""
    blocks, hits = Blocks((6, 11), 0.2, 6), 0
    where = (1, 1, 2, 4)

    def evaluate(graphs):
        helps = tf.cast(graphs[(slice(None), *where)] != 0, tf.float32)
        return -helps, tf.zeros_like(helps)

    policy = InteractionPolicy(blocks, 2, units=16, hierarchical=hierarchical)
    learner = Learner(policy, evaluate, steps=2, count=32)
    for seed in range(seeds):
        creation = learner.train(seed, updates=40)[0].numpy()
        hits += int(np.argmax(creation[0, 1])) == np.ravel_multi_index(where[1:], blocks.shape[1:])
    assert hits >= seeds - 1


def test_finds_the_sign_that_helps():
    """Where an edge of positive influence is rewarded and one of negative influence punished."""
    blocks, right = Blocks((6,), 0.5, 6), []

    def evaluate(graphs):
        total = tf.reduce_sum(tf.cast(tf.sign(graphs), tf.float32), axis=[1, 2, 3, 4])
        return -total, tf.zeros_like(total)

    learner = Learner(InteractionPolicy(blocks, 2, units=16), evaluate, steps=2, count=16)
    for seed in range(3):
        creation, _, weights = learner.train(seed, updates=60)
        right.append(float(tf.reduce_sum(tf.exp(creation) * tf.cast(weights > 0, tf.float32))))
    assert np.mean(right) > 0.9
