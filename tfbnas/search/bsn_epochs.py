"""What a budgeted search does between epochs."""

from __future__ import annotations

from tfbnas.search import reinforce
from tfbnas.search.warm_up import WarmUpEpochs


class Epochs(WarmUpEpochs):
    """Begins and ends the warm-up; gives the logs the gates' entropy."""

    def on_epoch_end(self, epoch, logs=None):
        matters = self.model.priced.graph.prune((self.model.logits.numpy() > 0)[None]).matters[0]
        logs["entropy"] = float(reinforce.entropy(self.model.logits, matters))
