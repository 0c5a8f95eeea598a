"""The search of channel interactions, on a small ResNet."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, FunctionCost, Memory
from tfbnas.errors import UserError
from tfbnas.search.cibcnn import CIBCNN
from tfbnas.search.cibcnn_settings import Settings
from tfbnas.search.interactions import Blocks

SMALL = {"input_shape": (8, 8, 3), "classes": 4, "options": {"base": 8, "n": 1, "influence_unit": 0.1}}


def count(architecture):
    return 100.0 + sum(map(len, architecture.choices.values()))


def make(limit=1e6, cost=None, **hyperparameters):
    own = {"epochs": 2, "warm_up_epochs": 1, "interval": 2, "rollouts": 2, "rollout_steps": 2, **hyperparameters}
    search = CIBCNN("resnet20", budget=Budget(cost or FunctionCost(count, unit="edges"), limit), **SMALL, **own)
    search.compile(tf.keras.optimizers.Adam(1e-2), tf.keras.optimizers.Adam(1e-2))
    return search


@pytest.fixture(scope="module")
def data():
    chance = np.random.default_rng(0)
    images = chance.normal(size=(64, 8, 8, 3)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((images, chance.integers(0, 4, 64))).batch(16)


@pytest.fixture(scope="module")
def images(data):
    return next(iter(data))[0]


@pytest.fixture(scope="module")
def search(data):
    search = make()
    search.history_of_fit = search.fit(data, data, verbose=False).history
    return search


def with_graphs(search, edges):
    """Puts edges (layer, teacher, student, K) into a search."""
    graphs = np.zeros(search.blocks.shape, np.int32)
    for layer, teacher, student, influence in edges:
        block = teacher // 16
        assert block == student // 16
        graphs[layer, block, teacher % 16, student % 16] = influence
    search.graphs.assign(graphs)


def closed(search):
    model = networks.build(search.architecture())
    model.set_weights(search.network.get_weights())
    return model


def test_a_graph_without_edges_is_the_plain_network_bit_for_bit(images):
    search = make()
    plain = networks.build(Architecture("plain", "resnet20", {}, **SMALL))
    plain.set_weights(search.network.get_weights())
    for training in (False, True):
        np.testing.assert_array_equal(search.network(images, training=training), plain(images, training=training))


def test_the_closed_network_is_the_open_one_bit_for_bit(search, images):
    with_graphs(search, [(0, 1, 2, 3), (3, 15, 0, -5), (5, 31, 16, 5), (5, 3, 2, -3)])
    assert search.architecture().choices["stage3_conv2"] == [[3, 2, -3], [31, 16, 5]]
    np.testing.assert_array_equal(closed(search)(images), search.network(images))


def test_searches_after_the_warm_up_within_the_density(search):
    history = search.history_of_fit
    assert history["edges"][0] == 0 and history["edges"][1] > 0 and history["reward"][0] == 0
    assert history["cost"][1] > history["cost"][0]
    assert {"loss", "accuracy", "validation_loss", "validation_accuracy", "density"} <= set(history)
    edges = np.count_nonzero(search.graphs.numpy(), axis=(1, 2, 3))
    assert np.all(edges <= search.blocks.limits())
    for name, choice in search.choices().items():
        assert choice["edges"] == len(choice["closed"]) == sum(choice["influences"].values())
        assert choice["value"] <= 0.1 and name in search.architecture().choices


def test_an_episode_changes_policy_and_graphs_and_nothing_else(data):
    search = make()
    images, labels = next(iter(data))
    weights = [variable.numpy() for variable in search.network.variables]
    policy = [variable.numpy() for variable in search.policy.variables]
    search._episode(images, labels)  # not traced, which takes ten times as long
    for variable, value in zip(search.network.variables, weights, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert any(np.any(v.numpy() != old) for v, old in zip(search.policy.variables, policy, strict=True))
    assert 0 < np.count_nonzero(search.graphs) <= 2 * len(search.opened)


def test_what_is_delivered_fits_and_loses_the_least_probable_edges_first():
    search = make(limit=103)
    edges = [(0, 1, 2, 3), (1, 3, 4, 5), (2, 5, 6, -3), (3, 7, 8, 3), (4, 9, 10, 3), (5, 20, 21, 3)]
    with_graphs(search, edges)
    assert search._costs(search.graphs.value()[None]).numpy() == pytest.approx(106.0)
    found = search.architecture()
    assert count(found) == 103 and search.costs() == [103.0]
    creation = search.policy(search.graphs.value()[None])[0].numpy()[0].reshape(search.blocks.shape)
    pairs = [56, 56, 240, 240, 480, 480]
    values = {e: creation[e[0], e[1] // 16, e[1] % 16, e[2] % 16] + np.log(pairs[e[0]]) for e in edges}
    kept = {(layer, *edge) for layer, name in enumerate(search.opened) for edge in found.choices[name]}
    assert kept == set(sorted(edges, key=values.get)[3:])


def test_nothing_is_created_that_the_budget_has_no_room_for(data):
    """Six layers: once an edge for each fits in, twice it does not, unless one was deleted."""
    search = make(limit=111, rollout_steps=6)
    images, labels = next(iter(data))
    for _ in range(2):
        search._episode(images, labels)
        assert 0 < np.count_nonzero(search.graphs) <= 11


def test_what_exceeds_the_budget_lowers_the_reward(data):
    """The same graph under a budget that it exceeds, with a heavy penalty."""
    rewards = []
    for limit in (1e6, 103.0):
        search = make(limit=limit, rollout_steps=1)
        with_graphs(search, [(layer, 1, 2, 3) for layer in range(6)])
        search.budgets = (Budget(search.budget.cost, limit, penalty_weight=1000.0),)
        images, labels = next(iter(data))
        search._episode(images, labels)
        rewards.append(float(search._means["reward"].result()))
    assert rewards[1] < rewards[0] - 0.5


def test_prices_are_the_costs_of_the_graphs_that_are_priced():
    """Between them straight lines; the budget is of another kind for each layer."""

    def cost(architecture):
        return 7.0 + sum(10 * layer + len(edges) ** 0.5 for layer, edges in enumerate(architecture.choices.values()))

    search = make(cost=FunctionCost(cost, unit="things"))
    limits = search.blocks.limits()
    for layer in (0, 5):
        edges = np.zeros((1, len(limits)), np.int32)
        for number in (1, limits[layer] // 4, limits[layer]):
            edges[0, layer] = number
            assert search.prices.of(tf.constant(edges)).numpy() == pytest.approx(7.0 + number**0.5, abs=1e-3)
        edges[0, layer] = 0
        assert search.prices.of(tf.constant(edges)).numpy() == pytest.approx(7.0)


@pytest.mark.parametrize("recipe", ["adam", "sgd", "adam_sgd"])
def test_the_weights_are_trained_by_the_recipe_of_the_settings(recipe, data):
    search = make(recipe=recipe, learning_rate=0.01)
    optimizer = search.optimizers(data)["weight_optimizer"]
    assert type(optimizer).__name__ == {"adam": "Adam", "sgd": "SGD", "adam_sgd": "CaseOptimizer"}[recipe]


def test_the_logs_say_how_much_the_edges_do(search):
    """None before there are edges; then shares."""
    history = search.history_of_fit
    assert history["active"][0] == history["idle"][0] == 0
    assert 0 <= history["active"][1] <= 1 and 0 <= history["idle"][1] <= 1
    assert history["active"][1] + history["idle"][1] > 0
    assert search.record()["warm_up"] is False


def test_budgets_below_the_plain_network_and_other_networks_are_refused():
    with pytest.raises(UserError, match=r"at least 100 edges, the cost of resnet20 without interactions. Received"):
        make(limit=99)
    with pytest.raises(UserError, match="choices are channel interactions, such as resnet20.*Received: 'vgg11'"):
        CIBCNN("vgg11", budget=Budget(Memory(), 1e6))
    with pytest.raises(UserError, match="interactions need binarisation sign"):
        CIBCNN("resnet20", budget=Budget(Memory(), 1e9), options={"base": 8, "n": 1, "binarisation": "float"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rollouts": 1}, "at least two `search.rollouts`"),
        ({"density_limit": 0.0}, "`search.density_limit` to be above 0 and at most 1"),
        ({"discount": 1.5}, "`search.discount` to be above 0"),
        ({"warm_up_epochs": 100}, "below `search.epochs`. Received: 100 of 100"),
        ({"interval": 0}, "interval"),
        ({"loss_threshold": -1.0}, "loss_threshold"),
        ({"drops": [0.9, 0.5]}, "rising fractions"),
        ({"normalization_epochs": -1}, "normalization_epochs"),
        ({"kernel_bound": 0.0}, "kernel_bound"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Settings(**values).check()


def test_kind_checks_draws_and_opens():
    kind = networks.choices(Architecture("x", "resnet20", {}, **SMALL))["stage3_conv2"]
    assert kind.default == [] and kind.check("graph", [[3, 1, 5], [0, 1, -3]]) == [[0, 1, -3], [3, 1, 5]]
    for wrong in ([[0, 32, 3]], [[0, 1, 4]], [[0, 1]], "edges", [[0, 1, 3], [0, 1, 5]], 7):
        with pytest.raises(UserError, match="'graph'"):
            kind.check("graph", wrong)
    random = np.random.default_rng(0)
    drawn = [kind.draw(random) for _ in range(50)]
    assert all(kind.check("graph", edges) == edges for edges in drawn)
    assert all(teacher // 16 == student // 16 for edges in drawn for teacher, student, _ in edges)
    assert 0 <= min(map(len, drawn)) < 10 and 38 < max(map(len, drawn)) <= 48
    assert {edge[2] for edges in drawn for edge in edges} == {-5, -3, 3, 5}
    assert len(kind.drawn(480, random)) == kind.pairs == 480
    assert kind.open("graph").channels == 32


def test_a_random_graph_has_the_influences_it_is_given():
    kind = networks.choices(Architecture("x", "resnet20", {}, **SMALL))["stage3_conv2"]
    influences = [3, 3, -5, 5, -3, 3]
    graphs = [kind.placed(influences, np.random.default_rng(seed)) for seed in range(200)]
    for edges in graphs:
        assert kind.check("graph", edges) == edges and sorted(edge[2] for edge in edges) == sorted(influences)
    counts = np.zeros((32, 32))
    for edges in graphs:
        for teacher, student, _ in edges:
            counts[teacher, student] += 1
    assert counts[:16, 16:].sum() == counts[16:, :16].sum() == np.trace(counts) == 0
    assert np.abs(counts[:16, :16].sum() - 600) < 5 * np.sqrt(300) and counts.max() < 14  # 1200 draws of 480 pairs


@pytest.mark.parametrize(
    ("network", "options", "edges"),
    [
        ("resnet20", {}, 1008),
        ("vgg_small", {}, 2496),
        ("vgg_small", {"base": 64, "stages": [[1, 1], [2, 2], [4, 4, 4], [8, 8, 8], [8, 8, 8]]}, 6240),
        ("resnet18_interactions", {}, 5760),
    ],
)
def test_the_papers_presets_limit_the_edges_to_the_largest_density(network, options, edges):
    template = Architecture("x", network, {}, (32, 32, 3), 10, options)
    blocks = Blocks(tuple(kind.sources for kind in networks.choices(template).values()), 0.1)
    assert blocks.limits().sum() == edges
