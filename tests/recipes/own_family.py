"""A network family of a user's own: three convolutions, so that a whole run takes a fraction of a VGG's time."""

import tensorflow as tf

from tfbnas.layers import BatchNormalization, BinaryConv2D, Dense, FloatConv2D, LearnedStep


def network(choose, *, input_shape, classes):
    inputs = tf.keras.Input(input_shape)
    x = BatchNormalization(name="bn0")(FloatConv2D(choose("stem", 32), 3, 2, name="stem")(inputs))
    for index, channels in enumerate((64, 128), start=1):
        x = LearnedStep(name=f"step{index}")(x)
        x = BinaryConv2D(choose(f"conv{index}", channels), 3, 2, name=f"conv{index}")(x)
        x = BatchNormalization(name=f"bn{index}")(x)
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return tf.keras.Model(inputs, Dense(classes, name="logits", dtype="float32")(x))
