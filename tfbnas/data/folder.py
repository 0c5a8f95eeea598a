"""Folders of images, in the layout of tfds.ImageFolder: SPLIT/CLASS/*.jpg or *.png."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.data.locate import is_image
from tfbnas.data.parts import Opened, Part, split_names
from tfbnas.data.streams import FileSplit, StreamSplit
from tfbnas.errors import UserError


@dataclass(frozen=True)
class Listing:
    """The image files of one split: paths and class numbers, sorted by class and name."""

    paths: list[str]
    labels: np.ndarray


def list_images(root: Path, splits: tuple[str, ...]) -> tuple[Any, ...]:
    """Lists the images of two or more splits.

    Args:
      root: The folder that holds the splits.
      splits: Names of the folders, that for training first.

    Returns:
      Class names, sorted; a Listing of each split.

    Raises:
      UserError: A class folder is empty or is missing in one of the splits, or a file is no image.
    """
    names = [_folders(root / split) for split in splits]
    for split, mine in zip(splits, names, strict=True):
        missing = sorted(set().union(*names) - set(mine))
        if missing:
            raise UserError(
                f"Expected the same class folders in {' and '.join(str(root / name) for name in splits)}. "
                f"Received: no {missing[0]!r} in {split!r} (missing there: {len(missing)}). "
                "Add images, or remove the class."
            )
    if not names[0]:
        raise UserError(f"{root / splits[0]} holds no class folders. Expected SPLIT/CLASS/*.jpg or *.png.")
    return names[0], *(_list(root / split, names[0]) for split in splits)


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())


def _list(split: Path, names: list[str]) -> Listing:
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        files = sorted(entry.path for entry in os.scandir(split / name) if is_image(entry))
        if not files:
            raise UserError(
                f"The class folder {split / name} holds no images (*.jpg, *.jpeg, *.png). "
                "Add some, or remove the class."
            )
        for file in files:
            _check_signature(file)
        paths += files
        labels += [label] * len(files)
    return Listing(paths, np.array(labels, np.int32))


def _check_signature(file: str) -> None:
    """Finds empty files and files of another kind; cheap enough for a million of them."""
    with open(file, "rb") as stream:
        head = stream.read(8)
    if not head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        what = "is empty" if not head else "does not begin like a JPEG or PNG file"
        raise UserError(f"The image file {file} is damaged: it {what}. Replace or delete it.")


def open_folder(root: Path, train_split: str, test_split: str | None, validation_split: str | None = None) -> Opened:
    """Opens a folder of images; arguments and errors as in `tfbnas.data.load`."""
    available = [entry.name for entry in os.scandir(root) if entry.is_dir()]
    splits = split_names(available, train_split, test_split, f"the folder {root}", validation_split)
    names, *listings = list_images(root, splits)
    parts = tuple(_part(root / split, listing) for split, listing in zip(splits, listings, strict=True))
    return Opened((None, None, 3), names, parts)


def _part(where: Path, listing: Listing) -> Part:
    def stream(shape: tuple[int, int, int], scaled: bool) -> StreamSplit:
        return FileSplit(listing.paths, listing.labels, name=str(where), image_shape=shape, scaled=scaled)

    return Part(
        where=str(where),
        count=len(listing.paths),
        encoded=tf.data.Dataset.from_tensor_slices((listing.paths, listing.labels)).map(
            lambda path, label: (tf.io.read_file(path), label), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        ),
        describe=lambda number: f"The image file {listing.paths[number]}",
        contents=lambda: (
            f"{os.path.basename(os.path.dirname(path))}/{os.path.basename(path)} {os.path.getsize(path)} {label}"
            for path, label in zip(listing.paths, listing.labels, strict=True)
        ),
        stream=stream,
    )
