"""The share of binary weights that change sign in a step, against a count by hand."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas import training
from tfbnas.architecture import Architecture
from tfbnas.callbacks import Flips
from tfbnas.errors import UserError

SMALL = Architecture("test", "test-small", {"stream": 5, "inner": 16, "out": 19}, (8, 8, 3), 4)


class Signs(tf.keras.callbacks.Callback):
    """The signs of all binary kernels behind each step, read by a user's own means."""

    def __init__(self):
        super().__init__()
        self.signs = []

    def on_train_batch_end(self, batch, logs=None):
        kernels = [kernel.numpy() for kernel in training.binary_kernels(self.model)]
        centred = [kernel - kernel.mean(axis=(0, 1, 2)) for kernel in kernels]
        self.signs.append(np.concatenate([(kernel >= 0).ravel() for kernel in centred]))


def test_flips_by_hand(image_batches):
    """Steps 1 to 2, 5 to 6, ... of an epoch; the same in each epoch."""
    model = training.trainable(SMALL, seed=0)
    training.compile_for_training(model, learning_rate=0.5)
    signs = Signs()
    history = model.fit(image_batches(80, batch=8), epochs=2, verbose=0, callbacks=[signs, Flips(every=4)]).history
    changed = [np.mean(left != right) for left, right in zip(signs.signs[:-1], signs.signs[1:], strict=True)]
    expected = [np.mean([changed[start + step] for step in (0, 4, 8)]) for start in (0, 10)]
    np.testing.assert_allclose(history["flips"], expected, atol=2 / len(signs.signs[0]))
    assert 0 < expected[0] < 0.5


def test_plain_signs_of_larq():
    layer = lq.layers.QuantDense(2, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", use_bias=False)
    model = tf.keras.Sequential([tf.keras.Input((2,)), layer])
    model.compile(tf.keras.optimizers.SGD(0.0), "mse")
    layer.kernel.assign([[0.5, -0.5], [0.5, -0.5]])
    flips = Flips(every=2)
    flips.set_model(model)
    flips.on_train_begin()
    flips.on_epoch_begin(0)
    for batch, kernel in enumerate([[[0.1, -0.1], [0.1, -0.1]], [[-0.1, -0.2], [0.1, 0.3]]]):
        layer.kernel.assign(kernel)
        model.optimizer.iterations.assign_add(1)
        flips.on_train_batch_end(batch)
    logs = {}
    flips.on_epoch_end(0, logs)
    assert logs == {"flips": 0.5}


def test_steps_that_update_no_weights_do_not_count(image_batches):
    model = training.trainable(SMALL)
    training.compile_for_training(model, learning_rate=0.5)
    flips = Flips(every=2)
    flips.set_model(model)
    flips.on_train_begin()
    flips.on_epoch_begin(0)
    for batch in range(4):
        flips.on_train_batch_end(batch)
    logs = {}
    flips.on_epoch_end(0, logs)
    assert logs == {}


def test_nothing_is_logged_without_binary_kernels(image_batches):
    model = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), tf.keras.layers.Flatten(), tf.keras.layers.Dense(4)])
    training.compile_for_training(model, learning_rate=0.1)
    history = model.fit(image_batches(32, batch=8), epochs=1, verbose=0, callbacks=[Flips(every=2)]).history
    assert set(history) == {"loss", "accuracy"}


def test_one_step_cannot_be_compared():
    with pytest.raises(UserError, match="every=1"):
        Flips(every=1)
