"""A binary convolution whose channels correct each other's bitcounts along a graph (CI-BCNN)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.hints import has_type
from tfbnas.layers.arguments import drop_fixed
from tfbnas.layers.convolution import _SizedConvolution
from tfbnas.layers.quantizers import StandardizedSign, SteSign
from tfbnas.layers.width import pad_to_layout, present_size, static_size

Edge = tuple[int, int, int]
"""Teacher, student, influence K."""

BLOCK = 16
"""Channels of a block; a search draws edges within blocks, and a deployed network sums them up in these groups."""


class OpenInteractions:
    """The channel graph of a layer while a search changes it.

    Args:
      name: Name of the choice; the key under which an Architecture stores the edges.
      channels: Of the layer's output.
      levels: K0: influences are +-3, +-5 .. +-(2 K0 + 1). Default 2.

    Attributes:
      influences: int32 variable `[channels, channels]`, teacher by student: K, 0 where there is no edge.
      present: Function without arguments that gives such a tensor, which is used instead; None uses the variable.
      watch: Function that is called with the bitcounts `[batch, height, width, channels]` before they are corrected;
        None for none. A search sets both.
    """

    def __init__(self, name: str, channels: int, levels: int = 2):
        self.name = name
        self.channels = channels
        self.levels = levels
        self.influences = tf.Variable(tf.zeros([channels, channels], tf.int32), trainable=False, name=f"{name}/graph")
        self.present: Callable[[], tf.Tensor] | None = None
        self.watch: Callable[[tf.Tensor], None] | None = None

    def edges(self) -> list[Edge]:
        """The edges that there are now, in the order of teachers and students (eager only)."""
        found = self.influences.numpy()
        return [(int(t), int(s), int(found[t, s])) for t, s in np.argwhere(found)]

    def __repr__(self) -> str:
        return f"OpenInteractions({self.name!r}, channels={self.channels})"


def checked_edges(edges: Any, channels: int, levels: int, layer: str) -> list[Edge]:
    """Edges in the order of teachers and students.

    Args:
      edges: Triples of teacher, student and influence.
      channels: Number of channels that there are.
      levels: K0.
      layer: Name of the layer or choice, for the message.

    Raises:
      UserError: A channel is missing or teaches itself, a pair comes twice, or an influence is none.
    """
    found: dict[tuple[int, int], int] = {}
    for edge in edges if isinstance(edges, Sequence) and not isinstance(edges, str) else [edges]:
        try:
            teacher, student, influence = (operator.index(value) for value in edge)
        except (TypeError, ValueError):
            raise UserError(
                f"Expected the edges of {layer!r} to be [teacher, student, influence], three integers each. "
                f"Received: {edge!r}."
            ) from None
        for channel in (teacher, student):
            if not 0 <= channel < channels:
                raise UserError(
                    f"Expected the edges of {layer!r} to join channels from 0 to {channels - 1}. "
                    f"Received: {channel} in {list(edge)}."
                )
        if influence % 2 == 0 or not 3 <= abs(influence) <= 2 * levels + 1:
            raise UserError(
                f"Expected the influence of an edge of {layer!r} to be odd, from 3 to {2 * levels + 1} in size. "
                f"Received: {influence} in {list(edge)}."
            )
        if teacher == student or (teacher, student) in found:
            raise UserError(
                f"Expected at most one edge of {layer!r} from each channel to each other one. Received: {list(edge)}, "
                f"{'which joins a channel to itself' if teacher == student else 'a pair that comes twice'}."
            )
        found[teacher, student] = influence
    return [(*pair, influence) for pair, influence in sorted(found.items())]


def staircase(bitcounts: tf.Tensor, intervals: Any, reach: int) -> tf.Tensor:
    """Number of the interval that a bitcount lies in, counted from the middle one.

    [-reach, reach] is divided into `intervals` equal parts, each open on its left. What lies below belongs to the first
    of them, what lies above to the last. The result is exact, however a compiler orders the products, as long as the
    largest bitcount times `intervals` is below a million: half a bitcount is taken off, so that what is rounded up is
    never nearer to a whole number than 1 / (4 reach).

    Args:
      bitcounts: Whole numbers of any shape, channels last.
      intervals: |K|, odd; a number, or one for each channel.
      reach: In bitcounts. N0, how many products a bitcount is the sum of, in the paper; see `reach_of`.

    Returns:
      float32 of the same shape, from -(intervals - 1) / 2 to (intervals - 1) / 2.
    """
    intervals = tf.convert_to_tensor(intervals, tf.float32)
    limit = (intervals - 1.0) * 0.5
    steps = (tf.cast(bitcounts, tf.float32) * intervals - (reach + 0.5)) / (2.0 * reach)
    return tf.clip_by_value(tf.math.ceil(steps), -limit, limit)


def unit_of(terms: int, influence_unit: float) -> int:
    """ceil(U0 N0): by how much a bitcount of `terms` products is corrected for one step of the staircase."""
    return math.ceil(round(influence_unit * terms, 9))


def reach_of(terms: int, interval_reach: float | None) -> int:
    """Up to which bitcount the intervals divide: N0, or `interval_reach` times sqrt(N0), rounded up, if that is less.

    A bitcount of N0 independent bits deviates by sqrt(N0). With N0 = 288 that is 17, where the paper's three intervals
    change at 96: an edge hardly ever corrects anything.
    """
    return terms if interval_reach is None else min(terms, math.ceil(round(interval_reach * math.sqrt(terms), 9)))


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class InteractedConv2D(_SizedConvolution, lq.layers.QuantConv2D):
    """Convolution of +-1 activations with +-1 kernels whose students add what their teachers' bitcounts say.

    y_s = p_s + sum over the edges (t, s, K) of sign(K) staircase(p_t, |K|) ceil(U0 N0), with p the bitcount of N0 =
    input channels x kernel height x kernel width products. Teachers are read before they are corrected, so the order of
    edges does not matter. The gradient to the student is the identity; none goes to the teacher. The output is an
    integer in float32 under every precision. Under bfloat16 bitcounts are computed in it where it holds all of them.
    `padding="same"` with ones, no bias; a BatchNormalization should follow, which makes a scale per filter superfluous.

        layer = InteractedConv2D(64, 3, edges=[(0, 5, 3), (7, 5, -5)])

    Source: Wang et al., "Learning Channel-wise Interactions for Binary Convolutional Neural Networks", CVPR 2019.

    Args:
      filters: Output channels.
      kernel_size: Integer or pair.
      strides: Integer or pair. Default: 1.
      edges: Triples of teacher, student and influence, or OpenInteractions. Default: none.
      influence_unit: U0, share of N0 of one step. Default 0.01.
      levels: K0: influences are +-3 .. +-(2 K0 + 1). Default 2.
      interval_reach: Up to which bitcount the intervals divide, in units of sqrt(N0), above 0. This is ours. Default:
        up to N0 (paper).
      input_quantizer: Default: `SteSign()`.
      kernel_quantizer: Default: `StandardizedSign()`.

    Raises:
      UserError: An edge names a channel or an influence that there is not, or `interval_reach` is not positive.

    Attributes:
      channels: Of the output, a number.
      input_count: Channels of the input, a number; known once the layer is built.
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        *,
        edges: Any = (),
        influence_unit=0.01,
        levels=2,
        interval_reach: float | None = None,
        **kwargs,
    ):
        if interval_reach is not None and not (has_type(interval_reach, float) and interval_reach > 0):
            raise UserError(
                "Expected `interval_reach` to be a positive number of sqrt(N0), or None for the whole range. "
                f"Received: interval_reach={interval_reach!r}."
            )
        drop_fixed(type(self).__name__, kwargs, {"pad_values": (1.0,), "dilation_rate": (1, (1, 1), [1, 1])})
        kwargs.setdefault("kernel_initializer", "he_normal")
        kwargs["dtype"] = "float32"
        input_quantizer = kwargs.pop("input_quantizer", None) or SteSign()
        kernel_quantizer = kwargs.pop("kernel_quantizer", None) or StandardizedSign()
        kwargs["autocast"] = False
        super().__init__(filters, kernel_size, strides, pad_values=1.0, input_quantizer=input_quantizer, **kwargs)
        # Not given to Larq's constructor, which warns where no constraint is given (see BinaryConv2D).
        self.kernel_quantizer = lq.quantizers.get_kernel_quantizer(kernel_quantizer)
        self.influence_unit = influence_unit
        self.levels = levels
        self.interval_reach = interval_reach
        self.open = edges if isinstance(edges, OpenInteractions) else None
        self.channels = channels = present_size(self.filters)
        if self.open is None:
            self._edges = checked_edges(edges, channels, levels, self.name)
        elif (self.open.channels, self.open.levels) != (channels, levels):
            raise UserError(
                f"Expected interactions of {channels} channels and {levels} levels at the layer {self.name!r}. "
                f"Received: {self.open!r} with {self.open.levels} levels."
            )

    @property
    def edges(self) -> list[Edge]:
        """The edges that there are now, in the order of teachers and students."""
        return self._edges if self.open is None else self.open.edges()

    @property
    def terms(self) -> int:
        """N0, how many products a bitcount is the sum of; known once the layer is built."""
        return math.prod(self.kernel_size) * self.input_count

    @property
    def reach(self) -> int:
        """Up to which bitcount the intervals divide; known once the layer is built."""
        return reach_of(self.terms, self.interval_reach)

    @property
    def unit(self) -> int:
        """By how much a bitcount is corrected for one step of a staircase."""
        return unit_of(self.terms, self.influence_unit)

    def build(self, input_shape):
        super().build(input_shape)
        self.input_count = present_size(self._dimensions[2])

    def call(self, inputs):
        bitcounts = self.bitcounts(inputs)
        if self.open is not None and self.open.watch is not None:
            self.open.watch(bitcounts[..., : self.open.channels])
        correction = self._correction(tf.stop_gradient(bitcounts))
        return bitcounts if correction is None else bitcounts + correction

    def bitcounts(self, inputs) -> tf.Tensor:
        """What the convolution counts, before any correction: integers in float32.

        bfloat16 holds every integer up to 256, and every even one up to 512. All counts of N0 products have the
        parity of N0.
        """
        inputs = self.input_quantizer(inputs)
        exact = self.terms <= 256 or (self.terms <= 512 and self.terms % 2 == 0)
        inputs = inputs if exact else tf.cast(inputs, tf.float32)
        padding = [[0, 0], [0, 0]]
        for axis in (0, 1):
            size, window, stride = inputs.shape[1 + axis], self.kernel_size[axis], self.strides[axis]
            total = max(0, (-(-size // stride) - 1) * stride + window - size)
            padding[axis] = [total // 2, total - total // 2]
        kernel = self.kernel_quantizer(tf.convert_to_tensor(self.kernel))
        kernel = tf.cast(pad_to_layout(kernel, self._dimensions), inputs.dtype)
        inputs = tf.pad(inputs, [[0, 0], *padding, [0, 0]], constant_values=tf.constant(1.0, inputs.dtype))
        return tf.cast(tf.nn.conv2d(inputs, kernel, self.strides, "VALID"), tf.float32)

    def _correction(self, bitcounts: tf.Tensor) -> tf.Tensor | None:
        """What the edges add to all bitcounts; None where there are none."""
        if self.open is not None:
            influences = self.open.influences if self.open.present is None else self.open.present()
            features, weights = self._of_all(bitcounts, influences)
        elif not self._edges:
            return None
        elif 2 * len(self.staircases()) < self.channels:
            features, weights = self._of_some(bitcounts)
        else:  # to select channels takes longer than to compute the others, too
            matrix = np.zeros([self.channels, self.channels], np.int32)
            for teacher, student, influence in self._edges:
                matrix[teacher, student] = influence
            features, weights = self._of_all(bitcounts, tf.constant(matrix))
        behind = [[0, 0], [0, 0]]
        if static_size(self.filters) is None:
            behind[1][1] = self.filters.layout() - self.filters.size
        rows = tf.reshape(features, [-1, tf.shape(weights)[0]])  # what is computed beside has no static shape
        return float(self.unit) * tf.reshape(tf.matmul(rows, tf.pad(weights, behind)), tf.shape(bitcounts))

    def _of_some(self, bitcounts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One staircase for each teacher and size of influence; and what each student makes of it, -1, 0 or 1."""
        kinds = self.staircases()
        weights = np.zeros([len(kinds), self.channels], np.float32)
        for teacher, student, influence in self._edges:
            weights[kinds.index((teacher, abs(influence))), student] = np.sign(influence)
        teachers, intervals = zip(*kinds, strict=True)
        chosen = tf.gather(bitcounts, teachers, axis=-1)
        return staircase(chosen, [float(size) for size in intervals], self.reach), tf.constant(weights)

    def staircases(self) -> list[tuple[int, int]]:
        """Teacher and number of intervals of each staircase that the present edges need."""
        return sorted({(teacher, abs(influence)) for teacher, _, influence in self.edges})

    def _of_all(self, bitcounts: tf.Tensor, influences: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The same for every channel and every size."""
        bitcounts = bitcounts[..., : self.channels]
        sizes = range(3, 2 * self.levels + 2, 2)
        signs = tf.cast(tf.sign(influences), tf.float32)
        weights = [signs * tf.cast(tf.abs(influences) == size, tf.float32) for size in sizes]
        steps = [staircase(bitcounts, float(size), self.reach) for size in sizes]
        return tf.concat(steps, axis=-1), tf.concat(weights, axis=0)

    def get_config(self):
        edges = [list(edge) for edge in self.edges]
        own = {name: getattr(self, name) for name in ("influence_unit", "levels", "interval_reach")}
        return {**super().get_config(), "filters": self.channels, "edges": edges, **own}
