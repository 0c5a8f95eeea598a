"""Small networks with weights as training leaves them: uneven statistics, and scales of either sign."""

import tfbnas  # noqa: F401  (before TensorFlow)

# isort: split
import numpy as np
import tensorflow as tf

from tfbnas.layers import BatchNormalization, BinaryConv2D, Dense, FloatConv2D, LearnedStep
from tfbnas.networks.resnet import resnet18


def randomise(model, seed=0):
    """Gives every weight a random value, half of the scales negative, and statistics that fit. Returns the model."""
    generator = np.random.default_rng(seed)
    normalisations = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
    for layer in model.layers:
        if layer in normalisations:
            size = layer.moving_mean.shape[0]
            gamma = generator.uniform(0.4, 1.5, size) * generator.choice([-1, 1], size)
            scale = [gamma] if layer.scale else []
            layer.set_weights([*scale, generator.normal(size=size) * 0.5, np.zeros(size), np.ones(size)])
        elif isinstance(layer, LearnedStep):
            layer.step.assign(generator.uniform(0.3, 1.5))
        elif layer.get_weights():
            layer.set_weights([generator.normal(size=v.shape) * 0.3 for v in layer.get_weights()])
    momenta = [layer.momentum for layer in normalisations]
    for layer in normalisations:
        layer.momentum = 0.0  # the statistics become those of one batch
    model(generator.normal(size=(8, *model.input_shape[1:])).astype(np.float32), training=True)
    for layer, momentum in zip(normalisations, momenta, strict=True):
        layer.momentum = momentum
    return model


def small_resnet(size=16, base=4):
    return resnet18(lambda name, channels: channels, input_shape=(size, size, 3), base=base)


def block(x, channels=8, strides=1, **step):
    """LearnedStep, binary convolution, BatchNormalization."""
    return BatchNormalization()(BinaryConv2D(channels, 3, strides)(LearnedStep(**step)(x)))


def stem(size=8, channels=8):
    """Input and a normalised float convolution of it."""
    inputs = tf.keras.Input((size, size, 3))
    return inputs, BatchNormalization(name="stem_bn")(FloatConv2D(channels, 3, name="stem")(inputs))


def head(inputs, x, classes=5):
    """A model with average pooling and a dense layer on top of `x`, with random weights."""
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    return randomise(tf.keras.Model(inputs, Dense(classes)(x)))
