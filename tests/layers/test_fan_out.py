"""Gradients of a tensor that many layers read."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks, training
from tfbnas.architecture import Architecture
from tfbnas.layers import OpenGate
from tfbnas.layers.fan_out import FanOut
from tfbnas.layers.width import aligned_activations


def test_gradient_is_the_sum_over_the_readers():
    x = tf.constant([[1.0, -2.0]])
    weights = np.array([[2.0, 3.0], [5.0, -7.0], [11.0, 13.0]], np.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        copies = FanOut(3)(x)
        loss = tf.add_n([tf.reduce_sum(w * copy) for w, copy in zip(weights, copies, strict=True)])
    assert all(np.array_equal(copy, x) for copy in copies)
    np.testing.assert_allclose(tape.gradient(loss, x), weights.sum(axis=0, keepdims=True))


NETWORKS = {"resnet_fabric": {"n": 1, "base": 4}, "cnf": {"columns": 3, "scales": 2, "filters": 4}}


def most_readers(model):
    """The largest number of layers that read one tensor, those of a FanOut apart."""
    readers = Counter()
    for layer in model.layers:
        if not isinstance(layer, tf.keras.layers.InputLayer):
            readers.update(id(tensor) for tensor in tf.nest.flatten(layer.input))
    return max(readers.values())


@pytest.mark.parametrize("family", NETWORKS)
def test_what_is_trained_adds_at_most_two_gradients_and_what_is_deployed_is_plain(family):
    """Sums of more would make two runs with the same seed come apart."""
    architecture = Architecture("t", family, {}, (16, 16, 3), 4, NETWORKS[family])
    plain = networks.build(architecture)
    assert most_readers(plain) > 2 and not any(isinstance(layer, FanOut) for layer in plain.layers)
    with aligned_activations():
        trained = networks.build(architecture)
    searched = networks.construct(
        family, lambda name, default: OpenGate(name), input_shape=(16, 16, 3), classes=4, options=NETWORKS[family]
    )
    assert most_readers(trained) <= 2 and most_readers(searched) <= 2


@pytest.mark.parametrize("family", NETWORKS)
def test_the_plain_network_takes_the_weights_of_the_trained_one(family):
    architecture = Architecture("t", family, {}, (16, 16, 3), 4, NETWORKS[family])
    trained = training.trainable(architecture, seed=1)
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(training.plain(trained, architecture)(images), trained(images), atol=1e-5)
