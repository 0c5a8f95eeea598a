"""The closed choices of a network: what a search finds, and all that is needed to build the plain network."""

from __future__ import annotations

import hashlib
import json
import operator
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tfbnas.errors import UserError
from tfbnas.files import read_json, write_json
from tfbnas.serialization import plain

FORMAT = 2
"""Format 1 had `options["binary"]`, true or false, where there is `options["binarisation"]` now."""


@dataclass(frozen=True)
class Architecture:
    """Data that rebuild a plain network with no search code imported.

    Attributes:
      method: How the choices were found, for instance "dms" or "uniform". Not part of the network.
      network: Name of the network family, a key of `tfbnas.networks`, or "package.module:function" of a builder.
      choices: Name of each choice and its closed value (JSON). A choice left out takes the family's default.
      input_shape: Height, width, channels of the images.
      classes: Number of classes.
      options: Further arguments of the family's builder (JSON).

    Raises:
      UserError: A value is no JSON, or `input_shape` or `classes` cannot be those of images.
    """

    method: str
    network: str
    choices: Mapping[str, Any]
    input_shape: tuple[int, int, int] = (32, 32, 3)
    classes: int = 10
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # As JSON holds them, so that what is loaded equals what was saved; numpy's numbers become Python's.
        for name in ("choices", "options"):
            value = getattr(self, name)
            try:
                translated = plain(value)
            except (TypeError, ValueError) as error:
                raise UserError(f"Expected `{name}` to hold JSON values. Received: {value!r} ({error}).") from error
            if not isinstance(translated, dict):
                raise UserError(f"Expected `{name}` to map names to values. Received: {value!r}.")
            object.__setattr__(self, name, translated)
        object.__setattr__(self, "input_shape", _positive("input_shape", self.input_shape, count=3))
        object.__setattr__(self, "classes", _positive("classes", [self.classes], count=1)[0])

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits, equal for equal content, whatever method found it.

        A choice left out and the same choice written out with the family's default are different content.
        """
        content = {key: value for key, value in self.to_dict().items() if key not in ("method", "format")}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self), "input_shape": list(self.input_shape)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Architecture:
        """Inverse of `to_dict`; reads format 1, too.

        Raises:
          UserError: A key is missing or unknown, or the format is newer than this version of tfbnas.
        """
        if not isinstance(content, Mapping):
            raise UserError(
                f"Expected what `to_dict` gave. Received: {content!r}; a file is read by Architecture.load."
            )
        content = dict(content)
        version = content.pop("format", None)
        if type(version) is not int or not 1 <= version <= FORMAT:
            raise UserError(
                f"Expected an architecture of format {FORMAT} or older. Received: format={version!r}. Update tfbnas."
            )
        try:
            architecture = cls(**content)
        except TypeError as error:
            raise UserError(f"Expected the keys of an Architecture. Received: {sorted(content)} ({error}).") from error
        binary = architecture.options.get("binary")
        if version > 1 or not isinstance(binary, bool):
            return architecture
        options = {name: value for name, value in architecture.options.items() if name != "binary"}
        return replace(architecture, options={**options, "binarisation": "zero_alpha" if binary else "float"})

    def save(self, path: str | os.PathLike) -> None:
        """Writes JSON, whole or not at all."""
        write_json(path, {"id": self.id, **self.to_dict()})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Architecture:
        """Reads what `save` wrote.

        Raises:
          UserError: The file is missing, damaged or of a newer format, or was edited without its id.
        """
        content = read_json(path)
        if not isinstance(content, dict):
            raise UserError(f"Expected an architecture in {path}. Received: {type(content).__name__}.")
        expected = content.pop("id", None)
        architecture = cls.from_dict(content)
        found = replace(architecture, options=content.get("options", {})).id  # as it was written, in its own format
        if expected is not None and expected != found:
            raise UserError(
                f"{path} does not hold the architecture that its id {expected} names (found {found}); "
                "remove the line with the id if you edited it on purpose."
            )
        return architecture


def require_architecture(value: Any) -> None:
    """Raises UserError for anything else, with what gives an Architecture of it."""
    if isinstance(value, Architecture):
        return
    remedy = "Architecture.load(path) reads one"
    if isinstance(value, Mapping):
        remedy = "take Architecture.from_dict(content)"
    elif callable(getattr(value, "architecture", None)):
        remedy = "take search.architecture()"
    raise UserError(f"Expected an Architecture. Received: {value!r}; {remedy}.")


def _positive(name: str, values: Any, *, count: int) -> tuple[int, ...]:
    try:
        numbers = tuple(operator.index(value) for value in values)
    except TypeError:
        numbers = ()
    if len(numbers) != count or min(numbers) < 1:
        shown = values[0] if count == 1 else values
        raise UserError(
            f"Expected `{name}` to be {'a positive integer' if count == 1 else f'{count} positive integers'}. "
            f"Received: {name}={shown!r}."
        )
    return numbers
