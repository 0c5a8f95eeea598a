"""Weights of a plain network: the retraining after a search, and the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.layers.resizing import make_growable
from tfbnas.layers.width import aligned_activations
from tfbnas.networks import build
from tfbnas.precision import precision as in_precision


def trainable(architecture: Architecture, *, precision: str = "float32", seed: int = 0) -> tf.keras.Model:
    """The network of an architecture in the form that trains fastest; `plain` turns it into the final one.

    Args:
      architecture: Closed choices.
      precision: "float32" or "bfloat16". Default: "float32".
      seed: Of the initial weights. Default: 0.
    """
    tf.keras.utils.set_random_seed(seed)
    with in_precision(precision), aligned_activations():
        return build(architecture)


def plain(model: tf.keras.Model, architecture: Architecture) -> tf.keras.Model:
    """The float32 network of an architecture with the weights of its trainable form."""
    with in_precision("float32"):
        network = build(architecture)
    # By name: layers that only the trainable form has change the order in which Keras counts the others.
    for layer in network.layers:
        if layer.weights:
            layer.set_weights([weight.numpy() for weight in model.get_layer(layer.name).weights])
    return network


def piecewise_schedule(learning_rate: float, *, steps: int, drops: Sequence[float]):
    """`learning_rate`, divided by ten after each of the given fractions of all steps."""
    boundaries = [max(1, round(fraction * steps)) for fraction in drops]
    return tf.keras.optimizers.schedules.PiecewiseConstantDecay(
        boundaries, [learning_rate * 0.1**k for k in range(len(drops) + 1)]
    )


def compile_for_training(
    model: tf.keras.Model,
    *,
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
) -> tf.keras.optimizers.Optimizer:
    """Compiles a trainable form with SGD, cross-entropy from logits and accuracy; returns the (built) optimiser."""
    optimizer = make_growable(
        tf.keras.optimizers.SGD(learning_rate, momentum=momentum, weight_decay=weight_decay or None)
    )
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.distribute_reduction_method = "first"  # else Keras adds up the logs of several workers
    return optimizer


def uniform(architecture: Architecture, bases: Mapping[str, int], ratio: float) -> Architecture:
    """The same network with every width at `ratio` times its base, at least one channel.

    Args:
      architecture: Names the network; its choices are replaced.
      bases: Channels of each choice at ratio 1.
      ratio: Positive.
    """
    choices = {name: max(1, round(base * ratio)) for name, base in bases.items()}
    return replace(architecture, method="uniform", choices=choices)
