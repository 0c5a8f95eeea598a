"""Whether images and a network belong together: one sentence before anything is trained."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfbnas.data.load import ImageData
from tfbnas.data.split import Split
from tfbnas.errors import UserError

_PASSING = (tf.keras.layers.Reshape, tf.keras.layers.Flatten, tf.keras.layers.Permute)


def check(
    images: ImageData | Split,
    *,
    input_shape: tuple[int, int, int] | None = None,
    classes: int | None = None,
    segmentation: bool | None = None,
) -> None:
    """Refuses images that a network of this input and these classes cannot be trained on.

    Args:
      images: One split, or all of a data set.
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
    found = images.image_shape
    if input_shape and any(w not in (None, f) for w, f in zip(input_shape, found, strict=True)):
        raise UserError(
            f"Expected images of {_by(input_shape)}, as the network takes them. Received: {_by(found)} in {images.name}"
            f". Scale the images (--data.image_size SIDE), or build the network with input_shape={tuple(found)}."
        )
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
