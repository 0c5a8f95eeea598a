"""ResNet-18 with binary convolutions (He et al., CVPR 2016), in CIFAR and ImageNet form."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.hints import has_type
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D, blocks

_LARGEST_CIFAR_FORM = 64


SHORTCUTS = ("block", "convolution")
"""Around what the shortcuts of a network lead."""


def check_shortcuts(shortcuts: str) -> None:
    """Raises UserError for anything that is not one of `SHORTCUTS`."""
    if shortcuts not in SHORTCUTS:
        raise UserError(f'Expected `shortcuts` to be "block" or "convolution". Received: shortcuts={shortcuts!r}.')


def resnet18(
    choose,
    *,
    input_shape=(32, 32, 3),
    classes=10,
    base: int | None = None,
    stages: Sequence[int] | None = None,
    binarisation: str = "zero_alpha",
    shortcuts: str = "block",
):
    """Four stages of two blocks of two 3x3 convolutions; first and last layer float, the others binary.

    Choices: "stem", the stream's channels up to the first downsampling block; "stageN/stream" for N in 2..4, the
    stream's channels from there on (DMS Fig. 2, r2); "stageN/blockM/inner", the channels between the convolutions of a
    block.
    The stream stays real-valued, without ReLU: the {0, alpha} quantiser in front of each convolution is the
    nonlinearity. In a downsampling block both convolutions read the same quantised tensor.

    Args:
      choose: `choose(name, base channels)` gives the channels of each choice.
      input_shape: Height, width, channels. Above 64 pixels the ImageNet form: 7x7 stem of stride 2, then a max pool.
      classes: Units of the last layer.
      base: Channels of the first stage. Default: 16 (the paper's CIFAR form, a quarter), 64 in the ImageNet form.
      stages: Channels of each of the four stages, in place of `base`, with which they double from stage to stage.
      binarisation: "zero_alpha" ({0, alpha} activations, standardised kernels), "sign" (both -1 and +1), "rectified"
        (the same, with a learned scale for each convolution), or "float": full precision, with ReLU for the quantisers
        and float kernels under the same names. Default: "zero_alpha".
      shortcuts: "block": around both convolutions of a block. "convolution": around each (Bi-Real Net, Liu et al., ECCV
        2018), an addition more in each block; every convolution then writes to the stream, and there is no choice
        "inner". Default: "block".

    Returns:
      Functional model from images to logits `[batch, classes]`, float32.
    """
    large = input_shape[0] > _LARGEST_CIFAR_FORM
    base = base or (64 if large else 16)
    stages = [base, 2 * base, 4 * base, 8 * base] if stages is None else list(stages)
    if len(stages) != 4 or not all(has_type(count, int) and count > 0 for count in stages):
        raise UserError(f"Expected `stages` to be four positive numbers of channels. Received: stages={stages!r}.")
    check_shortcuts(shortcuts)
    each = shortcuts == "convolution"
    quantize, convolution = blocks(binarisation)
    inputs = tf.keras.Input(input_shape)
    stream = choose("stem", stages[0])
    x = FloatConv2D(stream, 7 if large else 3, 2 if large else 1, name="stem")(inputs)
    if large:
        x = tf.keras.layers.MaxPool2D(3, 2, padding="same", name="stem_pool")(x)
    x = BatchNormalization(name="stem_bn")(x)
    for stage, channels in enumerate(stages, start=1):
        for block in (1, 2):
            scope = f"stage{stage}_block{block}"
            downsample = stage > 1 and block == 1
            bits = quantize(name=f"{scope}_step1")(x)
            if downsample:
                stream = choose(f"stage{stage}/stream", channels)
                x = convolution(stream, 1, 2, name=f"{scope}_shortcut")(bits)
                x = BatchNormalization(name=f"{scope}_shortcut_bn")(x)
            inner = stream if each else choose(f"stage{stage}/block{block}/inner", channels)
            y = convolution(inner, 3, 2 if downsample else 1, name=f"{scope}_conv1")(bits)
            y = BatchNormalization(name=f"{scope}_bn1")(y)
            if each:
                x = y = tf.keras.layers.Add(name=f"{scope}_add1")([x, y])
            y = quantize(name=f"{scope}_step2")(y)
            y = convolution(stream, 3, name=f"{scope}_conv2")(y)
            y = BatchNormalization(name=f"{scope}_bn2")(y)
            x = tf.keras.layers.Add(name=f"{scope}_add")([x, y])
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = Dense(classes, name="logits", dtype="float32")(x)
    return tf.keras.Model(inputs, outputs, name="resnet18")
