"""What a budgeted search does between epochs."""

from __future__ import annotations

import tensorflow as tf

from tfbnas.search import reinforce


class Epochs(tf.keras.callbacks.Callback):
    """Begins and ends the warm-up; gives the logs the gates' entropy."""

    def __init__(self, warm_up_epochs: int):
        super().__init__()
        self.warm_up_epochs = warm_up_epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.warm.assign(epoch < self.warm_up_epochs)

    def on_epoch_end(self, epoch, logs=None):
        matters = self.model.priced.graph.prune((self.model.logits.numpy() > 0)[None]).matters[0]
        logs["entropy"] = float(reinforce.entropy(self.model.logits, matters))
