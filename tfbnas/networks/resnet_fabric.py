"""ResNet Fabric (Veniat & Denoyer, CVPR 2018): a CIFAR ResNet whose groups are linked block by block."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.hints import has_type
from tfbnas.layers import BatchNormalization, Dense, blocks
from tfbnas.networks.graph import NetworkGraph
from tfbnas.networks.modules import Quantised, stem, total

_GROUPS = 3


def resnet_fabric(
    choose,
    *,
    input_shape=(32, 32, 3),
    classes=10,
    n: int = 3,
    base: int = 16,
    links: bool = True,
    binarisation: str = "zero_alpha",
    thresholds: str = "edge",
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
      binarisation: "zero_alpha" ({0, alpha} activations, standardised kernels) or "sign" (both -1 and +1): a quantiser
        stands in front of every convolution of a block, and the stream stay real-valued, without ReLU. Or
        "float": the network of the paper in full precision. Default: "zero_alpha".
      thresholds: "edge": every convolution quantises what it reads at a threshold of its own. "tensor": what a block
        gives out is quantised once, for all that read it, which saves most of the quantising when deployed. Default:
        "edge".

    Raises:
      UserError: A choice is neither true nor false, or no path is left from input to output.

    Returns:
      Functional model from images to logits `[batch, classes]`, float32.
    """
    graph = resnet_fabric_graph(
        input_shape=input_shape,
        classes=classes,
        n=n,
        base=base,
        links=links,
        binarisation=binarisation,
        thresholds=thresholds,
    )
    return graph.build(choose, input_shape=input_shape, name="resnet_fabric")


def resnet_fabric_graph(
    *,
    input_shape=(32, 32, 3),
    classes=10,
    n: int = 3,
    base: int = 16,
    links: bool = True,
    binarisation: str = "zero_alpha",
    thresholds: str = "edge",
) -> NetworkGraph:
    """The graph of `resnet_fabric`; the arguments are the same.

    Nodes and edges are added in the order that gives the schedules of the paper's tables.
    """
    del input_shape
    if not (has_type(n, int) and has_type(base, int) and min(n, base) >= 1):
        raise UserError(f"Expected `n` and `base` of resnet_fabric to be positive. Received: n={n!r}, base={base!r}.")
    graph = NetworkGraph()
    last = graph.add("stem", stem, base, binarisation)
    bits = Quantised(graph, thresholds, binarisation)
    reads = (binarisation, True) if bits.shared else (binarisation,)
    before: list[int] = []
    for group in range(1, _GROUPS + 1):
        channels = base * 2 ** (group - 1)
        if group > 1:
            last = bits.same(graph.add(f"group{group}_input", _identity, inputs=[last], cost=0), last)
        here = [last]  # what each block reads, so that place j + 1 holds the output of block j
        for block in range(n):
            scope, choice = f"group{group}_block{block}", f"group{group}/block{block}"
            stride = 2 if group > 1 and block == 0 else 1
            body = graph.add(
                f"{scope}_body", _body, channels, stride, *reads, inputs=[bits(last)], choice=f"{choice}/body"
            )
            if stride == 1:
                skip = graph.add(f"{scope}_skip", _identity, inputs=[last], cost=0, choice=f"{choice}/skip")
            else:
                skip = graph.add(
                    f"{scope}_skip", _projection, channels, stride, *reads, inputs=[bits(last)], choice=f"{choice}/skip"
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
                            *reads,
                            inputs=[bits(before[source + 1])],
                            choice=f"{choice}/{origin}",
                        )
                    )
            last = graph.add(scope, total, binarisation, inputs=[*inputs, skip, body])
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


def _body(
    name: str, tensors: list[Any], channels: int, stride: int, binarisation: str, reads_bits: bool = False
) -> Any:
    quantize, convolution = blocks(binarisation)
    is_quantized = reads_bits or binarisation == "float"
    x = tensors[0] if is_quantized else quantize(name=f"{name}_step1")(tensors[0])
    x = convolution(channels, 3, stride, name=f"{name}_conv1")(x)
    x = BatchNormalization(name=f"{name}_bn1")(x)
    x = quantize(name=f"{name}_step2")(x)
    x = convolution(channels, 3, name=f"{name}_conv2")(x)
    return BatchNormalization(name=f"{name}_bn2")(x)


def _projection(
    name: str, tensors: list[Any], channels: int, stride: int, binarisation: str, reads_bits: bool = False
) -> Any:
    quantize, convolution = blocks(binarisation)
    is_quantized = reads_bits or binarisation == "float"
    x = tensors[0] if is_quantized else quantize(name=f"{name}_step")(tensors[0])
    x = convolution(channels, 1, stride, name=f"{name}_conv")(x)
    return BatchNormalization(name=f"{name}_bn")(x)


def _classifier(name: str, tensors: list[Any], classes: int) -> Any:
    x = tf.keras.layers.GlobalAveragePooling2D(name=f"{name}_pool")(tensors[0])
    return Dense(classes, name=name, dtype="float32")(x)
