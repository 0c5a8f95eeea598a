"""Whole searches: rounds, bounds, traces, growth, and what they report."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks, precision
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Memory
from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D
from tfbnas.search.dms import DMS
from tfbnas.search.dms_rounds import of_each_epoch


class Record(tf.keras.callbacks.Callback):
    """What a search is like at the end of each round, and how often its steps were traced."""

    def __init__(self, change=None):
        super().__init__()
        self.change, self.rounds, self.calls = change, [], 0

    def on_train_begin(self, logs=None):
        step = self.model.weight_step

        def counted(*arguments):
            self.calls += 1  # Python runs only while tracing
            return step(*arguments)

        self.model.weight_step = counted

    def on_train_batch_end(self, batch, logs=None):
        self.mu = self.model.mu.numpy()

    def on_epoch_end(self, epoch, logs=None):
        search = self.model
        self.rounds.append(
            {
                "mu": self.mu,
                "anchor": search.anchor.numpy(),
                "ratios": search.ratios.numpy(),
                "channels": search.channels.numpy(),
                "sigma": logs["sigma"],
                "logs": dict(logs),
                "shapes": [layer.kernel.numpy().shape for layer in search.network.layers if hasattr(layer, "kernel")],
                "calls": self.calls,
                "traces": search.train_function.experimental_get_tracing_count(),
                "next": search.mu.numpy(),
            }
        )
        if self.change:
            self.change(search, epoch)


@pytest.fixture(scope="module")
def falling(chains, image_batches):
    """Six rounds under a budget far too small and with steps far too large."""
    search = chains.make(
        limit=380.0,
        penalty_weight=20.0,
        architecture=tf.keras.optimizers.SGD(3.0),
        initial_ratio=1.5,
        final_sigma=0.3,
        rounds=6,
        weight_epochs=1,
    )
    record = Record()
    history = search.fit(image_batches(), image_batches(seed=1), callbacks=[record])
    return search, record.rounds, history.history


def test_sigma_shrinks_by_a_constant_factor_to_its_final_value(falling):
    _, rounds, history = falling
    assert history["sigma"] == pytest.approx(np.geomspace(1.0, 0.3, 6), rel=1e-5)
    assert [r["sigma"] for r in rounds] == history["sigma"]


def test_mu_stays_within_its_candidates_and_above_its_bounds(falling):
    search, rounds, _ = falling
    for round_ in rounds:
        sigma = round_["sigma"]
        least = np.maximum(0.25 + 0.4 * sigma, 0.3)
        assert np.all(round_["mu"] >= least - 1e-6)
        assert np.all(round_["mu"] >= round_["anchor"] - 0.8 * sigma - 1e-6)
        assert np.all(round_["ratios"] >= 0.3 - 1e-6)
        np.testing.assert_allclose(round_["ratios"][:, 2], round_["anchor"] + 0.8 * sigma, rtol=1e-6)
        np.testing.assert_array_equal(round_["mu"], round_["next"])  # the next round finds it where this one left it
    second = 0.3**0.2
    assert rounds[0]["mu"] == pytest.approx([1.5 - 0.8 * second] * 2)  # as far as the second round's candidates reach
    assert rounds[-1]["next"] == pytest.approx([0.37, 0.37])  # 0.25 + 0.4 * 0.3


def test_variables_have_the_size_of_the_widest_candidate(falling):
    _, rounds, _ = falling
    for round_ in rounds:
        a, b = round_["channels"][:, -1]
        assert round_["shapes"] == [(3, 3, 3, a), (3, 3, a, b), (b, 4)]
        expected = np.maximum(1, np.round(round_["ratios"] * np.array([[8], [6]])))
        np.testing.assert_array_equal(round_["channels"], expected)
    assert rounds[0]["shapes"] != rounds[-1]["shapes"]


def test_history_tells_both_phases_and_the_cost(falling):
    search, _, history = falling
    np.testing.assert_array_equal(search.noise, 0)  # outside of a step masks are the expected ones
    assert set(history) == {"loss", "accuracy", "validation_loss", "validation_accuracy", "cost", "sigma"}
    assert all(len(values) == 6 and np.all(np.isfinite(values)) for values in history.values())
    costs = history["cost"]
    assert costs == sorted(costs, reverse=True) and costs[-1] < 0.6 * costs[0]
    # On the images of the same classes both phases lose about log(4); neither is zero or the sum of both.
    assert 0.5 < min(history["loss"] + history["validation_loss"]) < max(history["validation_loss"]) < 5


def test_closing_takes_the_mean_ratio(chains):
    search = chains.make(initial_sigma=0.3, fill_budget=False, fast_on=None, compiled=False)
    search.mu.assign([1.22, 0.76])
    assert search.architecture() == Architecture(
        "dms", "test-chain", {"a": 10, "b": 5}, (8, 8, 3), 4, {"binarisation": "zero_alpha"}
    )
    ratios = np.array([0.76 - 0.24, 0.76, 0.76 + 0.24])
    mass = [1 / (1 + np.exp(-(d + 0.4))) - 1 / (1 + np.exp(-(d - 0.4))) for d in (-0.8, 0.0, 0.8)]
    assert search.choices()["b"] == {
        "value": pytest.approx(0.76),
        "low": pytest.approx(0.46),
        "high": pytest.approx(1.06),
        "closed": 5,
        "base": 6,
        "candidates": pytest.approx(ratios),
        "candidate_channels": [3, 5, 6],
        "probabilities": pytest.approx(mass / np.sum(mass)),
        "least": pytest.approx(1.5 - 0.8 * 0.3),  # around the anchor
        "most": pytest.approx(1.5 + 0.8 * 0.3),
        "sigma": pytest.approx(0.3),
        "ratio": pytest.approx(5 / 6),
    }
    assert search.record() == {"choices": search.choices(), "epochs": []}
    assert search.scalars()["channels/b"] == 5 and search.scalars()["mu/a"] == pytest.approx(1.22)


@pytest.mark.parametrize("multiple", [1, 4])
def test_what_is_delivered_is_within_the_budget(chains, multiple):
    """The largest common factor of all mu with which it is; found here by trying a thousand."""
    mu, limit = np.array([2.3, 1.7], np.float32), 1700.0
    search = chains.make(limit=limit, width_multiple=multiple, fill_budget=False, fast_on=None, compiled=False)
    search.mu.assign(mu)

    def close(factor):
        base = np.array(list(chains.bases.values()))
        return np.maximum(1, np.round(factor * mu * base / multiple)).astype(int) * multiple

    assert chains.memory(*close(1.0)) > limit
    best = max(factor for factor in np.linspace(0, 1, 1001) if chains.memory(*close(factor)) <= limit)
    found = search.architecture()
    assert list(found.choices.values()) == close(best).tolist()
    assert 0.8 * limit < Memory().of(found) <= limit


def test_budget_below_the_smallest_network_is_refused(chains):
    smallest = chains.memory(3, 2)  # both widths at 0.25 + 0.4 * 0.3 of their bases 8 and 6
    chains.make(limit=smallest, compiled=False)
    with pytest.raises(UserError, match=f"at least {smallest:.6g} bytes.* Received: limit={smallest - 1:.6g}"):
        chains.make(limit=smallest - 1, compiled=False)


def test_no_retracing_over_twenty_rounds_and_no_upper_bound(chains, image_batches):
    """Widths that jump up and down at random, far beyond those of the beginning, in one and the same graph."""
    chance = np.random.default_rng(0)

    def change(search, epoch):
        search.mu.assign(chance.uniform(0.4, 2.0 + epoch, 2).astype(np.float32))

    search = chains.make(initial_ratio=1.0, initial_sigma=0.5, rounds=20, weight_epochs=1)
    record = Record(change)
    data = image_batches(8, batch=8)
    search.fit(data, data, callbacks=[record])
    assert len({tuple(r["shapes"]) for r in record.rounds}) > 15
    assert len({r["traces"] for r in record.rounds}) == 1 and len({r["calls"] for r in record.rounds}) == 1
    assert record.rounds[0]["traces"] <= 2
    largest = max(r["channels"].max() for r in record.rounds)
    assert largest > 100  # eight times the 8 + 3 of the beginning
    search.mu.assign([40.0, 30.0])
    search.settings.rounds = 22
    search.fit(data, data, initial_epoch=20)
    assert search.network.get_layer("conv2").kernel.numpy().shape[2:] > (300, 180)
    assert search.train_function.experimental_get_tracing_count() == record.rounds[0]["traces"]
    assert np.isfinite(search.evaluate(data, verbose=0)).all()


def test_evaluation_is_that_of_the_network_with_expected_masks(chains, image_batches):
    search = chains.make(binary=False)
    data = image_batches()
    images, labels = (np.concatenate(parts) for parts in zip(*data.as_numpy_iterator(), strict=True))
    found = search.evaluate(data, verbose=0, return_dict=True)
    logits = search(images, training=False).numpy()
    loss = tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    assert found == {
        "loss": pytest.approx(float(tf.reduce_mean(loss)), rel=1e-5),
        "accuracy": pytest.approx(np.mean(np.argmax(logits, axis=1) == labels)),
    }
    np.testing.assert_array_equal(search(images), logits)  # no noise outside of training


def test_search_whose_choices_are_closed_is_the_plain_network(chains, image_batches, randomised):
    """With a distribution so narrow that all candidates are one, and with masks as certain."""
    search = chains.make(initial_ratio=1.1, initial_sigma=1e-3, final_sigma=1e-3, fast_on=None, compiled=False)
    randomised(search.network)
    assert len(set(search.channels.numpy()[0])) == 1
    plain = networks.build(search.architecture())
    plain.set_weights(search.network.get_weights())
    images, _ = next(iter(image_batches(16)))
    for training in (False, True):
        np.testing.assert_allclose(
            search(images, training=training), plain(images, training=training), rtol=1e-4, atol=1e-5
        )
    assert float(search.cost()) == pytest.approx(Memory().of(search.architecture()), rel=1e-6)


def test_searches_in_bfloat16(chains, image_batches):
    with precision.precision("bfloat16"):
        search = chains.make(architecture=tf.keras.optimizers.Adam(0.05), rounds=2, weight_epochs=2)
    data = image_batches()
    before = search.mu.numpy()
    history = search.fit(data, image_batches(seed=1)).history
    assert search.network.get_layer("conv2").compute_dtype == "bfloat16"
    assert np.all(np.isfinite(history["loss"])) and np.all(search.mu.numpy() != before)
    assert {variable.dtype for variable in search.network.variables} == {tf.float32}


def test_steps_of_the_architecture_can_be_fewer_or_more_than_one_pass(chains, image_batches):
    search = chains.make(rounds=1, weight_epochs=1, architecture_steps=6)
    data = image_batches(32, batch=8)
    search.fit(data, data)
    assert search.steps.numpy() == 4 + 6 and search.architecture_optimizer.iterations.numpy() == 6
    search.settings = replace(search.settings, rounds=2, weight_epochs=2, architecture_steps=1)
    search.fit(data, data, initial_epoch=1)
    assert search.steps.numpy() == 10 + 8 + 1 and search.optimizer.iterations.numpy() == 4 + 8


def test_new_channels_of_a_seed_are_none_of_another_seed_in_another_round(chains):
    drawn = {}
    for seed in (0, 1):
        search = chains.make(seed=seed, best_effort=False, compiled=False)
        for round_index in (0, 1, 2):
            search.cluster(round_index)
            drawn[seed, round_index] = search.network.get_layer("conv2").kernel.numpy().tobytes()
    assert len(set(drawn.values())) == 6


def test_without_best_effort_nothing_is_kept(chains):
    for best_effort in (True, False):
        search = chains.make(best_effort=best_effort)
        kernel = search.network.get_layer("conv1").kernel
        before = kernel.numpy()
        search.mu.assign([1.7, 1.3])
        search.cluster(1)
        same = kernel.numpy()[..., : before.shape[-1]] == before
        assert np.all(same) if best_effort else not np.any(same)
        before = kernel.numpy()
        search.cluster(2)
        assert np.array_equal(kernel.numpy(), before) == best_effort  # every round draws new values of its own


def test_a_start_below_the_least_ratio_is_raised_to_it(chains):
    search = chains.make(initial_ratio=0.4, initial_sigma=1.0, compiled=False)
    np.testing.assert_allclose(search.mu, [0.65, 0.65], rtol=1e-6)
    np.testing.assert_allclose(search.anchor, [0.65, 0.65], rtol=1e-6)


def test_mu_is_never_below_the_least_ratio_of_a_candidate(chains, image_batches):
    ratios = {"initial_ratio": 0.5, "initial_sigma": 0.05, "final_sigma": 0.05, "minimal_ratio": 0.45}
    search = chains.make(architecture=tf.keras.optimizers.SGD(0.0), **ratios)
    images, labels = next(iter(image_batches()))
    search.mu.assign([0.1, 0.44])
    search.architecture_step(images, labels)
    np.testing.assert_allclose(search.mu, [0.46, 0.46], atol=1e-6)  # the trust region: 0.5 - 0.8 * 0.05
    search.cluster(1)
    search.mu.assign([0.1, 0.44])
    search.architecture_step(images, labels)
    np.testing.assert_allclose(search.mu, [0.45, 0.45], atol=1e-6)


@pytest.mark.parametrize("name", ["initial_ratio", "initial_sigma", "final_sigma", "minimal_ratio", "temperature"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_arguments_that_are_not_positive_are_refused(chains, name, value):
    with pytest.raises(UserError, match=f"Expected `{name}` to be positive. Received: {name}={value}"):
        chains.make(compiled=False, **{name: value})


def test_data_without_end_are_refused(chains, image_batches):
    with pytest.raises(UserError, match="finite, non-empty dataset. Received one of cardinality -1"):
        chains.make(rounds=1).fit(image_batches().repeat(), image_batches())


def build_search(builder, name):
    networks.register(name, builder)
    return DMS(name, budget=Budget(Memory(), 1000.0), input_shape=(8, 8, 3), classes=4)


def test_networks_whose_masks_would_not_act_are_refused():
    def unmasked(choose, *, input_shape, classes):
        inputs = tf.keras.Input(input_shape)
        x = BatchNormalization()(FloatConv2D(choose("seen", 8), 3)(inputs))
        x = FloatConv2D(choose("blind", 8), 3)(x)
        return tf.keras.Model(inputs, Dense(classes)(tf.keras.layers.GlobalAveragePooling2D()(x)))

    with pytest.raises(UserError, match="BatchNormalization behind.* 'test-unmasked' with none for the width 'blind'"):
        build_search(unmasked, "test-unmasked")


def test_networks_without_choices_are_refused():
    def closed(choose, *, input_shape, classes):
        inputs = tf.keras.Input(input_shape)
        x = BatchNormalization()(FloatConv2D(8, 3)(inputs))
        return tf.keras.Model(inputs, Dense(classes)(tf.keras.layers.GlobalAveragePooling2D()(x)))

    with pytest.raises(UserError, match="Expected a network with choices. Received: .*'test-closed'"):
        build_search(closed, "test-closed")


def test_unknown_networks_and_options_are_refused():
    for network, options in (("resnet81", {}), ("resnet18", {"depth": 3})):
        with pytest.raises(UserError, match="Received: "):
            DMS(network, budget=Budget(Memory(), 1000.0), options=options)


def test_architecture_carries_what_rebuilds_the_network(chains):
    found = chains.make(binary=False, fill_budget=False, fast_on=None, compiled=False).architecture()
    assert found == Architecture("dms", "test-chain", {"a": 12, "b": 9}, (8, 8, 3), 4, {"binarisation": "float"})
    assert networks.build(found).output_shape == (None, 4)


class Numbered:
    """Data whose images hold the number of their epoch and batch, with the methods of a Split that are used."""

    def __init__(self):
        self.seeds = set()

    def steps(self, batch_size):
        return 2

    def epoch(self, epoch, batch_size, *, seed, augment):
        self.seeds.add(seed)
        assert augment

        def batch(index):
            number = tf.cast(10 * epoch + index, tf.float32)
            return tf.fill([batch_size, 8, 8, 3], number), tf.zeros([batch_size], tf.int64)

        return tf.data.Dataset.range(2).map(batch)


@pytest.mark.parametrize("initial_epoch", [0, 1])
def test_every_round_sees_its_own_epochs_of_both_halves(chains, initial_epoch):
    search = chains.make(seed=7, rounds=3, weight_epochs=2, architecture_steps=3, batch_size=4)
    train, validation, seen = Numbered(), Numbered(), []
    search.run_eagerly = True

    def spy(phase):
        def step(images, labels):
            seen.append((phase, int(images[0, 0, 0, 0])))
            return tf.constant(0.0), tf.zeros([len(images), 4])

        return step

    search.weight_step, search.architecture_step = spy("weights"), spy("mu")
    search.fit(train, validation, initial_epoch=initial_epoch)
    expected = []
    for first in (0, 2, 4)[initial_epoch:]:
        expected += [("weights", 10 * epoch + batch) for epoch in (first, first + 1) for batch in (0, 1)]
        expected += [("mu", 10 * first), ("mu", 10 * first + 1), ("mu", 10 * first + 10)]
    assert seen == expected
    assert train.seeds == {7} and validation.seeds == {8}


def test_epochs_of_weights_within_a_round_are_told_apart():
    running = [{"loss": 3.0}, {"loss": 2.5}, {"loss": 2.0}]
    assert of_each_epoch(running) == [{"loss": 3.0}, {"loss": 2.0}, {"loss": 1.0}]
    assert of_each_epoch([]) == []


def test_a_round_knows_the_losses_of_its_epochs(chains, image_batches):
    search = chains.make(rounds=1, weight_epochs=3)
    history = search.fit(image_batches(), image_batches(seed=1), verbose=False).history
    losses = [entry["loss"] for entry in search.record()["epochs"]]
    assert len(losses) == 3 and np.mean(losses) == pytest.approx(history["loss"][0], rel=1e-5)
