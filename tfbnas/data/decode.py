"""Encoded images to one array in memory, and which of them is at fault when that fails."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfbnas.data import augment
from tfbnas.errors import UserError


def decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a JPEG, PNG, GIF or BMP file.

    Grey files become colour where 3 channels are wanted. Everything else that would silently lose something (colour to
    grey, transparency dropped) comes out with another number of channels, for the caller to refuse.

    Returns:
      uint8 [height, width, found channels].
    """

    def from_other() -> tf.Tensor:
        image = tf.io.decode_image(encoded, expand_animations=False)
        image = tf.ensure_shape(image, [None, None, None])
        repeats = channels // tf.shape(image)[2]
        return tf.cond(repeats > 1, lambda: tf.tile(image, [1, 1, repeats]), lambda: image)

    # A JPEG has no transparency, and its decoder knows grey and CMYK.
    return tf.cond(tf.io.is_jpeg(encoded), lambda: tf.io.decode_jpeg(encoded, channels=channels), from_other)


def decode_map(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a label map, an image of one channel whose values are class numbers.

    Returns:
      uint8 [height, width, 1]; another number of channels comes out as it is, for the caller to refuse.
    """
    return tf.ensure_shape(tf.io.decode_image(encoded, expand_animations=False), [None, None, None])


def decode_all(
    encoded: tf.data.Dataset,
    *,
    count: int,
    shape: tuple[int, int, int],
    image_size: int | None,
    classes: int,
    describe: Callable[[int], str],
    where: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a whole split, in parallel.

    Args:
      encoded: Pairs of a scalar string (the file) and a scalar int (the label) or another scalar string (a PNG file
        with the class of each pixel), in a fixed order.
      count: Number of pairs.
      shape: Of the resulting images; without `image_size` also what each image must have.
      image_size: Scale the shorter side to this and keep the middle square.
      classes: Labels must lie in range(classes).
      describe: Name of image number i, for messages.
      where: Name of the split, for messages.

    Returns:
      uint8 [count, *shape], and int32 [count] or uint8 [count, height, width].

    Raises:
      UserError: An image is damaged or has another shape, a label is out of range, a label map has another size than
        its image, or there are more or fewer images than promised; names the first such image.
    """
    maps = has_maps(encoded)

    def load(file: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = decode(file, shape[2])
        if maps:
            label = tf.ensure_shape(decode_map(label), [None, None, 1])
            with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(image)[:2], tf.shape(label)[:2])]):
                label = tf.identity(label)
            if image_size is not None:
                label = augment.fit(tf.cast(label, tf.float32), image_size, method="nearest")
            label = tf.ensure_shape(tf.cast(label[..., 0], tf.uint8), shape[:2])
        if image_size is not None:
            # The channels must be known to be right before scaling, or the error would be one of the scaling.
            image = tf.ensure_shape(image, [None, None, shape[2]])
            image = tf.cast(tf.round(augment.fit(image, image_size)), tf.uint8)
        return tf.ensure_shape(image, shape), label

    # The array is filled batch by batch: collecting the batches first would need the memory twice.
    images = np.empty((count, *shape), np.uint8)
    labels = np.empty((count, *shape[:2]), np.uint8) if maps else np.empty(count, np.int64)
    filled = 0
    try:
        batches = encoded.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(256).prefetch(2)
        for batch, batch_labels in batches.as_numpy_iterator():
            end = filled + len(batch)
            if end > count:
                break
            images[filled:end], labels[filled:end] = batch, batch_labels
            filled = end
    except tf.errors.OpError as error:
        raise _fault(encoded, shape, image_size, describe, where, error) from error
    if filled != count:
        raise UserError(f"{where} is damaged: expected {count} images, found {filled} or more. Make it again.")
    check_labels(labels, classes, describe, where)
    return images, labels if maps else labels.astype(np.int32)


def has_maps(encoded: tf.data.Dataset) -> bool:
    """Whether the labels are files, with a class for each pixel."""
    return encoded.element_spec[1].dtype == tf.string


def check_labels(labels: np.ndarray, classes: int, describe: Callable[[int], str], where: str) -> None:
    """Raises a UserError when a label is not in range(classes), of an image or a pixel; names the first such image."""
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        first = np.argwhere(wrong)[0]
        pixel = f" (row {first[1]}, column {first[2]})" if len(first) > 1 else ""
        raise UserError(
            f"Expected the labels of {where} to be in 0..{classes - 1}. Received: label {labels[tuple(first)]} of "
            f"{describe(int(first[0]))}{pixel} (wrong labels: {int(wrong.sum())}). Mend the data set, or name another "
            "split if this one is unlabelled."
        )


def _fault(
    encoded: tf.data.Dataset,
    shape: tuple[int, int, int],
    image_size: int | None,
    describe: Callable[[int], str],
    where: str,
    error: tf.errors.OpError,
) -> UserError:
    """Looks for the image that made `decode_all` fail, one by one."""
    number = 0
    try:
        for number, (file, label) in enumerate(encoded):
            problem = image_problem(file, shape, image_size)
            if not problem and label.dtype == tf.string:
                problem = map_problem(label, decode(file, shape[2]).shape[:2])
            if problem:
                return UserError(f"{describe(number)}, in {where}, {problem}")
    except tf.errors.OpError as reading:
        return UserError(
            f"{where} cannot be read after {number} images: {_first_line(reading)}. The files are damaged or missing; "
            "make the data set again."
        )
    return UserError(f"{where} cannot be decoded: {_first_line(error)}.")


def image_problem(file: tf.Tensor, shape: tuple[int, int, int], image_size: int | None) -> str:
    """What is wrong with an encoded image, as the end of a sentence; empty if nothing is."""
    height, width, channels = shape
    try:
        found = tuple(decode(file, channels).shape)
    except tf.errors.OpError as error:
        return f"is damaged: it cannot be decoded ({_first_line(error)}). Replace or delete it."
    if found[2] != channels:
        kinds = {1: "grey", 2: "grey with transparency", 3: "colour", 4: "colour with transparency"}
        kind = kinds.get(found[2], "unknown")
        return f"has {found[2]} channels ({kind}); expected {channels}. Convert it, or delete it."
    if image_size is None and found != shape:
        return (
            f"has {found[0]}x{found[1]} pixels, but the first image has {height}x{width}. Give a size to which all are "
            "scaled: image_size (--data.image_size)."
        )
    return ""


def map_problem(file: tf.Tensor, size: tuple[int, int]) -> str:
    """What is wrong with the encoded label map of an image of (height, width), as the end of a sentence; or empty."""
    try:
        found = tuple(decode_map(file).shape)
    except tf.errors.OpError as error:
        return f"has a damaged label map: it cannot be decoded ({_first_line(error)}). Replace or delete it."
    if found[2] != 1:
        return f"has a label map of {found[2]} channels; expected one, with the number of a class in each pixel."
    if found[:2] != tuple(size):
        return (
            f"has {size[0]}x{size[1]} pixels, but its label map {found[0]}x{found[1]}. Make them equal, or delete both."
        )
    return ""


def _first_line(error: tf.errors.OpError) -> str:
    # TensorFlow repeats the operation's name and node in front and behind.
    text = error.message.splitlines()[0]
    return text.split("}} ")[-1].split(" [Op:")[0].rstrip(". ")[:200]
