"""Losses of labels."""

from __future__ import annotations

import tensorflow as tf


class SmoothedCrossentropy(tf.keras.losses.SparseCategoricalCrossentropy):
    """Cross-entropy from logits where each class has a share of the label: (1 - s) * CE(y) + s * mean over k of CE(k).

    Keras smooths one-hot labels only. Source: Szegedy et al., "Rethinking the Inception Architecture for Computer
    Vision", 2016, section 7.

    Args:
      smoothing: The share s that is divided among all classes, in [0, 1).
    """

    def __init__(self, smoothing: float):
        super().__init__(from_logits=True, name="smoothed_crossentropy")
        self.smoothing = smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Labels `[.., ]` and logits `[.., classes]` to losses `[..]`."""
        logits = tf.cast(y_pred, tf.float32)
        every = tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
        return (1.0 - self.smoothing) * super().call(y_true, logits) + self.smoothing * every
