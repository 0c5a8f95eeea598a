"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfbnas.errors import UserError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a path beside `path`; what the block leaves there (a file or a directory) becomes `path` at its end.

    If the block raises, `path` stays as it was. A directory that stood at `path` before is replaced; as that takes two
    renames, a kill between them leaves none. A kill may leave a hidden directory `.<name>.*` beside `path`.

    Raises:
      UserError: The disk is full.
    """
    path = Path(path)
    scratch = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        temporary = scratch / path.name
        yield temporary
        _flush(temporary)
        _rename(temporary, path, scratch / "replaced")
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(
                f"The disk is full: {path} could not be written. Free some space and run again; finished stages are "
                "kept."
            ) from error
        raise
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _rename(temporary: Path, path: Path, replaced: Path) -> None:
    if not (path.is_dir() and temporary.is_dir()):
        os.replace(temporary, path)
        return
    os.replace(path, replaced)
    try:
        os.replace(temporary, path)
    except OSError:
        os.replace(replaced, path)
        raise


def _flush(path: Path) -> None:
    """Bytes reach the disk before the name does; otherwise a power cut leaves an empty file of the right name."""
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a UTF-8 text file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file.

    Raises:
      UserError: The file is missing, cannot be read or is no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"Expected a JSON file at {path}, but there is none.") from error
    except OSError as error:
        raise UserError(f"Expected a JSON file at {path}, but it cannot be read ({error.strerror}).") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: it is not valid JSON ({error}). Delete it and run again.") from error
