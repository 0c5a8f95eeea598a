"""A checkpoint at the end of every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf

from tfbnas.callbacks.finite import not_finite
from tfbnas.checkpoints import Checkpoints
from tfbnas.errors import UserError


class SaveEveryEpoch(tf.keras.callbacks.Callback):
    """Saves everything through Checkpoints when an epoch ends. Put it last, behind StopOnNaN and TensorBoardScalars.

    The state saved is `{"epoch": epochs done, "history": [{"epoch": 1, **logs}, ...]}`. The history covers all
    processes. So a training is continued by

      step, state = checkpoints.restore() or (0, {"history": []})
      model.fit(..., initial_epoch=step, callbacks=[SaveEveryEpoch(checkpoints, history=state["history"])])

    An epoch that ends with a loss or a weight that is not finite is not saved but ends the training.

    Args:
      checkpoints: Where to save.
      history: Entries of the epochs done before. Default: none.
      record: Function without arguments that gives further values of the epoch that ends (JSON). Default: none.
      state: Further keys of the state, the same in each (JSON). Default: none.
      every: Epochs between two checkpoints; the last epoch of `fit` is always saved. Default: 1.

    Attributes:
      history: The entries, with those of this process.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        history: Iterable[Mapping[str, Any]] = (),
        record: Callable[[], Mapping[str, Any]] = dict,
        state: Mapping[str, Any] | None = None,
        every: int = 1,
    ):
        super().__init__()
        self._supports_tf_logs = True  # see Progress
        self._checkpoints = checkpoints
        self._record = record
        self._state = dict(state or {})
        self._every = every
        self.history: list[dict[str, Any]] = [dict(entry) for entry in history]

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        bad = [name for name, value in numbers.items() if "loss" in name and not math.isfinite(value)]
        bad = bad or not_finite(self.model.trainable_variables)
        if bad:
            raise UserError(
                f"Epoch {epoch + 1} ended with {bad[0]} not finite: it is not saved, and the last good checkpoint "
                "stays. Lower the learning rate and give another --run_dir."
            )
        done = epoch + 1
        self.history.append({"epoch": done, **numbers, **self._record()})
        if done % self._every == 0 or done == (self.params or {}).get("epochs"):
            self._checkpoints.save(done, {**self._state, "epoch": done, "history": self.history})
