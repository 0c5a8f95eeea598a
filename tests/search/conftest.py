"""A chain of two searched convolutions, and the same computed from the paper's formulas in float64."""

import tfbnas  # noqa: F401  isort: skip
import types

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.costs import Budget, Memory
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D, blocks
from tfbnas.networks import register
from tfbnas.search.dms import DMS

BASES = {"a": 8, "b": 6}
CLASSES, SHAPE = 4, (8, 8, 3)


def chain(choose, *, input_shape, classes, binarisation="zero_alpha"):
    quantize, convolution = blocks(binarisation)
    inputs = tf.keras.Input(input_shape)
    x = BatchNormalization(name="bn1")(FloatConv2D(choose("a", BASES["a"]), 3, name="conv1")(inputs))
    x = convolution(choose("b", BASES["b"]), 3, name="conv2")(quantize(name="act")(x))
    x = BatchNormalization(name="bn2")(x)
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(tf.keras.layers.ReLU(name="relu")(x))
    return tf.keras.Model(inputs, Dense(classes, name="logits", dtype="float32")(x))


register("test-chain", chain)


def chain_memory(a, b):
    return 4 * 27 * a + 9 * a * b / 8 + 4 * (b * CLASSES + CLASSES)


def probabilities(ratios, mu, sigma):
    """Eq. 4-5 with their signs corrected, word for word; float64 tensors."""
    half = 0.4 * sigma

    def cdf(x):
        return 1 / (1 + tf.exp(-(x - mu[:, None]) / sigma))

    mass = cdf(ratios + half) - cdf(ratios - half)
    return mass / tf.reduce_sum(mass, axis=1, keepdims=True)


class Reference:
    """The search's mathematics on the present weights of a DMS over `test-chain`, without any of its code.

    Three candidates with kernels of their own (leading slices), each normalised by itself, padded with zeros and summed
    with Gumbel-softmax weights; activations and kernels by Eq. 1-2 with alpha and E|w|.
    """

    def __init__(self, search, *, binary):
        self.binary = binary
        self.base = np.array(list(BASES.values()), float)
        self.sigma = float(search.sigma.numpy())
        self.anchor = search.anchor.numpy().astype(float)
        self.ratios = np.maximum(self.anchor[:, None] + self.sigma * np.array([-0.8, 0.0, 0.8]), 0.3)
        self.channels = np.maximum(1, np.round(self.ratios * self.base[:, None])).astype(int)
        self.noise = search.noise.numpy().astype(float)
        layers = {layer.name: layer for layer in search.network.layers}
        self.weights = {
            f"{name}/{part}": tf.constant(getattr(layers[name], part).numpy(), tf.float64)
            for name, parts in {
                "conv1": ["kernel"],
                "bn1": ["gamma", "beta"],
                "conv2": ["kernel"],
                "bn2": ["gamma", "beta"],
                "logits": ["kernel", "bias"],
                "act": ["step"] if binary else [],
            }.items()
            for part in parts
        }

    def expected_memory(self, mu):
        mean = tf.reduce_sum(probabilities(self.ratios, tf.constant(mu), self.sigma) * self.channels, axis=1).numpy()
        return chain_memory(*mean)

    def mixture(self, inputs, kernel, norm, index, pi):
        result = 0.0
        widest = self.channels[index, -1]
        for weight, count in zip(tf.unstack(pi[index]), self.channels[index], strict=True):
            y = tf.nn.conv2d(inputs, kernel[..., :count], 1, "SAME")
            mean, variance = tf.nn.moments(y, (0, 1, 2))
            y = (y - mean) / tf.sqrt(variance + 1e-5)
            y = self.weights[f"{norm}/gamma"][:count] * y + self.weights[f"{norm}/beta"][:count]
            result += weight * tf.pad(y, [(0, 0), (0, 0), (0, 0), (0, widest - count)])
        return result

    def activation(self, x):
        if not self.binary:
            return tf.nn.relu(x)
        step = self.weights["act/step"]
        clipped = tf.clip_by_value(x / step, 0, 1)
        return step * (clipped + tf.stop_gradient(tf.round(clipped) - clipped))

    def kernel(self):
        kernel = self.weights["conv2/kernel"]
        if not self.binary:
            return kernel
        mean, variance = tf.nn.moments(kernel, (0, 1, 2))
        standardized = (kernel - mean) / tf.sqrt(variance)
        return tf.sign(standardized) * tf.reduce_mean(tf.abs(standardized), axis=(0, 1, 2))

    def loss(self, mu, images, labels):
        log = tf.math.log(probabilities(self.ratios, mu, self.sigma))
        exponential = tf.exp(log + self.noise)
        pi = exponential / tf.reduce_sum(exponential, axis=1, keepdims=True)
        x = self.mixture(tf.cast(images, tf.float64), self.weights["conv1/kernel"], "bn1", 0, pi)
        x = self.mixture(self.activation(x), self.kernel(), "bn2", 1, pi)
        x = tf.reduce_mean(tf.nn.relu(x), axis=(1, 2))
        logits = x @ self.weights["logits/kernel"] + self.weights["logits/bias"]
        chosen = tf.gather(tf.nn.log_softmax(logits), labels, axis=1, batch_dims=1)
        return -tf.reduce_mean(chosen)


@pytest.fixture(scope="session")
def chains():
    """The chain and its independent mathematics."""

    def make(*, limit=1e9, weights=0.05, architecture=None, binary=True, compiled=True, **options):
        search = DMS(
            "test-chain",
            budget=Budget(Memory(), limit, options.pop("penalty_weight", 0.3)),
            input_shape=SHAPE,
            classes=CLASSES,
            options={"binarisation": "zero_alpha" if binary else "float"},
            **options,
        )
        if compiled:
            search.compile(
                tf.keras.optimizers.SGD(weights, momentum=0.9), architecture or tf.keras.optimizers.Adam(4e-3)
            )
        return search

    return types.SimpleNamespace(make=make, reference=Reference, memory=chain_memory, bases=BASES)
