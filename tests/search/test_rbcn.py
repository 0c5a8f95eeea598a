"""Adversarial pruning on the small network: what it removes, what it keeps, and what comes out of it."""

from dataclasses import replace

import numpy as np
import pytest

from tfbnas import networks, training
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Latency, Memory, MultiplyAdds
from tfbnas.errors import UserError
from tfbnas.search import rbcn_filters
from tfbnas.search.rbcn import RBCNPruning

BASE = {"stream": 4, "inner": 6, "out": 8}
NORMS = {"stream": ("stem_bn", "bn2"), "inner": ("bn1",), "out": ("shortcut_bn", "bn3")}
USELESS = {"stream": [2], "inner": [0, 4], "out": [1, 5, 6]}


def made(limit=1e6, cost=None, options=None, **hyperparameters):
    settings = {"epochs": 12, "warm_up_epochs": 0, "mask_interval": 1, "recipe": "sgd", "learning_rate": 1e-6}
    search = RBCNPruning(
        "test-small",
        budget=Budget(cost or Memory(), limit),
        input_shape=(8, 8, 3),
        classes=4,
        options=options,
        **settings | hyperparameters,
    )
    return search


def fitted(search, data):
    search.compile(**search.optimizers(data))
    return search.fit(data, verbose=False).history


def with_useless_filters(search, randomised):
    """All filters have the same scale and offset but the useless ones, which have none."""
    randomised(search.network, seed=4)
    for width, names in NORMS.items():
        for name in names:
            layer = search.network.get_layer(name)
            for weight, value in ((layer.gamma, 1.2), (layer.beta, 0.3)):  # no useful filter whose bits never change
                value = np.full(BASE[width], value, np.float32)
                value[USELESS[width]] = 0.0
                weight.assign(value)
    return search


@pytest.fixture(scope="module")
def pruned(image_batches, randomised):
    """A network with filters known to be useless, of which as many are to go as there are of these."""
    data = image_batches(64, batch=16)
    search = made(
        pruning_rate=0.33,
        epochs=14,
        sparsity=0.005,
        sparsity_rate=0.0005,
        architecture_learning_rate=1.0,
        initial_spread=0.0,
    )
    with_useless_filters(search, randomised)
    return search, fitted(search, data), data


def test_loses_exactly_the_useless_filters(pruned):
    search, history, _ = pruned
    gone = {name: np.flatnonzero(mask == 0).tolist() for name, mask in search.left().items()}
    assert gone == USELESS
    masks = search.masks.values.numpy()
    assert np.count_nonzero(masks == 0.0) == 6 and masks[masks > 0].min() > 0.05  # zeros are exact, no others are near
    assert history["filters"][-1] == pytest.approx(12 / 18) and len(search.costs()) == 1
    # The costs of the epochs are those of the filters left, not of what would be cut to the limit.
    assert (
        history["cost"][0] == pytest.approx(Memory().of(made().template)) and history["cost"][-1] == search.costs()[0]
    )


def test_what_comes_out_is_the_masked_network(pruned):
    search, _, data = pruned
    architecture = search.architecture()
    assert architecture.choices == {"stream": 3, "inner": 4, "out": 5} and architecture.method == "rbcn"
    narrow = networks.build(architecture)
    training.set_weights(narrow, search.weights())
    images = next(iter(data))[0]
    expected = search.network(images).numpy()
    np.testing.assert_allclose(narrow(images), expected, atol=1e-5 * np.abs(expected).max())


def test_the_discriminator_is_kept_from_winning_and_logged(pruned):
    _, history, _ = pruned
    for name in ("real", "fake"):
        assert len(history[name]) == 14 and 0.02 < history[name][-1] < 0.98


def test_magnitude_takes_the_smallest_scales_at_once_and_the_masks_rest(image_batches, randomised):
    data = image_batches(32, batch=16)
    search = made(pruning_rate=0.33, criterion="magnitude", epochs=1)
    with_useless_filters(search, randomised)
    search.network.get_layer("bn1").gamma.assign([0.0, 1.0, 1.0, 1.0, -0.1, -9.0])  # its size counts, not its sign
    history = fitted(search, data)
    assert {name: np.flatnonzero(mask == 0).tolist() for name, mask in search.left().items()} == USELESS
    assert set(search.masks.values.numpy()) == {0.0, 1.0} and history["filters"] == [pytest.approx(12 / 18)]


def test_magnitude_stops_as_soon_as_all_limits_hold():
    """Against a loop that takes one filter after the other."""
    random = np.random.default_rng(3)
    scores = [random.uniform(size=size) for size in (4, 6, 8)]
    limits = np.array([90.0, 40.0])

    def prices(rows):
        rows = np.asarray(rows, np.float64)
        return np.stack([rows[:, 0] * rows[:, 1] + rows[:, 1] * rows[:, 2], 3 * rows.sum(axis=1)], axis=1)

    left = [dict(enumerate(one)) for one in scores]
    while np.any(prices([[len(one) for one in left]])[0] > limits):
        score, width, place = min(
            (score, width, place)
            for width, one in enumerate(left)
            for place, score in one.items()
            if len(one) > 1 and score != max(one.values())
        )
        del left[width][place]
    masks = np.split(rbcn_filters.largest_within(scores, prices, limits, 0.1), [4, 10])
    assert [np.flatnonzero(mask).tolist() for mask in masks] == [sorted(one) for one in left]


@pytest.mark.parametrize("what", ["pruning_rate", "memory", "multiply_adds", "latency", "multiple"])
def test_what_comes_out_is_within_every_limit(what):
    """Whatever the masks are; the channels with the largest masks stay."""
    cost = {"multiply_adds": MultiplyAdds(), "latency": Latency("raspberry_pi_4b")}.get(what, Memory())
    whole = Architecture("", "test-small", {}, (8, 8, 3), 4)
    least = replace(whole, choices=dict.fromkeys(BASE, 2))
    limit = 1e6 if what == "pruning_rate" else 0.5 * (cost.of(whole) + cost.of(least))
    own = {"pruning_rate": {"pruning_rate": 0.5}, "multiple": {"width_multiple": 2}}.get(what, {})
    search = made(limit, cost, **own)
    masks = np.random.default_rng(0).uniform(0.1, 1.0, 18).astype(np.float32)
    search.masks.values.assign(masks)
    found, left = search.architecture().choices, search.left()
    assert cost.of(search.architecture()) <= limit and sum(found.values()) <= (9 if what == "pruning_rate" else 17)
    assert all(count % own.get("width_multiple", 1) == 0 for count in found.values())
    for name, start in (("stream", 0), ("inner", 4), ("out", 10)):
        section = masks[start : start + BASE[name]]
        assert (left[name] > 0).sum() == found[name] and section[left[name] > 0].min() > max(
            section[left[name] == 0], default=0
        )


def test_lambda_rises_above_the_budget_and_falls_below_it(image_batches):
    images = next(iter(image_batches(16)))[0]
    for limit, rises in ((300.0, True), (1e6, False)):
        search = made(limit, sparsity=0.5, sparsity_rate=0.1)
        search.begin()
        before = search.masks.values.numpy()
        search._step(images, search.baseline(images, training=True))
        assert (float(search.sparsity) > 0.5) is rises
        fell = bool(np.mean(search.masks.values.numpy()) < np.mean(before))
        assert fell is rises  # below the budget the masks rest


def test_pruning_begins_from_the_network_as_it_is(randomised):
    search = made(initial_spread=0.1)
    np.testing.assert_array_equal(search.masks.values, np.ones(18))  # none before
    randomised(search.network)
    search.begin()
    known, found = training.weights(search.network), training.weights(search.baseline)
    assert all(np.array_equal(a, b) for name in known for a, b in zip(known[name], found[name], strict=True))
    masks = search.masks.values.numpy()
    assert 0.02 < masks.std() < 0.2 and abs(masks.mean() - 1) < 0.1


def test_prices_of_channels_are_what_the_cost_says(memory_of_small):
    """A channel more and one less of each width, around the present numbers; 1 on average over the channels."""
    search = made()
    search.price()
    apart = {}
    for name, size in BASE.items():
        around = size // 4
        less = memory_of_small({**BASE, name: size - around})
        apart[name] = (memory_of_small(BASE) - less) / around  # no width is wider than its base
    mean = np.average(list(apart.values()), weights=list(BASE.values()))
    np.testing.assert_allclose(search.shares, np.clip(np.array(list(apart.values())) / mean, 0.5, 2), rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"warm_up_epochs": 12}, "`warm_up_epochs` to be at least 0 and below `epochs`. Received: 12 of 12"),
        ({"pruning_rate": 1.0}, "`pruning_rate` to be above 0 and below 1"),
        ({"data_weight": 0.0, "adversarial_weight": 0.0}, "`data_weight` or `adversarial_weight` to be above 0"),
        ({"mask_interval": 0}, "`mask_interval`"),
        ({"cost": lambda architecture: 1.0}, "expectation is differentiable"),
        ({"limit": 10.0}, "every width of 1. Received: limit=10"),
    ],
)
def test_refusals(changes, text):
    with pytest.raises(UserError, match=text):
        made(**changes)


def test_a_network_without_widths_is_refused():
    with pytest.raises(UserError, match="choice 'stage1_conv1' is of the kind Interactions"):
        RBCNPruning("resnet20", budget=Budget(Memory(), 1e6), options={"n": 1, "base": 4})
