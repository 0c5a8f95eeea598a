"""QuickNet (Bannink et al., "Larq Compute Engine", MLSys 2021), with its widths as choices or with its blocks.

Shapes are those of larq-zoo 2: QuickNet has four sections of 4, 4, 4 and 4 blocks with 64, 128, 256 and 512 channels,
QuickNetSmall 32, 64, 256 and 512 channels, QuickNetLarge 6, 8, 12 and 6 blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import larq as lq
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.hints import has_type
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D, SignConv2D
from tfbnas.layers.depthwise import FloatDepthwiseConv2D, Smoothing
from tfbnas.layers.quantizers import SteSign
from tfbnas.networks.graph import NetworkGraph

BLOCKS = (4, 4, 4, 4)
FILTERS = (64, 128, 256, 512)

_LARGEST_CIFAR_FORM = 64
_CLIP = 1.25


def quicknet(
    choose,
    *,
    input_shape=(32, 32, 3),
    classes=10,
    blocks: Sequence[int] = BLOCKS,
    filters: Sequence[int] = FILTERS,
    binarisation: str = "sign",
) -> tf.keras.Model:
    """Sections of residual blocks, each a binary 3x3 convolution with ReLU and normalisation added to its input.

    The stem is a float 3x3 convolution, a depthwise one and a 1x1 one. From one section to the next leads a ReLU, a max
    pool of stride 1, a depthwise convolution of stride 2 with the kernel 1 2 1, which is not trained, and a float 1x1
    convolution.

    Choices: "stem", the channels of the stem's first convolution; "sectionN" for each section, the stream's channels.

    Args:
      choose: `choose(name, base channels)` gives the channels of each choice.
      input_shape: Height, width, channels. Above 64 pixels the stem halves the image twice, as published; below not.
      classes: Units of the last layer.
      blocks: Residual blocks of each section. Default: QuickNet's.
      filters: Channels of each section; the stem's first convolution has a quarter of the first. Default: QuickNet's.
      binarisation: "sign" (both -1 and +1), or "float": full precision, with a ReLU for the sign in front of each
        convolution and none behind it. Default: "sign".

    Raises:
      UserError: `blocks` or `filters` are no positive integers, or not as many; or the images are too small.

    Returns:
      Functional model from images to logits `[batch, classes]`, float32.
    """
    blocks, filters = _checked(blocks, filters, binarisation)
    widths = [choose("stem", max(1, filters[0] // 4))]
    widths += [choose(f"section{section}", channels) for section, channels in enumerate(filters, start=1)]
    graph = _graph(widths, blocks, input_shape, classes, binarisation)
    return graph.build(lambda name, default: True, input_shape=input_shape, name="quicknet")


def quicknet_blocks(
    choose,
    *,
    input_shape=(32, 32, 3),
    classes=10,
    blocks: Sequence[int] = BLOCKS,
    filters: Sequence[int] = FILTERS,
    binarisation: str = "sign",
) -> tf.keras.Model:
    """The same network with given widths; whether a block is there are its choices, "sectionN/blockM".

    Arguments, errors and result are those of `quicknet`; `choose(name, True)` gives True, False or an OpenGate.
    """
    graph = quicknet_graph(
        input_shape=input_shape, classes=classes, blocks=blocks, filters=filters, binarisation=binarisation
    )
    return graph.build(choose, input_shape=input_shape, name="quicknet")


def quicknet_graph(
    *,
    input_shape=(32, 32, 3),
    classes=10,
    blocks: Sequence[int] = BLOCKS,
    filters: Sequence[int] = FILTERS,
    binarisation: str = "sign",
) -> NetworkGraph:
    """The graph of `quicknet_blocks`; the arguments are the same."""
    blocks, filters = _checked(blocks, filters, binarisation)
    return _graph([max(1, filters[0] // 4), *filters], blocks, input_shape, classes, binarisation)


def _checked(blocks: Any, filters: Any, binarisation: str) -> tuple[list[int], list[int]]:
    sizes = [list(one) if isinstance(one, list | tuple) else [] for one in (blocks, filters)]
    if not sizes[0] or len(sizes[0]) != len(sizes[1]) or not all(has_type(n, int) and n >= 1 for n in sum(sizes, [])):
        raise UserError(
            "Expected `blocks` and `filters` of quicknet to be as many positive integers, one for each section. "
            f"Received: blocks={blocks!r}, filters={filters!r}."
        )
    if binarisation not in ("sign", "float"):
        raise UserError(
            f'Expected the option `binarisation` of quicknet to be "sign" or "float": the ReLU behind its binary '
            f"convolutions has no place with activations 0 and 1. Received: binarisation={binarisation!r}."
        )
    return sizes[0], sizes[1]


def _graph(widths: Sequence[Any], blocks: Sequence[int], input_shape, classes: int, binarisation: str) -> NetworkGraph:
    stride = 2 if input_shape[0] > _LARGEST_CIFAR_FORM else 1
    side = -(-min(input_shape[:2]) // stride**2)
    for _ in blocks[1:]:
        if side < 2:
            raise UserError(
                f"Expected images that {len(blocks) - 1} transitions of quicknet can halve. Received: "
                f"{input_shape[0]}x{input_shape[1]}; scale them (--data.image_size 32) or give fewer sections."
            )
        side = side // 2
    graph = NetworkGraph()
    last = graph.add("stem", _stem, widths[0], widths[1], stride)
    for section, (count, channels) in enumerate(zip(blocks, widths[1:], strict=True), start=1):
        if section > 1:
            last = graph.add(f"transition{section}", _transition, channels, inputs=[last])
        for block in range(1, count + 1):
            scope = f"section{section}_block{block}"
            body = graph.add(
                scope, _body, channels, binarisation, inputs=[last], choice=f"section{section}/block{block}"
            )
            last = graph.add(f"{scope}_add", _sum, inputs=[last, body])
    graph.add("logits", _classifier, classes, inputs=[last])
    return graph


def _stem(name: str, tensors: list[Any], inner: Any, channels: Any, stride: int) -> Any:
    x = FloatConv2D(inner, 3, stride, name=name)(tensors[0])
    x = tf.keras.layers.ReLU(name=f"{name}_relu")(BatchNormalization(name=f"{name}_bn")(x))
    x = FloatDepthwiseConv2D(3, stride, name=f"{name}_depthwise")(x)
    x = BatchNormalization(name=f"{name}_depthwise_bn")(x)
    x = FloatConv2D(channels, 1, name=f"{name}_pointwise")(x)
    return BatchNormalization(name=f"{name}_pointwise_bn")(x)


def _transition(name: str, tensors: list[Any], channels: Any) -> Any:
    x = tf.keras.layers.ReLU(name=f"{name}_relu")(tensors[0])
    x = tf.keras.layers.MaxPool2D(2, 1, name=f"{name}_pool")(x)
    x = FloatDepthwiseConv2D(3, 2, depthwise_initializer=Smoothing(), trainable=False, name=f"{name}_smoothing")(x)
    x = FloatConv2D(channels, 1, name=name)(x)
    return BatchNormalization(name=f"{name}_bn")(x)


def _body(name: str, tensors: list[Any], channels: Any, binarisation: str) -> Any:
    if binarisation == "float":
        x = tf.keras.layers.ReLU(name=f"{name}_step")(tensors[0])
        x = FloatConv2D(channels, 3, name=f"{name}_conv")(x)
    else:
        x = SteSign(_CLIP, name=f"{name}_step")(tensors[0])
        x = SignConv2D(
            channels,
            3,
            activation="relu",
            kernel_initializer="glorot_normal",
            kernel_quantizer=SteSign(_CLIP),
            kernel_constraint=lq.constraints.WeightClip(_CLIP),
            name=f"{name}_conv",
        )(x)
    return BatchNormalization(name=f"{name}_bn")(x)


def _sum(name: str, tensors: list[Any]) -> Any:
    return tf.keras.layers.Add(name=name)(tensors) if len(tensors) > 1 else tensors[0]


def _classifier(name: str, tensors: list[Any], classes: int) -> Any:
    x = tf.keras.layers.ReLU(name=f"{name}_relu")(tensors[0])
    x = tf.keras.layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)
    return Dense(classes, name=name, dtype="float32")(x)
