"""Channel interactions as standard layers: the same integers, and the operators that they become."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Latency, trace
from tfbnas.costs import interacted as costs
from tfbnas.export import deploy
from tfbnas.export.convert import Interpreter, convert_model
from tfbnas.export.flatbuffer import operators
from tfbnas.export.interacting import interacted
from tfbnas.layers.interaction import InteractedConv2D

EDGES = [(0, 1, 3), (0, 2, -5), (3, 1, 5), (4, 0, -3), (7, 6, 5), (1, 0, 3), (0, 7, 3)]


def layer_and_images(edges=EDGES, channels=8, strides=1, inputs=5, **options):
    """Bitcounts reach all intervals: channels of kernels and images are alike up to their signs."""
    chance = np.random.default_rng(0)
    signs = np.where(np.arange(inputs) % 2, -1.5, 1.5)
    images = np.array([-1.0, 1.0, 0.5, -0.2]).reshape(4, 1, 1, 1) * signs + chance.normal(size=(4, 7, 7, inputs))
    layer = InteractedConv2D(channels, 3, strides, edges=edges, name="conv", **{"influence_unit": 0.1} | options)
    layer.build((None, 7, 7, inputs))
    sides = np.where(np.arange(channels) % 2, -1, 1)
    layer.set_weights([signs[:, None] * sides + chance.normal(size=layer.kernel.shape)])
    return layer, images.astype(np.float32)


def deployed(layer, way, inputs=5):
    tensor = tf.keras.Input((7, 7, inputs))
    return tf.keras.Model(tensor, interacted(layer, tensor, "conv", way))


@pytest.mark.parametrize("way", costs.WAYS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"levels": 3, "edges": [(0, 1, 7), (2, 1, -3), (0, 3, -5)]},
        {"strides": 2, "interval_reach": 1.5},
        {"levels": 3, "edges": [(0, 1, 7), (2, 1, -3), (0, 3, -5)], "interval_reach": 3.0},
        {"edges": [(0, 1, 3), (2, 3, -3)], "interval_reach": 2.0},
    ],
)
def test_every_way_computes_the_same_integers(way, options):
    layer, images = layer_and_images(**options)
    model = deployed(layer, way)
    expected = layer(images).numpy()
    assert np.mean(expected != layer.bitcounts(tf.constant(images)).numpy()) > 0.1
    np.testing.assert_array_equal(model(images), expected)
    own = [type(one).__module__.split(".")[0] for one in model.layers]
    assert "tfbnas" not in own


@pytest.mark.parametrize("way", costs.WAYS)
@pytest.mark.parametrize(("channels", "reach"), [(8, None), (32, None), (8, 2.0)])
def test_operators_and_integers_on_larq_compute_engine(way, channels, reach):
    more = [(20, 31, -5), (16, 17, 3)] if channels == 32 else []
    layer, images = layer_and_images(EDGES + more, channels, interval_reach=reach)
    model = deployed(layer, way)
    flatbuffer = convert_model(model)
    names = sorted(operator.name for operator in operators(flatbuffer))
    expected = {
        "stairs": ["ADD", "CONV_2D", "CONV_2D", "FLOOR", "LceBconv2d", "LceQuantize"],
        "blocks": ["ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FLOOR", "LceBconv2d", "LceQuantize"],
        "signs": ["ADD", "LceBconv2d", "LceBconv2d", "LceBconv2d", "LceQuantize"],
    }
    bounded = ["MINIMUM"] if reach and way != "signs" else []
    assert names == sorted(expected[way] + bounded)
    kinds = {"add": "ADD", "activation": "FLOOR", "depthwise": "DEPTHWISE_CONV_2D"}
    priced = costs.operations(layer, way, height=7, width=7)
    operator_names = [kinds.get(one.kind, "LceBconv2d" if one.binary else "CONV_2D") for one in priced]
    if bounded:  # priced as the other elementwise operator
        operator_names[operator_names.index("FLOOR")] = "MINIMUM"
    assert sorted([*operator_names, "LceBconv2d", "LceQuantize"]) == names
    (found,) = Interpreter(flatbuffer).predict(images)
    np.testing.assert_array_equal(found, layer(images))


def test_edges_between_blocks_are_not_written_in_blocks():
    layer, _ = layer_and_images([(0, 20, 3)], 32)
    assert costs.groups(layer) == 0 and costs.cheapest(layer, height=7, width=7)[0] != "blocks"
    assert costs.groups(layer_and_images([(0, 1, 3)], 32)[0]) == 2
    assert costs.groups(layer_and_images([(0, 1, 3)], 24)[0]) == 1


def test_without_edges_it_is_one_convolution():
    layer, images = layer_and_images(edges=())
    model = deployed(layer, None)
    assert len(model.layers) == 2 and costs.cheapest(layer, height=7, width=7)[1] == []
    np.testing.assert_array_equal(model(images), layer(images))


def test_the_cheapest_way_is_taken():
    layer, images = layer_and_images()
    sizes = {"height": 7, "width": 7}
    way, found = costs.cheapest(layer, **sizes)
    totals = {one: costs.milliseconds(costs.operations(layer, one, **sizes)) for one in costs.WAYS}
    assert way == min(totals, key=totals.get) and found == costs.operations(layer, way, **sizes)
    assert len(set(totals.values())) == 3 and min(totals.values()) > 0
    assert costs.milliseconds(found) == pytest.approx(float(Latency("raspberry_pi_4b").expected(found, {})), rel=1e-5)
    written = []
    for choice in (None, way):
        tf.keras.backend.reset_uids()  # layers without names of their own are counted
        written.append([one.name for one in deployed(layer, choice).layers[1:]])
    assert written[0] == written[1]


def test_many_edges_are_written_in_blocks_and_few_are_not():
    pairs = [(t, s) for t in range(32) for s in range(32) if t != s and t // 16 == s // 16]
    chance = np.random.default_rng(0)
    many = [(*pairs[i], 3) for i in chance.choice(len(pairs), 96, replace=False)]
    ways = [costs.cheapest(layer_and_images(edges, 32)[0], height=16, width=16)[0] for edges in (many, many[:2])]
    assert ways == ["blocks", "stairs"]


@pytest.mark.parametrize("network", ["resnet20", "vgg_small"])
def test_the_deployed_network_costs_what_the_trained_one_does(network, randomised):
    """Prices of the search against those of the operators that are really there."""
    options = {"base": 16, "n": 1} if network == "resnet20" else {"base": 16}
    template = Architecture("t", network, {}, (16, 16, 3), 4, options)
    chance = np.random.default_rng(0)
    graphs = {name: kind.drawn(20, chance) for name, kind in list(networks.choices(template).items())[::2]}
    for choices in ({}, graphs):
        model = randomised(networks.build(replace(template, choices=choices)))
        latency = Latency("raspberry_pi_4b")
        ours, theirs = (sorted(map(str, latency.operators(trace(one)))) for one in (model, deploy(model)))
        assert [row.partition("operator=")[2] for row in ours] == [row.partition("operator=")[2] for row in theirs]
