"""Modules that several graphs of modules have."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfbnas.layers import BatchNormalization, FloatConv2D


def stem(name: str, tensors: list[Any], filters: int, binarisation: str) -> Any:
    """A 3x3 float convolution of the images, and its normalisation."""
    x = FloatConv2D(filters, 3, name=name)(tensors[0])
    return _activated(name, BatchNormalization(name=f"{name}_bn")(x), binarisation)


def total(name: str, tensors: list[Any], binarisation: str) -> Any:
    """The sum of what a module reads; in full precision a ReLU of it."""
    x = tf.keras.layers.Add(name=f"{name}_add")(tensors) if len(tensors) > 1 else tensors[0]
    return _activated(name, x, binarisation)


def _activated(name: str, x: Any, binarisation: str) -> Any:
    return tf.keras.layers.ReLU(name=f"{name}_relu")(x) if binarisation == "float" else x
