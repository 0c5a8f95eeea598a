"""Batch normalisation: equal to Keras' where nothing is open, and masked where a gradient can reach the mask."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, FloatConv2D, OpenWidth
from tfbnas.layers.width import pad_to_layout


def images(count=8, channels=5, seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, (count, 4, 4, channels)).astype(np.float32)


def test_is_that_of_keras_in_training_and_inference():
    ours, twin = BatchNormalization(), tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    for layer in (ours, twin):
        layer.build((None, 4, 4, 5))
        chance = np.random.default_rng(9)
        layer.set_weights(
            [chance.normal(size=5), chance.normal(size=5), chance.normal(size=5), chance.uniform(1, 2, 5)]
        )
    for step in range(3):
        results = []
        for layer in (ours, twin):
            x = tf.constant(images(seed=step))
            with tf.GradientTape() as tape:
                tape.watch(x)
                output = layer(x, training=True)
                loss = tf.reduce_sum(tf.sin(output))
            results.append([output, *tape.gradient(loss, [x, *layer.trainable_weights]), *layer.weights])
        for left, right in zip(*results, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours(images(), training=False), twin(images(), training=False), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ours(images()), ours(images(), training=False))


def test_moving_statistics_against_numpy():
    layer = BatchNormalization(momentum=0.75)
    x = images()
    layer(x, training=True)
    flat = x.reshape(-1, 5).astype(np.float64)
    np.testing.assert_allclose(layer.moving_mean, 0.25 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.75 + 0.25 * flat.var(0, ddof=1), rtol=1e-5)


def test_frozen_layers_keep_their_statistics():
    layer = BatchNormalization()
    layer.build((None, 4, 4, 5))
    layer.trainable = False
    before = [value.copy() for value in layer.get_weights()]
    np.testing.assert_array_equal(layer(images(), training=True), layer(images(), training=False))
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def open_block(size, mask):
    """Convolution and normalisation of an open width, with random weights."""
    width = OpenWidth("w", size)
    width.mask = None if mask is None else lambda: tf.convert_to_tensor(mask, tf.float32)
    convolution, normalize = FloatConv2D(width, 3, name="c"), BatchNormalization(name="n")
    inputs = tf.keras.Input((4, 4, 5))
    model = tf.keras.Model(inputs, normalize(convolution(inputs)))
    chance = np.random.default_rng(1)
    convolution.kernel.assign(chance.normal(size=(3, 3, 5, size)))
    normalize.gamma.assign(chance.uniform(0.5, 1.5, size))
    normalize.beta.assign(chance.normal(size=size))
    return model, convolution, normalize


def normalized(y, gamma, beta):
    mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
    return gamma * (y - mean) / np.sqrt(variance + 1e-5) + beta


def test_masked_block_is_the_weighted_sum_of_three_separate_blocks():
    """Eq. 11 with the mask behind normalisation: each candidate is a leading slice, padded with zeros to the widest."""
    weights, channels = np.array([0.2, 0.5, 0.3]), (2, 4, 7)
    model, convolution, normalize = open_block(7, [1, 1, 0.8, 0.8, 0.3, 0.3, 0.3])
    x = images()
    expected = np.zeros((8, 4, 4, 7))
    for weight, count in zip(weights, channels, strict=True):
        y = tf.nn.conv2d(x, convolution.kernel.numpy()[..., :count], 1, "SAME").numpy()
        z = normalized(y, normalize.gamma.numpy()[:count], normalize.beta.numpy()[:count])
        expected += weight * np.pad(z, [(0, 0), (0, 0), (0, 0), (0, 7 - count)])
    found = model(x, training=True).numpy()
    assert found.shape[-1] == 16
    np.testing.assert_allclose(found[..., :7], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found[..., 7:], 0)


def test_gradient_reaches_the_mask_and_would_vanish_in_front():
    mask = tf.Variable([1, 1, 0.8, 0.8, 0.3, 0.3, 0.3])
    model, convolution, normalize = open_block(7, mask)
    x, upstream = images(), images(channels=7, seed=3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x, training=True)[..., :7] * upstream)
    behind = tape.gradient(loss, mask).numpy()
    y = tf.nn.conv2d(x, convolution.kernel, 1, "SAME")
    expected = np.sum(normalized(y.numpy(), normalize.gamma.numpy(), normalize.beta.numpy()) * upstream, axis=(0, 1, 2))
    np.testing.assert_allclose(behind, expected, rtol=1e-3, atol=1e-2)
    with tf.GradientTape() as tape:
        z = y * mask
        mean, variance = tf.nn.moments(z, (0, 1, 2))
        z = normalize.gamma * (z - mean) / tf.sqrt(variance + 1e-5) + normalize.beta
        loss = tf.reduce_sum(z * upstream)
    front = tape.gradient(loss, mask).numpy()
    assert np.abs(front).max() < 1e-3 * np.abs(behind).min()


def test_statistics_of_open_layers_have_no_padding():
    model, convolution, normalize = open_block(7, None)
    x = images()
    model(x, training=True)
    y = tf.nn.conv2d(x, convolution.kernel, 1, "SAME").numpy()
    assert normalize.moving_mean.numpy().shape == (7,)
    np.testing.assert_allclose(normalize.moving_mean, 0.1 * y.mean((0, 1, 2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(pad_to_layout(normalize.moving_variance, [normalize.width], 1.0)[7:], np.ones(9))


def test_bfloat16_activations_with_float_statistics():
    layer = BatchNormalization(dtype="mixed_bfloat16")
    output = layer(tf.cast(images(), tf.bfloat16), training=True)
    assert output.dtype == tf.bfloat16 and layer.gamma.dtype == layer.moving_mean.dtype == tf.float32
    expected = normalized(images(), 1.0, 0.0)
    np.testing.assert_allclose(tf.cast(output, tf.float32), expected, atol=0.05)


def test_bfloat16_does_not_round_what_is_learned():
    """What float32 holds and bfloat16 does not: gamma of 1 + 2^-10, moving statistics of 100.01."""
    x = tf.cast(images(), tf.bfloat16)
    mixed, exact = BatchNormalization(dtype="mixed_bfloat16"), BatchNormalization()
    for layer in (mixed, exact):
        layer(x, training=False)
        layer.set_weights([np.full(5, 1 + 2**-10), np.full(5, 2**-10), np.full(5, 100.01), np.full(5, 100.01)])
    for _ in range(3):
        mixed(x, training=True)
        exact(tf.cast(x, tf.float32), training=True)
    for ours, theirs in zip(mixed.weights, exact.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_configuration_round_trip():
    layer = BatchNormalization(0.8, 1e-3, name="n", gamma_initializer="zeros")
    again = tf.keras.layers.deserialize(tf.keras.layers.serialize(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
    layer(images())
    np.testing.assert_array_equal(layer.gamma, np.zeros(5))


@pytest.mark.parametrize("options", [{"center": False}, {"scale": False}, {"axis": 1}])
def test_arguments_that_would_be_ignored_are_refused(options):
    with pytest.raises(UserError, match="of BatchNormalization to be"):
        BatchNormalization(**options)


def test_vectors_are_normalised_like_images_of_one_pixel():
    vectors = images(16)[:, 0, 0]
    ours, twin = BatchNormalization(), tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    np.testing.assert_allclose(ours(vectors, training=True), twin(vectors, training=True), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.moving_mean, twin.moving_mean, rtol=1e-4, atol=1e-6)
    # Keras leaves Bessel's correction out where it does not fuse; ours is the same for vectors and images.
    np.testing.assert_allclose(ours.moving_variance, 0.9 + 0.1 * vectors.var(0, ddof=1), rtol=1e-4)


def test_other_shapes_are_refused():
    with pytest.raises(UserError, match="Received: \\(3, 4, 5\\); reshape it"):
        BatchNormalization()(np.zeros((3, 4, 5), np.float32))
