"""Checkpoints of TensorFlow objects that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.files import atomic_write
from tfbnas.run import os_errors
from tfbnas.serialization import plain

FORMAT = 1
_NAME = re.compile(r"step-(\d{6,})")
_VARIABLES, _STATE, _MANIFEST = "variables", "state.json", "manifest.json"


class Checkpoints:
    """The last checkpoints of one stage, one directory `step-000012/` for each step.

    A directory holds the values of all variables that the trackables hold, `state.json`, and a manifest with the
    SHA-256 of each file. It gets its name only when it is complete; older ones are deleted only after that. So there
    is an intact checkpoint after every kill, never older than the last `save` that returned.

    Variables of partly unknown static shape (`tf.Variable(..., shape=[3, 3, None, None])`) come back in the size in
    which they were saved. Everything must exist before `restore`: call `optimizer.build(variables)` first.

    Args:
      directory: Where the checkpoints lie. Made by the first `save`.
      keep: How many of the newest are kept. Default: 2.
      **trackables: What tf.train.Checkpoint accepts: models, optimisers, variables, tf.random.Generator, and lists
        and dictionaries of them. Without any, only the state is kept.

    Example:
      checkpoints = Checkpoints(run.checkpoints("train"), model=model, optimizer=optimizer)
      step, state = checkpoints.restore() or (0, {"history": []})
    """

    def __init__(self, directory: str | os.PathLike, *, keep: int = 2, **trackables: Any):
        if keep < 1:
            raise ValueError(f"Expected `keep` to be at least 1. Received: keep={keep}.")
        self.directory = Path(directory)
        self.keep = keep
        self._checkpoint = tf.train.Checkpoint(**trackables)

    def steps(self) -> list[int]:
        """The steps of which a checkpoint is there, rising."""
        if not self.directory.is_dir():
            return []
        matches = (_NAME.fullmatch(entry.name) for entry in self.directory.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def path(self, step: int) -> Path:
        """The directory of one checkpoint."""
        return self.directory / f"step-{step:06d}"

    def save(self, step: int, state: Mapping[str, Any] | None = None) -> Path:
        """Saves all variables and `state`, then deletes all but the `keep` newest checkpoints.

        Args:
          step: What counts the progress (epochs, rounds); each one saved must be greater than those before.
          state: JSON values (also numpy's), in full: an earlier state is not added to it.

        Returns:
          The directory of the new checkpoint.

        Raises:
          UserError: The disk is full, or the directory cannot be written.
          ValueError: `step` is not greater than that of the newest checkpoint.
        """
        existing = self.steps()
        if existing and step <= existing[-1]:
            raise ValueError(f"Expected a step greater than the last saved, {existing[-1]}. Received: step={step}.")
        text = json.dumps(plain(state or {}))
        with os_errors(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            self._clean()
            with atomic_write(self.path(step)) as temporary:
                temporary.mkdir()
                self._write_variables(temporary)
                (temporary / _STATE).write_text(text, encoding="utf-8")
                files = {file.name: _digest(file) for file in sorted(temporary.iterdir())}
                manifest = {"format": FORMAT, "step": step, "files": files}
                (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
            _flush_names(self.directory)
            for old in self.steps()[: -self.keep]:
                # A deletion that is cut short must not leave a checkpoint without some of its files.
                os.rename(self.path(old), self.directory / f".deleted-{old:06d}")
            self._clean()
        return self.path(step)

    def _write_variables(self, directory: Path) -> None:
        try:
            self._checkpoint.write(str(directory / _VARIABLES))
        except tf.errors.OpError as error:
            if "No space left on device" not in str(error):
                raise
            raise UserError(
                f"The disk is full: no checkpoint could be written to {self.directory}. Free some space and run "
                "again; it goes on from the last checkpoint."
            ) from error

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """Step and state of the newest checkpoint, `None` where there is none. Variables are left alone.

        Raises:
          UserError: The newest checkpoint is damaged.
        """
        steps = self.steps()
        if not steps:
            return None
        self._verify(steps)
        return steps[-1], json.loads((self.path(steps[-1]) / _STATE).read_text(encoding="utf-8"))

    def state(self) -> dict[str, Any]:
        """State of the newest checkpoint, `{}` where there is none. Raises UserError if it is damaged."""
        found = self.latest()
        return found[1] if found else {}

    def restore(self, *, whole: bool = True) -> tuple[int, dict[str, Any]] | None:
        """Gives all variables the values of the newest checkpoint, bit for bit.

        Args:
          whole: Whether all that the checkpoint holds must be there, and not only all that is there in it.
            Default: True.

        Returns:
          Its step and state, or `None` where there is no checkpoint (the variables are left alone).

        Raises:
          UserError: The newest checkpoint is damaged, or was made from other variables than there are now.
        """
        found = self.latest()
        if found is None:
            return None
        directory = self.path(found[0])
        try:
            status = self._checkpoint.read(str(directory / _VARIABLES))
            status.assert_existing_objects_matched()
            # Optimiser slots that do not exist yet would be restored at some later time, or never.
            if whole:
                status.assert_consumed()
            else:
                status.expect_partial()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"The checkpoint {directory} does not fit the network: expected the variables that it was made from "
                f"({reason}). Give another --run_dir, or delete {self.directory} to start this stage anew."
            ) from error
        return found

    def _verify(self, steps: list[int]) -> None:
        directory = self.path(steps[-1])
        problem = _problem(directory)
        if problem:
            rest = f"the previous one, step {steps[-2]}" if len(steps) > 1 else "the beginning of this stage"
            raise UserError(
                f"The checkpoint {directory} is damaged ({problem}). Delete that directory and run again: "
                f"it goes on from {rest}."
            )

    def _clean(self) -> None:
        """Removes what a killed process left: hidden names, which are never a checkpoint."""
        for entry in self.directory.iterdir():
            if entry.name.startswith(".") and entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _problem(directory: Path) -> str | None:
    """What is wrong with a checkpoint, `None` if all its files are those that were written."""
    try:
        manifest = json.loads((directory / _MANIFEST).read_text(encoding="utf-8"))
        expected = dict(manifest["files"])
        if manifest["format"] > FORMAT:
            return "it was written by a newer version of tfbnas"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{_MANIFEST} is missing or unreadable"
    for name, digest in expected.items():
        file = directory / name
        if not file.is_file():
            return f"{name} is missing"
        if _digest(file) != digest:
            return f"the checksum of {name} is wrong"
    return None


def _flush_names(directory: Path) -> None:
    """After a power cut too, the new name is on the disk before the old ones are gone."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
