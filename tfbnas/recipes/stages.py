"""A stage of a run: done once, logged, shown while it goes on, and continued from its last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import tensorflow as tf

from tfbnas import quiet
from tfbnas.callbacks import Describe, Flips, Progress, SaveEveryEpoch, StopOnNaN, TensorBoardScalars
from tfbnas.checkpoints import Checkpoints
from tfbnas.errors import UserError
from tfbnas.recipes.context import Context, say
from tfbnas.results import STATE, Result
from tfbnas.run import RunDirectory

R = TypeVar("R", bound=Result)


def finished(context: Context, name: str) -> bool:
    """Whether a stage is done; says so."""
    done = context.devices.from_chief(lambda: context.run.finished(name))
    if done:
        say(f"{name}: already done")
    return done


def stage(context: Context, name: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The result of a stage: from an earlier process, or from `work`, which is then stored.

    Args:
      context: The run.
      name: Of the stage.
      work: Gives the result.

    Raises:
      UserError: An image cannot be read. (Sets too large for memory are checked only as they are read.)
    """
    run = context.run
    if not finished(context, name):
        say(f"{name}: begins")
        run.log(event="stage begins", stage=name)
        try:
            result = work()
        except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
            if "IteratorGetNext" not in str(error):
                raise
            problem = error.message.splitlines()[0].split("}} ")[-1]
            raise UserError(
                f"Stage {name!r} stopped: an image of the data set cannot be read ({problem}). Replace or delete it "
                "and run again; with the same --run_dir it goes on from the last checkpoint."
            ) from error
        run.finish(name, result)
        run.log(event="stage ends", stage=name)
    return context.devices.from_chief(lambda: run.result(name))


def fitted(
    context: Context,
    name: str,
    about: Result,
    checkpoints: Checkpoints,
    epochs: int,
    fit: Callable[[int, list[tf.keras.callbacks.Callback]], object],
    *,
    record: Callable[[], Mapping[str, Any]] = dict,
    scalars: Callable[[], Mapping[str, float]] = dict,
    describe: Describe = lambda logs: {},
    label: str = "epoch",
    begin: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Fits a model to the end of its epochs; a killed fit goes on with its first unfinished epoch.

    Args:
      context: The run.
      name: Of the stage.
      about: Its result as far as it is known; a report reads it while the stage runs.
      checkpoints: What the model and its optimisers are kept in.
      epochs: Of the whole stage, as Keras counts them.
      fit: `fit(done, callbacks)` runs what is left behind the first `done` epochs.
      record: What is kept of an epoch beside its logs (JSON). Default: nothing.
      scalars: Further scalars for TensorBoard. Default: none.
      describe: What the progress bar shows beside the logs, see StageBar. Default: nothing more.
      label: What one of the epochs is called.
      begin: Called before the first epoch, not when a fit goes on. Default: nothing.

    Returns:
      The history: one row for each epoch, with "epoch" (from 1), "seconds", the logs and the record.
    """
    done, state = _restored(context, checkpoints)
    if not done:
        begin()
    if done < epochs:
        if done:
            say(f"{name}: goes on with {label} {done + 1} of {epochs}")
        known = {STATE: about.to_dict()}
        fit(done, _callbacks(context, name, checkpoints, state["history"], known, record, scalars, describe))
        state = context.devices.from_chief(checkpoints.state)
    return state["history"]


def _callbacks(context, name, checkpoints, history, known, record, scalars, describe) -> list:
    """What accompanies every fit: seconds, flips, stop at NaN, progress bar, TensorBoard, log, checkpoints."""
    quiet.compile_once()  # not earlier: tf.distribute wants to be set up before anything runs
    if not context.devices.is_chief:
        return [_Seconds(), StopOnNaN(name)]
    return [
        _Seconds(),
        *([Flips()] if context.devices.strategy is None else []),
        StopOnNaN(name),
        Progress(name, describe=lambda logs: {"seconds": None, **describe(logs)}),
        TensorBoardScalars(context.run.path / "tensorboard" / name, extra=scalars),
        _Log(context.run, name),
        SaveEveryEpoch(checkpoints, history=history, record=record, state=known),
    ]


def _restored(context: Context, checkpoints: Checkpoints) -> tuple[int, dict[str, Any]]:
    """Step and state of the last checkpoint, the chief's, which all workers must see.

    Raises:
      UserError: A worker does not see it.
    """
    own: tuple[int, dict[str, Any]] = checkpoints.restore() or (0, {"history": []})
    step, state = context.devices.from_chief(lambda: own)
    if step != own[0]:
        raise UserError(
            f"Expected all workers to see the chief's run directory, whose {checkpoints.directory} is at step {step}. "
            f"Received: step {own[0]} on this one; give a --run_dir on a disk that they share."
        )
    return step, state


class _Log(tf.keras.callbacks.Callback):
    """Logs every epoch once: before its checkpoint, and not again when a killed process makes it be done again."""

    def __init__(self, run: RunDirectory, name: str):
        super().__init__()
        self.run, self.name = run, name
        self.logged = {event["epoch"] for event in run.events() if event.get("stage") == name and "epoch" in event}

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 not in self.logged:
            self.run.log(event="epoch", stage=self.name, epoch=epoch + 1, **{k: float(v) for k, v in logs.items()})


class _Seconds(tf.keras.callbacks.Callback):
    """Seconds of each epoch, in its logs: the sum over all epochs counts no time twice or between processes."""

    def on_epoch_begin(self, epoch, logs=None):
        self.begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = time.perf_counter() - self.begin
