"""Discriminators: small networks that tell a teacher's features from those of the network that follows it."""

from __future__ import annotations

import tensorflow as tf

from tfbnas.layers.width import initial_value


def discriminator(size: int, units: int, *, seed: int = 0, name: str = "discriminator") -> tf.keras.Model:
    """Two hidden dense layers with LeakyReLU, and the logarithm of the odds that features are the teacher's.

    Args:
      size: Features of an example.
      units: Of a hidden layer.
      seed: With `name` it decides the weights at the start. Default: 0.
      name: Of the model. Default: "discriminator".

    Returns:
      Model from `[batch, size]` to `[batch, 1]`, float32.
    """
    layers = tf.keras.layers
    inputs = x = tf.keras.Input([size])
    for index in (1, 2):
        x = layers.LeakyReLU(0.2)(layers.Dense(units, dtype="float32", name=f"{name}_hidden{index}")(x))
    model = tf.keras.Model(inputs, layers.Dense(1, dtype="float32", name=f"{name}_odds")(x), name=name)
    for layer in model.layers:
        if layer.weights:
            layer.kernel.assign(initial_value(layer.kernel_initializer, layer.kernel.shape, seed, layer.name))
    return model


def is_real(odds: tf.Tensor) -> tf.Tensor:
    """D: the probability that features are the teacher's, from the discriminator's output."""
    return tf.sigmoid(odds)


def verdict_loss(of_real: tf.Tensor, of_fake: tf.Tensor, *, is_pruned: bool = False) -> tf.Tensor:
    """What a discriminator descends: minus the mean of log D(R) + log(1 - D(T)).

    Args:
      of_real: Its output for the teacher's features.
      of_fake: For those of the network.
      is_pruned: Whether log D(T) is added, which keeps it from winning (the paper's pruning has it). Default: False.
    """
    log = tf.math.log_sigmoid
    total = log(of_real) + log(-of_fake) + (log(of_fake) if is_pruned else 0.0)
    return -tf.reduce_mean(total)


def generator_loss(of_fake: tf.Tensor) -> tf.Tensor:
    """What the network descends: the mean of (1 - D(T))^2."""
    return tf.reduce_mean(tf.square(1.0 - is_real(of_fake)))
