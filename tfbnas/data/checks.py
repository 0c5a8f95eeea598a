"""Whether images and a network belong together: one sentence before anything is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.data.arrays import splits
from tfbnas.data.load import ImageData
from tfbnas.data.split import Split
from tfbnas.errors import UserError

_PASSING = (tf.keras.layers.Reshape, tf.keras.layers.Flatten, tf.keras.layers.Permute)


def check(
    images: ImageData | Split | tf.data.Dataset,
    *,
    input_shape: tuple[int, int, int] | None = None,
    classes: int | None = None,
    segmentation: bool | None = None,
) -> None:
    """Refuses images that a network of this input and these classes cannot be trained on.

    Args:
      images: One split, or all of a data set; or a tf.data.Dataset, of which only shapes and types are known.
      input_shape: (height, width, channels) of the network; None, or a side that is None, is not compared.
      classes: Number of its classes; None is not compared.
      segmentation: Whether it gives each pixel a class; None is not compared.

    Raises:
      UserError: The images have another shape, other classes or labels of the other kind.
    """
    if isinstance(images, ImageData):
        for split in filter(None, (images.train, images.test, images.validation)):
            check(split, input_shape=input_shape, classes=classes, segmentation=segmentation)
        return
    if isinstance(images, tf.data.Dataset):
        found = _check_batches(images)
        if found is not None:
            _check_shape(input_shape, found, "the tf.data.Dataset")
        return
    _check_shape(input_shape, images.image_shape, images.name)
    if segmentation is not None and segmentation != bool(images.label_shape):
        kinds = ("a class for each image", "a class for each pixel")
        raise UserError(
            f"Expected {kinds[segmentation]}, as the network gives. Received: {kinds[not segmentation]} in "
            f"{images.name}. Take another network, or other labels."
        )
    if classes is None:
        return
    if images.classes not in (None, classes):
        raise UserError(
            f"Expected images of {classes} classes, as the network has. Received: {images.classes} classes in "
            f"{images.name}. Build the network with classes={images.classes}, or take other images."
        )
    labels = getattr(images, "labels", np.zeros(0, int))
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        raise UserError(
            f"Expected labels in 0..{classes - 1}, as the network has {classes} classes. Received: label "
            f"{labels[wrong][0]} in {images.name} (wrong labels: {int(wrong.sum())}). Build the network with classes="
            f"{int(labels.max()) + 1}, or mend the labels."
        )


def _check_shape(wanted: tuple | None, found: tuple, name: str) -> None:
    if wanted and any(None not in (w, f) and w != f for w, f in zip(wanted, found, strict=True)):
        raise UserError(
            f"Expected images of {_by(wanted)}, as the network takes them. Received: {_by(found)} in {name}"
            f". Scale the images (--data.image_size SIDE), or build the network with input_shape={tuple(found)}."
        )


def _check_batches(batches: tf.data.Dataset) -> tuple | None:
    """(height, width, channels) of the images in a Dataset, as far as it is declared; None where nothing is."""
    expected = "Expected a tf.data.Dataset of batches (images, labels)"
    spec = batches.element_spec
    if not (isinstance(spec, tuple) and len(spec) == 2 and all(isinstance(one, tf.TensorSpec) for one in spec)):
        raise UserError(f"{expected}. Received: elements {spec}.")
    images, labels = spec
    if not images.dtype.is_floating:
        raise UserError(
            f"{expected}, with pixels scaled to -1..1. Received: images of {images.dtype.name}. If they are 0..255, "
            "take dataset.map(lambda x, y: (tf.cast(x, tf.float32) / 127.5 - 1, y)), or give the arrays to `fit`."
        )
    if not labels.dtype.is_integer:
        raise UserError(
            f"{expected}, with class numbers as labels. Received: labels of {labels.dtype.name}. If they are one-hot, "
            "take dataset.map(lambda x, y: (x, tf.argmax(y, axis=-1)))."
        )
    if images.shape.rank is None:
        return None
    if images.shape.rank != 4:
        remedy = " Take dataset.batch(64)." if images.shape.rank == 3 else ""
        raise UserError(f"{expected}. Received: images of the shape {_by(tuple(images.shape))}.{remedy}")
    return tuple(images.shape[1:])


def described(images: Any) -> tuple[tuple[int, int, int], int]:
    """`input_shape` and `classes` of a network for these images.

    Args:
      images: A data set, a Split, or a pair (images, labels) of arrays.

    Raises:
      UserError: They are something else, or nothing says how many classes there are.
    """
    if isinstance(images, ImageData):
        return images.input_shape, images.classes
    split, _ = splits(images)
    if not isinstance(split, Split) or split.classes is None:
        raise UserError(
            "Expected `images` to be a data set (tfbnas.data.load), a Split of one, or a pair (images, labels) of "
            f"arrays. Received: {type(images).__name__}; give `input_shape` and `classes` instead."
        )
    return split.image_shape, split.classes


def check_network(model: tf.keras.Model, images: ImageData | Split) -> None:
    """Refuses a network that cannot be trained on these images with a loss of logits.

    Raises:
      UserError: As `check` and `check_logits`, or the network has several inputs or outputs.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UserError(
            f"Expected a network with one input and one output. Received: {len(model.inputs)} and {len(model.outputs)}."
        )
    check_logits(model)
    outputs = model.outputs[0].shape
    check(images, input_shape=tuple(model.inputs[0].shape[1:]), classes=outputs[-1], segmentation=len(outputs) == 4)


def check_logits(model: tf.keras.Model) -> None:
    """Refuses a functional network that ends in a softmax or sigmoid: the losses here take logits.

    Raises:
      UserError: It does; the sentence names the layer.
    """
    tensor = model.outputs[0]
    while True:
        layer = tensor._keras_history.layer
        if isinstance(layer, tf.keras.Model):
            tensor = layer.outputs[0]
        elif isinstance(layer, _PASSING):
            tensor = layer.input
        else:
            break
    activation = getattr(layer, "activation", None)
    # A function like tf.nn.softmax, called on a Keras tensor, is a layer with its name as `symbol`.
    name = getattr(activation, "__name__", None) or str(getattr(layer, "symbol", "")).split(".")[-1]
    name = "softmax" if isinstance(layer, tf.keras.layers.Softmax) else name
    if name in ("softmax", "sigmoid"):
        raise UserError(
            f"Expected a network that ends in logits. Received: one that ends in a {name}, by its layer {layer.name!r}"
            ". Leave it out: the loss takes the softmax itself; with a second one the network hardly learns."
        )


def _by(shape: tuple) -> str:
    return "x".join("?" if side is None else str(side) for side in shape)
