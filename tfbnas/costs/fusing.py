"""Which layers of a functional model Larq Compute Engine merges, and where it puts operators of its own.

The rules are those of LCE 0.16 on the deploy form (see tfbnas.export): a BatchNormalization directly behind a
convolution or dense layer is folded into it, a ReLU directly behind one or behind an addition is part of it, and a
binary convolution whose result is only ever quantised writes bits.
"""

from __future__ import annotations

import larq as lq
import tensorflow as tf

import tfbnas.layers as tfl

_KERNELS = (tf.keras.layers.Conv2D, tf.keras.layers.DepthwiseConv2D, tf.keras.layers.Dense)
# Nothing to compute when the model is deployed, or no operator of its own.
FREE = (
    tf.keras.layers.InputLayer,
    tf.keras.layers.Dropout,
    tf.keras.layers.Flatten,
    tf.keras.layers.Reshape,
    tf.keras.layers.GaussianNoise,
)


def is_binary_quantizer(quantizer) -> bool:
    """Whether a Larq quantiser, or None, gives one bit."""
    return getattr(quantizer, "precision", None) == 1 and not isinstance(quantizer, lq.quantizers.NoOp)


def is_addition(layer: tf.keras.layers.Layer) -> bool:
    """Whether a layer adds tensors: a Keras Add, or the operator + between two of them."""
    if type(layer).__name__ == "TFOpLambda":
        return layer.get_config().get("function") in ("__operators__.add", "math.add")
    return isinstance(layer, tf.keras.layers.Add)


def is_relu(layer: tf.keras.layers.Layer) -> bool:
    """Whether a layer is a ReLU that TFLite's operators can take in."""
    activation = getattr(layer, "activation", None) if isinstance(layer, tf.keras.layers.Activation) else None
    return isinstance(layer, tf.keras.layers.ReLU) or activation in (tf.keras.activations.relu, tf.nn.relu)


def is_linear(layer: tf.keras.layers.Layer) -> bool:
    """Whether a layer is an activation that changes nothing."""
    return isinstance(layer, tf.keras.layers.Activation) and layer.activation is tf.keras.activations.linear


def keeps_words(image) -> bool:
    """Whether the bits of a vector take no more words of 32 as the image `[batch, height, width, channels]` it was."""
    return tuple(image.shape[1:3]) == (1, 1) or (image.shape[3] or 1) % 32 == 0


def _keeps_bits(layer: tf.keras.layers.Layer) -> bool:
    """Whether a layer works on bits, a BinaryDense behind a Flatten being a convolution of the image."""
    if isinstance(layer, tf.keras.layers.Flatten):
        return len(layer.input.shape) == 4 and keeps_words(layer.input)
    return isinstance(layer, tf.keras.layers.MaxPool2D)


class Graph:
    """The layers of a functional model with their neighbours. Every layer must be called once."""

    def __init__(self, model: tf.keras.Model):
        self.layers = list(model.layers)
        self._outputs = {id(tensor._keras_history.layer) for tensor in tf.nest.flatten(model.outputs)}
        self._readers: dict[int, list[tf.keras.layers.Layer]] = {id(layer): [] for layer in self.layers}
        for layer in self.layers:
            for writer in {id(writer): writer for writer in self.writers(layer)}.values():
                self._readers.setdefault(id(writer), []).append(layer)

    def writers(self, layer: tf.keras.layers.Layer) -> list[tf.keras.layers.Layer]:
        """The layers whose outputs a layer reads."""
        if isinstance(layer, tf.keras.layers.InputLayer):
            return []
        return [tensor._keras_history.layer for tensor in tf.nest.flatten(layer.input)]

    def readers(self, layer: tf.keras.layers.Layer) -> list[tf.keras.layers.Layer]:
        """The layers that read a layer's output."""
        return self._readers[id(layer)]

    def _only_reader(self, layer: tf.keras.layers.Layer) -> bool:
        return len(self.readers(layer)) == 1 and id(layer) not in self._outputs

    def reads_bits(self, layer: tf.keras.layers.Layer) -> bool:
        """Whether a convolution's input is binary, quantised by itself or by the layer in front."""
        if is_binary_quantizer(getattr(layer, "input_quantizer", None)):
            return True
        writers = self.writers(layer)
        return bool(writers) and is_binary_quantizer(writers[0])

    def is_binary_convolution(self, layer: tf.keras.layers.Layer) -> bool:
        """Whether LCE computes a layer on bits."""
        if isinstance(layer, tfl.BinaryDense):
            return True  # it is deployed as one
        return (
            isinstance(layer, tf.keras.layers.Conv2D)
            and not isinstance(layer, tf.keras.layers.DepthwiseConv2D | tf.keras.layers.Conv2DTranspose)
            and is_binary_quantizer(getattr(layer, "kernel_quantizer", None))
            and self.reads_bits(layer)
        )

    def is_folded(self, layer: tf.keras.layers.Layer) -> bool:
        """Whether a normalisation or ReLU disappears in the layer in front of it."""
        writers = self.writers(layer)
        if len(writers) != 1 or not self._only_reader(writers[0]):
            return False
        writer = writers[0]
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            return isinstance(writer, _KERNELS) and (
                getattr(writer, "activation", None) in (None, tf.keras.activations.linear)
                or self.is_binary_convolution(writer)
            )
        if isinstance(writer, tf.keras.layers.BatchNormalization):
            # Behind a binary convolution's scale and offset a ReLU stays an operator.
            return self.is_folded(writer) and not self.is_binary_convolution(self.writers(writer)[0])
        return isinstance(writer, _KERNELS) or is_addition(writer)

    def is_quantized(self, layer: tf.keras.layers.Layer) -> bool:
        """Whether a layer takes the sign of its input, as a whole or at first."""
        return is_binary_quantizer(layer) or is_binary_quantizer(getattr(layer, "input_quantizer", None))

    def writes_bits(self, layer: tf.keras.layers.Layer) -> bool:
        """Whether a tensor exists as bits only: a binary convolution made it, and only quantisers read it.

        Between the two may stand a folded normalisation or ReLU, and behind those a max pool, or a Flatten of which
        the deploy form makes the kernel of the BinaryDense behind.
        """
        readers = self.readers(layer)
        if not readers or id(layer) in self._outputs or not self._comes_from_bits(layer):
            return False
        if all(self.is_quantized(reader) for reader in readers):
            return True
        return (
            len(readers) == 1
            and (self._folds_behind_bits(readers[0]) or _keeps_bits(readers[0]))
            and self.writes_bits(readers[0])
        )

    def _folds_behind_bits(self, layer: tf.keras.layers.Layer) -> bool:
        foldable = isinstance(layer, tf.keras.layers.BatchNormalization) or is_relu(layer)
        return foldable and self.is_folded(layer)

    def _comes_from_bits(self, layer: tf.keras.layers.Layer) -> bool:
        if self.is_binary_convolution(layer):
            return isinstance(layer, tfl.BinaryConv2D | tfl.BinaryDense) or self._can_write_bits(layer)
        if self._folds_behind_bits(layer) or _keeps_bits(layer):
            return self._comes_from_bits(self.writers(layer)[0])
        return False

    @staticmethod
    def _can_write_bits(layer: tf.keras.layers.Layer) -> bool:
        # A padded zero is no bit: LCE then writes float and quantises again.
        padded = layer.padding == "same" and max(layer.kernel_size) > 1
        return not padded or getattr(layer, "pad_values", 0.0) == 1.0
