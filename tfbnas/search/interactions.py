"""Channel interactions as actions of a policy: pure functions (CI-BCNN, appendix A, print errors corrected).

The graphs of all layers are one tensor `[.., layers, blocks, size, size]`, teacher by student in blocks of channels;
a dimension in front holds roll-outs. Layers with fewer blocks are filled up with pairs that are not allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfbnas.layers.interaction import BLOCK, staircase

_NEVER = -1e9


@dataclass(frozen=True)
class Blocks:
    """How the channels of several layers are divided.

    Attributes:
      channels: Of each layer.
      density_limit: Largest share of a layer's allowed pairs that may be edges.
      size: Channels of a block. Default 16.
    """

    channels: tuple[int, ...]
    density_limit: float
    size: int = BLOCK

    @property
    def counts(self) -> list[int]:
        """Blocks of each layer."""
        return [-(-count // self.size) for count in self.channels]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the graphs of all layers."""
        return len(self.channels), max(self.counts), self.size, self.size

    def allowed(self) -> np.ndarray:
        """Pairs that may be an edge, bool `[layers, blocks, size, size]`: two different channels that there are."""
        place = np.arange(max(self.counts) * self.size).reshape(-1, self.size)
        there = place[None] < np.array(self.channels)[:, None, None]
        return there[..., :, None] & there[..., None, :] & ~np.eye(self.size, dtype=bool)

    def limits(self) -> np.ndarray:
        """Largest number of edges of each layer, int32 `[layers]`: the density is never above its limit."""
        pairs = self.allowed().sum(axis=(1, 2, 3))
        return np.floor(np.round(pairs * self.density_limit, 6)).astype(np.int32)

    def matrix(self, blocks: tf.Tensor, layer: int) -> tf.Tensor:
        """The graph of a layer `[blocks, size, size]` as `[channels, channels]`."""
        count, channels = self.counts[layer], self.channels[layer]
        diagonal = blocks[:count, :, None, :] * tf.eye(count, dtype=blocks.dtype)[:, None, :, None]
        width = count * self.size
        return tf.reshape(diagonal, [width, width])[:channels, :channels]

    def of_matrices(self, matrices: Sequence[np.ndarray]) -> np.ndarray:
        """Inverse of `matrix` for all layers; what joins different blocks is left out."""
        found = np.zeros(self.shape, np.asarray(matrices[0]).dtype)
        for layer, matrix in enumerate(matrices):
            for block in range(self.counts[layer]):
                part = slice(block * self.size, min((block + 1) * self.size, self.channels[layer]))
                values = np.asarray(matrix)[part, part]
                found[layer, block, : values.shape[0], : values.shape[1]] = values
        return found


def state(influences: tf.Tensor, levels: int) -> tf.Tensor:
    """What the policy sees of a graph, float32 `[.., 2]`: existence, and sign(K) (|K| - 1) / (2 K0)."""
    influences = tf.cast(influences, tf.float32)
    strength = tf.sign(influences) * (tf.abs(influences) - 1.0) / (2.0 * levels)
    exists = tf.cast(influences != 0, tf.float32)
    return tf.stack([exists, strength * exists], axis=-1)


def influence_of(weights: tf.Tensor, levels: int) -> tf.Tensor:
    """K = sign(w) (2 ceil(K0 |w|) + 1) of weights in [-1, 1], int32; 3 where w is 0."""
    steps = tf.clip_by_value(tf.math.ceil(levels * tf.abs(weights)), 1.0, float(levels))
    return tf.cast(tf.where(weights < 0, -1.0, 1.0) * (2.0 * steps + 1.0), tf.int32)


def surrogate(weights: tf.Tensor, influences: tf.Tensor, levels: int) -> tf.Tensor:
    """What stands for the probability of an influence, a hat over its interval: 1 - 2 K0 | |w| - m |.

    m = (|K| - 2) / (2 K0) is the middle of the interval that gives K, so that its slope, -2 K0 sign(|w| - m) sign(K),
    drives w into the middle where the reward is positive. Eq. 7 prints it with the opposite sign.
    """
    middle = (tf.cast(tf.abs(influences), tf.float32) - 2.0) / (2.0 * levels)
    return 1.0 - 2.0 * levels * tf.abs(tf.abs(weights) - middle)


def log_creation(logits: tf.Tensor, allowed: tf.Tensor, block_logits: tf.Tensor | None = None) -> tf.Tensor:
    """log W_ea, `[.., layers, pairs]`: a distribution over all pairs of a layer.

    Args:
      logits: `[.., layers, blocks, size, size]`.
      allowed: bool `[layers, blocks, size, size]`.
      block_logits: `[.., layers, blocks]`; then a block is drawn first, and the edge within it. Default: none (paper).
    """
    masked = tf.where(allowed, logits, _NEVER)
    flat = tf.concat([tf.shape(masked)[:-3], [-1]], axis=0)
    if block_logits is None:
        return tf.nn.log_softmax(tf.reshape(masked, flat))
    inside = tf.nn.log_softmax(tf.reshape(masked, tf.concat([tf.shape(masked)[:-2], [-1]], axis=0)))
    there = tf.reduce_any(allowed, axis=[-1, -2])
    outside = tf.nn.log_softmax(tf.where(there, block_logits, _NEVER))
    pairs = tf.reshape(inside + outside[..., None], flat)
    return tf.where(tf.reshape(allowed, [tf.shape(allowed)[0], -1]), pairs, _NEVER)


def log_deletion(creation: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
    """log Norm(-log W_ea), `[.., layers, pairs]`: what is unlikely to be created is likely to be deleted.

    Exact, where the paper approximates the normalisation's gradient.

    Args:
      creation: What `log_creation` gives.
      allowed: bool `[layers, blocks, size, size]`.
    """
    allowed = tf.reshape(allowed, [tf.shape(allowed)[0], -1])
    weights = tf.where(allowed, tf.maximum(-creation, 1e-12), 1.0)
    total = tf.reduce_sum(tf.where(allowed, weights, 0.0), axis=-1, keepdims=True)
    return tf.where(allowed, tf.math.log(weights) - tf.math.log(total), _NEVER)


def draw(log_probabilities: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Numbers drawn from distributions over the last axis, int32, by the seed alone (two integers)."""
    uniform = tf.random.stateless_uniform(tf.shape(log_probabilities), seed, minval=1e-20, dtype=tf.float32)
    return tf.argmax(log_probabilities - tf.math.log(-tf.math.log(uniform)), axis=-1, output_type=tf.int32)


def act(
    influences: tf.Tensor,
    created: tf.Tensor,
    new: tf.Tensor,
    deleted: tf.Tensor,
    limits: tf.Tensor,
    affordable: tf.Tensor | bool = True,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """One step: in each layer an edge is created, or its influence set anew, and then one may be deleted.

    Nothing is created where one more edge would be above the limit; nothing is deleted in a layer without edges, nor
    where the drawn pair has none.

    Args:
      influences: int32 `[.., layers, blocks, size, size]`, K, 0 without an edge.
      created: int32 `[.., layers]`, number of the pair.
      new: int32 `[.., layers]`, its influence.
      deleted: int32 `[.., layers]`, number of the pair.
      limits: int32 `[layers]`, edges.
      affordable: bool `[..]`, whether anything may be created at all. Default: it may.

    Returns:
      The next graph; whether something was drawn to be created, and to be deleted, bool `[.., layers]`.
    """
    shape = tf.shape(influences)
    flat = tf.reshape(influences, tf.concat([shape[:-3], [-1]], axis=0))
    edges = tf.math.count_nonzero(flat, axis=-1, dtype=tf.int32)
    creates, deletes = (edges < limits) & tf.convert_to_tensor(affordable)[..., None], edges > 0
    pairs = tf.range(tf.shape(flat)[-1])
    flat = tf.where((pairs == created[..., None]) & creates[..., None], new[..., None], flat)
    flat = tf.where((pairs == deleted[..., None]) & deletes[..., None], 0, flat)
    return tf.reshape(flat, shape), creates, deletes


def confidence(bitcounts: tf.Tensor, blocks: int, size: int = BLOCK) -> tf.Tensor:
    """Mean over images and pixels of sign(|p_t| - |p_s|), `[blocks, size, size]`; 0 for channels that are none.

    Args:
      bitcounts: `[batch, height, width, channels]`, not corrected.
      blocks: Of the result.
      size: Channels of a block.
    """
    counts = tf.abs(tf.reshape(bitcounts, [-1, bitcounts.shape[-1]]))
    counts = tf.pad(counts, [[0, 0], [0, blocks * size - bitcounts.shape[-1]]], constant_values=-1.0)
    counts = tf.reshape(counts, [-1, blocks, size])
    order = tf.reduce_mean(tf.sign(counts[..., :, None] - counts[..., None, :]), axis=0)
    there = tf.reduce_all(counts >= 0, axis=0)
    return tf.where(there[:, :, None] & there[:, None, :], order, 0.0)


def activity(bitcounts: tf.Tensor, influences: tf.Tensor, reach: int, levels: int) -> tf.Tensor:
    """Share of images and pixels at which an edge corrects its student, `[channels, channels]`; 0 without an edge.

    Args:
      bitcounts: `[.., channels]`, not corrected.
      influences: int32 `[channels, channels]`, teacher by student.
      reach: Up to which bitcount the intervals divide, N0 in the paper.
      levels: K0.
    """
    shares = tf.zeros(tf.shape(influences), tf.float32)
    for size in range(3, 2 * levels + 2, 2):
        moved = tf.cast(staircase(bitcounts, float(size), reach) != 0, tf.float32)
        share = tf.reduce_mean(tf.reshape(moved, [-1, moved.shape[-1]]), axis=0)
        shares = tf.where(tf.abs(influences) == size, share[:, None], shares)
    return shares


def reward(change: tf.Tensor, confidences: tf.Tensor, influences: tf.Tensor, threshold: float) -> tf.Tensor:
    """sign(change) where |change| > threshold, plus the mean confidence of the edges; `[..]`.

    Args:
      change: `[..]`, loss before the action less the loss behind it.
      confidences: `[layers, blocks, size, size]`, as `confidence` gives it for each layer.
      influences: `[.., layers, blocks, size, size]` behind the action.
      threshold: h, at least 0. (The paper prints a sign that would turn small changes round; its text says 0.)
    """
    exists = tf.cast(influences != 0, tf.float32)
    axes = [-1, -2, -3, -4]
    mean = tf.math.divide_no_nan(tf.reduce_sum(exists * confidences, axes), tf.reduce_sum(exists, axes))
    return tf.where(tf.abs(change) > threshold, tf.sign(change), 0.0) + mean


def discounted_returns(rewards: tf.Tensor, discount: float) -> tf.Tensor:
    """Sum of the rewards from each step on, each discounted by its distance, `[steps, ..]`.

    The paper multiplies every step by the whole reward of its sequence; what came before a step does not depend on it,
    so that leaving it out changes no expectation and lowers the variance.
    """
    return tf.scan(lambda later, one: one + discount * later, rewards, reverse=True)


def objective(log_probabilities: tf.Tensor, advantages: tf.Tensor) -> tf.Tensor:
    """Scalar whose gradient is REINFORCE's, for a minimiser: the mean over roll-outs of the sum over steps.

    Args:
      log_probabilities: `[steps, rollouts]`, of what was drawn, with the surrogate of the influences.
      advantages: `[steps, rollouts]`; no gradient passes.
    """
    return -tf.reduce_mean(tf.reduce_sum(tf.stop_gradient(advantages) * log_probabilities, axis=0))
