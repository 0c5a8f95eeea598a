"""What a data set is before its images are decoded, wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from tfbnas.data.split import Split
from tfbnas.errors import UserError, nearest

_TEST_NAMES = ("test", "validation", "val", "valid")


@dataclass(frozen=True)
class Part:
    """One split.

    Attributes:
      where: Its name, for messages.
      count: Number of images.
      encoded: Pairs of a scalar string (the file) and a scalar int (the label), in a fixed order.
      describe: Name of image number i, for messages.
      stream: From image shape and whether images are scaled to it, the split that reads while training.
    """

    where: str
    count: int
    encoded: tf.data.Dataset
    describe: Callable[[int], str]
    stream: Callable[[tuple[int, int, int], bool], Split]


@dataclass(frozen=True)
class Opened:
    """A data set whose images have not been looked at.

    Attributes:
      shape: (height, width, channels) as declared; None for a size that is not.
      class_names: One for each class.
      parts: Training and test.
    """

    shape: tuple[int | None, int | None, int]
    class_names: list[str]
    parts: tuple[Part, Part]


def split_names(available: list[str], train: str, test: str | None, where: str) -> tuple[str, str]:
    chosen = test or next((name for name in _TEST_NAMES if name in available), _TEST_NAMES[0])
    for argument, name in (("train_split", train), ("test_split", chosen)):
        if name not in available:
            raise UserError(
                f"Expected `{argument}` (--data.{argument}) to be a split of {where}. Received: {name!r}; it has "
                f"{', '.join(sorted(available)) or 'none'}.{nearest(name, available)}"
            )
    if train == chosen:
        raise UserError(f"Expected different splits for training and test of {where}. Received: {train!r} for both.")
    return train, chosen
