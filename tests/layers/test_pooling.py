"""The max pool that can be differentiated twice, beside that of Keras, on images with many equal maxima."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.layers.pooling import TwiceDifferentiableMaxPool2D

SHAPES = [((4, 6, 6, 3), 3, 1), ((4, 6, 6, 3), 3, 2), ((2, 7, 5, 2), 3, 2), ((2, 8, 8, 2), 2, 2)]


@pytest.fixture(params=SHAPES, ids=str)
def case(request):
    """Our layer, that of Keras, and images of few different values."""
    shape, size, stride = request.param
    images = np.random.default_rng(0).integers(-3, 0, shape).astype(np.float32)
    keras = tf.keras.layers.MaxPool2D(size, stride, padding="same")
    return TwiceDifferentiableMaxPool2D(size, stride), keras, tf.constant(images)


def pulled(layer, images, upstream):
    with tf.GradientTape() as tape:
        tape.watch(images)
        output = layer(images)
    return tape.gradient(output, images, output_gradients=upstream)


def test_values_and_gradients_are_those_of_keras(case):
    ours, keras, images = case
    np.testing.assert_array_equal(ours(images), keras(images))
    upstream = tf.constant(np.random.default_rng(1).normal(size=keras(images).shape).astype(np.float32))
    np.testing.assert_array_equal(pulled(ours, images, upstream), pulled(keras, images, upstream))


def test_the_gradient_of_the_gradient_is_its_transpose(case):
    """u . (P v) = (P^T u) . v for every pair, eager and compiled, each time that it is asked."""
    ours, _, images = case
    chance = np.random.default_rng(2)
    vector = tf.constant(chance.normal(size=images.shape).astype(np.float32))
    upstream = tf.constant(chance.normal(size=ours(images).shape).astype(np.float32))

    def pushed(images):
        with tf.GradientTape() as tape:
            zero = tf.zeros_like(upstream)
            tape.watch(zero)
            back = pulled(ours, images, zero)
        return tape.gradient(back, zero, output_gradients=vector)

    expected = float(tf.reduce_sum(pulled(ours, images, upstream) * vector))
    compiled = tf.function(pushed)
    for function in (pushed, compiled, compiled, compiled):
        assert float(tf.reduce_sum(function(images) * upstream)) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_is_known_as_a_max_pool(case):
    assert isinstance(case[0], tf.keras.layers.MaxPool2D) and case[0].padding == "same"
