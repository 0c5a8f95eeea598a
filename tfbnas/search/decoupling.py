"""What DCP-NAS does to binary weights and to operations that lag behind. Pure functions.

Source: Li et al., "DCP-NAS", IJCV 2023: the reconstruction error L_R, and decoupled optimisation, which tracks the
architecture's parameters of less trained operations back to where they were. The paper does not publish its constants.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def filter_scale(kernel: tf.Tensor) -> tf.Tensor:
    """beta of each filter, `[filters]`: the mean of |w|, which is where the reconstruction error is least.

    Args:
      kernel: Latent weights `[.., filters]`.
    """
    return tf.reduce_mean(tf.abs(kernel), axis=list(range(kernel.shape.rank - 1)))


def reconstruction_error(kernel: tf.Tensor, scale: tf.Tensor | None = None) -> tf.Tensor:
    """L_R of a kernel, a scalar: sum (w - beta sign(w))^2.

    Args:
      kernel: Latent weights `[.., filters]`.
      scale: beta, `[filters]`. Default: `filter_scale`, held fixed; at the minimum its own gradient is zero.
    """
    scale = tf.stop_gradient(filter_scale(kernel)) if scale is None else scale
    return tf.reduce_sum(tf.square(kernel - scale * tf.stop_gradient(tf.sign(kernel))))


def mean_square(kernels: Sequence[tf.Tensor]) -> tf.Tensor:
    """||beta sign(w)||^2 of an operation's binary kernels, per weight, a scalar: the signs have no part in it.

    The paper compares the norms themselves; per weight, large kernels are not taken for trained ones.
    """
    squares = [
        tf.reduce_mean(tf.square(filter_scale(kernel))) * tf.cast(tf.size(kernel), kernel.dtype) for kernel in kernels
    ]
    return tf.add_n(squares) / tf.cast(sum(tf.size(kernel) for kernel in kernels), kernels[0].dtype)


def less_trained(norms: tf.Tensor, has_weights: tf.Tensor, share: float) -> tf.Tensor:
    """Which operations of an edge lag behind, bool in the shape of `norms`.

    Args:
      norms: ||w_m||^2 of each operation, `[edges, operations]`.
      has_weights: Bool of the same shape; operations without weights never lag.
      share: Of an edge's operations with weights, rounded down, those with the smallest norms.
    """
    far = tf.fill(tf.shape(norms), norms.dtype.max)
    order = tf.argsort(tf.where(has_weights, norms, far), axis=-1, stable=True)
    rank = tf.argsort(order, axis=-1)
    count = tf.floor(share * tf.reduce_sum(tf.cast(has_weights, norms.dtype), axis=-1, keepdims=True))
    return tf.logical_and(has_weights, tf.cast(rank, norms.dtype) < count)


def tracked_back(new: tf.Tensor, old: tf.Tensor, strength: tf.Tensor, lagging: tf.Tensor, rate: float) -> tf.Tensor:
    """alpha + eta psi alpha_old where an operation lags, else alpha: `strength` 0 is the plain update.

    Args:
      new: alpha behind the optimiser's step.
      old: alpha in front of it.
      strength: psi, at least 0.
      lagging: Bool; all four have one shape.
      rate: eta.
    """
    return new + tf.cast(lagging, new.dtype) * rate * strength * old


def next_strength(
    strength: tf.Tensor, gradient: tf.Tensor, old: tf.Tensor, lagging: tf.Tensor, *, rate: float, step: float
) -> tf.Tensor:
    """psi <- |psi - eta_psi dL/dpsi|, with dL/dpsi = eta alpha_old dL/dalpha where an operation lags.

    Args:
      strength: psi.
      gradient: dL/dalpha.
      old: alpha in front of the step that psi tracked back.
      lagging: Which operations lagged in that step.
      rate: eta.
      step: eta_psi.
    """
    return tf.abs(strength - step * tf.cast(lagging, strength.dtype) * rate * old * gradient)
