"""Which images a run began with: names, sizes and labels, no contents, so that a million of them take seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfbnas.data.parts import Part
from tfbnas.data.split import Split
from tfbnas.errors import UserError

_NAMED = 4


def fingerprint(class_names: Iterable[str], parts: Mapping[str, Part], splits: Mapping[str, Split]) -> dict[str, Any]:
    """A data set as JSON: "hash", and for each of its "splits" its own "hash", "images" and "counts" (None: not known).

    Args:
      class_names: In the order of the labels.
      parts: By role ("train", "test", "validation"): where the images come from.
      splits: Likewise: the images.

    Returns:
      The same in every directory, on any machine, in memory and streamed, except that "counts" may be None.
    """
    names = list(class_names)
    found = {}
    for role, part in parts.items():
        labels = None if splits[role].label_shape else getattr(splits[role], "labels", None)
        counts = None if labels is None else np.bincount(labels, minlength=len(names)).tolist()
        found[role] = {
            "hash": _hash(part.contents()),
            "images": part.count,
            "counts": None if counts is None else dict(zip(names, counts, strict=True)),
        }
    return {"hash": _hash([*names, *(f"{role} {entry['hash']}" for role, entry in found.items())]), "splits": found}


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What has changed between two fingerprints, in words; empty if nothing has."""
    said = []
    for role in dict.fromkeys([*before["splits"], *now["splits"]]):
        old, new = (entry["splits"].get(role) for entry in (before, now))
        if old is None or new is None:
            said.append(f"{role}: {'new' if old is None else 'missing'}")
        elif changes := _changes(old, new):
            said.append(f"{role}: {', '.join(changes)}")
    if not said and before["hash"] != now["hash"]:
        said.append("other class names")
    return "; ".join(said)


def check_unchanged(before: Mapping[str, Any], now: Mapping[str, Any], *, name: str) -> None:
    """Refuses to go on with other images than those with which a run began.

    Args:
      before: Fingerprint that the run has stored.
      now: Fingerprint of what the name leads to now.
      name: Of the data set, for the message.

    Raises:
      UserError: They differ; says in what.
    """
    if changed := difference(before, now):
        raise UserError(
            f"Expected the images of {name} with which the run began. Received: other ones ({changed}). "
            "Bring them back, or begin anew with another --run_dir."
        )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    if old == new:
        return []
    said = []
    if more := new["images"] - old["images"]:
        said.append(_more(more, " image" if abs(more) == 1 else " images"))
    before, now = old["counts"] or {}, new["counts"] or {}
    if before and now:
        counts = {name: now.get(name, 0) - before.get(name, 0) for name in {**before, **now}}
        changed = [f"class {name!r} {_more(more)}" for name, more in counts.items() if more]
        said += changed[:_NAMED] + ([f"and {len(changed) - _NAMED} more classes"] if len(changed) > _NAMED else [])
    return said or (["files of other names or sizes"] if old["hash"] != new["hash"] else [])


def _more(number: int, what: str = "") -> str:
    return f"{abs(number)}{what} {'more' if number > 0 else 'fewer'}"


def _hash(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()[:32]
