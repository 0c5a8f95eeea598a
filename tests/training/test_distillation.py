"""A network that learns from a teacher: the loss against numpy, what moves, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks, training
from tfbnas.architecture import Architecture
from tfbnas.errors import UserError
from tfbnas.training.distillation import Distillation, soft_cross_entropy

SMALL = Architecture("test", "test-small", {}, (8, 8, 3), 4)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_soft_cross_entropy_is_the_formula():
    chance = np.random.default_rng(0)
    logits, teacher = chance.normal(size=(2, 5, 4)).astype(np.float32)
    expected = 9.0 * -np.sum(softmax(teacher / 3.0) * np.log(softmax(logits / 3.0)), axis=-1)
    np.testing.assert_allclose(soft_cross_entropy(logits, teacher, 3.0), expected, rtol=1e-5)


def test_high_temperature_has_the_gradient_of_matching_logits():
    """Hinton et al., Eq. 4: temperature^2 times the gradient tends to (z - v) / classes for logits of mean zero."""
    chance = np.random.default_rng(1)
    logits, teacher = (x - x.mean(axis=-1, keepdims=True) for x in chance.normal(size=(2, 3, 4)).astype(np.float32))
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(soft_cross_entropy(variable, teacher, 1000.0))
    np.testing.assert_allclose(tape.gradient(loss, variable), (logits - teacher) / 4, atol=2e-3)


def fitted(image_batches, randomised, **arguments):
    teacher = randomised(networks.build(SMALL), seed=5)
    network = training.trainable(SMALL, seed=1)
    model = Distillation(network, teacher, **arguments)
    training.compile_for_training(model, learning_rate=0.05)
    known = [weight.numpy() for weight in teacher.weights]
    before = training.weights(network)
    history = model.fit(image_batches(64, batch=16), epochs=4, verbose=0).history
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(known, teacher.weights, strict=True))
    assert any(not np.array_equal(before["conv1"][0], value) for value in training.weights(network)["conv1"])
    return network, teacher, history


def test_the_network_moves_towards_its_teacher_which_stays(image_batches, randomised):
    network, teacher, history = fitted(image_batches, randomised, share=1.0, temperature=1.0)
    images = np.concatenate([batch for batch, _ in image_batches(64, batch=16)])
    fresh = training.trainable(SMALL, seed=1)
    agree = [np.mean(np.argmax(m(images), -1) == np.argmax(teacher(images), -1)) for m in (fresh, network)]
    assert agree[1] > agree[0] and history["distillation_loss"][-1] < history["distillation_loss"][0]


def test_feature_maps_come_closer(image_batches, randomised):
    pairs = [("add1", "add1")]
    close = fitted(image_batches, randomised, share=0.0, features=pairs, feature_weight=10.0)[2]
    free = fitted(image_batches, randomised, share=0.0, features=pairs, feature_weight=0.0)[2]
    far = [close["distillation_loss"][i] - free["distillation_loss"][i] for i in (0, -1)]
    assert far[1] < 0.9 * far[0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"share": 1.5}, "share=1.5"),
        ({"features": [("add1", "add9")]}, "add9"),
        ({"features": [("add1", "add2")]}, r"\[4\] of the network, \[8\] of the teacher"),
    ],
)
def test_refusals(arguments, text):
    network = networks.build(SMALL)
    with pytest.raises(UserError, match=text):
        Distillation(network, networks.build(SMALL), **arguments)


def test_a_teacher_of_other_classes_is_refused():
    other = networks.build(Architecture("test", "test-small", {}, (8, 8, 3), 7))
    with pytest.raises(UserError, match=r"logits \(4,\).*\(7,\)"):
        Distillation(networks.build(SMALL), other)
