"""The devices that train a recipe's networks together: one, those of this machine, or those of several processes.

Where there are several processes ("workers", `TF_CONFIG`), all run the same recipe. One of them, the chief, writes the
run directory; the others write nothing, read its checkpoints, and learn all else from the chief.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from tfbnas.distribution import divided
from tfbnas.errors import UserError
from tfbnas.quiet import captured
from tfbnas.run import RunDirectory, differences

T = TypeVar("T")

_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


class Devices:
    """What trains the networks of a run.

    Args:
      strategy: Divides each batch. Default: one device.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None):
        self.strategy = strategy

    @property
    def count(self) -> int:
        """How many divide a batch."""
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    @property
    def _are_workers(self) -> bool:
        return isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def scope(self) -> contextlib.AbstractContextManager:
        """Inside, variables are made for all devices: networks, searches and their optimisers."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def fitting(self, batches: tf.data.Dataset) -> Any:
        """Batches for the `fit` of a model that was made inside `scope`."""
        return divided(batches, self.strategy) if self.strategy else batches

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run directory."""
        if not self._are_workers:
            return True
        resolver = self.strategy.cluster_resolver  # type: ignore[union-attr]
        first = "chief" if "chief" in resolver.cluster_spec().as_dict() else "worker"
        return (resolver.task_type, resolver.task_id) == (first, 0)

    def from_chief(self, function: Callable[[], T]) -> T:
        """What `function` gives in the chief's process (JSON), in all: the others wait for it and do not call it."""
        if not self._are_workers:
            return function()
        text = json.dumps(function()).encode() if self.is_chief else b""
        length = int(self._sum(np.array([len(text)]))[0])
        content = np.zeros(length, np.int32)
        content[: len(text)] = np.frombuffer(text, np.uint8)
        return json.loads(self._sum(content).astype(np.uint8).tobytes())

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Sum over the workers of int32 values; only the chief's may differ from zero."""
        assert self.strategy is not None
        everywhere = self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(values if context.replica_id_in_sync_group == 0 else 0 * values, tf.int32)
        )
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, everywhere, axis=None).numpy()

    def open_directory(self, path: Path, settings: Mapping[str, Any]) -> RunDirectory:
        """The run directory; for workers beside the chief, one into which nothing is written.

        Raises:
          UserError: What RunDirectory raises, or a worker has other settings than the chief.
        """
        own = RunDirectory(path, settings) if self.is_chief else None
        mine: list[Any] = [dict(settings), str(Path(path).absolute())]
        theirs, place = self.from_chief(lambda: mine)
        if own is not None:
            return own
        if found := differences(theirs, settings):
            raise UserError(f"Expected the same settings on all workers. Received, the chief's first: {found}.")
        return _ReadRun(place)


@contextlib.contextmanager
def together(settings: Any) -> Iterator[Devices]:
    """The devices of the setting `strategy`; waits until all workers are there, at the beginning and the end.

    Must come before anything else that TensorFlow computes.

    Args:
      settings: Of a recipe. `strategy` is "none" for one device, "mirrored" for all GPUs of this machine (or its CPUs,
        where it has none), "multiworker" for those of all processes in the environment variable TF_CONFIG.

    Raises:
      UserError: TF_CONFIG is missing or wrong, a batch cannot be divided, or, at any time inside, a worker is lost.
    """
    devices = Devices({"none": lambda: None, "mirrored": _mirrored, "multiworker": _workers}[settings.strategy]())
    with _workers_needed(devices):
        for group in ("search", "train") if settings.search is not None else ("train",):
            if (size := getattr(settings, group).batch_size) % devices.count:
                raise UserError(
                    f"Expected `{group}.batch_size` to be a multiple of the {devices.count} devices that divide a "
                    f"batch. Received: {size}."
                )
        yield devices
        devices.from_chief(lambda: None)


class _ReadRun(RunDirectory):
    """The chief's run directory as the other workers have it."""

    def __init__(self, path: str):
        self.path, self._lock, self._log = Path(path), None, None

    def log(self, **event: Any) -> None:
        pass

    def events(self) -> list[dict[str, Any]]:
        return []

    def finish(self, stage: str, result: Mapping[str, Any]) -> None:
        pass


def _mirrored() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _workers() -> tf.distribute.Strategy:
    text = os.environ.get("TF_CONFIG")
    try:
        config = json.loads(text or "")
        kind, index = config["task"]["type"], int(config["task"]["index"])
        address, cluster = config["cluster"][kind][index], config["cluster"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            f"Expected the environment variable TF_CONFIG with --strategy multiworker, for instance {_EXAMPLE}, with "
            f"another index on each worker. Received: TF_CONFIG={text!r}."
        ) from error
    count = sum(len(cluster[name]) for name in ("chief", "worker") if name in cluster)
    print(f"{kind} {index} at {address} waits until all {count} workers are there", file=sys.stderr, flush=True)
    try:
        with captured():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.UnknownError as error:
        raise UserError(
            f"Expected the address {address} of TF_CONFIG to be free on this machine. Received: {error.message}."
        ) from error


@contextlib.contextmanager
def _workers_needed(devices: Devices) -> Iterator[None]:
    """Says in one sentence that another worker is gone; TensorFlow notices it in the next sum over the workers."""
    try:
        yield
    except _LOST as error:
        if not devices._are_workers:
            raise
        raise UserError(
            "Another worker of this run has ended or cannot be reached any more (its own output tells why). Run the "
            "same command again on all workers; with the same --run_dir it goes on from the last checkpoint."
        ) from error
