"""A max pool whose gradient has a gradient that can be relied on."""

from __future__ import annotations

import itertools

import tensorflow as tf


class TwiceDifferentiableMaxPool2D(tf.keras.layers.MaxPool2D):
    """`MaxPool2D(.., padding="same")`, for searches that differentiate twice.

    Values and first gradients are those of Keras. The gradient of the gradient is not left to TensorFlow's
    MaxPoolGradGrad, which on a CPU gives other numbers from run to run within a `tf.function`.
    """

    def __init__(self, pool_size=3, strides=1, **kwargs):
        super().__init__(pool_size, strides, padding="same", **kwargs)

    def call(self, inputs):
        window, strides = [1, *self.pool_size, 1], [1, *self.strides, 1]

        @tf.custom_gradient
        def pool(x):
            output = tf.nn.max_pool2d(x, self.pool_size, self.strides, "SAME")

            @tf.custom_gradient
            def pull(upstream):
                pulled = tf.raw_ops.MaxPoolGrad(
                    orig_input=x, orig_output=output, grad=upstream, ksize=window, strides=strides, padding="SAME"
                )
                return pulled, lambda vector: self._push(x, output, vector)

            return output, pull

        return pool(inputs)

    def _push(self, x: tf.Tensor, output: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
        """The transpose of the gradient: `vector` where each window has its first maximum."""
        found, open_places = tf.zeros_like(output), tf.ones_like(output)
        values = _padded(x, self.pool_size, self.strides, x.dtype.min)
        vectors = _padded(vector, self.pool_size, self.strides, 0.0)
        for place in itertools.product(*(range(size) for size in self.pool_size)):
            here = open_places * tf.cast(_every(values, place, self.strides, output) == output, x.dtype)
            found += here * _every(vectors, place, self.strides, output)
            open_places -= here
        return found


def _padded(x: tf.Tensor, window: tuple[int, int], strides: tuple[int, int], fill: float) -> tf.Tensor:
    paddings = [[0, 0]]
    for size, span, stride in zip(tf.unstack(tf.shape(x)[1:3]), window, strides, strict=True):
        total = tf.maximum((-(-size // stride) - 1) * stride + span - size, 0)
        paddings.append([total // 2, total - total // 2])
    return tf.pad(x, [*paddings, [0, 0]], constant_values=fill)


def _every(x: tf.Tensor, place: tuple[int, ...], strides: tuple[int, int], like: tf.Tensor) -> tf.Tensor:
    """Of each window of padded images what is at one of its places."""
    rows, columns = tf.shape(like)[1], tf.shape(like)[2]
    row, column = place
    return x[
        :,
        row : row + (rows - 1) * strides[0] + 1 : strides[0],
        column : column + (columns - 1) * strides[1] + 1 : strides[1],
    ]
