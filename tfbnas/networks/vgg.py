"""VGG-11 with binary convolutions (Simonyan & Zisserman, ICLR 2015), in CIFAR form."""

from __future__ import annotations

import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D, blocks

# Channels of each convolution, in quarters of the ImageNet form, and whether a max pool follows it.
_LAYERS = ((1, True), (2, True), (4, False), (4, True), (8, False), (8, True), (8, False), (8, True))


def vgg11(
    choose, *, input_shape=(32, 32, 3), classes=10, base: int = 16, binarisation: str = "zero_alpha"
) -> tf.keras.Model:
    """Eight convolutions and one dense layer; first and last layer float, the others binary.

    The pools stand between convolution and normalisation: there they commute with the constants that the deploy form
    folds, so that the exported network needs no operator of its own for them.

    Args:
      choose: `choose(name, base channels)` gives the channels of each convolution, "conv1" to "conv8".
      input_shape: Height, width, channels; height and width at least 32.
      classes: Units of the last layer.
      base: Channels of the first convolution. Default 16, the paper's CIFAR form (a quarter of ImageNet's 64).
      binarisation: "zero_alpha" ({0, alpha} activations, standardised kernels), "sign" (both -1 and +1), "rectified"
        (the same, with a learned scale for each convolution), or "float": full precision, with ReLU for the quantisers
        and float kernels under the same names. Default: "zero_alpha".

    Raises:
      UserError: The images are smaller.

    Returns:
      Functional model from images to logits `[batch, classes]`, float32.
    """
    if min(input_shape[:2]) < 32:
        raise UserError(
            f"Expected images of at least 32x32 pixels for vgg11, which halves them five times. Received: "
            f"{input_shape[0]}x{input_shape[1]}; scale them (--data.image_size 32) or use resnet18."
        )
    quantize, convolution = blocks(binarisation)
    inputs = x = tf.keras.Input(input_shape)
    for index, (multiple, pool) in enumerate(_LAYERS, start=1):
        channels = choose(f"conv{index}", base * multiple)
        if index == 1:
            x = FloatConv2D(channels, 3, name="conv1")(x)
        else:
            x = quantize(name=f"step{index}")(x)
            x = convolution(channels, 3, name=f"conv{index}")(x)
        if pool:
            x = tf.keras.layers.MaxPool2D(2, name=f"pool{index}")(x)
        x = BatchNormalization(name=f"bn{index}")(x)
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = Dense(classes, name="logits", dtype="float32")(x)
    return tf.keras.Model(inputs, outputs, name="vgg11")
