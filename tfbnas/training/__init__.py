"""Weights of a plain network: the retraining after a search, and the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.data import check_logits
from tfbnas.errors import UserError
from tfbnas.hints import has_type
from tfbnas.layers.resizing import make_growable
from tfbnas.layers.width import aligned_activations
from tfbnas.networks import build
from tfbnas.precision import precision as in_precision
from tfbnas.training.losses import SmoothedCrossentropy
from tfbnas.training.optimizers import WarmUp as WarmUp
from tfbnas.training.optimizers import binary_kernels as binary_kernels
from tfbnas.training.optimizers import fresh_optimizer as fresh_optimizer
from tfbnas.training.optimizers import weight_optimizer as weight_optimizer


def trainable(
    architecture: Architecture,
    *,
    precision: str = "float32",
    seed: int = 0,
    only: Callable[[tf.keras.layers.Layer], bool] | None = None,
) -> tf.keras.Model:
    """The network of an architecture in the form that trains fastest; `plain` turns it into the final one.

    Args:
      architecture: Closed choices.
      precision: "float32" or "bfloat16". Default: "float32".
      seed: Of the initial weights. Default: 0.
      only: The layers alone of which this says so are trained, for instance `is_normalization`; the others keep their
        weights. Default: all.
    """
    tf.keras.utils.set_random_seed(seed)
    with in_precision(precision), aligned_activations():
        model = build(architecture)
    if only is not None:
        for layer in model.layers:
            layer.trainable = only(layer)
    return model


def is_normalization(layer: tf.keras.layers.Layer) -> bool:
    """Whether a layer is a BatchNormalization: what is fitted anew behind weights that stay."""
    return isinstance(layer, tf.keras.layers.BatchNormalization)


def weights(model: tf.keras.Model) -> dict[str, list[np.ndarray]]:
    """By the name of each layer that has any, the values of its weights in Keras' order."""
    return {layer.name: [weight.numpy() for weight in layer.weights] for layer in model.layers if layer.weights}


def set_weights(model: tf.keras.Model, values: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Gives the layers of a model weights by their names: all layers, or those that are named.

    Args:
      model: Also in its trainable form.
      values: As `weights` gives them, for instance cut to fewer channels.

    Raises:
      UserError: A name is that of no layer, or the shapes of a layer's weights are others. Nothing is changed then.
    """
    layers = {layer.name: layer for layer in model.layers}
    for name, arrays in values.items():
        found = [weight.numpy().shape for weight in layers[name].weights] if name in layers else "no such layer"
        given = [np.shape(array) for array in arrays]
        if found != given:
            raise UserError(f"Expected the weights of layer {name!r} to have the shapes {found}. Received: {given}.")
    for name, arrays in values.items():
        for weight, array in zip(layers[name].weights, arrays, strict=True):
            weight.assign(array)


class Schedule(Protocol):
    """Settings that say how a learning rate falls, of a search or of a training."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def schedule(self) -> str: ...
    @property
    def drops(self) -> Sequence[float]: ...


def learning_rates(settings: Schedule, steps: int) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """The schedule of a training of `steps` steps."""
    if settings.schedule == "cosine":
        return tf.keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)
    return piecewise_schedule(settings.learning_rate, steps=steps, drops=settings.drops)


def plain(model: tf.keras.Model, architecture: Architecture) -> tf.keras.Model:
    """The float32 network of an architecture with the weights of its trainable form."""
    with in_precision("float32"):
        network = build(architecture)
    # By name: layers that only the trainable form has change the order in which Keras counts the others.
    trained = weights(model)
    set_weights(network, {name: trained[name] for name in weights(network)})
    return network


def piecewise_schedule(learning_rate: float, *, steps: int, drops: Sequence[float]):
    """`learning_rate`, divided by ten after each of the given fractions of all steps; without any, the same for all."""
    rates = [learning_rate * 0.1**k for k in range(len(drops) + 1)]
    boundaries = [max(1, round(fraction * steps)) for fraction in drops]
    if not boundaries:  # Keras wants one
        boundaries, rates = [steps], 2 * rates
    return tf.keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)


def compile_for_training(
    model: tf.keras.Model,
    *,
    learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
) -> tf.keras.optimizers.Optimizer:
    """Compiles a trainable form with SGD, cross-entropy from logits and accuracy; returns the (built) optimiser."""
    return compile_with(
        model, tf.keras.optimizers.SGD(learning_rate, momentum=momentum, weight_decay=weight_decay or None)
    )


def compile_with(
    model: tf.keras.Model, optimizer: tf.keras.optimizers.Optimizer, *, label_smoothing: float = 0.0
) -> tf.keras.optimizers.Optimizer:
    """Compiles a trainable form with an optimiser, cross-entropy from logits and accuracy; returns it, built.

    Args:
      model: What is fitted: the network, or a trainer that holds it.
      optimizer: Not yet built, for instance from `weight_optimizer`.
      label_smoothing: Share of a label that is divided among all classes, in [0, 1). Default: 0.

    Raises:
      UserError: The model ends in a softmax or sigmoid.
    """
    if model.outputs:  # a trainer of one's own has none; the network in it was looked at when it was built
        check_logits(model)
    make_growable(optimizer).build(model.trainable_variables)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if label_smoothing:
        loss = SmoothedCrossentropy(label_smoothing)
    model.compile(optimizer, loss=loss, metrics=["accuracy"])
    model.distribute_reduction_method = "first"  # else Keras adds up the logs of several workers
    return optimizer


def uniform(architecture: Architecture, bases: Mapping[str, int], ratio: float) -> Architecture:
    """The same network with every width at `ratio` times its base, at least one channel.

    Args:
      architecture: Names the network; its choices are replaced.
      bases: Channels of each choice at ratio 1.
      ratio: Positive.

    Raises:
      UserError: The ratio is not positive.
    """
    if not (has_type(ratio, float) and ratio > 0):
        raise UserError(f"Expected `ratio` to be a positive number. Received: ratio={ratio!r}.")
    choices = {name: max(1, round(base * ratio)) for name, base in bases.items()}
    return replace(architecture, method="uniform", choices=choices)
