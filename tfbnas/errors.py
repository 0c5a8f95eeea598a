"""Errors that a user can cause and mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input: one sentence that names the argument, what was expected, what was received and what to do."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name most like `name`, with a leading space, or an empty string."""
    matches = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]!r}?" if matches else ""
