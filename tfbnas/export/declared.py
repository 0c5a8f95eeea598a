"""What a Keras or Larq layer declares about the precision of its weights and inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.lce.graph import all_layers
from tfbnas.lce.registry import bits_of, declared_precision

# Straddles every threshold in use: 0 (sign), 0.05 (ternary), 0.5 (heaviside of a shifted input), 1 (clipping).
_PROBE = np.array([-3.0, -0.7, -0.2, -0.01, 0.0, 0.01, 0.2, 0.7, 3.0], np.float32)
_KERNELS = (
    ("kernel", "kernel_quantizer"),
    ("depthwise_kernel", "depthwise_quantizer"),
    ("pointwise_kernel", "pointwise_quantizer"),
)


@dataclass(frozen=True, eq=False)
class Declared:
    """One kernel of a layer.

    Attributes:
      layer: The layer.
      kernel: Its kernel as the forward pass uses it (quantised).
      kernel_bits: Declared precision of the kernel, 32 for float.
      input_bits: Declared precision of the input.
    """

    layer: tf.keras.layers.Layer
    kernel: np.ndarray
    kernel_bits: int
    input_bits: int

    @property
    def is_binary(self) -> bool:
        return self.kernel_bits == 1

    @property
    def is_quantized(self) -> bool:
        """Whether its kernel or its input takes less than 32 bits."""
        return min(self.kernel_bits, self.input_bits) < 32

    @property
    def precision(self) -> str:
        """As shown in tables: "1 bit x 1 bit" (inputs x weights), "float32"."""
        if self.kernel_bits == 32 and self.input_bits == 32:
            return "float32"
        return f"{_bits(self.input_bits)} x {_bits(self.kernel_bits)}"

    @property
    def channels(self) -> int:
        """Input channels of the layer."""
        return int(self.kernel.shape[-2]) * getattr(self.layer, "groups", 1)

    @property
    def matrix(self) -> np.ndarray:
        """The kernel as `[filters, height, width, channels]` or `[units, channels]`, as TFLite stores it."""
        kernel = self.kernel
        kind = type(self.layer).__name__
        if kernel.ndim == 4 and "Depthwise" in kind:
            return kernel.reshape(1, *kernel.shape[:2], -1)
        if kernel.ndim == 4 and "Transpose" in kind:
            return kernel.transpose(2, 0, 1, 3)
        if kernel.ndim == 3:
            return kernel.transpose(2, 0, 1)[:, None]
        return np.moveaxis(kernel, -1, 0)


def _bits(precision: int) -> str:
    return "float32" if precision == 32 else f"{precision} bit"


def declarations(model: tf.keras.Model) -> list[Declared]:
    """The kernels of all layers of a model, in the model's order."""
    return [declared for layer in all_layers(model) for declared in declarations_of(layer)]


def declarations_of(layer: tf.keras.layers.Layer) -> list[Declared]:
    """The kernels of one layer."""
    found = []
    for name, quantizer_attribute in _KERNELS:
        kernel = getattr(layer, name, None)
        if kernel is None or not hasattr(kernel, "shape") or len(kernel.shape) < 2:
            continue
        quantizer = getattr(layer, quantizer_attribute, None)
        latent = tf.convert_to_tensor(kernel)  # outside larq's quantized scope: not quantised yet
        value = np.asarray(quantizer(latent) if quantizer else latent, np.float32)
        # What Larq's attributes say, or else the registered rules of a layer that has none.
        bits = bits_of(layer)
        kernel_bits = min(declared_precision(quantizer), bits.kernel)
        input_bits = min(declared_precision(input_quantizer(layer)), bits.inputs)
        found.append(Declared(layer, value, kernel_bits, input_bits))
    return found


def input_quantizer(layer: tf.keras.layers.Layer) -> Any:
    """The quantiser of a layer's input, or `None`."""
    return getattr(layer, "input_quantizer", None)


def quantizer_name(quantizer: Any) -> str:
    """Name of a quantiser as a reader knows it: its class or function."""
    return getattr(quantizer, "__name__", type(quantizer).__name__)


def is_sign(quantizer: Any) -> bool | None:
    """Whether a quantiser maps x >= 0 to +1 and x < 0 to -1; `None` where it cannot be tried."""
    try:
        value = np.asarray(quantizer(tf.constant(_PROBE.reshape(1, 1, 1, -1)))).reshape(-1)
    except Exception:  # a quantiser may need another shape
        return None
    return bool(np.array_equal(value, np.where(_PROBE >= 0, 1.0, -1.0)))
