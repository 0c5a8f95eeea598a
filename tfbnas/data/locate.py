"""From the name of a data set to the TFDS directory or the folder of images that holds it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from tfbnas.data.offline import tfds
from tfbnas.data.shapes import NAME as SHAPES
from tfbnas.errors import UserError, nearest

S = TypeVar("S")

QUICK = "cifar10-quick"
PART_LABELS = "part_labels"
_BUNDLED = Path(__file__).parent / "bundled" / "cifar10_quick"
_MANIFEST = "dataset_info.json"
_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")

_HELP = (
    f"Use the images that tfbnas carries (--data.name {QUICK}), or make the directory of CIFAR-10 or CIFAR-100 with "
    "tools/prepare_cifar.py and give it (--data.name DIRECTORY)."
)
_PREPARE_PART_LABELS = "python tools/prepare_part_labels.py DIRECTORY"


def locate(name: str, *, data_dir: str | os.PathLike | None = None) -> Any:
    """Finds a data set on this machine.

    Args:
      name: See `tfbnas.data.load`.
      data_dir: Where the prepared TFDS data sets lie; default: TFDS's own (TFDS_DATA_DIR, ~/tensorflow_datasets).

    Returns:
      A read-only TFDS builder, or the Path of a folder of images.

    Raises:
      UserError: There is no such data set, or not on this machine.
    """
    if name == QUICK:
        return from_directory(_BUNDLED)
    if _names_data_set(name, data_dir):
        return _prepared(name, data_dir)
    path = Path(name).expanduser()
    if not _looks_like_path(name) and not path.exists():
        raise UserError(
            f"Expected `name` (--data.name) to be {QUICK!r}, {SHAPES!r}, a TFDS data set, or a directory. "
            f"Received: {name!r}, which is none of them.{nearest(name, [QUICK, SHAPES, *_known()])}"
        )
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise UserError(f"Expected `name` (--data.name) to be a directory. Received: {name!r}, which {what}. {_HELP}")
    return from_directory(path)


def absolute(settings: S) -> S:
    """The settings of a data set with absolute paths, so that a run goes on from any directory.

    Args:
      settings: A dataclass with the fields `name` and `data_dir`.

    Returns:
      A copy. A `name` that is no path stays as it is.
    """
    name, data_dir = settings.name, settings.data_dir  # type: ignore[attr-defined]
    if name not in (QUICK, SHAPES) and not _names_data_set(name, data_dir):
        path = os.path.abspath(os.path.expanduser(name))
        name = path if _looks_like_path(name) or os.path.exists(path) else name
    if data_dir is not None:
        data_dir = os.path.abspath(os.path.expanduser(data_dir))
    return replace(settings, name=name, data_dir=data_dir)  # type: ignore[type-var]


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "~")) or os.path.isabs(name)


def _names_data_set(name: str, data_dir: str | os.PathLike | None) -> bool:
    """Whether a name is one of TFDS, or of a data set that lies under it in data_dir beside those of TFDS."""
    bare = name.split(":")[0].split("/")[0]
    if _looks_like_path(name) or not bare:
        return False
    return bare in _known() or (data_dir is not None and (Path(data_dir).expanduser() / bare).is_dir())


def _known() -> list[str]:
    return [*tfds().list_builders(with_community_datasets=False), PART_LABELS]


def _prepared(name: str, data_dir: str | os.PathLike | None) -> Any:
    """A TFDS data set by name; never downloaded, so that nothing heavy starts unasked."""
    from tensorflow_datasets.core import read_only_builder, registered

    directory = None if data_dir is None else os.path.expanduser(data_dir)
    if directory is not None and not os.path.isdir(directory):
        raise UserError(
            f"Expected `data_dir` (--data.data_dir) to be a directory. Received: {str(data_dir)!r}. {_HELP}"
        )
    try:
        return read_only_builder.builder_from_files(name, data_dir=directory)
    except registered.DatasetNotFoundError as error:
        where = directory or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
        raise UserError(
            f"The data set {name!r} has not been prepared in {where}, and tfbnas downloads nothing by itself. "
            + (f"{_PREPARE_PART_LABELS} makes it from the official archives. " if name == PART_LABELS else f"{_HELP} ")
            + "Other data sets: tfds.load prepares them; name their place with --data.data_dir."
            + (f" For the directory ./{name} write --data.name ./{name}." if Path(name).is_dir() else "")
        ) from error
    except Exception as error:  # TFDS raises whatever its parsers raise
        raise UserError(f"The data set {name!r} in {directory} cannot be opened: {_sentence(error)}") from error


def from_directory(path: Path) -> Any:
    """A TFDS directory (also one or more levels above it), or a folder of images.

    Raises:
      UserError: The directory is neither, or holds several data sets.
    """
    found = _manifests(path)
    if not found:
        if (path / "parts_train.txt").is_file():
            raise UserError(
                f"{path} holds Part Labels in its official layout. Make a TFDS directory of it with "
                f"{_PREPARE_PART_LABELS}, and give that (--data.name {PART_LABELS})."
            )
        if is_image_folder(path):
            return path
        raise UserError(
            f"{path} is neither a TFDS directory (no {_MANIFEST} in it or below) nor a folder of images "
            f"(SPLIT/CLASS/*.jpg or *.png, with the splits train and test). {_HELP}"
        )
    parents = {directory.parent for directory in found}
    if len(found) > 1 and (len(parents) > 1 or path in found):
        names = ", ".join(str(directory) for directory in found[:5])
        raise UserError(f"{path} holds {len(found)} data sets. Name one of them: {names}.")
    # Several versions of one data set: the newest.
    directory = max(found, key=_version)
    try:
        return tfds().builder_from_directory(directory)
    except Exception as error:  # TFDS raises whatever its parsers raise: protobuf, json, its own
        raise UserError(
            f"The TFDS directory {directory} cannot be opened: {_sentence(error)} Make it again, with TFDS 4 or newer."
        ) from error


def _manifests(path: Path, levels: int = 3) -> list[Path]:
    if (path / _MANIFEST).is_file():
        return [path]
    if not levels:
        return []
    # TFDS leaves folders called *.incompleteXYZ behind when it is interrupted.
    below = sorted(p for p in path.iterdir() if p.is_dir() and ".incomplete" not in p.name)
    # A folder of photographs may have a thousand classes; data sets of TFDS lie in few.
    return [found for directory in below[:200] for found in _manifests(directory, levels - 1)]


def _version(directory: Path) -> tuple[int, ...]:
    numbers = directory.name.split(".")
    return tuple(int(n) for n in numbers) if all(n.isdigit() for n in numbers) else (-1,)


def is_image_folder(path: Path) -> bool:
    """Whether there is a folder in a folder: what is wrong with them in detail is said when they are read."""
    return any(inner.is_dir() for outer in path.iterdir() if outer.is_dir() for inner in outer.iterdir())


def is_image(path: os.DirEntry) -> bool:
    """By the ending of its name, as tfds.ImageFolder decides."""
    return path.name.lower().endswith(_IMAGE_ENDINGS) and path.is_file()


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return text if text.endswith(".") else text + "."
