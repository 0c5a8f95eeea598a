"""The convolution's ways to its filter gradient."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.layers import convolving


def gradients(call, inputs, kernel, upstream):
    with tf.GradientTape() as tape:
        tape.watch([inputs, kernel])
        output = call(inputs, kernel)
    return [output, *tape.gradient(output, [inputs, kernel], output_gradients=upstream)]


@pytest.mark.parametrize(
    ("way", "size", "window", "strides"),
    [
        ("_over_the_batch", (4, 4), 3, (1, 1)),
        ("_over_the_batch", (8, 8), 3, (2, 2)),
        ("_over_the_batch", (5, 7), 3, (2, 2)),
        ("_over_the_batch", (3, 4), 1, (1, 1)),
        ("_over_the_batch", (6, 5), 5, (2, 3)),
        ("_by_columns", (4, 4), 3, (1, 1)),
        ("_by_columns", (7, 5), 3, (1, 1)),
        ("_by_columns", (3, 2), 1, (1, 1)),
        ("_by_columns", (8, 8), 4, (1, 1)),
    ],
)
def test_gradient(way, size, window, strides, monkeypatch):
    """Small integers, whose sums bfloat16 holds exactly, so that the order of a sum does not matter."""
    taken = []
    original = getattr(convolving, way)
    monkeypatch.setattr(convolving, way, lambda *a: taken.append(a) or original(*a))
    chance = np.random.default_rng(0)
    channels = 257 if way == "_by_columns" else 2
    outputs = [-(-s // stride) for s, stride in zip(size, strides, strict=True)]
    inputs = tf.constant(chance.integers(0, 2, (3, *size, channels)), tf.bfloat16)
    kernel = tf.constant(chance.choice([-1, 1], (window, window, channels, 5)), tf.bfloat16)
    upstream = tf.constant(chance.integers(-2, 3, (3, *outputs, 5)), tf.bfloat16)
    found = gradients(lambda x, w: convolving.convolve(x, w, strides), inputs, kernel, upstream)
    expected = gradients(lambda x, w: tf.nn.conv2d(x, w, strides, "SAME"), inputs, kernel, upstream)
    assert len(taken) == 1
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(tf.cast(ours, tf.float32), tf.cast(theirs, tf.float32))


@pytest.mark.parametrize(
    ("shape", "window", "stride", "dtype"),
    [
        ((2, 4, 4, 2), 3, 1, tf.float32),  # slower there
        ((2, 8, 8, 2), 3, 1, tf.bfloat16),  # too many pixels
        ((2, 4, 4, 2), 1, 2, tf.bfloat16),  # a window that leaves pixels out
        ((2, 12, 12, 257), 3, 2, tf.bfloat16),  # many channels, but a stride
    ],
)
def test_otherwise_tensorflows_own(shape, window, stride, dtype, monkeypatch):
    monkeypatch.setattr(convolving, "_with_filter_gradient", None)
    inputs, kernel = tf.ones(shape, dtype), tf.ones((window, window, shape[-1], 3), dtype)
    found = convolving.convolve(inputs, kernel, (stride, stride))
    expected = tf.nn.conv2d(inputs, kernel, stride, "SAME")
    np.testing.assert_array_equal(tf.cast(found, tf.float32), tf.cast(expected, tf.float32))


def test_a_size_that_is_known_only_in_the_step():
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 2], tf.bfloat16)])
    def call(inputs):
        return convolving.convolve(inputs, tf.ones((3, 3, 2, 3), tf.bfloat16), (1, 1))

    assert call(tf.ones((2, 4, 4, 2), tf.bfloat16)).shape == (2, 4, 4, 3)
