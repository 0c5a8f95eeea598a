"""QuickNet's own shape, against what larq-zoo publishes; what every family must do is in tests/contract."""

from collections import Counter

import larq as lq
import pytest
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers.depthwise import FloatDepthwiseConv2D, Smoothing
from tfbnas.lce.operations import trace
from tfbnas.networks.quicknet import quicknet, quicknet_graph


def keep(name, default):
    return default


PUBLISHED = {  # larq_zoo/sota/quicknet.py: blocks, filters, parameters
    "QuickNetSmall": ((4, 4, 4, 4), (32, 64, 256, 512), 12_655_688),
    "QuickNet": ((4, 4, 4, 4), (64, 128, 256, 512), 13_234_088),
    "QuickNetLarge": ((6, 8, 12, 6), (64, 128, 256, 512), 23_342_248),
}


@pytest.fixture(params=PUBLISHED, scope="module")
def published(request):
    blocks, filters, parameters = PUBLISHED[request.param]
    model = quicknet(keep, input_shape=(224, 224, 3), classes=1000, blocks=blocks, filters=filters)
    return model, blocks, filters, parameters


def test_parameters_are_the_published_ones(published):
    """Larq counts two of each normalised channel, as they are deployed."""
    model, _, _, parameters = published
    assert lq.models.ModelProfile(model).weight_count() == parameters


def test_operators_are_those_of_the_zoo(published):
    model, blocks, filters, _ = published
    found = Counter(one.kind for one in trace(model) if not one.folded)
    count = sum(blocks)
    assert found == {
        "quantize": count,
        "convolution": count + 2 + 3,
        "depthwise": 1 + 3,
        "add": count,
        "max_pool": 3,
        "global_pool": 1,
        "dense": 1,
    }
    binary = [one for one in trace(model) if one.kind == "convolution" and one.reads_bits]
    assert [(one.height, one.inputs, one.outputs) for one in binary] == [
        (56 // 2**section, channels, channels)
        for section, (channels, blocks_here) in enumerate(zip(filters, blocks, strict=True))
        for _ in range(blocks_here)
    ]


def test_the_pool_of_a_transition_is_binomial_and_not_trained():
    kernel = Smoothing()((3, 3, 2, 1)).numpy()
    assert kernel[:, :, 1, 0].tolist() == [[1 / 16, 2 / 16, 1 / 16], [2 / 16, 4 / 16, 2 / 16], [1 / 16, 2 / 16, 1 / 16]]
    model = quicknet(keep, blocks=(1, 1), filters=(4, 8))
    layer = model.get_layer("transition2_smoothing")
    assert isinstance(layer, FloatDepthwiseConv2D) and not layer.trainable_weights
    constant = layer(tf.ones((1, 8, 8, 4))).numpy()
    assert constant[0, 1:-1, 1:-1] == pytest.approx(1.0)  # a constant stays, but at the border


@pytest.mark.parametrize(("size", "first"), [(32, 32), (64, 64), (224, 56)])
def test_small_images_are_halved_by_the_transitions_alone(size, first):
    model = quicknet(keep, input_shape=(size, size, 3), blocks=(1, 1, 1), filters=(4, 4, 8))
    assert [model.get_layer(f"section{s}_block1_add").output_shape[1] for s in (1, 2, 3)] == [
        first,
        first // 2,
        first // 4,
    ]


def test_blocks_are_the_choices_of_the_graph():
    graph = quicknet_graph(blocks=(2, 1), filters=(4, 8))
    assert graph.choices == ("section1/block1", "section1/block2", "section2/block1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": (1, 2)}, "as many positive integers.*blocks=\\(1, 2\\)"),
        ({"blocks": (1, 0), "filters": (4, 8)}, "as many positive integers"),
        ({"binarisation": "zero_alpha"}, '"sign" or "float".*zero_alpha'),
        ({"input_shape": (4, 4, 3)}, "that 3 transitions.*4x4"),
    ],
)
def test_impossible_shapes_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        quicknet(keep, **options)
