"""Best-effort initialisation: variables change size and keep what is common (DMS Eq. 9-10)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from tfbnas.layers.width import OpenWeight, OpenWidth


def open_weights(model: tf.keras.Model) -> list[OpenWeight]:
    """All variables of a model whose shape depends on an OpenWidth."""
    return [weight for layer in model._flatten_layers() for weight in getattr(layer, "open_weights", ())]


def make_growable(optimizer: tf.keras.optimizers.Optimizer) -> tf.keras.optimizers.Optimizer:
    """Lets an optimiser make slots for variables of partly unknown shape. Call it before the optimiser is built.

    Every Keras optimiser makes its slots through one method; this replaces it on the instance. Returns the optimiser.
    """
    slots: dict = {}

    def add_variable_from_reference(model_variable, variable_name, shape=None, initial_value=None):
        value = tf.zeros_like(model_variable) if initial_value is None else initial_value
        slot = tf.Variable(
            value,
            shape=model_variable.shape if shape is None else shape,
            trainable=False,
            name=f"{variable_name}/{model_variable._shared_name}",
        )
        slots.setdefault(model_variable.ref(), []).append(slot)
        optimizer._variables.append(slot)  # what `optimizer.variables`, and so Keras' saving, shows
        return slot

    # An attribute of the function: as one of the optimiser, TensorFlow would try to save the dictionary.
    add_variable_from_reference.slots = slots  # type: ignore[attr-defined]
    optimizer.add_variable_from_reference = add_variable_from_reference
    return optimizer


def _with_common_part(fresh: tf.Tensor, old: tf.Tensor) -> np.ndarray:
    """`fresh`, with the leading part of every axis that it shares with `old` taken from `old`."""
    value = np.array(fresh)
    common = tuple(slice(min(sizes)) for sizes in zip(fresh.shape, old.shape, strict=True))
    value[common] = old.numpy()[common]
    return value


def _slots(optimizer, variable: tf.Variable) -> Iterator[tf.Variable]:
    made = getattr(getattr(optimizer, "add_variable_from_reference", None), "slots", {})
    yield from made.get(variable.ref(), ())


def resize(
    model: tf.keras.Model,
    sizes: Mapping[OpenWidth, int],
    *,
    seed: int,
    optimizer: tf.keras.optimizers.Optimizer | None = None,
    keep: bool = True,
) -> None:
    """Gives open widths new numbers of channels, and all variables that depend on them the shapes that follow.

    The first channels that old and new shape share keep their values bit for bit, in every variable and every slot of
    the optimiser; new channels are freshly initialised, new parts of slots are zero.

    Args:
      model: Network with open widths.
      sizes: New number of channels of each width that changes.
      seed: Decides the values of new channels, together with the variable's name.
      optimizer: Optimiser whose slots follow. It must have gone through `make_growable`. Default: None.
      keep: False initialises all variables of open shape freshly instead, also of widths that do not change (the
        paper's comparison without best-effort initialisation). Variables of given shape keep their values.
        Default: True.
    """
    for width, size in sizes.items():
        width.size.assign(size)
    for weight in open_weights(model):
        if keep and not any(dimension in sizes for dimension in weight.dimensions if isinstance(dimension, OpenWidth)):
            continue
        fresh = weight.fresh(seed)
        old = weight.variable.value()
        weight.variable.assign(_with_common_part(fresh, old) if keep else fresh)
        for slot in _slots(optimizer, weight.variable):
            empty = tf.zeros_like(fresh)
            slot.assign(_with_common_part(empty, slot.value()) if keep else empty)
