"""Open numbers of channels: how graphs know them, and the layout of activations."""

import zlib

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D, LearnedStep, OpenWidth
from tfbnas.layers.width import (
    LAYOUT_MULTIPLE,
    aligned_activations,
    channels_of,
    checked_channels,
    initial_value,
    maybe_aligned,
    pad_to_layout,
    present_size,
    static_size,
)
from tfbnas.networks import construct


@pytest.mark.parametrize(("size", "layout"), [(1, 16), (15, 16), (16, 16), (17, 32), (300, 304)])
def test_layout_is_the_next_multiple(size, layout):
    width = OpenWidth("w", 8, size=size)
    assert int(width.layout()) == layout and layout % LAYOUT_MULTIPLE == 0
    assert present_size(width) == size and static_size(width) is None and width.base == 8


def test_size_is_the_base_at_first():
    assert present_size(OpenWidth("w", 12)) == 12


def test_padding_to_the_layout():
    width = OpenWidth("w", 3)
    value = tf.ones([2, 3])
    padded = pad_to_layout(value, (2, width), fill=7.0).numpy()
    assert padded.shape == (2, 16)
    np.testing.assert_array_equal(padded[:, :3], 1)
    np.testing.assert_array_equal(padded[:, 3:], 7)
    assert pad_to_layout(value, (2, 3)) is value


def test_checked_channels_become_integers():
    assert checked_channels(np.int64(5), "c") == 5 and type(checked_channels(np.int64(5), "c")) is int
    width = OpenWidth("w", 3)
    assert checked_channels(width, "c") is width


def test_channels_of_follows_the_graph():
    width = OpenWidth("w", 8)
    inputs = tf.keras.Input((8, 8, 3))
    x = first = FloatConv2D(width, 3)(inputs)
    assert channels_of(inputs) == 3 and channels_of(x) is width
    for layer in (BatchNormalization(), LearnedStep(), tf.keras.layers.MaxPool2D(2), tf.keras.layers.ReLU()):
        x = layer(x)
        assert channels_of(x) is width
    y = FloatConv2D(width, 3, 2)(first)
    assert channels_of(tf.keras.layers.Add()([x, y])) is width
    pooled = tf.keras.layers.GlobalAveragePooling2D()(x)
    assert channels_of(pooled) is width and channels_of(Dense(4)(pooled)) == 4


def test_initial_values_depend_on_name_and_seed_only():
    initializer = tf.keras.initializers.HeNormal()
    value = initial_value(initializer, (3, 3, 4, 5), 2, "conv/kernel").numpy()
    tf.keras.initializers.HeNormal()((7,))
    assert value.tobytes() == initial_value(initializer, (3, 3, 4, 5), 2, "conv/kernel").numpy().tobytes()
    # crc32 is the same in every process, unlike hash()
    seed = (2 * 1_000_003 + zlib.crc32(b"conv/kernel")) % (2**31 - 1)
    expected = tf.keras.initializers.HeNormal(seed=seed)((3, 3, 4, 5)).numpy()
    assert value.tobytes() == expected.tobytes()
    for key, number in (("conv/kernel", 3), ("other/kernel", 2)):
        assert not np.any(value == initial_value(initializer, (3, 3, 4, 5), number, key).numpy())


def test_alignment_opens_only_what_the_layout_would_change():
    assert maybe_aligned(27, "c") == 27
    with aligned_activations():
        assert maybe_aligned(32, "c") == 32
        opened = maybe_aligned(27, "c")
        assert isinstance(opened, OpenWidth) and present_size(opened) == 27
        width = OpenWidth("w", 27)
        assert maybe_aligned(width, "c") is width
    assert maybe_aligned(27, "c") == 27


def test_alignment_ends_with_an_error():
    with pytest.raises(KeyError), aligned_activations():
        raise KeyError
    assert maybe_aligned(27, "c") == 27


def loss_and_gradients(model, images, labels):
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    return [loss, logits, *tape.gradient(loss, model.trainable_variables)]


@pytest.mark.parametrize("sizes", [{"stream": 3, "inner": 16, "out": 21}, {"stream": 17, "inner": 1, "out": 32}])
def test_network_of_open_widths_computes_what_the_plain_one_does(sizes, image_batches, randomised):
    """Whatever the layout: outputs in training and inference, gradients and statistics."""
    options = {"input_shape": (8, 8, 3), "classes": 4, "options": {}}
    plain = construct("test-small", lambda name, base: sizes[name], **options)
    opened = construct("test-small", lambda name, base: OpenWidth(name, base, size=sizes[name]), **options)
    randomised(plain)
    opened.set_weights(plain.get_weights())
    images, labels = next(iter(image_batches(16)))
    np.testing.assert_allclose(opened(images), plain(images), rtol=1e-5, atol=1e-5)
    for left, right in zip(*(loss_and_gradients(m, images, labels) for m in (opened, plain)), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
    for left, right in zip(opened.weights, plain.weights, strict=True):
        assert left.name.split("/")[-1] == right.name.split("/")[-1]
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


def test_tensors_of_different_widths_cannot_be_added():
    inputs = tf.keras.Input((8, 8, 3))
    branches = [FloatConv2D(OpenWidth(name, 8), 3)(inputs) for name in "ab"]
    total = tf.keras.layers.Add(name="sum")(branches)
    with pytest.raises(UserError, match="one width.*'sum'.*'a'.*'b'"):
        BatchNormalization()(total)


def test_a_keras_layer_refuses_an_open_width_in_words():
    with pytest.raises(UserError, match="tfbnas.layers.*'a'"):
        tf.keras.layers.Conv2D(OpenWidth("a", 8), 3)
