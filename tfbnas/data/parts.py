"""What a data set is before its images are decoded, wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import tensorflow as tf

from tfbnas.data.streams import StreamSplit
from tfbnas.errors import UserError, nearest

_TEST_NAMES = ("test", "validation", "val", "valid")


@dataclass(frozen=True)
class Part:
    """One split.

    Attributes:
      where: Its name, for messages.
      count: Number of images.
      encoded: Pairs of a scalar string (the file) and a scalar int (the label) or another scalar string (the PNG file
        of a label map), in a fixed order.
      describe: Name of image number i, for messages.
      contents: A line for each file of which it is made: name within the data set, bytes, and label or images.
      stream: From image shape and whether images are scaled to it, the split that reads while training.
    """

    where: str
    count: int
    encoded: tf.data.Dataset
    describe: Callable[[int], str]
    contents: Callable[[], Iterable[str]]
    stream: Callable[[tuple[int, int, int], bool], StreamSplit]


@dataclass(frozen=True)
class Opened:
    """A data set whose images have not been looked at.

    Attributes:
      shape: (height, width, channels) as declared; None for a size that is not.
      class_names: One for each class.
      parts: Training, test and, where it was asked for, validation.
    """

    shape: tuple[int | None, int | None, int]
    class_names: list[str]
    parts: tuple[Part, ...]


def maps_do_not_stream(where: str) -> UserError:
    """What to say when a data set with label maps is larger than the memory limit."""
    return UserError(
        f"Expected a data set with label maps to fit in memory. Received: {where}, above the limit; raise it "
        "(--data.memory_limit BYTES) or scale the images (--data.image_size)."
    )


def split_names(
    available: list[str], train: str, test: str | None, where: str, validation: str | None = None
) -> tuple[str, ...]:
    usual = next((name for name in _TEST_NAMES if name in available), _TEST_NAMES[0])
    chosen = usual if test is None else test
    for argument, name in (("train_split", train), ("test_split", chosen), ("validation_split", validation)):
        if name is not None and name not in available:
            raise UserError(
                f"Expected `{argument}` (--data.{argument}) to be a split of {where}. Received: {name!r}; it has "
                f"{', '.join(sorted(available)) or 'none'}.{nearest(name, available)}"
            )
    if train == chosen:
        raise UserError(f"Expected different splits for training and test of {where}. Received: {train!r} for both.")
    if validation is None:
        return train, chosen
    if validation in (train, chosen):
        raise UserError(
            f"Expected `validation_split` (--data.validation_split) to differ from the splits for training and test of "
            f"{where}. Received: {validation!r}."
        )
    return train, chosen, validation
