"""The own shapes of VGG-11 and of VGG-small's description; what every family must do is in tests/contract."""

import pytest
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, BinaryConv2D, FloatConv2D, LearnedStep
from tfbnas.layers.interaction import InteractedConv2D
from tfbnas.networks.interacted import vgg_small
from tfbnas.networks.vgg import vgg11


def plain(name, base):
    return base


def kernels(model):
    return [layer for layer in model.layers if isinstance(layer, BinaryConv2D | FloatConv2D)]


def test_has_the_convolutions_of_the_published_network():
    """torchvision's vgg11: 9 220 480 parameters in its features, of which 2 752 are biases."""
    assert sum(tf.size(layer.kernel).numpy() for layer in kernels(vgg11(plain, base=64))) == 9_220_480 - 2_752


def test_order_of_the_layers():
    model = vgg11(plain)
    assert [layer.filters for layer in kernels(model)] == [16, 32, 64, 64, 128, 128, 128, 128]
    assert [type(layer) for layer in kernels(model)] == [FloatConv2D] + [BinaryConv2D] * 7
    for layer in kernels(model)[1:]:
        assert isinstance(layer.input._keras_history.layer, LearnedStep)
    pools = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.MaxPool2D)]
    assert [layer.name for layer in pools] == ["pool1", "pool2", "pool4", "pool6", "pool8"]
    for pool in pools:  # between convolution and normalisation
        assert isinstance(pool.input._keras_history.layer, BinaryConv2D | FloatConv2D)
        (reader,) = (node.outbound_layer for node in pool.outbound_nodes)
        assert isinstance(reader, BatchNormalization)
    assert model.get_layer("bn8").output_shape == (None, 1, 1, 128)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 16, 3)])
def test_images_that_five_pools_would_eat_up_are_refused(shape):
    with pytest.raises(UserError, match=f"at least 32x32.* Received: {shape[0]}x{shape[1]}"):
        vgg11(plain, input_shape=shape)


VGG16 = [[1, 1], [2, 2], [4, 4, 4], [8, 8, 8], [8, 8, 8]]


def test_stages_make_vgg_16_of_vgg_small():
    """torchvision's vgg16: 14 714 688 parameters in its features, of which 4 224 are biases."""
    model = vgg_small(lambda name, kind: kind.default, base=64, stages=VGG16)
    counted = [layer for layer in model.layers if isinstance(layer, InteractedConv2D | FloatConv2D)]
    assert sum(tf.size(layer.kernel).numpy() for layer in counted) == 14_714_688 - 4_224
    assert [layer.name for layer in counted] == [f"conv{i}" for i in range(1, 14)]
    pools = [layer.name for layer in model.layers if isinstance(layer, tf.keras.layers.MaxPool2D)]
    assert pools == ["pool2", "pool4", "pool7", "pool10", "pool13"]


@pytest.mark.parametrize("stages", [[], [1, 2], [[1], []], [[1, 0]], [[1.5]], "12", 3])
def test_impossible_stages_are_refused(stages):
    with pytest.raises(UserError, match="a list for each stage.*Received: stages="):
        vgg_small(lambda name, kind: kind.default, stages=stages)


def test_vgg_small_names_the_side_that_its_stages_need():
    with pytest.raises(UserError, match="at least 32x32 pixels for vgg_small, which halves them 5 times.*: 16x32"):
        vgg_small(lambda name, kind: kind.default, stages=VGG16, input_shape=(16, 32, 3))
