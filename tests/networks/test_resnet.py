"""ResNet-18's own shape; what every family must do is in tests/contract."""

import pytest
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import BinaryConv2D, FloatConv2D, LearnedStep
from tfbnas.layers.interaction import InteractedConv2D
from tfbnas.networks.interacted import resnet18_interactions, resnet20
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


def test_shortcuts_around_every_convolution():
    """Bi-Real's: an addition for each 3x3 convolution but the stem, all of the stream's width, which stays real."""
    asked = []

    def choose(name, base):
        asked.append(name)
        return base

    model = resnet18(choose, base=4, shortcuts="convolution")
    assert asked == ["stem", "stage2/stream", "stage3/stream", "stage4/stream"]
    adds = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.Add)]
    assert len(adds) == 16
    for stage in range(1, 5):
        for block in (1, 2):
            scope = f"stage{stage}_block{block}"
            first, second = model.get_layer(f"{scope}_add1"), model.get_layer(f"{scope}_add")
            assert second.input[0] is first.output and second.input[1] is model.get_layer(f"{scope}_bn2").output
            assert model.get_layer(f"{scope}_step2").input is first.output
    assert {w.name: w.shape for w in model.weights} == {w.name: w.shape for w in resnet18(plain, base=4).weights}
    with pytest.raises(UserError, match='`shortcuts` to be "block" or "convolution". Received: shortcuts=\'all\''):
        resnet18(plain, shortcuts="all")


def test_stages_take_the_place_of_base():
    model = resnet18(plain, stages=[4, 4, 6, 10], base=8, input_shape=(8, 8, 3))
    assert model.get_layer("stem").output_shape[-1] == 4
    assert [model.get_layer(f"stage{stage}_block2_add").output_shape[1:] for stage in range(1, 5)] == [
        (8, 8, 4), (4, 4, 4), (2, 2, 6), (1, 1, 10)
    ]  # fmt: skip
    for wrong in ([4, 4, 6], [4, 4, 6, 0], [4, 4, 6, 1.5]):
        with pytest.raises(UserError, match="`stages` to be four positive numbers of channels"):
            resnet18(plain, stages=wrong)


@pytest.mark.parametrize(("shortcuts", "count"), [("convolution", 6), ("block", 3)])
def test_resnet20_has_both_shortcuts_too(shortcuts, count):
    model = resnet20(lambda name, kind: kind.default, base=4, n=1, shortcuts=shortcuts, input_shape=(8, 8, 3))
    adds = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.Add)]
    assert len(adds) == count
    if shortcuts == "block":  # the second convolution of a block reads what the first one gives
        assert model.get_layer("stage1_conv2").input is model.get_layer("stage1_conv1_bn").output
        assert model.get_layer("stage2_conv2_add").input[0] is model.get_layer("stage2_shortcut_bn").output


def test_resnet18_with_interactions_has_the_kernels_of_the_published_network():
    """See above. Without shortcuts around each convolution there are two additions in a stage."""
    model = resnet18_interactions(lambda name, kind: kind.default)
    counted = [layer for layer in model.layers if isinstance(layer, InteractedConv2D | FloatConv2D)]
    assert sum(tf.size(layer.kernel).numpy() for layer in counted) == 11_689_512 - 9_600 - 513_000
    assert sum(isinstance(layer, tf.keras.layers.Add) for layer in model.layers) == 8
    assert model.get_layer("stage1_conv1").output.shape[1:] == (56, 56, 64)
    assert model.get_layer("stage4_conv4").output.shape[1:] == (7, 7, 512) and model.output_shape == (None, 1000)
