"""Cutting channels out of a trained network: the weights of the narrower network that computes the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, OpenWidth


def cut(network: tf.keras.Model, masks: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """The weights of the network whose widths have lost the channels with a mask of 0.

    All layers that share a width lose the same channels: sums of residual branches stay aligned. What the masks of the
    other channels multiply, the output of each BatchNormalization, its scale and offset take in. So the narrow network
    computes what the given one does while `OpenWidth.mask` gives these masks and `OpenWidth.gate` says which are not 0.

    Args:
      network: Has open widths, each with a BatchNormalization behind the layers that write it (see `OpenWidth.mask`).
      masks: Of each width, by its name: at least 0, `[channels]`. A width that is not named keeps all.

    Returns:
      Values by layer in Keras' order, for `training.set_weights` on the network that is built with the channels left.

    Raises:
      UserError: A mask has another number of channels, or all of a width are 0.
    """
    found = {}
    for layer in network.layers:
        opened = {id(one.variable): one.dimensions for one in getattr(layer, "open_weights", ())}
        values = []
        for weight in layer.weights:
            value = weight.numpy()
            for axis, dimension in enumerate(opened.get(id(weight), ())):
                if isinstance(dimension, OpenWidth) and dimension.name in masks:
                    value = np.take(value, _kept(dimension.name, masks[dimension.name], value.shape[axis]), axis)
            values.append(value)
        if isinstance(layer, BatchNormalization) and layer.width is not None and layer.width.name in masks:
            mask = np.asarray(masks[layer.width.name], np.float32)
            left = mask[mask > 0]
            values = [values[0] * left, values[1] * left, *values[2:]]  # gamma, beta, moving mean and variance
        if values:
            found[layer.name] = values
    return found


def _kept(name: str, mask: np.ndarray, size: int) -> np.ndarray:
    """Numbers of the channels that a mask leaves."""
    mask = np.asarray(mask)
    if mask.shape != (size,) or not (mask > 0).any():
        raise UserError(
            f"Expected the mask of {name!r} to have {size} channels, at least one of them above 0. Received: the shape "
            f"{mask.shape} with {int((mask > 0).sum())} above 0."
        )
    return np.flatnonzero(mask > 0)
