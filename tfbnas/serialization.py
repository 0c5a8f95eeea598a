"""Settings and results as JSON values and as YAML."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tfbnas.errors import UserError


def plain(value: Any) -> Any:
    """The same value in JSON's types: numpy and TensorFlow numbers and arrays, tuples and paths are translated.

    Raises:
      TypeError: JSON cannot hold the value.
    """
    return json.loads(json.dumps(value, default=_translate))


def _translate(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "numpy"):
        value = value.numpy()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"Expected a value that JSON can hold. Received: {value!r} of type {type(value).__name__}.")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-4 as a string, because it lacks a dot; nobody who writes it means that."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+"),
    list("-+.0123456789"),
)


def load_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a YAML file of settings; an empty one gives `{}`.

    Raises:
      UserError: The file is missing, cannot be read, is no YAML, or holds something else than settings.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise UserError(f"Expected a YAML file of settings. Received: {str(path)!r} ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise UserError(
            f"{path} is damaged: it is not valid YAML{place} ({problem}). Mend it, or give another file."
        ) from error
    if content is not None and not isinstance(content, dict):
        raise UserError(
            f"{path} is damaged: expected settings (lines of `name: value`), received a {type(content).__name__}. "
            "Mend it, or give another file."
        )
    return content or {}


def dump_yaml(settings: Mapping[str, Any]) -> str:
    """Settings as YAML, in the order given."""
    return yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True)
