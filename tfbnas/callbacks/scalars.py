"""Scalars for TensorBoard, without gaps or repetitions when a run is resumed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf


class TensorBoardScalars(tf.keras.callbacks.Callback):
    """Writes the logs of each epoch, and further scalars, as TensorBoard event files.

    A killed process may have written an epoch that is then done again: what is already in the directory is not
    written a second time. Put it before SaveEveryEpoch; then no epoch is missing either.

    Args:
      directory: Of the event files; one for each stage.
      extra: Function without arguments that gives further scalars at the end of each epoch, for instance
        `{"mu/stem": 1.5, "channels/stem": 24}`. Default: none.
    """

    def __init__(self, directory: str | os.PathLike, *, extra: Callable[[], Mapping[str, Any]] | None = None):
        super().__init__()
        self._supports_tf_logs = True  # see Progress
        self._directory = Path(directory)
        self._extra = extra
        self._written: dict[str, int] | None = None
        self._writer: Any = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        extra = self._extra() if self._extra is not None else {}
        self.write(epoch + 1, {**(logs or {}), **extra})

    def write(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Writes scalars at a step (epochs or rounds done), except those that have that step or a later one.

        For loops without `fit`.
        """
        if self._writer is None:
            self._written = last_steps(self._directory)
            self._writer = tf.summary.create_file_writer(str(self._directory))
        assert self._written is not None
        # tf.summary may be off or in another step's context where fit is called.
        with self._writer.as_default(step), tf.summary.record_if(True):
            for name, value in scalars.items():
                if step > self._written.get(name, -1):
                    tf.summary.scalar(name, tf.cast(value, tf.float32))
                    self._written[name] = step
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file; a later `write` begins a new one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self.close()


def last_steps(directory: str | os.PathLike) -> dict[str, int]:
    """The last step of each scalar in a directory's event files."""
    last: dict[str, int] = {}
    for file in sorted(Path(directory).glob("events.out.tfevents.*")):
        try:
            for record in tf.data.TFRecordDataset(str(file)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                for value in event.summary.value:
                    last[value.tag] = max(last.get(value.tag, -1), event.step)
        except tf.errors.DataLossError:
            continue  # the process was killed while it wrote the last record
    return last
