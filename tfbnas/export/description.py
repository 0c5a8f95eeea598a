"""What an exported model takes and what it answers, as it travels with each of its files.

TensorFlow is not imported here.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from tfbnas.errors import UserError

LABELS, INPUT = "labels.txt", "input.json"
RANGES = {"pixels": "0..255", "normalised": "-1..1"}
_COLOURS = {1: "grey", 3: "RGB"}


@dataclass(frozen=True)
class Description:
    """What an exported model takes and what it answers.

    Attributes:
      input: "pixels" for values 0..255, "normalised" for -1..1; None where nothing is known of them.
      shape: Height, width and channels of the images; None for a size that is not fixed.
      class_names: Of the classes, in the order of the outputs; empty where they are not known.
    """

    input: str | None = None
    shape: tuple[int | None, ...] = ()
    class_names: tuple[str, ...] = ()

    @property
    def colours(self) -> str:
        """What the channels are."""
        return _COLOURS[self.shape[2] or 3]

    def to_json(self) -> dict[str, Any]:
        """Entries of export.json: "input" and "class_names", each where it is known."""
        found: dict[str, Any] = {}
        if self.input is not None:
            height, width = self.shape[:2]
            found["input"] = {"range": RANGES[self.input], "channels": self.colours, "height": height, "width": width}
            if height and width:
                found["input"]["resize"] = f"scaled until it covers {width}x{height} pixels, middle cut out"
        if self.class_names:
            found["class_names"] = list(self.class_names)
        return found

    def files(self) -> dict[str, str]:
        """What goes into the model's files, by name: labels.txt, one class a line, and input.json."""
        found = {}
        if self.class_names:
            found[LABELS] = "".join(f"{name}\n" for name in self.class_names)
        if self.input is not None:
            found[INPUT] = json.dumps(self.to_json()["input"], indent=2) + "\n"
        return found


def check_class_names(names: Sequence[str], classes: int) -> tuple[str, ...]:
    """The names, if there is one for each class and each fits on a line.

    Raises:
      UserError: They do not.
    """
    names = tuple(str(name) for name in names)
    if len(names) != classes:
        raise UserError(
            f"Expected `class_names` to be the names of the model's {classes} classes. Received: {len(names)}; give "
            "one for each output, in their order."
        )
    for name in names:
        if name.splitlines() != [name]:
            raise UserError(
                f"Expected `class_names` without line breaks, none empty. Received: {name!r}; labels.txt holds one a "
                "line."
            )
    return names


def append(archive: str | os.PathLike | IO[bytes], files: Mapping[str, str]) -> None:
    """Puts text files into a zip archive, or behind another file, which becomes one; the same bytes each time."""
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as opened:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)  # dated 1980
            entry.external_attr = 0o644 << 16  # what unpacks it may read it
            opened.writestr(entry, text)
