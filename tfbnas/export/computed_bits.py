"""The bits that a converted model computes with, read from LCE's interpreter."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfbnas.export.convert import Interpreter
from tfbnas.export.declared import declarations
from tfbnas.export.flatbuffer import operators, unpack_kernel
from tfbnas.export.matching import match
from tfbnas.export.rewriting import with_outputs


class ComputedBits:
    """Runs a converted model that shows what its binary layers read.

    Args:
      flatbuffer: The converted model.
      model: The Keras model that was converted.
    """

    def __init__(self, flatbuffer: bytes, model: tf.keras.Model):
        found = operators(flatbuffer)
        written = {tensor.index for operator in found for tensor in operator.outputs}
        self._tensors: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        for index, declared in match(found, declarations(model)).items():
            source = next(tensor for tensor in found[index].inputs if tensor.data is None)
            if declared.input_bits == 1 and source.index in written:
                self._tensors[declared.layer.name] = source.index
                self._channels[declared.layer.name] = declared.channels
        self._numbers = list(dict.fromkeys(self._tensors.values()))
        self._interpreter = Interpreter(with_outputs(flatbuffer, self._numbers))

    @property
    def names(self) -> list[str]:
        """Of the layers whose bits are shown."""
        return list(self._tensors)

    def read(self, inputs: np.ndarray) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """The outputs of the model, and +1 or -1 for each bit that a binary layer reads, by the layer's name."""
        outputs = self._interpreter.predict(inputs)
        own = len(outputs) - len(self._numbers)
        tensors = dict(zip(self._numbers, outputs[own:], strict=True))
        return outputs[:own], {name: self._bits(name, tensors[number]) for name, number in self._tensors.items()}

    def _bits(self, name: str, tensor: np.ndarray) -> np.ndarray:
        if tensor.dtype == np.int32:
            tensor = unpack_kernel(tensor, self._channels[name])
        return np.where(tensor < 0, -1, 1).astype(np.int8)
