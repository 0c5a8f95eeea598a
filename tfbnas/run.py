"""The run directory: settings, log and finished stages of one run, so that a run that was killed goes on."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfbnas.errors import UserError
from tfbnas.files import read_json, write_json, write_text
from tfbnas.serialization import dump_yaml, load_yaml, plain

try:
    import fcntl
except ImportError:  # Windows has no fcntl: there, two processes are not kept apart.
    fcntl = None  # type: ignore[assignment]

SETTINGS = "settings.yaml"
LOG = "log.jsonl"
LOCK = ".lock"
STAGES = "stages"
PLOTS = "plots"

_SCRATCH = re.compile(r"\..+\.[a-z0-9_]{8}")
_STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RunDirectory:
    """One run's directory, held exclusively by this process until `close` or its death.

    Created with its settings, or opened again with the same ones; then finished stages need not be repeated.
    Usable as a context manager.

    Args:
      path: Directory. Made, with its parents, where it is missing.
      settings: All settings of the run, nested dictionaries of JSON values.

    Raises:
      UserError: The path is a file, cannot be written, holds something else or a run of other settings, is damaged,
        is used by another process, or the disk is full.

    Example:
      with RunDirectory("runs/first", {"seed": 1}) as run:
          if not run.finished("search"):
              run.finish("search", {"architecture": search()})
          result = run.result("search")
    """

    def __init__(self, path: str | os.PathLike, settings: Mapping[str, Any]):
        self.path = Path(path)
        self._lock: int | None = None
        self._log: int | None = None
        with os_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _acquire(self.path)
        try:
            with os_errors(self.path):
                for folder in (self.path, self.path / STAGES, self.path / PLOTS):
                    _remove_scratch(folder)
                self._settle(plain(settings))
                self._log = _open_log(self.path / LOG)
        except BaseException:
            self.close()
            raise

    def _settle(self, settings: dict[str, Any]) -> None:
        """Writes the settings, or checks that they are those of the run that is here already."""
        file = self.path / SETTINGS
        if not file.exists():
            strangers = sorted(entry.name for entry in self.path.iterdir() if entry.name != LOCK)
            if strangers:
                raise UserError(
                    f"Expected a new, an empty or a run directory. Received: run_dir={str(self.path)!r}, which holds "
                    f"{strangers[0]!r} but no {SETTINGS}; give another --run_dir."
                )
            write_text(file, dump_yaml(settings))
            return
        old = load_yaml(file)
        if settings and not old:
            raise UserError(f"{file} is damaged: it holds no settings. Give another --run_dir.")
        found = differences(old, settings)
        if found:
            raise UserError(
                f"{self.path} belongs to a run of other settings: {found}. "
                f"Give another --run_dir, or the same settings (--config {file})."
            )

    def log(self, **event: Any) -> None:
        """Appends one line of JSON to `log.jsonl`, with the present `time` (seconds since 1970) first.

        Raises:
          UserError: The disk is full. The log then ends with the last whole line.
        """
        if self._log is None:
            raise RuntimeError(f"The run directory {self.path} is closed.")
        line = json.dumps({"time": round(time.time(), 3), **plain(event)}).encode() + b"\n"
        end = os.fstat(self._log).st_size
        try:
            with os_errors(self.path / LOG):
                while line:
                    line = line[os.write(self._log, line) :]
        except BaseException:
            os.ftruncate(self._log, end)
            raise

    def events(self) -> list[dict[str, Any]]:
        """All logged events, in order, also those of earlier processes.

        Raises:
          UserError: A line is damaged. (A torn last line, which a killed process leaves, is passed over.)
        """
        lines = (self.path / LOG).read_bytes().split(b"\n")[:-1]
        events = []
        for number, line in enumerate(lines, start=1):
            try:
                events.append(json.loads(line))
            except ValueError as error:
                raise UserError(
                    f"Line {number} of {self.path / LOG} is damaged: it is not JSON. Remove that line and run again."
                ) from error
        return events

    def _stage(self, stage: str) -> Path:
        if not _STAGE.fullmatch(stage):
            raise ValueError(
                f"Expected a stage's name of letters, digits, '.', '_' and '-'. Received: stage={stage!r}."
            )
        return self.path / STAGES / f"{stage}.json"

    def finished(self, stage: str) -> bool:
        """Whether `finish` was called for this stage, now or by an earlier process."""
        return self._stage(stage).exists()

    def finish(self, stage: str, result: Mapping[str, Any]) -> None:
        """Stores a stage's result (JSON, also numpy values) as `stages/<stage>.json`, whole or not at all.

        Raises:
          UserError: The disk is full.
        """
        with os_errors(self.path / STAGES):
            write_json(self._stage(stage), plain(result))

    def result(self, stage: str) -> dict[str, Any]:
        """What `finish` stored.

        Raises:
          UserError: The stage is not finished, or its file is damaged.
        """
        return read_json(self._stage(stage))

    def checkpoints(self, stage: str) -> Path:
        """The directory for a stage's checkpoints (not made by this call)."""
        return self.path / "checkpoints" / self._stage(stage).stem

    def close(self) -> None:
        """Lets other processes use the directory. The log cannot be written after it."""
        for descriptor in (self._log, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._log = self._lock = None

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"


@contextlib.contextmanager
def os_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turns the operating system's errors that a user can mend into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk is full: {path} could not be written. Free some space and run again; it goes on from there."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"{path} cannot be written ({error.strerror}): give another --run_dir.") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG, errno.EISDIR):
            raise UserError(
                f"Expected a path where a directory is or can be made. Received: {str(path)!r} ({error.strerror}); "
                "give another --run_dir."
            ) from error
        raise


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, Mapping) or not settings:
        return {prefix[:-1]: settings} if prefix else {}
    return {key: value for name in settings for key, value in _flat(settings[name], f"{prefix}{name}.").items()}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """In which settings two runs differ, in words (at most five of them); "" for none."""
    before, after = _flat(old), _flat(new)
    pairs = {key: [repr(side[key]) if key in side else "missing" for side in (before, after)] for key in before | after}
    found = [f"{key} was {was}, now {now}" for key, (was, now) in pairs.items() if was != now]
    return "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")


def _acquire(path: Path) -> int:
    """Locks the directory; the kernel unlocks it when the process ends, however it ends."""
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    if fcntl is None:
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 20).decode(errors="replace").strip()
        os.close(descriptor)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise UserError(
            f"{path} is in use by another process{f' ({holder})' if holder else ''}: "
            "wait until it ends, or give another --run_dir."
        ) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def in_use(path: str | os.PathLike) -> bool:
    """Whether a process holds the run directory `path`; false for none, and where processes are not kept apart."""
    try:
        descriptor = os.open(Path(path) / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _remove_scratch(path: Path) -> None:
    """Removes what `atomic_write` left beside its target when the process was killed inside it."""
    if path.is_dir():
        for entry in path.iterdir():
            if entry.is_dir() and _SCRATCH.fullmatch(entry.name):
                shutil.rmtree(entry, ignore_errors=True)


def _open_log(path: Path) -> int:
    """Opens the log behind its last whole line, so that the next event does not continue a torn one."""
    whole = path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.ftruncate(descriptor, whole)
    return descriptor
