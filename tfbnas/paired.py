"""The difference of two networks' accuracies, on the same test images or over seeds, and what chance leaves open of it.

TensorFlow is not imported here.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

_NORMAL = 1.959964
"""Quantile of the normal distribution for 95 % on two sides."""
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Quantiles of Student's t distribution for 95 % on two sides, of 1, 2, 3, ... degrees of freedom."""


@dataclass(frozen=True)
class Difference:
    """By how much one network is more accurate than another, as a fraction of the images.

    Attributes:
      value: The difference itself.
      low: Lower end of its 95 % interval.
      high: Upper end.
    """

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["better", "worse", "not distinguishable"]:
        """What the interval says: all of it on one side of zero, or not."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not distinguishable"


def difference(one: Sequence[bool] | np.ndarray, other: Sequence[bool] | np.ndarray) -> Difference:
    """The difference of two accuracies on the same images, with its 95 % interval for matched proportions.

    Only the images count that one network alone classifies correctly, b and c of n. The interval is Wald's around
    (b - c) / n with one half added to each of the four cells, and its standard error sqrt(b + c - (b - c)^2 / n) / n
    (Agresti & Min, "Simple improved confidence intervals for comparing matched proportions", 2005). It is of these
    trained weights: another seed of the training moves the accuracies, too.

    Args:
      one: Whether the one network classifies each image correctly, `[images]`.
      other: The same of the other network.

    Raises:
      ValueError: The numbers of images differ, or there are none.
    """
    first, second = np.asarray(one, bool), np.asarray(other, bool)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise ValueError(f"Expected two rows for the same images. Received: shapes {first.shape} and {second.shape}.")
    ours, theirs = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    count, more, differing = first.size + 2.0, float(ours - theirs), ours + theirs + 1.0
    reach = _NORMAL * math.sqrt(differing - more**2 / count) / count
    return Difference(more / first.size, more / count - reach, more / count + reach)


def over_seeds(one: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> Difference:
    """The mean difference of accuracies of the same seeds, with its 95 % interval by Student's t.

    What a network happens to learn with one seed is in it; that the test images are a sample is not. Above 16 seeds the
    quantile is that of 16, which makes the interval a little wider.

    Args:
      one: Accuracies of the one network, one for each seed, `[seeds]`.
      other: Those of the other network, with the same seeds.

    Raises:
      ValueError: The numbers of seeds differ, or there are fewer than two.
    """
    first, second = np.asarray(one, float), np.asarray(other, float)
    if first.shape != second.shape or first.ndim != 1 or first.size < 2:
        raise ValueError(f"Expected two rows for the same seeds. Received: shapes {first.shape} and {second.shape}.")
    found = first - second
    mean = float(np.mean(found))
    quantile = _STUDENT[min(found.size - 1, len(_STUDENT)) - 1]
    reach = quantile * float(np.std(found, ddof=1)) / math.sqrt(found.size)
    return Difference(mean, mean - reach, mean + reach)


def packed(correct: Sequence[bool] | np.ndarray) -> str:
    """Whether each image is classified correctly, as text of a bit for each: base64."""
    return base64.b64encode(np.packbits(np.asarray(correct, bool)).tobytes()).decode("ascii")


def unpacked(text: str, images: int) -> np.ndarray:
    """Inverse of `packed`, `[images]`."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=images).astype(bool)
