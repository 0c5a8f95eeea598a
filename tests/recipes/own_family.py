"""A network family of a user's own: three convolutions, so that a whole run takes a fraction of a VGG's time."""

import tensorflow as tf

from tfbnas.layers import BatchNormalization, Dense, FloatConv2D, blocks


def network(choose, *, input_shape, classes, binarisation="zero_alpha"):
    inputs = tf.keras.Input(input_shape)
    x = BatchNormalization(name="bn0")(FloatConv2D(choose("stem", 32), 3, 2, name="stem")(inputs))
    quantize, convolution = blocks(binarisation)
    for index, channels in enumerate((64, 128), start=1):
        x = quantize(name=f"step{index}")(x)
        x = convolution(choose(f"conv{index}", channels), 3, 2, name=f"conv{index}")(x)
        x = BatchNormalization(name=f"bn{index}")(x)
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return tf.keras.Model(inputs, Dense(classes, name="logits", dtype="float32")(x))
