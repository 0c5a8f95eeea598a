"""Convolutional neural fabrics (Saxena & Verbeek, NIPS 2016) in the form that BSN searches."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.hints import has_type
from tfbnas.layers import BatchNormalization, Dense, blocks
from tfbnas.networks.graph import NetworkGraph
from tfbnas.networks.modules import Quantised, stem, total


def cnf(
    choose,
    *,
    input_shape=(32, 32, 3),
    classes=10,
    columns: int = 8,
    scales: int = 6,
    filters: int = 128,
    segmentation: bool = False,
    binarisation: str = "zero_alpha",
    thresholds: str = "edge",
) -> tf.keras.Model:
    """A grid of `columns` times `scales` nodes; each sums convolutions of up to three nodes of the column before.

    A node (l, s) works at the size of the images divided by 2^s. It reads (l-1, s-1) by a convolution of stride 2,
    (l-1, s) by one of stride 1, and (l-1, s+1) by one behind a nearest upsampling. The first column is a chain from
    fine to coarse; so is the last one, but for segmentation it runs from coarse to fine.

    Choices, each true (there) or false (left out): "lL_sS/from_lK_sT", one convolution.

    Args:
      choose: `choose(name, True)` gives True, False or an OpenGate.
      input_shape: Height, width, channels; height and width multiples of 2^(scales - 1).
      classes: Units of the last layer.
      columns: W of the paper. Default 8; at least 2 for segmentation.
      scales: H of the paper. Default 6 (CIFAR; the paper segments with 9).
      filters: Channels of every node. Default 128 (CIFAR; the paper segments with 64).
      segmentation: Whether every pixel is classified, from the finest node of the last column. Default: False, one
        class for the image from the coarsest.
      binarisation: "zero_alpha" ({0, alpha} activations, standardised kernels) or "sign" (both -1 and +1): a quantiser
        stands in front of every convolution but the first, and the sums stay real-valued, without ReLU. Or
        "float": the network of the paper in full precision. Default: "zero_alpha".
      thresholds: "edge": every convolution quantises what it reads at a threshold of its own. "tensor": the sum of a
        node is quantised once for the convolutions that read it as it is; behind an upsampling each quantises itself.
        Default: "edge".

    Raises:
      UserError: The images do not fit the scales, a choice is neither true nor false, or no path is left.

    Returns:
      Functional model from images to logits `[batch, classes]`, or `[batch, height, width, classes]`, float32.
    """
    graph = cnf_graph(
        input_shape=input_shape,
        classes=classes,
        columns=columns,
        scales=scales,
        filters=filters,
        segmentation=segmentation,
        binarisation=binarisation,
        thresholds=thresholds,
    )
    return graph.build(choose, input_shape=input_shape, name="cnf")


def cnf_graph(
    *,
    input_shape=(32, 32, 3),
    classes=10,
    columns: int = 8,
    scales: int = 6,
    filters: int = 128,
    segmentation: bool = False,
    binarisation: str = "zero_alpha",
    thresholds: str = "edge",
) -> NetworkGraph:
    """The graph of `cnf`; the arguments are the same.

    Nodes and edges are added in the order that gives the schedules of the paper's tables.
    """
    if not all(has_type(one, int) and one >= 1 for one in (columns, scales, filters)):
        raise UserError(
            "Expected `columns`, `scales` and `filters` of cnf to be positive. "
            f"Received: columns={columns!r}, scales={scales!r}, filters={filters!r}."
        )
    if segmentation and columns < 2:
        raise UserError(f"Expected at least 2 `columns` of a cnf that segments. Received: columns={columns}.")
    multiple = 2 ** (scales - 1)
    if input_shape[0] % multiple or input_shape[1] % multiple:
        raise UserError(
            f"Expected height and width of the images to be multiples of {multiple} for a cnf of {scales} scales. "
            f"Received: {input_shape[0]}x{input_shape[1]}; scale them (--data.image_size) or take fewer scales."
        )
    graph = NetworkGraph()
    bits = Quantised(graph, thresholds, binarisation)
    nodes = {(0, 0): graph.add("l0_s0", stem, filters, binarisation)}
    for scale in range(1, scales):
        nodes[0, scale] = graph.add(f"l0_s{scale}", total, binarisation)

    def connect(source: tuple[int, int], target: tuple[int, int]) -> None:
        ours, theirs = (f"l{place[0]}_s{place[1]}" for place in (target, source))
        name, coarser = f"{ours}_from_{theirs}", target[1] - source[1]
        shared = bits.shared and coarser >= 0
        convolution = graph.add(
            name,
            _connection,
            filters,
            coarser,
            *((binarisation, True) if shared else (binarisation,)),
            inputs=[bits(nodes[source]) if shared else nodes[source]],
            choice=f"{ours}/from_{theirs}",
        )
        graph.connect(convolution, nodes[target])

    def chain(column: int, *, upward: bool = False) -> None:
        for scale in range(scales - 1):
            finer, coarser = (column, scale), (column, scale + 1)
            connect(*((coarser, finer) if upward else (finer, coarser)))

    chain(0)
    for column in range(1, columns):
        for scale in range(scales):
            nodes[column, scale] = graph.add(f"l{column}_s{scale}", total, binarisation)
            for other in range(max(0, scale - 1), min(scales, scale + 2)):
                connect((column - 1, other), (column, scale))
    if columns > 1:
        chain(columns - 1, upward=segmentation)
    last = nodes[columns - 1, 0 if segmentation else scales - 1]
    graph.add("logits", _classifier, classes, segmentation, inputs=[last])
    return graph


def _connection(
    name: str, tensors: list[Any], filters: int, coarser: int, binarisation: str, reads_bits: bool = False
) -> Any:
    """A convolution to a node that is coarser by one scale, as fine, or finer (-1)."""
    quantize, convolution = blocks(binarisation)
    x = tensors[0]
    if coarser < 0:
        x = tf.keras.layers.UpSampling2D(2, name=f"{name}_up")(x)
    if binarisation != "float" and not reads_bits:
        x = quantize(name=f"{name}_step")(x)
    x = convolution(filters, 3, 2 if coarser > 0 else 1, name=f"{name}_conv")(x)
    return BatchNormalization(name=f"{name}_bn")(x)


def _classifier(name: str, tensors: list[Any], classes: int, segmentation: bool) -> Any:
    # A 1x1 convolution; the coarsest node of the paper's networks is a single pixel, which pooling leaves as it is.
    x = tensors[0] if segmentation else tf.keras.layers.GlobalAveragePooling2D(name=f"{name}_pool")(tensors[0])
    return Dense(classes, name=name, dtype="float32")(x)
