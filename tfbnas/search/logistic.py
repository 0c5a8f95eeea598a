"""The distribution that DMS puts over the expansion ratio, as pure functions of tensors.

Paper: "DMS: Differentiable Dimension Search for Binary Neural Networks", sections 2.2-2.4. Two printed signs are
corrected: Eq. 4 lacks the minus in the exponent, and Eq. 5's numerator has +Delta twice.
"""

from __future__ import annotations

import tensorflow as tf

SPREAD = 0.8
"""Distance of the outer candidates from mu, in sigma (section 2.3)."""

HALF_STEP = 0.4
"""Delta, half of the range of ratios that one candidate stands for, in sigma (section 2.3)."""


def candidates(mu: tf.Tensor, sigma: tf.Tensor, minimum: float) -> tf.Tensor:
    """The three ratios that stand for the whole range: mu - 0.8 sigma, mu, mu + 0.8 sigma, none below `minimum`.

    Args:
      mu: Means, shape `[n]`.
      sigma: Scale, scalar or `[n]`.
      minimum: Least ratio.

    Returns:
      Ratios, ascending, shape `[n, 3]`.
    """
    offsets = SPREAD * tf.constant([-1.0, 0.0, 1.0])
    return tf.maximum(mu[:, None] + tf.reshape(sigma, [-1, 1]) * offsets, minimum)


def log_probabilities(ratios: tf.Tensor, mu: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    """log p-hat, Eq. 4-5: the logistic distribution's mass within Delta of each ratio, normalised over the ratios.

    The ratios must be those of the last clustering and not move with `mu`: at fixed standardised distances the
    probabilities would be constants.

    Args:
      ratios: Candidates, shape `[n, k]`.
      mu: Means, shape `[n]`.
      sigma: Scale, scalar or `[n]`.

    Returns:
      Log-probabilities, shape `[n, k]`; they sum to 1 over k.
    """
    distance = (ratios - mu[:, None]) / tf.reshape(sigma, [-1, 1])
    # log(CDF(d + D) - CDF(d - D)) up to a term that does not depend on d: log sinh D is common to all candidates, and
    # sigmoid(a) - sigmoid(b) = sinh((a - b) / 2) / (2 cosh(a / 2) cosh(b / 2)). Exact: no difference of near-equals.
    return tf.nn.log_softmax(-_log_cosh((distance + HALF_STEP) / 2) - _log_cosh((distance - HALF_STEP) / 2))


def _log_cosh(x: tf.Tensor) -> tf.Tensor:
    return tf.abs(x) + tf.math.softplus(-2 * tf.abs(x))


def gumbel_softmax(log_probability: tf.Tensor, noise: tf.Tensor, temperature: float) -> tf.Tensor:
    """Eq. 6: softmax((log p-hat + g) / temperature), without straight-through.

    Args:
      log_probability: Shape `[..., k]`.
      noise: Gumbel(0, 1) noise of the same shape; zeros give p-hat back at temperature 1.
      temperature: Positive.
    """
    return tf.nn.softmax((log_probability + noise) / temperature)


def gumbel_noise(shape, seed: tf.Tensor) -> tf.Tensor:
    """Gumbel(0, 1) noise that depends on nothing but `seed`, two integers."""
    uniform = tf.random.stateless_uniform(shape, seed, minval=1e-7, maxval=1.0)
    return -tf.math.log(-tf.math.log(uniform))


def channel_mask(weights: tf.Tensor, channels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Eq. 11 for candidates that share one kernel: channel c of `size` gets the weight of all candidates that have it.

    The candidates' kernels are leading slices of one kernel, padded with zeros to the widest; their weighted sum of
    feature maps is then the widest one's times this mask, m_c = sum of weights_i over i with c < channels_i.

    Args:
      weights: Of the candidates, shape `[k]`.
      channels: Integer channel numbers of the candidates, shape `[k]`.
      size: Length of the mask.
    """
    present = tf.range(size)[:, None] < channels[None, :]
    return tf.linalg.matvec(tf.cast(present, weights.dtype), weights)


def deflation(initial_sigma: float, final_sigma: float, rounds: int) -> float:
    """beta of Algorithm 1: the factor per round with which sigma has its final value in the last round."""
    return (final_sigma / initial_sigma) ** (1.0 / max(1, rounds - 1))
