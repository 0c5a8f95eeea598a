"""A tensor that many layers read, with a gradient that is the same in every run."""

from __future__ import annotations

import tensorflow as tf


class FanOut(tf.keras.layers.Layer):
    """Gives its input to several readers and sums their gradients in a fixed order.

    TensorFlow adds three and more gradients in an order that depends on which of them is ready first; then two runs
    with the same seed come apart by rounding. Two are added in either order alike.

    Args:
      readers: How many.
    """

    def __init__(self, readers: int, **kwargs):
        super().__init__(**kwargs)
        self.readers = readers

    def call(self, inputs):
        @tf.custom_gradient
        def copies(x):
            def gradient(*gradients):
                return tf.reduce_sum(tf.stack(gradients), axis=0)

            return [tf.identity(x) for _ in range(self.readers)], gradient

        return copies(inputs)

    def get_config(self):
        return {**super().get_config(), "readers": self.readers}
