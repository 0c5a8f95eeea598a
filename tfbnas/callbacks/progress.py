"""The progress bar of a stage that trains with `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

import tensorflow as tf

from tfbnas.callbacks.bar import Describe, StageBar


class Progress(tf.keras.callbacks.Callback):
    """One bar over all epochs of a `fit`, beginning where an earlier process stopped. Use with `fit(verbose=0)`.

    Args:
      description: The stage, for instance "search".
      describe: Further texts from the numbers, see StageBar.
      stream: Default: standard error.
    """

    def __init__(
        self,
        description: str,
        *,
        describe: Describe | None = None,
        stream: TextIO | None = None,
    ):
        super().__init__()
        # Keras else turns the logs of every step into numpy arrays, which waits for the device.
        self._supports_tf_logs = True
        self._description = description
        self._epochs: int | None = None
        self._steps: int | None = None
        self._describe = describe
        self._stream = stream
        self._epoch = 0
        self._batch = 0
        self._bar: StageBar | None = None

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._steps = self._steps or (self.params or {}).get("steps")
        self._epochs = self._epochs or (self.params or {}).get("epochs")
        self._epoch, self._batch = epoch, 0
        if self._bar is None:
            self._bar = StageBar(
                self._description,
                self._total(),
                initial=self._done(),
                describe=self._describe,
                stream=self._stream,
            )

    def _done(self) -> int:
        return self._epoch * (self._steps or 0) + self._batch

    def _total(self) -> int | None:
        return self._epochs * self._steps if self._epochs and self._steps else None

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._batch = batch + 1
        if self._bar is not None:
            self._bar.update(self._done(), logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._steps = self._steps or self._batch
        if self._bar is not None:
            self._bar.total = self._total()
            self._bar.end_epoch(self._done(), logs)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._bar is not None and self._epoch + 1 >= (self._epochs or 0):
            self._bar.close()
            self._bar = None
