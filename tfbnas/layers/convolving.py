"""The convolution itself, with the fastest of three ways to its filter gradient.

The limits are measured on an AVX-512 CPU with batches of 32 to 256; in float32 TensorFlow's own way is the fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

_FEW_PIXELS = 16
"""Up to this many output pixels the way over the batch takes 0.55 to 0.8 of TensorFlow's time (128 to 512 channels)."""

_SOME_PIXELS, _MANY_CHANNELS = 64, 256
"""Up to so many output pixels and beyond so many input channels, with stride 1, the way by columns takes 0.5 to 0.8."""

Padding = Sequence[Sequence[int]]
FilterGradient = Callable[[tf.Tensor, tf.Tensor, Sequence[int], Sequence[int], Padding], tf.Tensor]


def convolve(
    inputs: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int], dilations: Sequence[int] = (1, 1)
) -> tf.Tensor:
    """`tf.nn.conv2d(inputs, kernel, strides, "SAME")`, with the same gradients up to the order of their sums.

    Args:
      inputs: `[batch, height, width, channels]`.
      kernel: `[height, width, channels, filters]` of the same dtype.
      strides: Of height and width.
      dilations: Of height and width. Default: none.
    """
    if max(dilations) > 1:  # on a CPU the gradients of conv2d know no dilation, those of convolution do
        return tf.nn.convolution(inputs, kernel, strides, "SAME", dilations=dilations)
    filter_gradient = _fastest(inputs, kernel, strides)
    if filter_gradient is None:
        return tf.nn.conv2d(inputs, kernel, strides, "SAME")
    return _with_filter_gradient(filter_gradient, inputs, kernel, tuple(strides))


def _fastest(inputs: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int]) -> FilterGradient | None:
    """`None` for TensorFlow's own way."""
    if inputs.dtype != tf.bfloat16 or None in (*inputs.shape[1:3], *kernel.shape[:2]):
        return None
    if any(window < stride for window, stride in zip(kernel.shape[:2], strides, strict=True)):
        return None  # leaves pixels out; they would have to be cut away first
    height, width = (-(-size // stride) for size, stride in zip(inputs.shape[1:3], strides, strict=True))
    many_channels = kernel.shape[2] is not None and kernel.shape[2] > _MANY_CHANNELS
    if many_channels and height * width <= _SOME_PIXELS and max(strides) == 1:
        return _by_columns
    return _over_the_batch if height * width <= _FEW_PIXELS else None


def _with_filter_gradient(
    filter_gradient: FilterGradient, inputs: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, ...]
) -> tf.Tensor:
    # Of the first and last pixels that "SAME" adds, for each axis; never negative, since windows cover the strides.
    padding = []
    for size, window, stride in zip(inputs.shape[1:3], kernel.shape[:2], strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + window - size)
        padding.append([total // 2, total - total // 2])

    @tf.custom_gradient
    def convolution(inputs, kernel):
        def gradient(upstream):
            by_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(inputs),
                filter=kernel,
                out_backprop=upstream,
                strides=[1, *strides, 1],
                padding="SAME",
            )
            return by_inputs, filter_gradient(inputs, upstream, kernel.shape[:2], strides, padding)

        return tf.nn.conv2d(inputs, kernel, strides, "SAME"), gradient

    return convolution(inputs, kernel)


# dW[i, j, c, f] = sum over images n and output pixels p of x[n, s p + (i, j), c] g[n, p, f]


def _over_the_batch(inputs, upstream, window, strides, padding: Padding) -> tf.Tensor:
    """A convolution whose batch is c and whose channels are n: those are summed fastest, and the batch is long."""
    by_kernel = tf.nn.conv2d(
        tf.transpose(inputs, [3, 1, 2, 0]),
        tf.transpose(upstream, [1, 2, 0, 3]),
        strides=1,
        padding=[[0, 0], *padding, [0, 0]],
        dilations=strides,
    )
    return tf.transpose(by_kernel, [1, 2, 0, 3])


def _by_columns(inputs, upstream, window, strides, padding: Padding) -> tf.Tensor:
    """A product of matrices, [(i, j, c), (n, p)] by [(n, p), f]: worth its copies where c and f are many. Stride 1."""
    (height, width), (rows, columns), channels = window, inputs.shape[1:3], tf.shape(inputs)[3]
    padded = tf.pad(inputs, [[0, 0], *padding, [0, 0]])
    shifted = [padded[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)]
    by_kernel = tf.matmul(
        tf.reshape(tf.concat(shifted, axis=3), [-1, height * width * channels]),
        tf.reshape(upstream, [-1, tf.shape(upstream)[3]]),
        transpose_a=True,
    )
    return tf.reshape(by_kernel, [height, width, channels, -1])
