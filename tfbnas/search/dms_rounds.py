"""What differentiable dimension search does between rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import tensorflow as tf


@dataclass
class LastRound:
    """Facts of the last finished round. (Not attributes of the model: Keras would wrap the list.)

    Attributes:
      sigma: Scale of its distributions.
      epochs: Loss and accuracy of each of its epochs of weights.
      ends: The least and the largest mu that it allowed each width; empty before the first round.
    """

    sigma: float
    epochs: list[dict[str, float]] = field(default_factory=list)
    ends: tuple[tf.Tensor, ...] = ()


class Rounds(tf.keras.callbacks.Callback):
    """What Algorithm 1 does between rounds, and what a round's epochs of weights came to."""

    def __init__(self, rounds: int, steps_per_epoch: int, weight_epochs: int):
        super().__init__()
        self._supports_tf_logs = True  # else Keras would wait for the numbers of every step
        self.rounds = rounds
        self.steps_per_epoch, self.weight_epochs = steps_per_epoch, weight_epochs

    def on_epoch_begin(self, epoch, logs=None):
        if epoch > 0:
            self.model.cluster(epoch)
        self.model.next_sigma.assign(self.model.sigma_of(epoch + 1, self.rounds))
        self.model.latest_costs.assign(self.model.costs_when_clustered())
        self.means: list[dict[str, float]] = []

    def on_train_batch_end(self, batch, logs=None):
        epochs, rest = divmod(batch + 1, self.steps_per_epoch)
        if not rest and epochs <= self.weight_epochs:
            self.means.append({name: float(logs[name]) for name in ("loss", "accuracy")})

    def on_epoch_end(self, epoch, logs=None):
        logs["sigma"] = float(self.model.sigma.numpy())
        self.model.deflate(epoch, self.rounds)
        logs.update(zip(self.model.cost_names, self.model.latest_costs.numpy().tolist(), strict=True))
        self.model.last_round.epochs = of_each_epoch(self.means)


def of_each_epoch(means: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """The mean of each epoch, from the running means after 1, 2, ... epochs of equal length."""
    before: list[Mapping[str, float]] = [dict.fromkeys(means[0], 0.0) if means else {}, *means]
    return [
        {name: k * mean[name] - (k - 1) * before[k - 1][name] for name in mean} for k, mean in enumerate(means, start=1)
    ]
