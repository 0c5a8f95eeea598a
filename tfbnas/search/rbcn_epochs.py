"""What adversarial pruning does between epochs."""

from __future__ import annotations

import tensorflow as tf


class Epochs(tf.keras.callbacks.Callback):
    """Ends the warm-up, sets the rate of the masks and the prices; gives the logs what only an epoch's end knows."""

    def on_epoch_begin(self, epoch, logs=None):
        search, own = self.model, self.model.settings
        search.warm.assign(epoch < own.warm_up_epochs)
        if epoch < own.warm_up_epochs:
            return
        if not bool(search.begun):
            search.begin()
        search.price()
        drops = own.drops if own.schedule == "steps" else ()
        before, now = (sum(done >= drop * own.epochs for drop in drops) for done in (epoch - 1, epoch))
        search.rate.assign(own.architecture_learning_rate * 0.1**now)
        if now > before:
            search.masks.restart()

    def on_epoch_end(self, epoch, logs=None):
        search = self.model
        logs["filters"] = float(search.counts().numpy().sum() / search.base.sum())
        logs["sparsity"] = float(search.sparsity.numpy())
