"""The search finds the layer that needs width, where one is planted: gradients by mu are no noise."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.costs import Budget, Memory
from tfbnas.layers import BatchNormalization, BinaryConv2D, Dense, FloatConv2D, LearnedStep
from tfbnas.networks import register
from tfbnas.search.dms import DMS

BRANCHES, SIDE, CLASSES, BASE = ("left", "middle", "right"), 6, 8, 6


def branches(choose, *, input_shape, classes):
    """Three equal branches, each of which sees its own third of the image; their features are added."""
    inputs = tf.keras.Input(input_shape)
    streams = []
    for index, name in enumerate(BRANCHES):
        crop = ((0, 0), (index * SIDE, (len(BRANCHES) - 1 - index) * SIDE))
        x = tf.keras.layers.Cropping2D(crop, name=f"{name}_crop")(inputs)
        x = BatchNormalization(name=f"{name}_bn1")(FloatConv2D(choose(name, BASE), 3, 2, name=f"{name}_conv1")(x))
        x = BinaryConv2D(16, 3, name=f"{name}_conv2")(LearnedStep(name=f"{name}_step")(x))
        streams.append(BatchNormalization(name=f"{name}_bn2")(x))
    x = tf.keras.layers.Add(name="add")(streams)
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(tf.keras.layers.ReLU(name="relu")(x))
    return tf.keras.Model(inputs, Dense(classes, name="logits")(x))


register("test-branches", branches)


def images(informative, count, seed):
    """Only one third of an image tells its class: a pattern under noise; the others are noise of the same size."""
    chance = np.random.default_rng(seed)
    patterns = np.random.default_rng(7).choice([-1.0, 1.0], size=(CLASSES, SIDE, SIDE, 2))
    labels = chance.integers(0, CLASSES, count)
    content = chance.normal(scale=np.sqrt(2.0), size=(count, SIDE, SIDE * len(BRANCHES), 2))
    first = BRANCHES.index(informative) * SIDE
    content[:, :, first : first + SIDE] = patterns[labels] + chance.normal(size=(count, SIDE, SIDE, 2))
    return tf.data.Dataset.from_tensor_slices((content.astype(np.float32), labels)).batch(64)


@pytest.mark.parametrize(("informative", "seed"), [("middle", 0), ("right", 1)])
def test_the_width_that_is_needed_grows_and_the_others_shrink(informative, seed):
    tf.keras.utils.set_random_seed(seed)
    search = DMS(
        "test-branches",
        # Three branches of 9 * 2 * 4 + 9 * 16 / 8 = 90 bytes a channel.
        budget=Budget(Memory(), limit=16 * 4 * CLASSES + 4 * CLASSES + 90 * len(BRANCHES) * BASE, penalty_weight=1.0),
        input_shape=(SIDE, SIDE * len(BRANCHES), 2),
        classes=CLASSES,
        initial_ratio=1.1,
        initial_sigma=0.5,
        final_sigma=0.3,
        seed=seed,
        rounds=4,
        weight_epochs=1,
    )
    search.compile(tf.keras.optimizers.SGD(0.05, momentum=0.9), tf.keras.optimizers.Adam(0.02))
    search.fit(images(informative, 2048, 2 * seed), images(informative, 2048, 2 * seed + 1))
    mu = dict(zip((width.name for width in search.widths), search.mu.numpy() - 1.1, strict=True))
    assert mu.pop(informative) > 0.15
    assert max(mu.values()) < -0.15
