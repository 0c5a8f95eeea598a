"""Depthwise convolution against numpy, with given and with open channels."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.costs import Memory, trace
from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, FloatConv2D, OpenWidth, SignConv2D
from tfbnas.layers.depthwise import FloatDepthwiseConv2D, Smoothing
from tfbnas.layers.resizing import resize


def by_hand(images, kernel, stride):
    """Every channel on its own; TensorFlow's "same" puts the odd pixel of the border behind."""
    outputs = -(-images.shape[1] // stride)
    total = max(0, (outputs - 1) * stride + 3 - images.shape[1])
    front = total // 2
    padded = np.pad(images, ((0, 0), (front, total - front), (front, total - front), (0, 0)))
    found = np.zeros((len(images), outputs, outputs, images.shape[3]))
    for row in range(outputs):
        for column in range(outputs):
            patch = padded[:, row * stride : row * stride + 3, column * stride : column * stride + 3]
            found[:, row, column] = (patch * kernel[None, :, :, :, 0]).sum(axis=(1, 2))
    return found


@pytest.mark.parametrize("stride", [1, 2])
def test_every_channel_is_convolved_on_its_own(stride):
    images = np.random.default_rng(0).normal(size=(2, 7, 7, 5)).astype(np.float32)
    layer = FloatDepthwiseConv2D(3, stride)
    found = layer(images)
    size = -(-7 // stride)
    assert tuple(found.shape) == tuple(layer.compute_output_shape(images.shape)) == (2, size, size, 5)
    np.testing.assert_allclose(found, by_hand(images, layer.depthwise_kernel.numpy(), stride), atol=1e-5)


def test_an_open_width_keeps_its_kernels_when_it_grows_and_is_charged_as_the_closed_one():
    width = OpenWidth("stem", 5)
    inputs = tf.keras.Input((8, 8, 3))
    x = FloatDepthwiseConv2D(3, name="depthwise")(FloatConv2D(width, 3, name="stem")(inputs))
    x = FloatDepthwiseConv2D(3, 2, depthwise_initializer=Smoothing(), trainable=False, name="pool")(x)
    model = tf.keras.Model(inputs, BatchNormalization(name="bn")(x))
    before = model.get_layer("depthwise").depthwise_kernel.numpy()
    resize(model, {width: 7}, seed=0)
    layer = model.get_layer("depthwise")
    assert layer.depthwise_kernel.shape[2] is None and layer.depthwise_kernel.numpy().shape == (3, 3, 7, 1)
    np.testing.assert_array_equal(layer.depthwise_kernel.numpy()[:, :, :5], before)
    pool = model.get_layer("pool").depthwise_kernel.numpy()
    np.testing.assert_allclose(pool[:, :, 6, 0], np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]))
    certain = {"stem": (tf.constant([7.0]), tf.constant([1.0]))}
    # Floats of the stem and the two depthwise kernels.
    assert float(Memory().expected(trace(model), certain)) == 4 * (27 * 7 + 9 * 7 + 9 * 7)


def test_what_the_layer_does_not_offer_is_refused():
    with pytest.raises(UserError, match="`depth_multiplier` of FloatDepthwiseConv2D to be 1.*depth_multiplier=2"):
        FloatDepthwiseConv2D(3, depth_multiplier=2)


def test_a_binary_convolution_of_signs_may_end_in_a_relu():
    images = np.sign(np.random.default_rng(0).normal(size=(1, 4, 4, 8))).astype(np.float32)
    plain, cut = SignConv2D(4, 3), SignConv2D(4, 3, activation="relu")
    linear = plain(images)
    cut.build(images.shape)
    cut.set_weights(plain.get_weights())
    np.testing.assert_array_equal(cut(images), np.maximum(linear, 0))
    assert SignConv2D.from_config(cut.get_config()).activation is tf.keras.activations.relu
    with pytest.raises(UserError, match="`activation` of SignConv2D to be None or \"relu\". Received: 'tanh'"):
        SignConv2D(4, 3, activation="tanh")
