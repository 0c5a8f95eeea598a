"""ResNet Fabric (Veniat & Denoyer, CVPR 2018): a CIFAR ResNet whose groups are linked block by block."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D, blocks
from tfbnas.networks.graph import NetworkGraph

_GROUPS = 3


def resnet_fabric(
    choose,
    *,
    input_shape=(32, 32, 3),
    classes=10,
    n: int = 3,
    base: int = 16,
    links: bool = True,
    binary: bool = True,
) -> tf.keras.Model:
    """Three groups of `n` basic blocks; blocks of the later groups also read blocks of the group before, mirrored.

    Choices, each true (there) or false (left out): "groupG/blockB/body", two 3x3 convolutions; "groupG/blockB/skip",
    the shortcut beside them, an identity, or a 1x1 convolution where the size changes; "groupG/blockB/fromS", a basic
    block with a 1x1 shortcut of its own from block S of the group before ("from_input": from what that group reads).
    With all links left out it is ResNet-20, -32, -44, -56, -110 for n = 3, 5, 7, 9, 18.

    Args:
      choose: `choose(name, True)` gives True, False or an OpenGate.
      input_shape: Height, width, channels.
      classes: Units of the last layer.
      n: Blocks of a group. Default 3.
      base: Channels of the first group; the others have twice and four times as many. Default 16.
      links: False describes the plain ResNet. Default: True.
      binary: False gives the network of the paper in full precision: convolution, normalisation, ReLU. True puts a
        quantiser in front of every convolution of a block and keeps the stream real-valued, without ReLU.

    Raises:
      UserError: A choice is neither true nor false, or no path is left from input to output.

    Returns:
      Functional model from images to logits `[batch, classes]`, float32.
    """
    graph = resnet_fabric_graph(input_shape=input_shape, classes=classes, n=n, base=base, links=links, binary=binary)
    return graph.build(choose, input_shape=input_shape, name="resnet_fabric")


def resnet_fabric_graph(
    *, input_shape=(32, 32, 3), classes=10, n: int = 3, base: int = 16, links: bool = True, binary: bool = True
) -> NetworkGraph:
    """The graph of `resnet_fabric`; the arguments are the same.

    Nodes and edges are added in the order that gives the schedules of the paper's tables.
    """
    del input_shape
    if n < 1 or base < 1:
        raise UserError(f"Expected `n` and `base` of resnet_fabric to be positive. Received: n={n}, base={base}.")
    graph = NetworkGraph()
    last = graph.add("stem", _stem, base, binary)
    before: list[int] = []
    for group in range(1, _GROUPS + 1):
        channels = base * 2 ** (group - 1)
        if group > 1:
            last = graph.add(f"group{group}_input", _identity, inputs=[last], cost=0)
        here = [last]  # what each block reads, so that place j + 1 holds the output of block j
        for block in range(n):
            scope, choice = f"group{group}_block{block}", f"group{group}/block{block}"
            stride = 2 if group > 1 and block == 0 else 1
            body = graph.add(f"{scope}_body", _body, channels, stride, binary, inputs=[last], choice=f"{choice}/body")
            if stride == 1:
                skip = graph.add(f"{scope}_skip", _identity, inputs=[last], cost=0, choice=f"{choice}/skip")
            else:
                skip = graph.add(
                    f"{scope}_skip", _projection, channels, stride, binary, inputs=[last], choice=f"{choice}/skip"
                )
            inputs = []
            for source in _linked(n, block) if links and group > 1 else []:
                # Before the first block, the group that is linked still has the size of the one before it.
                reduction = 4 if source < 0 and group > 2 else 2
                origin = f"from{source}" if source >= 0 else "from_input"
                for kind, make in (("body", _body), ("skip", _projection)):
                    name = f"{scope}_{origin}_{kind}"
                    inputs.append(
                        graph.add(
                            name,
                            make,
                            channels,
                            reduction,
                            binary,
                            inputs=[before[source + 1]],
                            choice=f"{choice}/{origin}",
                        )
                    )
            last = graph.add(scope, _total, binary, inputs=[*inputs, skip, body])
            here.append(last)
        before = here
    graph.add("logits", _classifier, classes, inputs=[last])
    return graph


def _linked(n: int, block: int) -> list[int]:
    """Blocks of the group before that a block also reads, -1 for that group's input: mirrored order."""
    found = [n - block - 2]
    if block != 0:
        found.append(n - block - 1)
    if block != n - 1:
        found.append(n - block - 3)
    return [source for source in found if source >= -1]


def _identity(name: str, tensors: list[Any]) -> Any:
    return tensors[0]


def _stem(name: str, tensors: list[Any], base: int, binary: bool) -> Any:
    x = FloatConv2D(base, 3, name=name)(tensors[0])
    x = BatchNormalization(name=f"{name}_bn")(x)
    return x if binary else tf.keras.layers.ReLU(name=f"{name}_relu")(x)


def _body(name: str, tensors: list[Any], channels: int, stride: int, binary: bool) -> Any:
    quantize, convolution = blocks("zero_alpha" if binary else "float")
    x = quantize(name=f"{name}_step1")(tensors[0]) if binary else tensors[0]
    x = convolution(channels, 3, stride, name=f"{name}_conv1")(x)
    x = BatchNormalization(name=f"{name}_bn1")(x)
    x = quantize(name=f"{name}_step2")(x)
    x = convolution(channels, 3, name=f"{name}_conv2")(x)
    return BatchNormalization(name=f"{name}_bn2")(x)


def _projection(name: str, tensors: list[Any], channels: int, stride: int, binary: bool) -> Any:
    quantize, convolution = blocks("zero_alpha" if binary else "float")
    x = quantize(name=f"{name}_step")(tensors[0]) if binary else tensors[0]
    x = convolution(channels, 1, stride, name=f"{name}_conv")(x)
    return BatchNormalization(name=f"{name}_bn")(x)


def _total(name: str, tensors: list[Any], binary: bool) -> Any:
    x = tf.keras.layers.Add(name=f"{name}_add")(tensors) if len(tensors) > 1 else tensors[0]
    return x if binary else tf.keras.layers.ReLU(name=f"{name}_relu")(x)


def _classifier(name: str, tensors: list[Any], classes: int) -> Any:
    x = tf.keras.layers.GlobalAveragePooling2D(name=f"{name}_pool")(tensors[0])
    return Dense(classes, name=name, dtype="float32")(x)
