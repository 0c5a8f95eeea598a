"""ResNet Fabric's own shape; what every family must do is in tests/contract."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs import Latency
from tfbnas.errors import UserError
from tfbnas.layers import BinaryConv2D, FloatConv2D, LearnedStep
from tfbnas.networks.resnet_fabric import resnet_fabric, resnet_fabric_graph


def keep(name, default):
    return default


def test_links_are_mirrored():
    """Block d reads blocks n-d-2, n-d-1 (but the first one) and n-d-3 (but the last one) of the group before."""
    graph = resnet_fabric_graph(n=3)
    for group in (2, 3):
        links = {
            block: {
                name.rpartition("from")[2]
                for name in graph.choices
                if name.startswith(f"group{group}/block{block}/from")
            }
            for block in range(3)
        }
        assert links == {0: {"1", "0"}, 1: {"0", "1", "_input"}, 2: {"_input", "0"}}
    assert not [name for name in graph.choices if name.startswith("group1") and "from" in name]


@pytest.mark.parametrize("n", [3, 5, 7, 9, 18])
def test_numbers_of_links(n):
    links = [name for name in resnet_fabric_graph(n=n).choices if "from" in name]
    assert len(links) == 2 * (3 * (n - 2) + 4)
    assert not [name for name in resnet_fabric_graph(n=n, links=False).choices if "from" in name]


@pytest.fixture(scope="module")
def models():
    return {form: resnet_fabric(keep, n=2, base=4, binarisation=form) for form in ("zero_alpha", "float")}


@pytest.mark.parametrize("binarisation", ["zero_alpha", "float"])
def test_sizes_of_the_groups(models, binarisation):
    sizes = [models[binarisation].get_layer(f"group{group}_block1_add").output_shape[1:] for group in (1, 2, 3)]
    assert sizes == [(32, 32, 4), (16, 16, 8), (8, 8, 16)]
    # The second group still reads the size of the first: a link from what it reads to the third has stride 4.
    link = models[binarisation].get_layer("group3_block1_from_input_body_conv1")
    assert link.strides == (4, 4) and link.input_shape[1:] == (32, 32, 4) and link.output_shape[1:] == (8, 8, 16)


def test_binary_form_quantises_what_its_convolutions_read_and_keeps_the_stream_real(models):
    layers = models["zero_alpha"].layers
    readers = [layer for layer in layers if isinstance(layer, BinaryConv2D)]
    assert all(isinstance(layer.input._keras_history.layer, LearnedStep) for layer in readers)
    assert [layer.name for layer in layers if isinstance(layer, FloatConv2D)] == ["stem"]
    assert not [layer for layer in layers if isinstance(layer, tf.keras.layers.ReLU)]


def test_float_form_is_the_paper_s(models):
    """Convolution, normalisation, ReLU, convolution, normalisation; sum; ReLU."""
    model = models["float"]
    assert not [layer for layer in model.layers if isinstance(layer, BinaryConv2D | LearnedStep)]
    chain, layer = [], model.get_layer("group1_block0_relu")
    while layer.name != "stem_relu":
        chain.append(layer.name.removeprefix("group1_block0_"))
        tensor = layer.input[-1] if isinstance(layer.input, list) else layer.input
        layer = tensor._keras_history.layer
    assert chain == ["relu", "add", "body_bn2", "body_conv2", "body_step2", "body_bn1", "body_conv1"]
    assert isinstance(model.get_layer("group1_block0_body_step2"), tf.keras.layers.ReLU)


def quantised(model):
    """The tensor that each quantiser in front of a block's first convolution reads."""
    return [layer.input.name for layer in model.layers if isinstance(layer, LearnedStep) and "step2" not in layer.name]


def test_one_threshold_for_each_tensor():
    edge, tensor = (resnet_fabric(keep, n=2, base=4, thresholds=way) for way in ("edge", "tensor"))
    assert len(set(quantised(tensor))) == len(quantised(tensor)) == 6  # the stem and all blocks but the last
    assert set(quantised(edge)) == set(quantised(tensor)) and len(quantised(edge)) > 15
    readers = [layer for layer in tensor.layers if isinstance(layer, BinaryConv2D)]
    assert all(isinstance(layer.input._keras_history.layer, LearnedStep) for layer in readers)
    kernels = [[tuple(w.shape) for w in m.trainable_weights if len(w.shape) == 4] for m in (edge, tensor)]
    assert sorted(kernels[0]) == sorted(kernels[1])
    graphs = [resnet_fabric_graph(n=2, base=4, thresholds=way) for way in ("edge", "tensor")]
    assert graphs[0].choices == graphs[1].choices and sum(graphs[0].costs) == sum(graphs[1].costs)
    with pytest.raises(UserError, match="'edge', 'tensor'.*thresholds='node'"):
        resnet_fabric_graph(thresholds="node")


def test_equal_thresholds_of_the_edges_are_one_threshold_of_the_tensor():
    """Where the edges' thresholds and kernels are equal to the tensor's, so are the outputs."""
    edge, tensor = (
        resnet_fabric(keep, input_shape=(8, 8, 3), n=1, base=4, thresholds=way) for way in ("edge", "tensor")
    )
    chance = np.random.default_rng(0)
    for layer in tensor.layers:
        layer.set_weights([chance.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    for layer in [layer for layer in edge.layers if layer.weights]:
        if isinstance(layer, LearnedStep) and not layer.name.endswith("step2"):
            source = layer.input._keras_history.layer.name
            origin = next(
                one for one in tensor.layers
                if isinstance(one, LearnedStep) and one.name.endswith("bits")
                and one.input._keras_history.layer.name == source
            )  # fmt: skip
        else:
            origin = tensor.get_layer(layer.name)
        layer.set_weights(origin.get_weights())
    images = chance.normal(size=(4, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(edge(images), tensor(images))


def test_a_threshold_for_each_tensor_saves_a_quarter_of_the_time():
    ways = [
        Architecture("t", "resnet_fabric", {}, (32, 32, 3), 10, {"n": 3, "thresholds": w}) for w in ("edge", "tensor")
    ]
    edge, tensor = (Latency("raspberry_pi_4b").of(way) for way in ways)
    assert tensor < 0.75 * edge


def test_a_network_needs_blocks():
    with pytest.raises(UserError, match="n=0"):
        resnet_fabric(keep, n=0)
