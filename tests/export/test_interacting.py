"""Channel interactions as standard layers: the same integers, and the operators that they become."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.costs import Operation
from tfbnas.costs import interacted as costs
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
@pytest.mark.parametrize("options", [{}, {"levels": 3, "edges": [(0, 1, 7), (2, 1, -3), (0, 3, -5)]}, {"strides": 2}])
def test_every_way_computes_the_same_integers(way, options):
    layer, images = layer_and_images(**options)
    model = deployed(layer, way)
    expected = layer(images).numpy()
    assert np.mean(expected != layer.bitcounts(tf.constant(images)).numpy()) > 0.1
    np.testing.assert_array_equal(model(images), expected)
    own = [type(one).__module__.split(".")[0] for one in model.layers]
    assert "tfbnas" not in own


@pytest.mark.parametrize("way", costs.WAYS)
def test_operators_and_integers_on_larq_compute_engine(way):
    layer, images = layer_and_images()
    model = deployed(layer, way)
    flatbuffer = convert_model(model)
    names = sorted(operator.name for operator in operators(flatbuffer))
    expected = {
        "float": ["ADD", "CONV_2D", "CONV_2D", "LceBconv2d", "LceQuantize"],
        "mixed": ["ADD", "CONV_2D", "LceBconv2d", "LceBconv2d", "LceQuantize", "LceQuantize"],
        "binary": ["ADD", "LceBconv2d", "LceBconv2d", "LceBconv2d", "LceQuantize"],
    }
    assert names == expected[way]
    kinds = {"add": "ADD", "quantize": "LceQuantize"}
    more = costs.operations(layer, way, height=7, width=7)
    priced = [kinds.get(one.kind, "LceBconv2d" if one.binary else "CONV_2D") for one in more]
    assert sorted([*priced, "LceBconv2d", "LceQuantize"]) == names
    (found,) = Interpreter(flatbuffer).predict(images)
    np.testing.assert_array_equal(found, layer(images))


def test_without_edges_it_is_one_convolution():
    layer, images = layer_and_images(edges=())
    model = deployed(layer, None)
    assert len(model.layers) == 2 and costs.cheapest(layer, height=7, width=7)[1] == []
    np.testing.assert_array_equal(model(images), layer(images))


def test_the_cheapest_way_is_taken():
    layer, images = layer_and_images()
    sizes = {"height": 7, "width": 7}
    way, found = costs.cheapest(layer, **sizes)
    totals = {one: sum(map(costs.instructions, costs.operations(layer, one, **sizes))) for one in costs.WAYS}
    assert way == min(totals, key=totals.get) and found == costs.operations(layer, way, **sizes)
    assert len(set(totals.values())) == 3 and min(totals.values()) > 0
    written = [[one.name for one in deployed(layer, choice).layers[1:]] for choice in (None, way)]
    assert written[0] == written[1]


def test_instructions_are_those_of_the_fit():
    """By hand, 16 to 16 channels at 32x32: 3 + 0.024 x 1024 x 16 x 384 / 1e3 + 4.5 x 16.384 + 11.6 x 9.216."""
    one = dict(binary=True, kernel_size=(3, 3), inputs=16, outputs=16, bias=False, height=32, width=32)
    assert costs.instructions(Operation("a", "convolution", **one)) == pytest.approx(334.6, abs=0.1)
    bits = costs.instructions(Operation("a", "convolution", **one, writes_bits=True))
    assert bits == pytest.approx(3.1 + 153.5 + 55.7 + 100.5, abs=0.2)
    assert costs.instructions(Operation("a", "add", **one)) == pytest.approx(22.9, abs=0.1)
    assert costs.instructions(Operation("a", "quantize", **one)) == pytest.approx(217.9, abs=0.1)
    one |= {"binary": False, "kernel_size": (1, 1)}
    assert costs.instructions(Operation("a", "convolution", **one)) == pytest.approx(97.0, abs=0.1)
