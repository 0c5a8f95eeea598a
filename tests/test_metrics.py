"""Accuracy and mean IoU against independent numpy."""

import numpy as np
import pytest

import tfbnas  # noqa: F401
from tfbnas import metrics
from tfbnas.data import MemorySplit

import tensorflow as tf  # isort: skip


def numpy_mean_iou(labels, predicted, classes):
    """Of the classes that occur at all."""
    found = []
    for k in range(classes):
        union = ((labels == k) | (predicted == k)).sum()
        if union:
            found.append(((labels == k) & (predicted == k)).sum() / union)
    return float(np.mean(found))


def a_split(count, side, *, classes, maps):
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (count, side, side, 3), np.uint8)
    # A network that looks at single pixels has some of these right.
    labels = np.where(
        chance.random(images.shape[:3]) < 0.4, images.argmax(-1), chance.integers(0, classes - 1, images.shape[:3])
    )
    return MemorySplit(images, labels.astype(np.uint8) if maps else labels[:, 0, 0], name="here")


@pytest.mark.parametrize("side, count", [(8, 37), (400, 3)])  # 400: three pixels' worth of batches of 500
def test_segmentation_equals_numpy(side, count):
    split = a_split(count, side, classes=5, maps=True)  # class 4 is never seen nor said
    inputs = tf.keras.Input((side, side, 3))
    bias = tf.keras.initializers.constant([0.0, 0.1, 0.0, 0.05, -99.0])
    network = tf.keras.Model(inputs, tf.keras.layers.Dense(5, bias_initializer=bias)(inputs))
    network.layers[1].kernel.assign(np.eye(3, 5) + 0.2 * np.random.default_rng(1).normal(size=(3, 5)))
    images, labels = split.images(count)
    predicted = np.tensordot(images, network.layers[1].kernel.numpy(), 1) + network.layers[1].bias.numpy()
    predicted = predicted.argmax(-1)
    found = metrics.evaluate(network, split, batch_size=16)
    assert found["accuracy"] == pytest.approx((predicted == labels).mean(), abs=1e-6)
    assert found["mean_iou"] == pytest.approx(numpy_mean_iou(labels, predicted, 5), abs=1e-6)
    assert 0.15 < found["mean_iou"] < found["accuracy"] < 1


def test_one_class_an_image_has_accuracy_alone():
    split = a_split(20, 4, classes=3, maps=False)
    inputs = tf.keras.Input((4, 4, 3))
    network = tf.keras.Model(inputs, tf.keras.layers.Dense(3)(tf.keras.layers.Flatten()(inputs)))
    images, labels = split.images(20)
    accuracy = (network.predict(images, verbose=0).argmax(1) == labels).mean()
    assert metrics.evaluate(network, split) == {"accuracy": pytest.approx(accuracy)}
    found = metrics.correct(network, split, batch_size=8)
    assert found.shape == (20,) and np.array_equal(found, network.predict(images, verbose=0).argmax(1) == labels)
