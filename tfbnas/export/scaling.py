"""The scaling of pixels in front of a network, so that its files take images as they are decoded.

tfbnas trains on images in [-1, 1], x / 127.5 - 1 of the pixels x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfbnas.errors import UserError, nearest
from tfbnas.export.description import RANGES
from tfbnas.layers.gate import all_layers
from tfbnas.lce.graph import flatten, is_functional

SCALE, OFFSET = 1 / 127.5, -1.0
NOTE = "scales pixels 0..255 to -1..1, as training did"


def takes_pixels(model: tf.keras.Model) -> bool:
    """Whether all that reads the images of a model is a layer that scales pixels 0..255 to -1..1."""
    if not is_functional(model) or not _takes_images(model):
        return False
    graph = flatten(model)
    readers = [call.layer for call in graph.readers().get(graph.inputs[0], [])]
    return bool(readers) and all(map(is_scaling, readers))


def is_scaling(layer: tf.keras.layers.Layer) -> bool:
    """Whether a layer scales pixels 0..255 to -1..1."""
    if type(layer) is not tf.keras.layers.Rescaling:
        return False
    return bool(np.allclose(layer.scale, SCALE, rtol=1e-6) and np.allclose(layer.offset, OFFSET, rtol=1e-6))


def with_scaling(model: tf.keras.Model) -> tf.keras.Model:
    """The model behind a layer `pixels`, which scales pixels 0..255 to the -1..1 that it was trained on."""
    taken, name = {model.name, *(layer.name for layer in all_layers(model))}, "pixels"
    while name in taken:
        name += "_"
    inputs = tf.keras.Input(model.inputs[0].shape[1:], name=model.input_names[0])
    scaled = tf.keras.layers.Rescaling(SCALE, OFFSET, name=name, dtype="float32")(inputs)
    return tf.keras.Model(inputs, model(scaled), name=model.name)


def as_in_training(model: tf.keras.Model) -> tf.keras.Model:
    """The model behind the arithmetic that training has for pixels; what is exported must agree with this."""
    inputs = tf.keras.Input(model.inputs[0].shape[1:])
    return tf.keras.Model(inputs, model(inputs / 127.5 - 1.0))


@dataclass(frozen=True)
class Prepared:
    """What is exported.

    Attributes:
      model: The model, perhaps with the scaling in front.
      trained: What it must agree with.
      images: As both take them, or `None`.
      input: "pixels", "normalised", or `None` where nothing is known.
    """

    model: tf.keras.Model
    trained: tf.keras.Model
    images: np.ndarray | None
    input: str | None


def prepare(model: tf.keras.Model, images: np.ndarray | None, given: str | None) -> Prepared:
    """Puts the scaling in front of a model where that is asked for.

    Args:
      model: As it was trained.
      images: As it takes them, or `None`.
      given: "pixels", "normalised", or `None`; see `export`.

    Raises:
      UserError: `given` is none of these, or the model or the images are not such that it can be.
    """
    if given not in (None, *RANGES):
        raise UserError(
            f"Expected `input` to be 'pixels', 'normalised' or None. Received: {given!r}.{nearest(str(given), RANGES)}"
        )
    if takes_pixels(model):
        if given == "normalised":
            raise UserError(
                "Expected a model that takes images in [-1, 1] with input='normalised'. Received: one that scales "
                "pixels 0..255 itself; pass input='pixels', which leaves it as it is."
            )
        _check(images, 0, 255, "the model scales them itself", "pass pixels 0..255")
        return Prepared(model, model, images, "pixels")
    if given is None:
        return Prepared(model, model, images, None)
    if not _takes_images(model):
        raise UserError(
            f"Expected a model that takes images [height, width, 1 or 3] with input={given!r}. Received: inputs of "
            f"shape {_shapes(model)}; pass input=None, which leaves them as they are."
        )
    remedy = "pass input=None for a model that was trained on other values, which leaves its input as it is"
    _check(images, -1.001, 1.001, "as tfbnas.data gives them", remedy)
    if given == "normalised":
        return Prepared(model, model, images, given)
    return Prepared(with_scaling(model), as_in_training(model), _pixels(images, remedy), given)


def _shapes(model: tf.keras.Model) -> list[tuple]:
    return [tuple(tensor.shape[1:]) for tensor in model.inputs or []]


def _takes_images(model: tf.keras.Model) -> bool:
    shapes = _shapes(model)
    return len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] in (1, 3)


def _pixels(images: np.ndarray | None, remedy: str) -> np.ndarray | None:
    """The pixels 0..255 of images in [-1, 1]; exact where they come from 8 bits."""
    if images is None:
        return None
    values = (images + 1) * 127.5
    pixels = np.rint(values)
    if images.min() >= 0 and not np.allclose(values, pixels, atol=0.01):
        raise UserError(
            "Expected `images` in [-1, 1], as tfbnas.data gives them. Received: values from "
            f"{images.min():.3g} to {images.max():.3g} that look like pixels / 255; {remedy}."
        )
    return pixels


def _check(images: np.ndarray | None, least: float, most: float, why: str, remedy: str) -> None:
    if images is not None and not (images.min() >= least and images.max() <= most):
        raise UserError(
            f"Expected `images` in [{round(least)}, {round(most)}], {why}. Received: values from {images.min():.3g} to "
            f"{images.max():.3g}; {remedy}."
        )
