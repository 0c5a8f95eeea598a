"""Policy gradient for gates that are open or closed: pure functions (BSN, equations 11 to 18 of the supplement)."""

from __future__ import annotations

import tensorflow as tf


def score(logits: tf.Tensor, gates: tf.Tensor, matters: tf.Tensor) -> tf.Tensor:
    """Gradient of log P(gates) by the logits, P(open) = sigmoid(logit).

    A gate that nothing reaches is not drawn: it is no factor of the probability and has the gradient 0. Neither is one
    whose module leads nowhere: the other gates being as they are, the loss is the same on both of its sides, and the
    mean of its score is 0. Leaving both out changes no expectation and lowers the variance.

    Args:
      logits: float `[gates]`.
      gates: bool `[groups, gates]`, open or closed.
      matters: bool `[groups, gates]`.

    Returns:
      float32 `[groups, gates]`.
    """
    return tf.where(matters, tf.cast(gates, tf.float32) - tf.sigmoid(logits), 0.0)


def gradient(scores: tf.Tensor, advantages: tf.Tensor) -> tf.Tensor:
    """Estimated gradient of the expected loss by the logits, `[gates]`: mean over groups of advantage times score."""
    return tf.reduce_mean(tf.stop_gradient(advantages)[:, None] * scores, axis=0)


def leave_one_out(values: tf.Tensor) -> tf.Tensor:
    """Each of the `[groups]` values less the mean of the others.

    The paper subtracts the mean of all. That mean holds the value itself, so that the expected gradient comes out
    smaller by (groups - 1) / groups. The mean of the others does not hold it. It is not independent of the group's own
    gates, though: batch normalisation takes its statistics over all groups, so a group's gates move the losses of the
    others too. The bias is small: on a small graph the expected gradient changes by a tenth (a test measures it).
    """
    groups = tf.cast(tf.size(values), values.dtype)
    return (values - tf.reduce_mean(values)) * groups / (groups - 1.0)


def entropy(logits: tf.Tensor, matters: tf.Tensor) -> tf.Tensor:
    """Mean entropy in bits of the gates that matter: 1 where nothing is decided, 0 where each probability is 0 or 1.

    Args:
      logits: float `[gates]`.
      matters: bool `[gates]`; one that does not matter is decided by the others, whatever its own probability.
    """
    probabilities = tf.sigmoid(logits)
    nats = tf.nn.sigmoid_cross_entropy_with_logits(labels=probabilities, logits=logits)
    return tf.math.divide_no_nan(
        tf.reduce_sum(tf.where(matters, nats, 0.0)), tf.math.log(2.0) * tf.reduce_sum(tf.cast(matters, tf.float32))
    )
