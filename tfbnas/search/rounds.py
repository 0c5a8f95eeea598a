"""Rounds of a search that alternates between weights and architecture: their batches, and what happens between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import tensorflow as tf

from tfbnas.errors import UserError

WEIGHTS, ARCHITECTURE = 0, 1
"""Phases of a round: which half of the training data a batch comes from and what it updates."""


@dataclass
class LastRound:
    """Facts of the last finished round. (Not attributes of the model: Keras would wrap the list.)"""

    sigma: float
    epochs: list[dict[str, float]] = field(default_factory=list)


class Rounds(tf.keras.callbacks.Callback):
    """What DMS's Algorithm 1 does between rounds, and what a round's epochs of weights came to."""

    def __init__(self, rounds: int, steps_per_epoch: int, weight_epochs: int):
        super().__init__()
        self._supports_tf_logs = True  # else Keras would wait for the numbers of every step
        self.rounds = rounds
        self.steps_per_epoch, self.weight_epochs = steps_per_epoch, weight_epochs

    def on_epoch_begin(self, epoch, logs=None):
        if epoch > 0:
            self.model.cluster(epoch)
        self.model.latest_cost.assign(self.model.cost_when_clustered())
        self.means: list[dict[str, float]] = []

    def on_train_batch_end(self, batch, logs=None):
        epochs, rest = divmod(batch + 1, self.steps_per_epoch)
        if not rest and epochs <= self.weight_epochs:
            self.means.append({name: float(logs[name]) for name in ("loss", "accuracy")})

    def on_epoch_end(self, epoch, logs=None):
        logs["sigma"] = float(self.model.sigma.numpy())
        self.model.deflate(epoch, self.rounds)
        logs["cost"] = float(self.model.latest_cost.numpy())
        self.model._last_round.epochs = of_each_epoch(self.means)


def of_each_epoch(means: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """The mean of each epoch, from the running means after 1, 2, ... epochs of equal length."""
    before: list[Mapping[str, float]] = [dict.fromkeys(means[0], 0.0) if means else {}, *means]
    return [
        {name: k * mean[name] - (k - 1) * before[k - 1][name] for name in mean} for k, mean in enumerate(means, start=1)
    ]


def tagged(phase: int, images, labels):
    """A batch with its phase, as `train_step` takes it."""
    return phase, images, labels


def steps_of(data, batch_size: int) -> int:
    """Batches in one epoch of a Split, or of a finite Dataset (whose batches are what they are).

    Raises:
      UserError: The dataset is empty or endless.
    """
    if hasattr(data, "steps"):
        return data.steps(batch_size)
    steps = int(data.cardinality())
    if steps <= 0:
        raise UserError(f"Expected a finite, non-empty dataset. Received one of cardinality {steps}.")
    return steps


def epochs_of(data, batch_size: int, seed: int, first: tf.Tensor, count: int) -> tf.data.Dataset:
    """`count` epochs of training batches from epoch `first` on."""
    if not hasattr(data, "epoch"):
        return data.repeat(count)
    return tf.data.Dataset.range(count).flat_map(lambda k: data.epoch(first + k, batch_size, seed=seed, augment=True))
