"""Vectors of the trained network as images of one pixel in the deployed one, which LCE's binary convolution reads.

The deploy form hands vectors on as outputs of Flatten layers. Who can read an image as well takes the input of that
Flatten instead. A Flatten that nobody reads any more is not part of the deployed model, so that a chain of binary dense
layers has no reshaping in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfbnas.lce.registry import exact_rules_of
from tfbnas.lce.standard import keeps_words

layers = tf.keras.layers


def is_elementwise(layer: tf.keras.layers.Layer) -> bool:
    """Whether a layer computes every element on its own, whatever the shape."""
    return exact_rules_of(layer).elementwise and getattr(layer, "noise_shape", None) is None


class Pixels:
    """Turns vectors `[batch, features]` into images and back.

    Args:
      new_name: Gives a name that the source model does not have.
    """

    def __init__(self, new_name: Callable[[str], str]):
        self._new_name = new_name
        self._names: set[str] = set()
        # With the vector itself, which keeps its id from being given to another.
        self._images: dict[int, tuple[Any, Any]] = {}

    def image(self, vector: Any) -> Any:
        """An image `[batch, height, width, channels]` that is `vector` when it is flattened."""
        source = _flattened(vector)
        if source is not None and keeps_words(source):
            return source  # the layer is then a convolution whose kernel is as large as the image
        return self.pixel(vector)

    def pixel(self, vector: Any) -> Any:
        """The same values as `[batch, 1, 1, features]`; reshaped once, for all who read them."""
        if _holds_pixel(vector):
            return _flattened(vector)
        if id(vector) not in self._images:
            source = _flattened(vector)
            source = vector if source is None else source
            name = self._name(f"{source._keras_history.layer.name}_image")
            image = layers.Reshape((1, 1, vector.shape[-1]), name=name, dtype="float32")(source)
            self._images[id(vector)] = image, vector
        return self._images[id(vector)][0]

    def vector(self, image: Any, writer: str) -> Any:
        """The features of an image of one pixel, which `writer` has computed."""
        return layers.Flatten(name=self._name(f"{writer}_flat"), dtype="float32")(image)

    def apply(self, compute: Callable[..., Any], tensors: list[Any], writer: str) -> Any:
        """`compute(*tensors)` of something elementwise or per channel: on images where one of the vectors is one."""
        if not any(_holds_pixel(tensor) for tensor in tensors):
            return compute(*tensors)
        return self.vector(compute(*[self.pixel(tensor) for tensor in tensors]), writer)

    def _name(self, name: str) -> str:
        while (fresh := self._new_name(name)) in self._names:
            name += "_"
        self._names.add(fresh)
        return fresh


def _flattened(tensor: Any) -> Any:
    """The image of given size that a Flatten has made a vector of, or `None`."""
    layer, node, _ = tensor._keras_history
    if type(layer) is not layers.Flatten or layer.data_format != "channels_last":
        return None
    source = layer.get_input_at(node)
    return source if len(source.shape) == 4 and None not in source.shape[1:] else None


def _holds_pixel(tensor: Any) -> bool:
    source = _flattened(tensor)
    return source is not None and tuple(source.shape[1:3]) == (1, 1)
