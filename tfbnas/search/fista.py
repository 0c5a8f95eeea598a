"""FISTA: gradient steps with momentum on a smooth loss, and a proximal step that gives exact zeros.

Source: Beck & Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems", SIAM Journal
on Imaging Sciences 2009, section 4. The L1 norm enters by the proximal step alone; no gradient has it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def next_momentum(a: tf.Tensor) -> tf.Tensor:
    """a_{k+1} = (1 + sqrt(1 + 4 a_k^2)) / 2, of a scalar; a_1 = 1."""
    return (1.0 + tf.sqrt(1.0 + 4.0 * tf.square(a))) / 2.0


def extrapolated(now: tf.Tensor, before: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
    """y = x_k + (a_k - 1) / a_{k+1} (x_k - x_{k-1}): where the gradient of the next step is taken."""
    return now + (a - 1.0) / next_momentum(a) * (now - before)


def shrunk(x: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """The proximal step of threshold * |x|: nearer to zero by `threshold`, and exactly zero within it.

    Args:
      x: Of any shape.
      threshold: At least 0, of a shape that broadcasts to it.
    """
    return tf.sign(x) * tf.nn.relu(tf.abs(x) - threshold)


def shrunk_above_zero(x: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """The proximal step of threshold * |x| for x of at least 0: lower by `threshold`, and exactly zero below that."""
    return tf.nn.relu(x - threshold)


class Fista:
    """The variables of FISTA over one vector, at least 0 in every element.

    Args:
      values: At the start, `[elements]`.

    Attributes:
      values: x_k.
      before: x_{k-1}.
      a: a_k, a scalar.
    """

    def __init__(self, values: tf.Tensor):
        self.values = tf.Variable(values, name="values", trainable=False)
        self.before = tf.Variable(values, name="before", trainable=False)
        self.a = tf.Variable(tf.ones([], self.values.dtype), name="a", trainable=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """All that must be kept for the next step."""
        return [self.values, self.before, self.a]

    def point(self) -> tf.Tensor:
        """y, where the next step wants the gradient; the momentum takes no element below 0."""
        return tf.nn.relu(extrapolated(self.values, self.before, self.a))

    def step(self, point: Any, gradient: Any, rate: Any, weight: Any, *, least: Any = 0.0) -> None:
        """x_{k+1} = prox(y - rate * gradient), of rate * weight * |x|.

        Args:
          point: y, from `point`.
          gradient: Of the smooth loss at y.
          rate: Of the step, positive.
          weight: Of the L1 norm, a scalar or one for each element.
          least: Below which no element falls, likewise. Default: 0.
        """
        following = tf.maximum(shrunk_above_zero(point - rate * gradient, rate * weight), least)
        self.before.assign(self.values)
        self.values.assign(following)
        self.a.assign(next_momentum(self.a))

    def restart(self) -> None:
        """Forgets the momentum: for a new rate, or another loss."""
        self.before.assign(self.values)
        self.a.assign(tf.ones_like(self.a))
