"""Which layers of a functional model Larq Compute Engine merges, and where it puts operators of its own.

The rules are those of LCE 0.16 on the deploy form (see tfbnas.export): a BatchNormalization directly behind a
convolution or dense layer is folded into it, a ReLU directly behind one or behind an addition is part of it, and a
binary convolution whose result is only ever quantised, at one threshold, writes bits. A tensor can be carried such that
one threshold is zero, as LCE has it; for each further one it is shifted by an addition.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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


@dataclass(eq=False)
class Call:
    """One layer of a network with its neighbours.

    Attributes:
      layer: The Keras layer.
      writers: The calls whose outputs it reads, in order.
      readers: The calls that read its output, each once.
      is_output: Whether the network gives its output out.
    """

    layer: tf.keras.layers.Layer
    writers: list[Call] = field(default_factory=list)
    readers: list[Call] = field(default_factory=list)
    is_output: bool = False

    def read(self, writer: Call) -> None:
        """Lets this call read `writer`, behind what it already reads."""
        if writer not in self.writers:
            writer.readers.append(self)
        self.writers.append(writer)

    @property
    def is_only_reader(self) -> bool:
        """Whether the tensor that it reads is there for nothing else."""
        writer = self.writers[0]
        return len(writer.readers) == 1 and not writer.is_output


def calls(model: tf.keras.Model) -> list[Call]:
    """The layers of a functional model, in their order. Every layer must be called once."""
    outputs = {id(tensor._keras_history.layer) for tensor in tf.nest.flatten(model.outputs)}
    found = {id(layer): Call(layer, is_output=id(layer) in outputs) for layer in model.layers}
    for call in found.values():
        if not isinstance(call.layer, tf.keras.layers.InputLayer):
            for tensor in tf.nest.flatten(call.layer.input):
                writer = found.get(id(tensor._keras_history.layer))
                if writer is not None:  # within a model that is a layer nothing is seen
                    call.read(writer)
    return list(found.values())


def reads_bits(call: Call) -> bool:
    """Whether a convolution's input is binary, quantised by itself or by the layer in front."""
    if is_binary_quantizer(getattr(call.layer, "input_quantizer", None)):
        return True
    return bool(call.writers) and is_binary_quantizer(call.writers[0].layer)


def is_binary_convolution(call: Call) -> bool:
    """Whether LCE computes a layer on bits."""
    layer = call.layer
    if isinstance(layer, tfl.BinaryDense):
        return True  # it is deployed as one
    return (
        isinstance(layer, tf.keras.layers.Conv2D)
        and not isinstance(layer, tf.keras.layers.DepthwiseConv2D | tf.keras.layers.Conv2DTranspose)
        and is_binary_quantizer(getattr(layer, "kernel_quantizer", None))
        and reads_bits(call)
    )


def is_folded(call: Call) -> bool:
    """Whether a normalisation or ReLU disappears in the layer in front of it."""
    if len(call.writers) != 1:
        return False
    writer = call.writers[0]
    if is_relu(call.layer) and is_relu(writer.layer):
        return True  # it changes nothing
    if not call.is_only_reader:
        return False
    if isinstance(call.layer, tf.keras.layers.BatchNormalization):
        return isinstance(writer.layer, _KERNELS) and (
            getattr(writer.layer, "activation", None) in (None, tf.keras.activations.linear)
            or is_binary_convolution(writer)
        )
    if isinstance(writer.layer, tf.keras.layers.BatchNormalization):
        # Behind a binary convolution's scale and offset a ReLU stays an operator.
        return is_folded(writer) and not is_binary_convolution(writer.writers[0])
    return isinstance(writer.layer, _KERNELS) or is_addition(writer.layer)


def is_quantized(call: Call) -> bool:
    """Whether a layer takes the sign of its input, as a whole or at first."""
    return is_binary_quantizer(call.layer) or is_binary_quantizer(getattr(call.layer, "input_quantizer", None))


def writes_bits(call: Call) -> bool:
    """Whether a tensor exists as bits only: a binary convolution made it, and only quantisers read it.

    Between the two may stand a folded normalisation or ReLU, and behind those a max pool, or a Flatten of which
    the deploy form makes the kernel of the BinaryDense behind.
    """
    if not call.readers or call.is_output or not _comes_from_bits(call):
        return False
    if all(is_quantized(reader) for reader in call.readers):
        return thresholds(call) == 1
    reader = call.readers[0]
    return len(call.readers) == 1 and (_folds_behind_bits(reader) or _keeps_bits(reader.layer)) and writes_bits(reader)


def has_threshold(call: Call) -> bool:
    """Whether a layer quantises at a threshold of its own, not at zero."""
    return isinstance(call.layer, tfl.LearnedStep)


def thresholds(call: Call) -> int:
    """At how many thresholds the readers of a tensor quantise it: each learned step has one, all signs share zero."""
    learned = sum(has_threshold(reader) for reader in call.readers)
    return learned + any(is_quantized(reader) and not has_threshold(reader) for reader in call.readers)


def origin(call: Call) -> Call:
    """The tensor of which a tensor holds the elements, some of them several times."""
    while isinstance(call.layer, tf.keras.layers.UpSampling2D):
        call = call.writers[0]
    return call


def carries(layer: tf.keras.layers.Layer) -> bool:
    """Whether what becomes of the neighbours on one side of a layer can depend on those on its other side.

    All other layers are walls: two networks that differ beyond one are the same to a layer on this side.
    """
    takes_bits = is_binary_quantizer(getattr(layer, "kernel_quantizer", None)) and not is_binary_quantizer(
        getattr(layer, "input_quantizer", None)
    )
    foldable = isinstance(layer, tf.keras.layers.BatchNormalization) or is_relu(layer)
    return takes_bits or foldable or _keeps_bits(layer) or isinstance(layer, tf.keras.layers.UpSampling2D)


def merges(layer: tf.keras.layers.Layer) -> bool:
    """Whether what reads a layer may be merged with it, beyond a ReLU with an addition, or read bits from it."""
    return isinstance(layer, _KERNELS) or is_binary_quantizer(layer) or carries(layer)


def _folds_behind_bits(call: Call) -> bool:
    foldable = isinstance(call.layer, tf.keras.layers.BatchNormalization) or is_relu(call.layer)
    return foldable and is_folded(call)


def _comes_from_bits(call: Call) -> bool:
    if is_binary_convolution(call):
        return isinstance(call.layer, tfl.BinaryConv2D | tfl.BinaryDense) or _can_write_bits(call.layer)
    if _folds_behind_bits(call) or _keeps_bits(call.layer):
        return _comes_from_bits(call.writers[0])
    return False


def _can_write_bits(layer: tf.keras.layers.Layer) -> bool:
    # A padded zero is no bit: LCE then writes float and quantises again.
    padded = layer.padding == "same" and max(layer.kernel_size) > 1
    return not padded or getattr(layer, "pad_values", 0.0) == 1.0
