"""`load`: a data set by name, checked, ready to train on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.data import decode, shapes
from tfbnas.data.fingerprint import fingerprint
from tfbnas.data.folder import open_folder
from tfbnas.data.locate import QUICK, locate
from tfbnas.data.parts import Opened, Part, maps_do_not_stream, split_names
from tfbnas.data.split import MemorySplit, Split
from tfbnas.data.streams import StreamSplit
from tfbnas.data.tfds_directory import open_tfds
from tfbnas.errors import UserError
from tfbnas.hints import has_type

MEMORY_LIMIT = 2**30
_SAMPLE = 256


@dataclass(frozen=True)
class ImageData:
    """A data set for the classification of images, or of the pixels of images.

    Attributes:
      name: As given to `load`.
      input_shape: (height, width, channels).
      classes: Number of classes; labels are 0..classes - 1.
      class_names: One for each class.
      train: Images for weights and architecture (see `Split.halves`).
      test: Images for nothing but the final accuracy.
      validation: Images to choose between trained networks with; None where none were held out.
      fingerprint: Of the whole data set, before anything was held out; see `tfbnas.data.fingerprint`.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    class_names: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    fingerprint: dict[str, Any] = field(default_factory=dict)

    @property
    def segmentation(self) -> bool:
        """Whether every pixel has a class."""
        return bool(self.train.label_shape)

    def hold_out(self, n: int, *, seed: int) -> ImageData:
        """The data set with `n` of the training images, equally many of each class, as validation.

        Raises:
          UserError: `n` is not in 1..size - 1 of the training images.
        """
        train, validation = self.train.hold_out(n, seed=seed)
        return replace(self, train=train, validation=validation)


def load(
    name: str = QUICK,
    *,
    data_dir: str | os.PathLike | None = None,
    image_size: int | None = None,
    train_split: str = "train",
    test_split: str | None = None,
    validation_split: str | None = None,
    memory_limit: int = MEMORY_LIMIT,
    padding: int | None = None,
) -> ImageData:
    """Opens a data set that lies on this machine. Nothing is ever downloaded.

    A data set whose decoded images fit in `memory_limit` is decoded once, completely checked, and kept in memory; a
    larger one is streamed, and a sample of all its images is checked beforehand.

    Args:
      name: "cifar10-quick" (2 800 + 2 000 images of CIFAR-10 that ship with tfbnas); "cifar10-shapes" (as many
        images with label maps, synthetic: shapes laid onto those photographs); the name of a TFDS data set, also
        "name/config:version", prepared in `data_dir`; a TFDS directory, or a directory above it; or a folder of images,
        SPLIT/CLASS/*.jpg or *.png, which are read as colour (grey ones are converted, transparent ones refused). A
        TFDS data set whose label is a `tfds.features.LabeledImage` gives label maps, for segmentation.
      data_dir: Where prepared TFDS data sets lie; default: TFDS's own (TFDS_DATA_DIR, ~/tensorflow_datasets).
      image_size: Scale to squares of this side. Default: images of one size stay as they are, and those of several
        are refused.
      train_split: Its name.
      test_split: Its name; default: the first of test, validation, val, valid that exists (validation for ImageNet).
      validation_split: Name of a split to choose between trained networks with; default: none.
      memory_limit: Bytes of decoded images, all splits together, above which they are streamed; default: 1 GiB. Data
        sets with label maps are not streamed, but refused.
      padding: Pixels of grey added on each side before the random crop of training; 0 crops nothing. Default: one
        eighth of the shorter side, 4 of 32.

    Returns:
      The data set. Its order of images and all random choices are the same in every process.

    Raises:
      UserError: The data set is unknown, missing, damaged, not for image classification, lacks a split, has an empty
        one, images of different sizes or channels, labels out of range, or label maps that do not fit the images.
    """
    for argument, value, least in (
        ("image_size", image_size, 1),
        ("padding", padding, 0),
        ("memory_limit", memory_limit, 0),
    ):
        if value is not None and not (has_type(value, int) and value >= least):
            unit = "bytes" if argument == "memory_limit" else "pixels"
            raise UserError(
                f"Expected `{argument}` (--data.{argument}) to be a number of {unit} of at least {least}. "
                f"Received: {value!r}."
            )
    splits_wanted = (train_split, test_split, validation_split)
    if name == shapes.NAME:
        opened = _open_shapes(*splits_wanted)
    else:
        source = locate(str(name), data_dir=data_dir)
        opened = (open_folder if isinstance(source, Path) else open_tfds)(source, *splits_wanted)
    names = opened.class_names
    if len(names) < 2:
        raise UserError(
            f"Expected a data set of at least two classes. Received: {opened.parts[0].where}, with "
            f"{len(names)} ({', '.join(names)}). Add a folder or label for each further class."
        )
    shape, scaled, in_memory = _plan(opened, image_size, memory_limit)
    splits: list[Split] = []
    for part in opened.parts:
        split = _in_memory(part, shape, scaled, len(names)) if in_memory else _streamed(part, shape, scaled, len(names))
        split.classes, split.padding = len(names), padding
        splits.append(split)
    roles = dict(zip(("train", "test", "validation"), splits, strict=False))
    parts = dict(zip(roles, opened.parts, strict=True))
    return ImageData(str(name), shape, len(names), tuple(names), **roles, fingerprint=fingerprint(names, parts, roles))


def _open_shapes(train_split: str, test_split: str | None, validation_split: str | None) -> Opened:
    names = split_names(list(shapes.SEEDS), train_split, test_split, shapes.NAME, validation_split)
    photographs = load(QUICK, train_split=names[0], test_split=names[1])
    parts = []
    for name, split in zip(names, (photographs.train, photographs.test), strict=True):
        where = f"split {name!r} of {shapes.NAME}"

        def stream(shape: tuple[int, int, int], scaled: bool, where: str = where) -> StreamSplit:
            raise maps_do_not_stream(where)

        pixels = np.rint((split.images(split.size)[0] + 1) * 127.5).astype(np.uint8)
        encoded = shapes.encoded(*shapes.make_shapes(pixels, seed=shapes.SEEDS[name]))
        lines = [f"{where} {split.size}"]
        parts.append(
            Part(where, split.size, encoded, lambda number: f"Image number {number} (from 0)", lines.copy, stream)
        )
    return Opened(photographs.input_shape, shapes.CLASS_NAMES, tuple(parts))


def _plan(opened: Opened, image_size: int | None, memory_limit: int) -> tuple[tuple[int, int, int], bool, bool]:
    """Input shape, whether images are scaled to it, whether they are kept in memory."""
    height, width, channels = opened.shape
    count, per_pixel = sum(part.count for part in opened.parts), channels + decode.has_maps(opened.parts[0].encoded)
    if image_size is not None:
        shape, scaled = (image_size, image_size, channels), (height, width) != (image_size, image_size)
    elif height is None or width is None:
        # Where others differ from the first one, checking finds it and says which image.
        shape, scaled = (*_first_size(opened.parts[0], channels), channels), False
    else:
        shape, scaled = (height, width, channels), False
    return shape, scaled, count * shape[0] * shape[1] * per_pixel <= memory_limit


def _first_size(part: Part, channels: int) -> tuple[int, int]:
    with _reading(part):
        file, _ = next(iter(part.encoded.take(1)))
    try:
        height, width, _ = decode.decode(file, channels).shape
    except tf.errors.OpError as error:
        problem = decode.image_problem(file, (0, 0, channels), None)
        raise UserError(f"{part.describe(0)}, in {part.where}, {problem}") from error
    return height, width


def _in_memory(part: Part, shape: tuple[int, int, int], scaled: bool, classes: int) -> Split:
    images, labels = decode.decode_all(
        part.encoded,
        count=part.count,
        shape=shape,
        image_size=shape[0] if scaled else None,
        classes=classes,
        describe=part.describe,
        where=part.where,
    )
    return MemorySplit(images, labels, name=part.where)


def _streamed(part: Part, shape: tuple[int, int, int], scaled: bool, classes: int) -> Split:
    split = part.stream(shape, scaled)
    positions, labels = [], []
    with _reading(part):
        for number, file, label in split.sample(_SAMPLE):
            problem = decode.image_problem(file, shape, shape[0] if scaled else None)
            if problem:
                raise UserError(f"{part.describe(number)}, in {part.where}, {problem}")
            positions.append(number)
            labels.append(int(label))
    decode.check_labels(np.array(labels), classes, lambda i: part.describe(positions[i]), part.where)
    return split


@contextlib.contextmanager
def _reading(part: Part) -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        raise UserError(
            f"{part.where} cannot be read: {error.message.splitlines()[0][:300]}. The files are damaged or missing; "
            "make the data set again."
        ) from error
