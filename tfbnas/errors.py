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


def require_positive(group: str, **values: float) -> None:
    """Raises UserError for the first value that is not positive; its name follows `group` and a dot."""
    for name, value in values.items():
        if not value > 0:
            raise UserError(f"Expected `{_setting(group, name)}` to be positive. Received: {name}={value}.")


def require_range(group: str, least: float, most: float | None, **values: float) -> None:
    """Raises UserError for the first value below `least` or above `most`; its name follows `group` and a dot."""
    for name, value in values.items():
        if value < least or (most is not None and value > most):
            limits = f"at least {least}" if most is None else f"in {least}..{most}"
            raise UserError(f"Expected `{_setting(group, name)}` to be {limits}. Received: {name}={value}.")


def _setting(group: str, name: str) -> str:
    return f"{group}.{name}" if group else name
