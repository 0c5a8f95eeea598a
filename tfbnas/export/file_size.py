"""Bytes of an exported file against the information in it, and where they go."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.export.declared import declarations, declarations_of
from tfbnas.export.flatbuffer import operators
from tfbnas.export.matching import match
from tfbnas.lce.graph import all_layers

OVERHEAD_FACTOR = 1.10
OVERHEAD_BYTES = 16 * 1024


@dataclass
class Sizes:
    """Bytes of the file against the information in it.

    Attributes:
      file: Bytes of the flatbuffer.
      binary_weights: Bytes of the binary kernels at 1 bit per weight.
      float_parameters: Bytes of all other parameters: 4 each, 2 parameters per channel of a BatchNormalization.
      limit: 1.10 x (both) + 16 KB, what the file without description and constant channels should not exceed.
      largest_float: Layers by the bytes of their float parameters, largest first (at most 5).
      word_padding: Bytes of the file that fill the input channels of bit-packed kernels up to words of 32.
      unpacked: Bytes of the file that hold binary kernels as floats.
      constants: Bytes of all other constants in the file.
      constant_channels: Bytes of channels that hold no information and make the model faster; see `padding.py`.
      description: Bytes of the file that say what the model takes and answers: class names, TFLite metadata.
      structure: Bytes of the file that are none of these: operators, shapes, names, alignment.
    """

    file: int
    binary_weights: int
    float_parameters: int
    limit: int
    largest_float: list[tuple[str, int]] = field(default_factory=list)
    word_padding: int = 0
    unpacked: int = 0
    constants: int = 0
    constant_channels: int = 0
    description: int = 0
    structure: int = 0

    @property
    def information(self) -> int:
        """Bytes that the parameters need."""
        return self.binary_weights + self.float_parameters

    def summary(self) -> str:
        """Two to four lines."""
        others = self.word_padding + self.unpacked + self.constants + self.constant_channels
        others += self.description + self.structure
        kinds = {
            "bit-packed weights": self.file - others,
            "their padding to words of 32 channels": self.word_padding,
            "binary weights as floats": self.unpacked,
            "other constants": self.constants,
            "constant channels for speed": self.constant_channels,
            "class names and metadata": self.description,
            "structure": self.structure,
        }
        text = (
            f"size: {self.file} bytes for {self.binary_weights} bytes of binary weights and {self.float_parameters} of "
            f"float parameters (should be at most {self.limit})\n"
            f"these are: {', '.join(f'{size} {kind}' for kind, size in kinds.items() if size)}"
        )
        if self.float_parameters > self.binary_weights:
            largest = ", ".join(f"{name} {size}" for name, size in self.largest_float[:3])
            text += f"\nmost bytes of the parameters are float, in the layers {largest}"
        return f"{text}\n{self.excess}" if self.excess else text

    @property
    def excess(self) -> str:
        """Why the file is larger than the limit, and the remedy; empty where it is not."""
        causes = {
            "bit packing fills the input channels of every binary kernel up to a multiple of 32; choose widths that "
            "are multiples of 32 (width_multiple=32 in a search)": self.word_padding,
            "binary weights are stored as floats; see the layers that the audit refuses": self.unpacked,
            "constants are stored that are no parameters of the network; see the operators of the audit": self.constants
            - self.float_parameters,
            "the operators themselves take more than the small network that they make up": self.structure,
        }
        cause = max(causes, key=lambda name: causes[name])
        over = self.file - self.description - self.constant_channels - self.limit
        return f"{over} bytes too many: {cause} ({causes[cause]} bytes)" if over > 0 else ""

    def to_json(self) -> dict[str, Any]:
        """Content for a JSON file."""
        return {
            **asdict(self),
            "information": self.information,
            "within_limit": self.file - self.description - self.constant_channels <= self.limit,
            "excess": self.excess,
        }


def sizes(flatbuffer: bytes, model: tf.keras.Model, *, description: int = 0) -> Sizes:
    """Compares the size of a converted model with what its parameters need.

    Args:
      flatbuffer: The converted model.
      model: The Keras model that was converted.
      description: Bytes by which the file is larger, since it says what the model takes and answers. Default: 0.
    """
    binary, floats = 0, {}
    for layer in all_layers(model):
        weights = sum(int(np.prod(v.shape)) for v in layer.trainable_weights + layer.non_trainable_weights)
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            weights = 2 * int(layer.moving_mean.shape[-1])
        bits = sum(declared.kernel.size for declared in declarations_of(layer) if declared.is_binary)
        binary += -(-bits // 8)
        if weights - bits > 0:
            floats[layer.name] = 4 * (weights - bits)
    total = sum(floats.values())
    limit = int(OVERHEAD_FACTOR * (binary + total)) + OVERHEAD_BYTES
    largest = sorted(floats.items(), key=lambda item: -item[1])[:5]
    result = Sizes(len(flatbuffer) + description, binary, total, limit, largest, description=description)
    _sort(flatbuffer, model, result)
    return result


def _sort(flatbuffer: bytes, model: tf.keras.Model, result: Sizes) -> None:
    """Fills in where the bytes of the file go."""
    found = operators(flatbuffer)
    # Equal constants are stored once.
    stored = {(tensor.dtype, tensor.content): tensor for operator in found for tensor in operator.constants}
    result.constants = sum(tensor.bytes for tensor in stored.values())
    result.structure = len(flatbuffer) - result.constants
    kernels = [declared for declared in declarations(model) if declared.is_binary]
    matched = match(found, kernels)
    for index, declared in matched.items():
        tensor = found[index].weights
        if tensor is None or stored.pop((tensor.dtype, tensor.content), None) is None:
            continue
        result.constants -= tensor.bytes
        if found[index].is_bit_packed:
            result.word_padding += tensor.bytes - -(-declared.kernel.size // 8)
        else:
            result.unpacked += tensor.bytes
    for declared in kernels:
        if declared not in matched.values():  # in another shape, or not binarised yet
            latent = [t for t in stored.values() if t.dtype == "float32" and t.bytes == declared.kernel.nbytes]
            for tensor in latent[:1]:
                stored.pop((tensor.dtype, tensor.content))
                result.constants -= tensor.bytes
                result.unpacked += tensor.bytes
