"""ResNet-18's own shape; what every family must do is in tests/contract."""

import pytest
import tensorflow as tf

from tfbnas.layers import BinaryConv2D, FloatConv2D, LearnedStep
from tfbnas.networks.resnet import resnet18


def plain(name, base):
    return base


def kernels(model):
    return [layer for layer in model.layers if isinstance(layer, BinaryConv2D | FloatConv2D)]


@pytest.fixture(scope="module")
def cifar():
    return resnet18(plain)


def test_has_the_parameters_of_the_published_network():
    """He et al. / torchvision: 11 689 512, of which 9 600 are normalisation and 513 000 the dense layer."""
    model = resnet18(plain, input_shape=(224, 224, 3), classes=1000)
    assert sum(tf.size(layer.kernel).numpy() for layer in kernels(model)) == 11_689_512 - 9_600 - 513_000
    assert model.get_layer("logits").count_params() == 513_000
    assert model.get_layer("stem").kernel_size == (7, 7)
    shapes = [
        model.get_layer(name).output_shape[1:3]
        for name in ("stem", "stem_pool", "stage2_block1_add", "stage4_block2_add")
    ]
    assert shapes == [(112, 112), (56, 56), (28, 28), (7, 7)]


def test_cifar_form(cifar):
    assert sum(tf.size(layer.kernel).numpy() for layer in kernels(cifar)) + 1290 == 699_066  # DMS, table 1
    assert [layer.name for layer in kernels(cifar) if isinstance(layer, FloatConv2D)] == ["stem"]
    assert cifar.get_layer("stem").kernel_size == (3, 3)
    sizes = [cifar.get_layer(f"stage{stage}_block2_add").output_shape[1:] for stage in range(1, 5)]
    assert sizes == [(32, 32, 16), (16, 16, 32), (8, 8, 64), (4, 4, 128)]


def test_binary_layers_read_quantised_tensors(cifar):
    readers = [layer for layer in cifar.layers if isinstance(layer, BinaryConv2D)]
    assert len(readers) == 16 + 3
    for layer in readers:
        assert isinstance(layer.input._keras_history.layer, LearnedStep), layer.name
    for stage in (2, 3, 4):
        shortcut, first = (cifar.get_layer(f"stage{stage}_block1_{name}") for name in ("shortcut", "conv1"))
        assert shortcut.input is first.input
        assert shortcut.kernel_size == (1, 1) and shortcut.strides == first.strides == (2, 2)


def test_stream_stays_real():
    """No quantiser and no ReLU on the way from one addition to the next."""
    model = resnet18(plain, base=4)
    first, second = model.get_layer("stage1_block1_add"), model.get_layer("stage1_block2_add")
    assert second.input[0] is first.output
