"""Networks of normal and reduction cells (Liu et al., DARTS, ICLR 2019), with binary operations (CP-NAS, DCP-NAS)."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from tfbnas.errors import UserError, nearest
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D, blocks
from tfbnas.layers.fan_out import FanOut
from tfbnas.layers.pooling import TwiceDifferentiableMaxPool2D
from tfbnas.layers.width import LAYOUT_MULTIPLE, builds_for_training
from tfbnas.networks import mixed
from tfbnas.networks.choices import OpenOperation, Operation

NONE = "none"
OPERATIONS = {
    "deployable": (NONE, "identity", "max_pool_3x3", "conv_1x1", "conv_3x3", "conv_5x5", "dil_conv_3x3"),
    "paper": (
        NONE,
        "identity",
        "max_pool_3x3",
        "avg_pool_3x3",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    ),
}
"""The operations of an edge, by the name of the set."""
_USUAL = {"deployable": "conv_3x3", "paper": "sep_conv_3x3"}
_LARGEST_CIFAR_FORM = 64


@dataclass(frozen=True)
class Edge(Operation):
    """The operation of an edge, which may be none.

    Drawn, an edge is kept with a probability that gives every node two edges in the mean, as DARTS' rule leaves it; the
    operations of the kept ones are equally probable.

    Attributes:
      sources: Edges that lead to the node.
    """

    sources: int = 2

    def draw(self, random: np.random.Generator) -> str:
        if random.random() >= 2 / self.sources:
            return NONE
        return str(random.choice([name for name in self.candidates if name != NONE]))


def cells(
    choose,
    *,
    input_shape=(32, 32, 3),
    classes=10,
    depth: int = 8,
    channels: int = 16,
    nodes: int = 4,
    operations: str = "deployable",
    binarisation: str = "zero_alpha",
) -> tf.keras.Model:
    """Cells one behind the other, each of which reads the two in front of it.

    A cell has two inputs, 0 and 1, and nodes from 2 on; a node adds up what its edges give it. All normal cells are
    alike, and so are the two reduction cells, at a third and two thirds of the depth, which halve the size and double
    the channels. A node without edges is left out.

    Choices: "normal/nodeN/fromM" and "reduction/nodeN/fromM" for M < N, the operation of the edge; 4 nodes have 14.

    "deployable" operations run in binary on Larq Compute Engine, or are none of its operators: binary convolutions of
    1x1, 3x3, 5x5 and dilated 3x3, max pool, identity. The inputs of its cells are binary 1x1 convolutions with a
    real-valued shortcut around them, the sum of the nodes: without it every gradient would pass all quantisers of a
    deep super-network. "paper" has depthwise-separable and dilated convolutions, average pools, and float 1x1
    convolutions for the cells' inputs; Larq Compute Engine runs the depthwise ones in float. In both an identity of
    stride 2 is a 1x1 convolution.

    Args:
      choose: `choose(name, Edge(...))` gives the name of an operation, or an OpenOperation.
      input_shape: Height, width, channels. Above 64 pixels the ImageNet form: a stem of three convolutions of stride 2.
      classes: Units of the last layer.
      depth: Number of cells. Default 8.
      channels: Of a node in the first cells; a multiple of 16 where the network is to be trained. Default 16.
      nodes: Of a cell. Default 4.
      operations: "deployable" or "paper". Default: "deployable".
      binarisation: "zero_alpha" or "sign" for the child; "float" for the parent. Default: "zero_alpha".

    Raises:
      UserError: A number is too small or `channels` no multiple, there is no such set of operations, or all nodes of a
        cell are without edges.

    Returns:
      Functional model from images to logits `[batch, classes]`, float32.
    """
    if depth < 1 or channels < 1 or nodes < 1:
        raise UserError(
            "Expected `depth`, `channels` and `nodes` of cells to be positive. "
            f"Received: depth={depth}, channels={channels}, nodes={nodes}."
        )
    if builds_for_training() and channels % LAYOUT_MULTIPLE:
        raise UserError(
            f"Expected `channels` of cells to be a multiple of {LAYOUT_MULTIPLE} for training, which aligns each node. "
            f"Received: channels={channels}."
        )
    if operations not in OPERATIONS:
        raise UserError(
            f"Expected `operations` of cells to be one of {', '.join(OPERATIONS)}. "
            f"Received: {operations!r}.{nearest(operations, OPERATIONS)}"
        )
    reductions = {depth // 3, 2 * depth // 3}
    kinds = ["reduction" if index in reductions else "normal" for index in range(depth)]
    chosen: dict[str, dict[tuple[int, int], Any]] = {}
    for kind in ("normal", "reduction"):
        if kind in kinds:
            chosen[kind] = {
                (source, node): choose(
                    f"{kind}/node{node}/from{source}",
                    Edge(OPERATIONS[operations], _USUAL[operations] if source < 2 else NONE, node),
                )
                for node in range(2, nodes + 2)
                for source in range(node)
            }
    style = _Style(operations, binarisation)
    inputs = tf.keras.Input(input_shape)
    before, last, halved = _stem(inputs, channels, style)
    for index, kind in enumerate(kinds):
        name = f"cell{index}"
        if kind == "reduction":
            channels *= 2
        first = _input(f"{name}_input0", before, channels, 2 if halved else 1, style)
        second = _input(f"{name}_input1", last, channels, 1, style)
        before, last = last, _cell(name, kind, [first, second], chosen[kind], channels, style, index == depth - 1)
        halved = kind == "reduction"
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(last.nodes)
    outputs = Dense(classes, name="logits", dtype="float32")(x)
    return tf.keras.Model(inputs, outputs, name="cells")


@dataclass(frozen=True)
class _Style:
    operations: str
    binarisation: str

    @property
    def has_shortcuts(self) -> bool:
        return self.operations == "deployable"


@dataclass(frozen=True)
class _Output:
    """What later cells read of a cell: its nodes side by side, and, where shortcuts lead on from it, their sum."""

    nodes: Any
    total: Any


def _stem(inputs: Any, channels: int, style: _Style) -> tuple[_Output, _Output, bool]:
    """What the first cell reads, and whether the first of the two is twice as large as the second."""
    # Three times the channels, as in DARTS, where no shortcut needs them to be those of a cell.
    wide = channels if style.has_shortcuts else 3 * channels
    large = inputs.shape[1] > _LARGEST_CIFAR_FORM
    x = inputs
    if large:
        x = FloatConv2D(wide // 2 or 1, 3, 2, name="stem0")(x)
        x = BatchNormalization(name="stem0_bn")(x)
        x = tf.keras.layers.ReLU(name="stem0_relu")(x)
    x = FloatConv2D(wide, 3, 2 if large else 1, name="stem")(x)
    first = BatchNormalization(name="stem_bn")(x)
    if not large:
        return _Output(first, first), _Output(first, first), False
    x = tf.keras.layers.ReLU(name="stem2_relu")(first)
    x = FloatConv2D(wide, 3, 2, name="stem2")(x)
    second = BatchNormalization(name="stem2_bn")(x)
    return _Output(first, first), _Output(second, second), True


def _input(name: str, output: _Output, channels: int, stride: int, style: _Style) -> Any:
    """An earlier cell's output with the channels and the size of this cell."""
    if not style.has_shortcuts:
        x = tf.keras.layers.ReLU(name=f"{name}_relu")(output.nodes)
        x = FloatConv2D(channels, 1, stride, name=f"{name}_conv")(x)
        return BatchNormalization(name=f"{name}_bn")(x)
    x = _convolution(1, channels, stride, style, name, output.nodes)
    shortcut = output.total
    if stride > 1:
        shortcut = tf.keras.layers.AveragePooling2D(stride, padding="same", name=f"{name}_pool")(shortcut)
    if shortcut.shape[-1] != channels:
        shortcut = tf.keras.layers.Concatenate(name=f"{name}_wider")([shortcut] * (channels // shortcut.shape[-1]))
    x = tf.keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return BatchNormalization(name=f"{name}_sum_bn")(x)


def _cell(
    name: str,
    kind: str,
    inputs: list[Any],
    chosen: Mapping[tuple[int, int], Any],
    channels: int,
    style: _Style,
    is_last: bool,
) -> _Output:
    is_open = any(isinstance(value, OpenOperation) for value in chosen.values())
    edges = _kept(chosen)
    targets = sorted({node for _, node in edges})
    if not targets:
        raise UserError(f"Expected a {kind} cell of cells with an edge that is not none. Received: none at all.")
    has_total = style.has_shortcuts and not is_last
    readers = Counter(source for source, _ in edges) + Counter({node: 1 + has_total for node in targets})
    copies = {
        number: _copies(f"{name}_input{number}", tensor, readers[number], is_open)
        for number, tensor in enumerate(inputs)
    }
    for node in targets:
        summed = []
        for source in (source for source, target in edges if target == node):
            value = chosen[source, node]
            stride = 2 if kind == "reduction" and source < 2 else 1
            makers = _makers(channels, stride, style, isinstance(value, OpenOperation))
            full = f"{name}_node{node}_from{source}"
            summed.append(mixed.operation(value, full, copies[source].pop(), makers))
        x = tf.keras.layers.Add(name=f"{name}_node{node}")(summed) if len(summed) > 1 else summed[0]
        copies[node] = _copies(f"{name}_node{node}", x, readers[node], is_open)

    def joined(layer: type[tf.keras.layers.Layer], suffix: str) -> Any:
        tensors = [copies[node].pop() for node in targets]
        return layer(name=f"{name}_{suffix}")(tensors) if len(tensors) > 1 else tensors[0]

    return _Output(
        joined(tf.keras.layers.Concatenate, "nodes"), joined(tf.keras.layers.Add, "total") if has_total else None
    )


def _kept(chosen: Mapping[tuple[int, int], Any]) -> list[tuple[int, int]]:
    """The edges that are there, in order: neither none nor out of a node that is left out."""
    found: list[tuple[int, int]] = []
    for source, node in sorted(chosen, key=lambda edge: (edge[1], edge[0])):
        is_there = source < 2 or any(target == source for _, target in found)
        if is_there and chosen[source, node] != NONE:
            found.append((source, node))
    return found


def _copies(name: str, tensor: Any, readers: int, is_open: bool) -> list[Any]:
    if readers > 2 and (is_open or builds_for_training()):
        return list(FanOut(readers, name=f"{name}_out")(tensor))
    return [tensor] * readers


# The operations of an edge.


def _makers(channels: int, stride: int, style: _Style, is_open: bool) -> dict[str, mixed.Make]:
    pool = TwiceDifferentiableMaxPool2D if is_open else functools.partial(tf.keras.layers.MaxPool2D, padding="same")
    found: dict[str, mixed.Make] = {
        NONE: functools.partial(_nothing, stride),
        "identity": functools.partial(_identity, channels, stride, style),
        "max_pool_3x3": functools.partial(_pool, pool, stride, style),
        "avg_pool_3x3": functools.partial(
            _pool, functools.partial(tf.keras.layers.AveragePooling2D, padding="same"), stride, style
        ),
    }
    for size in (1, 3, 5):
        found[f"conv_{size}x{size}"] = functools.partial(_convolution, size, channels, stride, style)
        found[f"sep_conv_{size}x{size}"] = functools.partial(_separable, size, channels, stride, style)
        dilated = functools.partial(_dilated, pool) if style.has_shortcuts else functools.partial(_depthwise, rate=2)
        found[f"dil_conv_{size}x{size}"] = functools.partial(dilated, size, channels, stride, style)
    return found


def _nothing(stride: int, name: str, x: Any) -> Any:
    x = tf.keras.layers.MaxPool2D(1, stride, padding="same", name=f"{name}_pool")(x) if stride > 1 else x
    return tf.keras.layers.Rescaling(0.0, name=name)(x)


def _identity(channels: int, stride: int, style: _Style, name: str, x: Any) -> Any:
    return x if stride == 1 else _convolution(1, channels, stride, style, name, x)


def _pool(layer: Any, stride: int, style: _Style, name: str, x: Any) -> Any:
    x = layer(3, stride, name=f"{name}_pool")(x)
    # The paper's; in the deployable set what is pooled comes out of a normalisation already.
    return x if style.has_shortcuts else BatchNormalization(name=f"{name}_bn")(x)


def _convolution(size: int, channels: int, stride: int, style: _Style, name: str, x: Any, *, rate: int = 1) -> Any:
    quantize, convolution = blocks(style.binarisation)
    x = quantize(name=f"{name}_step")(x)
    dilation = {"dilation_rate": rate} if rate > 1 else {}
    x = convolution(channels, size, stride, name=f"{name}_conv", **dilation)(x)
    return BatchNormalization(name=f"{name}_bn")(x)


def _dilated(pool: Any, size: int, channels: int, stride: int, style: _Style, name: str, x: Any) -> Any:
    """A dense convolution of every second pixel; where it has a stride, only those are left, side by side."""
    if stride == 1:
        return _convolution(size, channels, 1, style, name, x, rate=2)
    x = pool(1, stride, name=f"{name}_pool")(x)
    return _convolution(size, channels, 1, style, name, x)


def _separable(size: int, channels: int, stride: int, style: _Style, name: str, x: Any) -> Any:
    x = _depthwise(size, channels, stride, style, f"{name}_first", x)
    return _depthwise(size, channels, 1, style, f"{name}_second", x)


def _depthwise(size: int, channels: int, stride: int, style: _Style, name: str, x: Any, *, rate: int = 1) -> Any:
    """A depthwise convolution and one of 1x1; each binary one has a quantiser in front and a normalisation behind."""
    # Larq's layer takes signs; no binary operator reads them, so that {0, alpha} could not be deployed.
    quantize, _ = blocks("float" if style.binarisation == "float" else "sign")
    x = quantize(name=f"{name}_depthwise_step")(x)
    # TensorFlow has no depthwise convolution with both stride and dilation.
    inner, outer = (stride, 1) if rate == 1 else (1, stride)
    arguments: dict[str, Any] = {"padding": "same", "use_bias": False, "dilation_rate": rate}
    if style.binarisation == "float":
        layer = tf.keras.layers.DepthwiseConv2D(size, inner, name=f"{name}_depthwise", **arguments)
    else:
        layer = lq.layers.QuantDepthwiseConv2D(
            size,
            inner,
            depthwise_quantizer="ste_sign",
            depthwise_constraint="weight_clip",
            name=f"{name}_depthwise",
            **arguments,
        )
    x = BatchNormalization(name=f"{name}_depthwise_bn")(layer(x))
    return _convolution(1, channels, outer, style, name, x)
