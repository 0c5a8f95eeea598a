"""The rules of tfbnas's layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

import tfbnas.layers as tfl
from tfbnas.errors import UserError
from tfbnas.layers.fan_out import FanOut
from tfbnas.layers.interaction import InteractedConv2D
from tfbnas.layers.threshold import ChannelThreshold
from tfbnas.lce.registry import Layer, register
from tfbnas.lce.standard import pads_with_bits, scale_and_offset


def kernel_of_signs(layer: Layer) -> np.ndarray:
    """The kernel of a binary layer as its quantiser gives it, float32.

    Raises:
      UserError: The quantiser gives other values than -1 and +1.
    """
    latent = tf.convert_to_tensor(layer.kernel)  # outside larq's quantized scope: not quantised yet
    kernel = np.asarray(layer.kernel_quantizer(latent), np.float32)
    if not np.all(np.abs(kernel) == 1.0):
        raise UserError(
            f"Expected the kernel quantiser of {layer.name!r} to give -1 and +1 only. Received: values from "
            f"{kernel.min()} to {kernel.max()}; use StandardizedSign or 'ste_sign', and no NaN weights."
        )
    return kernel


def _half_step(layer: Layer) -> float:
    return 0.5 * float(layer.step.numpy())


def _yes(layer: Layer) -> bool:
    return True


def _shift(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    threshold = layer.threshold.numpy().astype(np.float64)
    return np.ones_like(threshold), -threshold


def _is_plain(layer: Layer) -> bool:
    return not layer.edges


_binary: dict[str, Any] = {
    "kind": "convolution",  # BinaryDense is deployed as one of 1x1
    "binary_operator": True,
    "writes_bits": _yes,  # the deploy form pads with ones
    "signs": kernel_of_signs,
}
register(tfl.BinaryConv2D, tfl.BinaryDense, **_binary)
register(tfl.LearnedStep, threshold=_half_step, varies=True)
register(tfl.BatchNormalization, affine=scale_and_offset, varies=True)
register(tfl.SignConv2D, writes_bits=pads_with_bits)
register(FanOut, kind=None)
register(ChannelThreshold, kind="normalization", affine=_shift)
# What interactions add stands between the convolution and what would be merged with it.
register(InteractedConv2D, writes_bits=_is_plain, absorbs=_is_plain)
