"""Ways of making a network binary, by the names that `Architecture.options["binarisation"]` takes."""

from __future__ import annotations

from typing import TypeAlias

import tensorflow as tf

from tfbnas.errors import UserError, nearest
from tfbnas.layers.convolution import BinaryConv2D, FloatConv2D, SignConv2D
from tfbnas.layers.quantizers import ApproxSign, LearnedStep, SteSign
from tfbnas.layers.rectified import RectifiedConv2D

Layer: TypeAlias = tf.keras.layers.Layer

_WAYS: dict[str, tuple[type[Layer], type[Layer]]] = {
    "zero_alpha": (LearnedStep, BinaryConv2D),
    "sign": (SteSign, SignConv2D),
    "rectified": (ApproxSign, RectifiedConv2D),
    "float": (tf.keras.layers.ReLU, FloatConv2D),
}


def blocks(name: str) -> tuple[type[Layer], type[Layer]]:
    """Classes of activation and convolution. A builder calls them as `activation(name=...)` and
    `convolution(filters, kernel_size, strides, name=...)`, and puts a BatchNormalization behind the convolution.

    Args:
      name: "zero_alpha": activations 0 and 1, standardised kernels of -1 and +1 (DMS, section 3.1). "sign": -1 and +1
        for both, padded with +1. "rectified": the same, with a learned scale for each convolution. "float": ReLU and
        full precision. Or a name given to `register_blocks`.

    Raises:
      UserError: There is no such way.
    """
    if name not in _WAYS:
        raise UserError(
            f"Expected `binarisation` to be one of {', '.join(map(repr, _WAYS))}. "
            f"Received: binarisation={name!r}.{nearest(str(name), _WAYS)}"
        )
    return _WAYS[name]


def register_blocks(name: str, activation: type[Layer], convolution: type[Layer]) -> None:
    """Adds a way of making a network binary.

    Args:
      name: What `blocks` will take.
      activation: Class of the layer in front of each binary convolution.
      convolution: Class of the convolution. `tfbnas.lce.register` says how it is charged and exported.

    Raises:
      UserError: The name belongs to another way.
    """
    if _WAYS.setdefault(name, (activation, convolution)) != (activation, convolution):
        raise UserError(f"Expected a new name of a way to binarise. Received: {name!r}, which is taken.")
