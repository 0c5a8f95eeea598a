"""Images and a network that do not belong together are refused before training."""

import numpy as np
import pytest
from data_files import make_images

import tfbnas  # noqa: F401
from tfbnas import data
from tfbnas.errors import UserError

import tensorflow as tf  # isort: skip

layers = tf.keras.layers


def network(*last, shape=(8, 8, 3), classes=3):
    return tf.keras.Sequential([layers.Input(shape), layers.Flatten(), layers.Dense(classes, name="logits"), *last])


@pytest.fixture(scope="module")
def split():
    return data.from_arrays(make_images(12), np.arange(12) % 3)


def refused(match, function, *arguments, **keywords):
    with pytest.raises(UserError, match=match) as caught:
        function(*arguments, **keywords)
    assert "\n" not in str(caught.value)


def test_what_fits_passes(split, tiny_tfds):
    data.check_network(network(), split)
    data.check_network(network(), data.load(str(tiny_tfds)))
    data.check_network(network(), data.load(str(tiny_tfds), memory_limit=1))
    data.check(split)
    everywhere = tf.keras.Sequential([layers.Input((None, None, 3)), layers.Conv2D(2, 1)])
    maps = data.from_arrays(make_images(4), np.arange(4 * 64).reshape(4, 8, 8) % 2)
    data.check_network(everywhere, maps)


def test_the_shape(split):
    refused(r"images of 32x32x3.*Received: 8x8x3 in the arrays.*input_shape=\(8, 8, 3\)", data.check, split,
            input_shape=(32, 32, 3))  # fmt: skip
    refused("8x8x1.*Received: 8x8x3", data.check_network, network(shape=(8, 8, 1)), split)


@pytest.mark.parametrize("limit", [2**30, 1])
def test_the_number_of_classes(tiny_tfds, limit):
    """A network of ten outputs trains on three classes without a word from Keras."""
    images = data.load(str(tiny_tfds), memory_limit=limit)
    refused("images of 10 classes.*Received: 3 classes in split 'train'.*classes=3", data.check, images, classes=10)
    refused("images of 2 classes", data.check_network, network(classes=2), images.train.halves(seed=0)[1])


def test_labels_where_nothing_says_the_number_of_classes():
    split = data.MemorySplit(make_images(12), np.arange(12) % 5, name="here")
    refused(r"0\.\.3.*Received: label 4 in here \(wrong labels: 2\).*classes=5", data.check, split, classes=4)
    data.check(split, classes=10)


def test_the_kind_of_labels(split):
    refused("a class for each pixel.*Received: a class for each image", data.check, split, segmentation=True)


@pytest.mark.parametrize(
    "last,layer",
    [
        ([layers.Softmax(name="end")], "softmax, by its layer 'end'"),
        ([layers.Activation("softmax", name="end")], "softmax, by its layer 'end'"),
        ([layers.Dense(3, activation="sigmoid", name="end")], "sigmoid, by its layer 'end'"),
        ([layers.Dense(3, activation="softmax", name="end"), layers.Reshape((3,))], "softmax, by its layer 'end'"),
        ([tf.keras.Sequential([layers.Input((3,)), layers.Softmax(name="end")])], "softmax, by its layer 'end'"),
    ],
)
def test_softmax_where_logits_are_expected(split, last, layer):
    refused(f"ends in logits.*{layer}", data.check_network, network(*last), split)


def test_a_function_of_tensorflow_is_seen_too():
    inputs = tf.keras.Input((4,))
    refused("softmax", data.check_logits, tf.keras.Model(inputs, tf.nn.softmax(layers.Dense(3)(inputs))))
    data.check_logits(tf.keras.Model(inputs, tf.nn.relu(layers.Dense(3)(inputs)) * 2.0))


def test_several_outputs(split):
    inputs = tf.keras.Input((8, 8, 3))
    refused("one input and one output. Received: 1 and 2", data.check_network, tf.keras.Model(inputs, [inputs, inputs]),
            split)  # fmt: skip
