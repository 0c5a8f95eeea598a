"""Batches of training for searches: epochs of a Split or a Dataset, and rounds that alternate between two of them."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError

WEIGHTS, ARCHITECTURE = 0, 1
"""Phases of a round: what a batch updates, and from which part of the training data it comes."""


def steps_of(data: Any, batch_size: int) -> int:
    """Batches in one epoch of a Split, or of a finite Dataset (whose batches are what they are).

    Raises:
      UserError: The dataset is empty or endless, or it is something else.
    """
    if hasattr(data, "steps"):
        return data.steps(batch_size)
    if not isinstance(data, tf.data.Dataset):
        raise UserError(
            "Expected the data of the weights as a Split or a tf.data.Dataset, for instance images.train or "
            f"tfbnas.data.from_arrays(images, labels). Received: {type(data).__name__}."
        )
    steps = int(data.cardinality())
    if steps <= 0:
        raise UserError(f"Expected a finite, non-empty dataset. Received one of cardinality {steps}.")
    return steps


def epochs_of(data: Any, batch_size: int, seed: int, first: tf.Tensor, count: int) -> tf.data.Dataset:
    """`count` epochs of training batches from epoch `first` on."""
    if not hasattr(data, "epoch"):
        return data.repeat(count)
    return tf.data.Dataset.range(count).flat_map(lambda k: data.epoch(first + k, batch_size, seed=seed, augment=True))


def alternating(
    weights: Any,
    architecture: Any,
    *,
    weight_epochs: int,
    architecture_steps: int,
    batch_size: int,
    seed: int,
    rounds: range,
) -> tf.data.Dataset:
    """Batches (phase, images, labels) of rounds: first epochs of the weights' data, then steps of the architecture's.

    A round has the same batches whichever round comes first.

    Args:
      weights: Split or Dataset of the weights.
      architecture: Split or Dataset of the architecture.
      weight_epochs: Epochs of `weights` in a round.
      architecture_steps: Batches of `architecture` in a round.
      batch_size: For Splits only.
      seed: Of order and augmentation; that of `architecture` is one higher.
      rounds: The rounds that are left.
    """
    weight_steps = weight_epochs * steps_of(weights, batch_size)
    passes = -(-architecture_steps // steps_of(architecture, batch_size))

    def one_round(index: tf.Tensor) -> tf.data.Dataset:
        first = epochs_of(weights, batch_size, seed, index * weight_epochs, weight_epochs).take(weight_steps)
        second = epochs_of(architecture, batch_size, seed + 1, index * passes, passes).take(architecture_steps)
        return first.map(functools.partial(_tagged, WEIGHTS)).concatenate(
            second.map(functools.partial(_tagged, ARCHITECTURE))
        )

    return tf.data.Dataset.range(rounds.start, rounds.stop).flat_map(one_round).prefetch(4)


def _tagged(phase: int, images, labels):
    return phase, images, labels
