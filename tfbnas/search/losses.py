"""The loss of a search, whichever form Keras was given it in."""

from __future__ import annotations

import tensorflow as tf


def loss_of_each(loss, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Loss of each example, `[batch]`; the mean over its pixels where there are any.

    Args:
      loss: A Keras loss, its name, or a function of labels and logits.
      labels: `[batch, ..]`.
      logits: `[batch, .., classes]`.
    """
    loss, logits = tf.keras.losses.get(loss), tf.cast(logits, tf.float32)  # also from a network that ends in bfloat16
    each = loss.call(labels, logits) if isinstance(loss, tf.keras.losses.Loss) else loss(labels, logits)
    return tf.reduce_mean(tf.reshape(each, [tf.shape(each)[0], -1]), axis=1)
