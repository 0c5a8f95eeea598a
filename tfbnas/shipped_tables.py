"""The latency tables that come with tfbnas, by name. TensorFlow is not imported here."""

from __future__ import annotations

import os
from pathlib import Path

from tfbnas.errors import UserError, nearest

_DIRECTORY = Path(__file__).parent / "costs" / "latency_tables"


def devices() -> list[str]:
    """Names of the tables that come with tfbnas."""
    return sorted(path.stem for path in _DIRECTORY.glob("*.json"))


def table_file(device: str | os.PathLike, *, argument: str) -> Path:
    """The file of a table.

    Args:
      device: Name of a shipped table, or path of a JSON file.
      argument: What the message calls it.

    Raises:
      UserError: There is no such table.
    """
    shipped = _DIRECTORY / f"{device}.json"
    path = shipped if shipped.is_file() else Path(str(device))
    if not path.is_file():
        known = devices()
        raise UserError(
            f"Expected `{argument}` to be one of {known} or a file that tools/build_latency_table.py wrote. Received: "
            f"{str(device)!r}.{nearest(str(device), known)}"
        )
    return path
