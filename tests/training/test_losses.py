"""Smoothed labels against Keras' loss of one-hot labels."""

import numpy as np
import pytest

from tfbnas.training.losses import SmoothedCrossentropy

import tensorflow as tf  # isort: skip


@pytest.mark.parametrize("shape", [(6,), (2, 3, 4)])
@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_it_is_kerass_loss_of_smoothed_one_hot_labels(shape, smoothing):
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 5, shape), random.normal(size=(*shape, 5)).astype(np.float32) * 4
    keras = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    expected = keras(tf.one_hot(labels, 5), logits)
    np.testing.assert_allclose(SmoothedCrossentropy(smoothing)(labels, logits), expected, rtol=1e-5)
