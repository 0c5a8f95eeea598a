"""Epochs in which a search trains weights and leaves its architecture as it is."""

from __future__ import annotations

import tensorflow as tf


class WarmUpEpochs(tf.keras.callbacks.Callback):
    """Keeps the variable `warm` of a search true in its first epochs.

    Args:
      epochs: How many.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.warm.assign(epoch < self.epochs)
