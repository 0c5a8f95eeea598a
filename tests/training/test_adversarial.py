"""The trainer with discriminators: what each part moves, the guard, the formulas, and what a checkpoint keeps."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks, training
from tfbnas.architecture import Architecture
from tfbnas.errors import UserError
from tfbnas.layers import RectifiedConv2D
from tfbnas.training.adversarial import Adversarial, _cells
from tfbnas.training.discriminators import discriminator, generator_loss, verdict_loss
from tfbnas.training.distillation import feature_layers

SMALL = Architecture("test", "test-small", {}, (8, 8, 3), 4, {"binarisation": "rectified"})
FLOAT = Architecture("test", "test-small", {}, (8, 8, 3), 4, {"binarisation": "float"})


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_losses_are_the_formulas():
    real, fake = np.random.default_rng(0).normal(size=(2, 6, 1)).astype(np.float32)
    log_real, log_fake = np.log(sigmoid(real)), np.log(1 - sigmoid(fake))
    assert float(verdict_loss(real, fake)) == pytest.approx(-np.mean(log_real + log_fake), rel=1e-5)
    kept = -np.mean(log_real + log_fake + np.log(sigmoid(fake)))
    assert float(verdict_loss(real, fake, is_pruned=True)) == pytest.approx(kept, rel=1e-5)
    assert float(generator_loss(fake)) == pytest.approx(np.mean((1 - sigmoid(fake)) ** 2), rel=1e-5)


def test_gradient_of_the_generator_is_that_of_the_paper():
    """-2 (1 - D) dD, the mean over the batch."""
    fake = tf.Variable(np.random.default_rng(1).normal(size=(5, 1)).astype(np.float32))
    with tf.GradientTape() as tape:
        loss = generator_loss(fake)
    d = sigmoid(fake.numpy())
    np.testing.assert_allclose(tape.gradient(loss, fake), -2 * (1 - d) * d * (1 - d) / 5, rtol=1e-5)


def test_the_seed_and_the_name_decide_a_discriminator():
    x = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    found = [discriminator(7, 8, seed=s, name=n)(x).numpy() for s, n in ((0, "a"), (0, "a"), (1, "a"), (0, "b"))]
    assert found[0].shape == (3, 1) and np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2]) and not np.array_equal(found[0], found[3])


@pytest.mark.parametrize(("size", "cells"), [(9, 4), (8, 4), (4, 4), (3, 3), (1, 1)])
def test_cells_are_means_of_pixels(size, cells):
    maps = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    window = size // cells
    expected = maps[:, : window * cells, : window * cells].reshape(2, cells, window, cells, window, 3).mean((2, 4))
    np.testing.assert_allclose(_cells(tf.constant(maps), 3), expected.reshape(2, -1), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def teacher(randomised):
    return randomised(networks.build(FLOAT), seed=5)


def made(teacher, **arguments):
    network = training.trainable(SMALL, seed=1)
    model = Adversarial(network, teacher, features=feature_layers(network, teacher), **arguments)
    training.compile_for_training(model, learning_rate=0.02)
    return model


@pytest.fixture(scope="module")
def fitted(teacher, image_batches):
    model = made(teacher, learning_rate=3e-3)
    before = training.weights(model.network), [w.numpy() for w in model.discriminators[0].weights]
    known = training.weights(teacher)
    history = model.fit(image_batches(64, batch=16), epochs=4, verbose=0).history
    return model, before, known, history


def test_weights_scales_and_discriminators_move_and_the_teacher_stays(fitted, teacher):
    model, (weights, judges), known, history = fitted
    after = training.weights(model.network)
    for index, name in enumerate(("kernel", "scale")):
        assert not np.array_equal(weights["conv1"][index], after["conv1"][index]), name
    assert any(not np.array_equal(a, b) for a, b in zip(judges, model.discriminators[0].weights, strict=True))
    assert all(np.array_equal(a, b) for n in known for a, b in zip(known[n], training.weights(teacher)[n], strict=True))
    assert len(model.discriminators) == 2 and int(model.steps) == 16
    for name in ("loss", "accuracy", "real", "fake", "held"):
        assert len(history[name]) == 4 and np.all(np.isfinite(history[name])), name
    assert all(0 < value < 1 for value in history["real"] + history["fake"])


def test_scales_move_every_so_many_steps_only(teacher, image_batches):
    model = made(teacher, scale_interval=3)
    layer = model.network.get_layer("conv1")
    assert isinstance(layer, RectifiedConv2D)
    values = [(layer.scale.numpy(), layer.kernel.numpy())]
    for batch in image_batches(64, batch=16):
        model.train_step(batch)
        values.append((layer.scale.numpy(), layer.kernel.numpy()))
    moved = [
        [not np.array_equal(x, y) for x, y in zip(a, b, strict=True)] for a, b in zip(values, values[1:], strict=False)
    ]
    assert moved == [[False, True], [False, True], [True, True], [False, True]]


def test_a_discriminator_that_wins_waits(teacher):
    """Of features that anyone can tell apart, one with a ceiling becomes as sure as that; without it, quite sure."""
    chance, last = np.random.default_rng(0), {}
    for ceiling in (0.75, 1.0):
        model = made(teacher, learning_rate=1e-3, ceiling=ceiling)
        sizes = [one.input_shape[1] for one in model.discriminators]
        real, fake = ([tf.constant(chance.normal(m, 0.3, (16, n)), tf.float32) for n in sizes] for m in (0.3, -0.3))
        for _ in range(25):
            model.reset_metrics()
            model._discriminate(real, fake)
        last[ceiling] = {name: float(metric.result()) for name, metric in model._logged.items()}
    assert last[0.75]["held"] == 1.0 and last[1.0]["held"] == 0.0
    assert last[1.0]["real"] > 0.9 and last[1.0]["fake"] < 0.1
    assert 0.75 < 0.5 * (last[0.75]["real"] + 1 - last[0.75]["fake"]) < 0.85  # it learns up to there and no further


def test_the_network_passes_more_often_for_the_teacher(teacher, image_batches):
    """Against discriminators that stand still, the verdict on the network's maps rises."""
    model = made(teacher, learning_rate=1e-9, weight=50.0)
    (batch,) = image_batches(16)
    found = []
    for _ in range(8):
        model.reset_metrics()
        model.train_step(batch)
        found.append(float(model._logged["fake"].result()))
    assert found[-1] > found[0] + 0.005


def test_feature_layers_are_the_additions(teacher):
    network = training.trainable(SMALL)
    assert feature_layers(network, teacher) == [("add1", "add1"), ("add2", "add2")]
    wider = networks.build(Architecture("test", "test-small", {"stream": 5}, (8, 8, 3), 4))
    assert feature_layers(network, wider) == [("add2", "add2")]
    with pytest.raises(UserError, match="none; follow its logits"):
        feature_layers(network, discriminator(3, 4))


@pytest.mark.parametrize(
    "arguments",
    [{"ceiling": 0.5}, {"weight": -1.0}, {"scale_interval": 0}, {"features": []}],
    ids=lambda a: next(iter(a)),
)
def test_refusals(teacher, arguments):
    network = networks.build(SMALL)
    with pytest.raises(UserError, match="Expected at least one pair of `features`"):
        Adversarial(network, teacher, **{"features": [("add1", "add1")], **arguments})
