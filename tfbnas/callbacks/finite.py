"""A stop at the first loss that is not a finite number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError

LOOK_STEPS = 20


class StopOnNaN(tf.keras.callbacks.Callback):
    """Ends the training with a UserError that names the step, when a loss is NaN or infinite.

    Looks at every log whose name contains "loss". The values are only read every twenty steps and at the end of an
    epoch, but those between are kept until then: the step that is named is the first bad one. Put it before
    SaveEveryEpoch.

    Args:
      stage: Name of the stage, for the message.
    """

    def __init__(self, stage: str):
        super().__init__()
        self._supports_tf_logs = True  # see Progress
        self._stage = stage
        self._steps: int | None = None
        self._epoch = 0
        self._unread: list[tuple[int, Mapping[str, Any]]] = []

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._steps = self._steps or (self.params or {}).get("steps")
        self._epoch = epoch
        self._unread = []

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._unread.append((batch, _losses(logs)))
        if len(self._unread) >= LOOK_STEPS:
            self._look()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        last = self._unread[-1][0] if self._unread else None
        self._look()
        self._steps = self._steps or (None if last is None else last + 1)
        for name, value in _losses(logs).items():
            if not math.isfinite(float(value)):
                raise UserError(f"{self._start(name, float(value))} at the end of epoch {epoch + 1}{self._end()}")

    def _look(self) -> None:
        unread, self._unread = self._unread, []
        # A running mean stays NaN: if the last one is finite, all are.
        if not unread or all(math.isfinite(float(value)) for value in unread[-1][1].values()):
            return
        for batch, losses in unread:
            for name, value in losses.items():
                if not math.isfinite(float(value)):
                    raise UserError(f"{self._start(name, float(value))} at {self._place(batch)}{self._end()}")

    def _start(self, name: str, value: float) -> str:
        return f"Stage {self._stage!r} stopped: {name.replace('val_', 'validation ')} became {value}"

    def _place(self, batch: int) -> str:
        within = f"step {batch + 1} of epoch {self._epoch + 1}"
        return f"step {self._epoch * self._steps + batch + 1} ({within})" if self._steps else within

    def _end(self) -> str:
        return (
            ". Lower the learning rate and give another --run_dir; with the same --run_dir it goes on from the last "
            "good checkpoint, which stays, and with the same settings."
        )


def not_finite(variables: Iterable[tf.Variable]) -> list[str]:
    """Names of the floating-point variables that hold a NaN or an infinite value."""
    return [
        variable.name
        for variable in variables
        if variable.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(variable)))
    ]


def _losses(logs: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (logs or {}).items() if "loss" in name}
