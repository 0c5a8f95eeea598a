"""Calls Keras models with a part of them replaced for the time of the call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfbnas.lce.graph import is_functional

layers = tf.keras.layers


@contextlib.contextmanager
def replaced(layer: tf.keras.layers.Layer, attribute: str, value: Any) -> Iterator[None]:
    """For the duration, `layer.attribute` is `value`."""
    own, is_own = getattr(layer, attribute), attribute in vars(layer)
    # Past Keras's own __setattr__, which would track what is set and forget the order of what was there.
    object.__setattr__(layer, attribute, value)
    try:
        yield
    finally:
        if is_own:
            object.__setattr__(layer, attribute, own)
        else:
            object.__delattr__(layer, attribute)


def ends_in_softmax(model: tf.keras.Model) -> bool:
    """Whether a model has one output, that of a softmax."""
    return _softmax(model) is not None


def outputs_of(model: tf.keras.Model, inputs: tf.Tensor, *, logits: bool) -> list[tf.Tensor]:
    """The model's outputs at inference; with `logits`, its only one in front of the softmax that it ends in."""
    layer = _softmax(model) if logits else None
    with contextlib.ExitStack() as stack:
        if layer is not None:
            attribute = "call" if isinstance(layer, layers.Softmax) else "activation"
            stack.enter_context(replaced(layer, attribute, tf.keras.activations.linear))
        return tf.nest.flatten(model(inputs, training=False))


def writer_of(tensor: Any) -> tf.keras.layers.Layer | None:
    """The layer that computes an output of a functional model, in nested models the innermost."""
    history = getattr(tensor, "_keras_history", None)
    if history is not None and is_functional(history.layer):
        return writer_of(history.layer.outputs[history.tensor_index])
    return history.layer if history else None


def _softmax(model: tf.keras.Model) -> tf.keras.layers.Layer | None:
    layer = writer_of(model.outputs[0]) if len(model.outputs or []) == 1 else None
    if isinstance(layer, layers.Softmax):
        return layer if layer.axis == -1 else None
    return layer if getattr(layer, "activation", None) is tf.keras.activations.softmax else None
