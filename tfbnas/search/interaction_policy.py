"""The policy network of CI-BCNN, and what it draws: roll-outs of changes to the channel graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfbnas.search import interactions
from tfbnas.search.interactions import Blocks

Evaluate = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""Loss and further penalty `[rollouts]` of the network with graphs `[rollouts, layers, blocks, size, size]`."""

_DOWN = 4
"""Two convolutions of stride 2."""


class InteractionPolicy(tf.keras.Model):
    """Emits where edges are created and with which influence, from the graphs of all layers.

    Each block of a layer goes through two convolutions and a dense layer; a recurrent layer runs over the layers' mean
    codes; a dense layer and two transposed convolutions give each block's maps. A code of its own for each block, which
    is learned, tells blocks with equal graphs apart: ours, the paper does not say how.

    Args:
      blocks: How the layers' channels are divided.
      levels: K0.
      units: Of the dense and the recurrent layer. Default 64.
      hierarchical: Whether a block is drawn first, then an edge in it. The journal version's idea as we read its
        abstract. Default: False (paper).
      seed: Of the initial weights.
    """

    def __init__(self, blocks: Blocks, levels: int, *, units: int = 64, hierarchical: bool = False, seed: int = 0):
        super().__init__(name="policy", dtype="float32")
        self.blocks, self.levels, self.hierarchical = blocks, levels, hierarchical
        self.allowed = tf.constant(blocks.allowed())
        self.limits = tf.constant(blocks.limits())
        self._there = tf.cast(tf.reduce_any(self.allowed, axis=[-1, -2]), tf.float32)
        side, layers = -(-blocks.size // _DOWN), tf.keras.layers

        def options(number: int) -> dict:
            return {"kernel_initializer": tf.keras.initializers.GlorotUniform(1000 * seed + number), "dtype": "float32"}

        convolution = {"strides": 2, "padding": "same", "activation": "relu"}
        self.encoder = tf.keras.Sequential(
            [
                layers.Conv2D(8, 3, **convolution, **options(1)),
                layers.Conv2D(16, 3, **convolution, **options(2)),
                layers.Flatten(),
                layers.Dense(units, activation="tanh", **options(3)),
            ]
        )
        self.recurrent = layers.GRU(
            units,
            return_sequences=True,
            recurrent_initializer=tf.keras.initializers.Orthogonal(seed=1000 * seed + 4),
            **options(5),
        )
        self.decoder = tf.keras.Sequential(
            [
                layers.Dense(side * side * 16, activation="relu", **options(6)),
                layers.Reshape((side, side, 16)),
                layers.Conv2DTranspose(8, 3, **convolution, **options(7)),
                layers.Conv2DTranspose(2, 3, strides=2, padding="same", **options(8)),
            ]
        )
        self.chooser = layers.Dense(1, **options(9)) if hierarchical else None
        self.code = self.add_weight(
            name="code",
            shape=(*blocks.shape[:2], units),
            initializer=tf.keras.initializers.RandomNormal(stddev=0.5, seed=1000 * seed + 10),
            dtype=tf.float32,
        )
        self(tf.zeros([1, *blocks.shape], tf.int32))

    def call(self, influences):
        """What the policy says of graphs `[rollouts, layers, blocks, size, size]`.

        Returns:
          log W_ea, log probabilities of each pair to be created, and log Norm(-log W_ea), to be deleted, `[rollouts,
          layers, pairs]`; W_fa in [-1, 1], the same shape, whose interval is the influence of a new edge.
        """
        size, shape = self.blocks.size, tf.shape(influences)
        maps = tf.reshape(interactions.state(influences, self.levels), [-1, size, size, 2])
        codes = tf.reshape(self.encoder(maps), [shape[0], *self.code.shape]) + self.code
        there = self._there[..., None]
        context = self.recurrent(tf.reduce_sum(codes * there, axis=2) / tf.reduce_sum(there, axis=1))
        context = tf.tile(context[:, :, None], [1, 1, self.blocks.shape[1], 1])
        both = tf.concat([codes, context], axis=-1)
        decoded = self.decoder(tf.reshape(both, [-1, both.shape[-1]]))[:, :size, :size]
        logits, weights = tf.unstack(tf.reshape(decoded, [shape[0], *self.blocks.shape, 2]), axis=-1)
        scores = None if self.chooser is None else self.chooser(both)[..., 0]
        creation = interactions.log_creation(logits, self.allowed, scores)
        deletion = interactions.log_deletion(creation, self.allowed)
        return creation, deletion, tf.reshape(tf.tanh(weights), tf.shape(creation))


class Rollouts(NamedTuple):
    """Steps of several roll-outs; all tensors `[steps, rollouts, ..]`.

    Attributes:
      before: Graphs in front of each step.
      after: Graphs behind it.
      created: Pairs that were drawn to be created, `[.., layers]`.
      new: Their influences.
      deleted: Pairs that were drawn to be deleted.
      creates: Whether a layer drew a pair to be created.
      deletes: Whether it drew one to be deleted.
      active: Whether the roll-out had not stopped: it does behind a step that changed nothing.
      rewards: 0 where it had stopped.
    """

    before: tf.Tensor
    after: tf.Tensor
    created: tf.Tensor
    new: tf.Tensor
    deleted: tf.Tensor
    creates: tf.Tensor
    deletes: tf.Tensor
    active: tf.Tensor
    rewards: tf.Tensor


def roll_out(
    policy: InteractionPolicy,
    start: tf.Tensor,
    evaluate: Evaluate,
    confidences: tf.Tensor,
    *,
    steps: int,
    count: int,
    threshold: float,
    seed: tf.Tensor,
    affordable: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> Rollouts:
    """Draws roll-outs from one graph. No gradient passes; `log_probabilities` has it.

    Args:
      policy: Draws the actions.
      start: int32 `[layers, blocks, size, size]`.
      evaluate: Gives the loss of graphs and a penalty that is subtracted from the reward.
      confidences: `[layers, blocks, size, size]`, the second part of the reward for each edge.
      steps: T.
      count: M, roll-outs.
      threshold: h, smaller changes of the loss are none.
      seed: Integer; other draws for each.
      affordable: Of graphs `[rollouts, ..]`, bool `[rollouts]`: whether every layer may have one more. Default: yes.
    """
    graphs = tf.tile(start[None], [count, 1, 1, 1, 1])
    loss = tf.tile(evaluate(start[None])[0], [count])
    layers, none = start.shape[0], tf.zeros([count], tf.float32)

    def step(carried: tuple[tf.Tensor, ...], number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        graphs, before_loss, active = carried[1], carried[9], carried[10]
        creation, deletion, weights = policy(graphs)
        created, deleted = (
            interactions.draw(logs, tf.stack([tf.cast(seed, tf.int64) * 2 + kind, tf.cast(number, tf.int64)]))
            for kind, logs in enumerate((creation, deletion))
        )
        new = interactions.influence_of(tf.gather(weights, created, axis=2, batch_dims=2), policy.levels)
        room = affordable(graphs) if affordable else tf.ones([count], tf.bool)
        moved, creates, deletes = interactions.act(graphs, created, new, deleted, policy.limits, room)
        after = tf.where(active[:, None, None, None, None], moved, graphs)
        after_loss, penalty = evaluate(after)
        rewards = interactions.reward(before_loss - after_loss, confidences, after, threshold) - penalty
        goes_on = active & tf.reduce_any(after != graphs, axis=[1, 2, 3, 4])
        rewards = tf.where(active, rewards, 0.0)
        return graphs, after, created, new, deleted, creates, deletes, active, rewards, after_loss, goes_on

    pairs, flags = tf.zeros([count, layers], tf.int32), tf.zeros([count, layers], tf.bool)
    everyone = tf.ones([count], tf.bool)
    first = (graphs, graphs, pairs, pairs, pairs, flags, flags, everyone, none, loss, everyone)
    return Rollouts(*tf.nest.map_structure(tf.stop_gradient, tf.scan(step, tf.range(steps), first))[:9])


def log_probabilities(policy: InteractionPolicy, drawn: Rollouts) -> tf.Tensor:
    """Of each step, `[steps, rollouts]`: log p(created) + log p(deleted | created) + the surrogate of the influence."""
    shape = tf.shape(drawn.before)
    creation, deletion, weights = policy(tf.reshape(drawn.before, tf.concat([[-1], shape[2:]], axis=0)))

    def at(values: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
        values = tf.reshape(values, [shape[0], shape[1], shape[2], -1])
        return tf.gather(values, pairs, axis=3, batch_dims=3)

    surrogate = interactions.surrogate(at(weights, drawn.created), drawn.new, policy.levels)
    created = tf.where(drawn.creates, at(creation, drawn.created) + surrogate, 0.0)
    deleted = tf.where(drawn.deletes, at(deletion, drawn.deleted), 0.0)
    return tf.where(drawn.active, tf.reduce_sum(created + deleted, axis=-1), 0.0)
