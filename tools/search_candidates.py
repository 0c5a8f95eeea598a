"""One width with more and more candidates: as DMS searches it, and as a DARTS-like sum over all of them.

The network has a stem, a binary convolution whose width is searched, and one behind it. With N candidates the widths
are the N integers up to the widest, so that the widest network is the same for every N. DMS looks at three of them at
a time, whatever N is. The sum (Liu et al., "DARTS", ICLR 2019, for widths instead of operations) holds a kernel for
every candidate, computes all and adds them with softmax weights, the narrower ones padded with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf
from training_variants import CLASSES, MOMENTUM, RATE, Step, Task, keras_step

from tfbnas import training
from tfbnas.costs import Budget, Memory
from tfbnas.layers import BatchNormalization, BinaryConv2D, Dense, FloatConv2D, LearnedStep
from tfbnas.networks import construct, register
from tfbnas.precision import precision as in_precision
from tfbnas.search.batches import WEIGHTS
from tfbnas.search.dms import DMS
from tfbnas.search.logistic import SPREAD

_CHANNELS = 32


class CandidateSum(tf.keras.layers.Layer):
    """Binary convolutions of every width in `widths`, summed with softmax weights."""

    def __init__(self, widths: range):
        super().__init__(name="candidates")
        self.convolutions = [BinaryConv2D(width, 3) for width in widths]
        self.widest = widths[-1]

    def build(self, input_shape):
        self.logits = self.add_weight(name="logits", shape=[len(self.convolutions)], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs):
        weights = tf.unstack(tf.cast(tf.nn.softmax(self.logits), inputs.dtype))
        outputs = [convolution(inputs) for convolution in self.convolutions]
        behind = [[[0, 0]] * 3 + [[0, self.widest - output.shape[-1]]] for output in outputs]
        return tf.add_n([w * tf.pad(y, p) for w, y, p in zip(weights, outputs, behind, strict=True)])


def _network(choose: Callable, *, input_shape, classes, base: int, summed: int = 0) -> tf.keras.Model:
    inputs = tf.keras.Input(input_shape)
    x = BatchNormalization(name="stem_bn")(FloatConv2D(_CHANNELS, 3, name="stem")(inputs))
    bits = LearnedStep(name="step1")(x)
    width = choose("width", base)
    widths = range(base - summed + 1, base + 1)
    y = CandidateSum(widths)(bits) if summed else BinaryConv2D(width, 3, name="conv1")(bits)
    y = LearnedStep(name="step2")(BatchNormalization(name="bn1")(y))
    y = BatchNormalization(name="bn2")(BinaryConv2D(_CHANNELS, 3, name="conv2")(y))
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(tf.keras.layers.add([x, y]))
    return tf.keras.Model(inputs, Dense(classes, name="logits", dtype="float32")(x))


register("benchmark-width", _network)


def dms_step(count: int, widest: int, *, batch: int, size: int, precision: str) -> Step:
    """A weights step of DMS whose candidates reach over `count` widths, the last of which is `widest`."""
    middle, reach = widest - (count - 1) / 2, (count - 1) / 2
    sigma = max(reach, 0.5) / SPREAD / widest
    with in_precision(precision):
        search = DMS(
            "benchmark-width",
            budget=Budget(Memory(), math.inf),
            input_shape=(size, size, 3),
            classes=CLASSES,
            options={"base": widest},
            initial_ratio=middle / widest,
            initial_sigma=sigma,
            final_sigma=sigma,
            minimal_ratio=1 / widest,
            minimal_edge=0.0,
        )
    lowest, _, highest = search.channels.numpy()[0]
    assert (lowest, highest) == (widest - count + 1, widest), (lowest, highest)
    search.compile(tf.keras.optimizers.SGD(RATE, momentum=MOMENTUM, weight_decay=1e-4), tf.keras.optimizers.SGD(0.0))
    return keras_step(search, (WEIGHTS, *Task(batch, widest, size).arrays()))


def sum_step(count: int, widest: int, *, batch: int, size: int, precision: str) -> Step:
    """A step of the network with the sum over `count` candidates."""
    with in_precision(precision):
        model = construct(
            "benchmark-width",
            lambda name, base: base,
            input_shape=(size, size, 3),
            classes=CLASSES,
            options={"base": widest, "summed": count},
        )
    training.compile_for_training(model, learning_rate=RATE, momentum=MOMENTUM)
    return keras_step(model, Task(batch, widest, size).arrays())
