"""Errors that a user can cause and mend."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Callable, Iterable

_NEAR = 0.78


class UserError(ValueError):
    """Wrong input: one sentence that names the argument, what was expected, what was received and what to do."""


def exit_code(work: Callable[[], object]) -> int:
    """Does the work of a command line: 0, or 2 where a user can mend what went wrong, which is said in one sentence."""
    try:
        work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            raise
        where = f"{error.filename} ({error.strerror})"
        print(f"error: Expected a path that can be read and written. Received: {where}.", file=sys.stderr)
        return 2
    return 0


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that `name` was meant to be, with a leading space; empty where none is near.

    Near is a slip of the keyboard (`difflib`'s ratio of 0.78 or more, or the same letters in another order), or the
    first word of a longer name. Upper and lower case do not count.
    """
    wanted = str(name).lower()

    def likeness(other: str) -> float:
        other = other.lower()
        slip = 1.0 if sorted(wanted) == sorted(other) else difflib.SequenceMatcher(None, wanted, other).ratio()
        first_word = len(wanted) > 2 and other.startswith(wanted) and not other[len(wanted) :][:1].isalpha()
        return max(slip, _NEAR) if first_word else slip

    best = max(known, key=likeness, default=None)
    return f" Did you mean {best!r}?" if best is not None and likeness(best) >= _NEAR else ""


def require_positive(group: str, **values: float) -> None:
    """Raises UserError for the first value that is not positive and finite; its name follows `group` and a dot."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            wanted = "finite" if value == math.inf else "positive"
            raise UserError(f"Expected `{_setting(group, name)}` to be {wanted}. Received: {name}={value}.")


def require_range(group: str, least: float, most: float | None, **values: float) -> None:
    """Raises UserError for the first value below `least` or above `most`; its name follows `group` and a dot."""
    for name, value in values.items():
        if not (least <= value < math.inf and (most is None or value <= most)):
            limits = f"at least {least}" if most is None else f"in {least}..{most}"
            raise UserError(f"Expected `{_setting(group, name)}` to be {limits}. Received: {name}={value}.")


def _setting(group: str, name: str) -> str:
    return f"{group}.{name}" if group else name
