"""How many binary weights change their sign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError


class Flips(tf.keras.callbacks.Callback):
    """Adds "flips" to the logs of each epoch: the share of the binary weights that change sign in a step.

    It is the mean over the steps that are looked at, one in `every`. What is compared is what the layers compute with,
    the quantised kernels. Near one half the weights are drawn anew in every step; at zero nothing is learned any more.
    Steps that update no weights, as those of a search's architecture, do not count; without any that does, or without
    binary kernels, nothing is logged. Put it before whatever reads the logs of an epoch.

    Args:
      every: Steps from one look to the next, at least 2. Default: 20, which costs less than a hundredth of the time.

    Raises:
      UserError: `every` is below 2.
    """

    def __init__(self, *, every: int = 20):
        super().__init__()
        if every < 2:
            raise UserError(f"Expected `every` to be at least 2. Received: every={every}.")
        self._supports_tf_logs = True  # see Progress
        self._every = every
        self._reset()

    def _reset(self) -> None:
        self._before: tuple[int, list[tf.Tensor]] | None = None
        self._shares: list[float] = []

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._layers: list[tf.keras.layers.Layer] = []

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._reset()
        layers = [
            layer for layer in self.model._flatten_layers() if getattr(layer, "kernel_quantizer", None) is not None
        ]
        if [*map(id, layers)] == [*map(id, self._layers)]:
            return
        self._layers = layers
        # Compiled once: kernels whose widths change are read in their present shapes.
        self._signs = tf.function(lambda: [layer.kernel_quantizer(layer.kernel) > 0 for layer in layers])
        if layers:  # traced before the first step, whose time Keras compares with that of its callbacks
            signs = self._signs()
            _changed(signs, signs)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        place = batch % self._every
        if not self._layers or place > 1:
            return
        steps = int(self.model.optimizer.iterations)
        if place == 0:
            self._before = steps, self._signs()
        elif self._before is not None and steps == self._before[0] + 1:
            self._shares.append(_share(self._before[1], self._signs()))
            self._before = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._shares and logs is not None:
            logs["flips"] = sum(self._shares) / len(self._shares)


def _share(before: list[tf.Tensor], now: list[tf.Tensor]) -> float:
    # Divided here: TensorFlow rounds a division by a constant in another way than one by a shape that it learns later.
    return int(_changed(before, now)) / sum(int(tf.size(one)) for one in now)


@tf.function(reduce_retracing=True)
def _changed(before: list[tf.Tensor], now: list[tf.Tensor]) -> tf.Tensor:
    pairs = zip(before, now, strict=True)
    return tf.add_n([tf.math.count_nonzero(tf.not_equal(old, new)) for old, new in pairs])
