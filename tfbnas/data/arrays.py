"""Arrays as a data set: what Keras users have."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.data.split import MemorySplit, Split
from tfbnas.errors import UserError
from tfbnas.hints import has_type


def from_arrays(
    images: Any, labels: Any, *, classes: int | None = None, padding: int | None = None, name: str = "the arrays"
) -> MemorySplit:
    """A split of images and labels that lie in memory.

    Args:
      images: uint8 [n, height, width, 1 or 3], 0..255; or other numbers that are whole, 0..255. Other ranges are
        refused, not guessed.
      labels: Whole numbers [n] or [n, 1], a class for each image; or [n, height, width], a class for each pixel.
      classes: Number of classes. Default: the largest label and one.
      padding: Of the random crop in training, pixels. Default: one eighth of the shorter side.
      name: For messages.

    Raises:
      UserError: Shapes, types or ranges are others; the sentence says how to change them.
    """
    if classes is not None and not (has_type(classes, int) and classes >= 1):
        raise UserError(f"Expected `classes` to be an integer of at least 1. Received: classes={classes!r}.")
    images, labels = np.asarray(images), np.asarray(labels)
    pixels = _pixels(images, name)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and len(labels) == len(pixels):
        raise UserError(
            f"Expected the labels of {name} to be class numbers [n]. Received: shape {list(labels.shape)}. "
            "If they are one-hot, take labels.argmax(axis=1)."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"Expected the labels of {name} to be whole numbers. Received: {labels.dtype}. If they are class numbers, "
            "take labels.astype('int32')."
        )
    if not len(pixels) or labels.shape not in (pixels.shape[:1], pixels.shape[:3]):
        raise UserError(
            f"Expected one or more images, and a label for each image or pixel of {name}. Received: images of shape "
            f"{list(images.shape)} and labels of shape {list(labels.shape)}."
        )
    most = 256 if labels.ndim == 3 else np.iinfo(np.int32).max
    limit = classes or min(int(labels.max()) + 1, most)
    if labels.min() < 0 or labels.max() >= limit:
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(f"Expected the labels of {name} to be in 0..{limit - 1}. Received: {worst}. Mend the labels.")
    split = MemorySplit(pixels, labels, name=name)
    split.classes, split.padding = limit, padding
    return split


def splits(train: Any, validation: Any = None, *, halves: bool = False, seed: int = 0) -> tuple[Any, Any]:
    """What a search's `fit` is given, as splits.

    Args:
      train: A Split; a pair (images, labels) of arrays; or, with the labels as `validation`, the images.
      validation: A Split, a pair of arrays, or None. Its labels are of the classes of `train`.
      halves: Whether images that come without others are divided into two disjoint halves.
      seed: Of the halves.

    Returns:
      Two splits; the second is None where there is none. A `tf.data.Dataset` stays as it is.

    Raises:
      UserError: As `from_arrays`, images come without labels, or something is no images at all.
    """
    if _is_array(train):
        if not _is_array(validation):
            raise UserError("Expected images with their labels: fit(images, labels). Received: images without labels.")
        train, validation = (train, validation), None
    first = _split(train, "the training images")
    if validation is None and halves:
        if not isinstance(first, Split):
            raise UserError(
                "Expected two data sets, one of the weights and one of the architecture: fit(first, second). Received: "
                "one tf.data.Dataset; divide it with `take` and `skip`."
            )
        return first.halves(seed=seed)
    if validation is None:
        return first, None
    return first, _split(validation, "the validation images", classes=getattr(first, "classes", None))


def _split(value: Any, name: str, *, classes: int | None = None) -> Any:
    if isinstance(value, (Split, tf.data.Dataset)) or hasattr(value, "epoch"):  # or what does as a Split does
        return value
    if not isinstance(value, (tuple, list)):
        hint = "; give its part, images.train" if hasattr(value, "train") else ""
        raise UserError(
            f"Expected {name} as a Split, a pair (images, labels) of arrays, or a tf.data.Dataset. Received: "
            f"{type(value).__name__}{hint}."
        )
    if len(value) != 2:
        raise UserError(f"Expected {name} as a pair (images, labels). Received: {len(value)} values.")
    return from_arrays(*value, name=name, classes=classes)


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and hasattr(value, "shape")


def _pixels(images: np.ndarray, name: str) -> np.ndarray:
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        remedy = "Bring them into this shape."
        if images.ndim == 3:
            remedy = "For grey images take images[..., None]."
        elif images.ndim == 4 and images.shape[1] in (1, 3):
            remedy = "If the channels come first, take np.moveaxis(images, 1, -1)."
        raise UserError(
            f"Expected the images of {name} to have the shape [n, height, width, 1 or 3]. Received: "
            f"{list(images.shape)}. {remedy}"
        )
    if images.dtype == np.uint8 or not images.size:
        return images.astype(np.uint8)
    if not (np.issubdtype(images.dtype, np.number) and np.isrealobj(images)):
        raise UserError(f"Expected the images of {name} to be of uint8. Received: {images.dtype}.")
    low, high = images.min(), images.max()
    whole = low >= 0 and high <= 255 and not np.mod(images, 1).any()
    if not whole or (high <= 1 and np.issubdtype(images.dtype, np.floating)):
        remedy = "Give the pixels as they were before they were scaled."
        if low >= 0 and high <= 1:
            remedy = "If they were divided by 255, take (images * 255).round().astype('uint8')."
        elif -1 <= low < 0 and high <= 1:
            remedy = "If -1 is black and 1 is white, take ((images + 1) * 127.5).round().astype('uint8')."
        raise UserError(
            f"Expected the images of {name} to have whole pixels in 0..255. Received: {images.dtype} in "
            f"{low:.4g}..{high:.4g}. {remedy}"
        )
    return images.astype(np.uint8)
