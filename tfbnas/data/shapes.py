"""Shapes on photographs: a segmentation data set that is made on the fly from the bundled part of CIFAR-10.

It is synthetic, and no benchmark: it is there so that segmentation can be tried, and the whole way to a checked
`.tflite` tested, on a machine that has no segmentation data set. Each image is a photograph of `cifar10-quick` onto
which one or two shapes are laid, filled with another photograph under a random colour. Every pixel is labelled
background, ellipse or rectangle. The colours of ellipses have more red than blue and those of rectangles more blue than
red, by a random amount, often a small one: single pixels tell much, which a small network learns in a minute, but not
all; the rest is in the outlines, for which a network has to look at several scales.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

NAME = "cifar10-shapes"
CLASS_NAMES = ["background", "ellipse", "rectangle"]
SEEDS = {"train": 0, "test": 1}

_PER_SHAPE = 9


def make_shapes(photographs: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Lays shapes onto photographs; equal arguments give equal images on any machine.

    Args:
      photographs: uint8 [n, side, side, 3]; each is the background of one image and the filling of another's shapes.
      seed: Of number, kind, place, size, angle and colour of the shapes.

    Returns:
      uint8 [n, side, side, 3] and the classes of the pixels, uint8 [n, side, side].
    """
    n, side = photographs.shape[:2]
    images, labels = photographs.astype(np.float64), np.zeros((n, side, side), np.uint8)
    for layer in range(2):
        chance = _uniform((_PER_SHAPE, n, 1, 1), [seed, layer])
        kind = 1 + (chance[0] < 0.5)
        inside = _outline(side, kind == 1, *chance[1:6])
        if layer:
            inside &= chance[0] * 2 % 1 < 0.5  # every second image has a second shape
        red, green, blue = chance[6:9]
        more, less = np.maximum(red, blue), np.minimum(red, blue)
        colour = np.stack([np.where(kind == 1, more, less), green, np.where(kind == 1, less, more)], axis=-1)
        filling = 0.4 * np.roll(photographs, layer + 1, axis=0) + 0.6 * 255 * colour
        images = np.where(inside[..., None], filling, images)
        labels = np.where(inside, kind, labels).astype(np.uint8)
    return np.rint(images).astype(np.uint8), labels


def _outline(side: int, ellipse: np.ndarray, x: np.ndarray, y: np.ndarray, size, aspect, angle) -> np.ndarray:
    """Which pixels lie inside; the numbers are in [0, 1)."""
    rows, columns = np.arange(side)[:, None], np.arange(side)[None, :]
    across, down = columns - (0.2 + 0.6 * x) * side, rows - (0.2 + 0.6 * y) * side
    radius, stretch, turn = (0.18 + 0.14 * size) * side, 0.8 + 0.4 * aspect, np.pi * angle
    u = (np.cos(turn) * across + np.sin(turn) * down) / (radius * stretch)
    v = (np.cos(turn) * down - np.sin(turn) * across) / (radius / stretch)
    # The rectangle has the area of the ellipse: the size does not give the kind away.
    return np.where(ellipse, u**2 + v**2 <= 1, np.maximum(abs(u), abs(v)) <= np.sqrt(np.pi) / 2)


def _uniform(shape: tuple[int, ...], seed: list[int]) -> np.ndarray:
    # The raw bits are the same in all versions of numpy; Generator's methods are not promised to be.
    bits = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return ((bits >> np.uint64(11)) * 2.0**-53).reshape(shape)


def encoded(images: np.ndarray, labels: np.ndarray) -> tf.data.Dataset:
    """Pairs of PNG files, as a data set on disk would give them."""
    return tf.data.Dataset.from_tensor_slices((images, labels[..., None])).map(
        lambda image, label: (tf.io.encode_png(image, 1), tf.io.encode_png(label, 1)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
