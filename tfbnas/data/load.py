"""`load`: a data set by name, checked, ready to train on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfbnas.data import decode, shapes
from tfbnas.data.folder import open_folder
from tfbnas.data.locate import QUICK, locate
from tfbnas.data.parts import Opened, Part, maps_do_not_stream, split_names
from tfbnas.data.split import MemorySplit, Split
from tfbnas.data.tfds_directory import open_tfds
from tfbnas.errors import UserError

MEMORY_LIMIT = 2**30
STREAMED_SIZE = 224
_PEEK = 256


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
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    class_names: list[str]
    train: Split
    test: Split
    validation: Split | None = None

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
) -> ImageData:
    """Opens a data set that lies on this machine. Nothing is ever downloaded.

    A data set whose decoded images fit in `memory_limit` is decoded once, completely checked, and kept in memory; a
    larger one is streamed, and only its beginning is checked beforehand.

    Args:
      name: "cifar10-quick" (2 800 + 500 images of CIFAR-10 that ship with tfbnas); "cifar10-shapes" (as many
        images with label maps, synthetic: shapes laid onto those photographs); the name of a TFDS data set, also
        "name/config:version", prepared in `data_dir`; a TFDS directory, or a directory above it; or a folder of images,
        SPLIT/CLASS/*.jpg or *.png, which are read as colour (grey ones are converted, transparent ones refused). A
        TFDS data set whose label is a `tfds.features.LabeledImage` gives label maps, for segmentation.
      data_dir: Where prepared TFDS data sets lie; default: TFDS's own (TFDS_DATA_DIR, ~/tensorflow_datasets).
      image_size: Scale to squares of this side. Default: images of one size stay as they are; data sets of varying
        sizes that are streamed get 224.
      train_split: Its name.
      test_split: Its name; default: the first of test, validation, val, valid that exists (validation for ImageNet).
      validation_split: Name of a split to choose between trained networks with; default: none.
      memory_limit: Bytes of decoded images, all splits together, above which they are streamed; default: 1 GiB. Data
        sets with label maps are not streamed, but refused.

    Returns:
      The data set. Its order of images and all random choices are the same in every process.

    Raises:
      UserError: The data set is unknown, missing, damaged, not for image classification, lacks a split, has an empty
        one, images of different sizes or channels, labels out of range, or label maps that do not fit the images.
    """
    if image_size is not None and image_size < 1:
        raise UserError(
            f"Expected `image_size` (--data.image_size) to be a positive number of pixels. Received: {image_size}."
        )
    splits_wanted = (train_split, test_split, validation_split)
    if name == shapes.NAME:
        opened = _open_shapes(*splits_wanted)
    else:
        source = locate(str(name), data_dir=data_dir)
        opened = (open_folder if isinstance(source, Path) else open_tfds)(source, *splits_wanted)
    names = opened.class_names
    shape, scaled, in_memory = _plan(opened, image_size, memory_limit)
    splits: list[Split] = []
    for part in opened.parts:
        if in_memory:
            images, labels = decode.decode_all(
                part.encoded,
                count=part.count,
                shape=shape,
                image_size=shape[0] if scaled else None,
                classes=len(names),
                describe=part.describe,
                where=part.where,
            )
            splits.append(MemorySplit(images, labels, name=part.where))
        else:
            if not decode.has_maps(part.encoded):
                _check_beginning(part, shape, scaled, len(names))
            splits.append(part.stream(shape, scaled))
    train, test, *validation = splits
    return ImageData(str(name), shape, len(names), names, train, test, validation[0] if validation else None)


def _open_shapes(train_split: str, test_split: str | None, validation_split: str | None) -> Opened:
    names = split_names(list(shapes.SEEDS), train_split, test_split, shapes.NAME, validation_split)
    photographs = load(QUICK, train_split=names[0], test_split=names[1])
    parts = []
    for name, split in zip(names, (photographs.train, photographs.test), strict=True):
        where = f"split {name!r} of {shapes.NAME}"

        def stream(shape: tuple[int, int, int], scaled: bool, where: str = where) -> Split:
            raise maps_do_not_stream(where)

        pixels = np.rint((split.images(split.size)[0] + 1) * 127.5).astype(np.uint8)
        encoded = shapes.encoded(*shapes.make_shapes(pixels, seed=shapes.SEEDS[name]))
        parts.append(Part(where, split.size, encoded, lambda number: f"Image number {number} (from 0)", stream))
    return Opened(photographs.input_shape, shapes.CLASS_NAMES, tuple(parts))


def _plan(opened: Opened, image_size: int | None, memory_limit: int) -> tuple[tuple[int, int, int], bool, bool]:
    """Input shape, whether images are scaled to it, whether they are kept in memory."""
    height, width, channels = opened.shape
    parts = opened.parts
    count, per_pixel = sum(part.count for part in parts), channels + decode.has_maps(parts[0].encoded)
    own: tuple[int, int] | None = None
    if height is not None and width is not None:
        own = (height, width)
    elif image_size is None:
        sizes = {size for part in parts for size in _sizes(part, channels, 64)}
        first = next(iter(_sizes(parts[0], channels, 1)))
        if len(sizes) == 1 or count * STREAMED_SIZE**2 * per_pixel <= memory_limit:
            # Where they do differ, decoding finds it and says which image.
            own = first
    if image_size is None and own is not None:
        shape, scaled = (*own, channels), False
    else:
        size = image_size or STREAMED_SIZE
        shape, scaled = (size, size, channels), own != (size, size)
    return shape, scaled, count * shape[0] * shape[1] * per_pixel <= memory_limit


def _sizes(part: Part, channels: int, n: int) -> Iterable[tuple[int, int]]:
    for number, (file, _) in enumerate(_read(part, n)):
        try:
            yield tuple(decode.decode(file, channels).shape[:2])
        except tf.errors.OpError as error:
            problem = decode.image_problem(file, (0, 0, channels), None)
            raise UserError(f"{part.describe(number)}, in {part.where}, {problem}") from error


def _read(part: Part, n: int) -> Iterable[tuple[tf.Tensor, tf.Tensor]]:
    try:
        yield from part.encoded.take(n)
    except tf.errors.OpError as error:
        raise UserError(
            f"{part.where} cannot be read: {error.message.splitlines()[0][:300]}. The files are damaged or missing; "
            "make the data set again."
        ) from error


def _check_beginning(part: Part, shape: tuple[int, int, int], scaled: bool, classes: int) -> None:
    labels = []
    for number, (file, label) in enumerate(_read(part, _PEEK)):
        problem = decode.image_problem(file, shape, shape[0] if scaled else None)
        if problem:
            raise UserError(f"{part.describe(number)}, in {part.where}, {problem}")
        labels.append(int(label))
    decode.check_labels(np.array(labels), classes, part.describe, part.where)
