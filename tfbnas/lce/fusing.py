"""Which layers of a functional model Larq Compute Engine merges, and where it puts operators of its own.

The rules are those of LCE 0.16 on the deploy form (see tfbnas.export): a BatchNormalization directly behind a
convolution or dense layer is folded into it, a ReLU directly behind one or behind an addition is part of it, and a
binary convolution whose result is only ever quantised, at one threshold, writes bits. A tensor can be carried such that
one threshold is zero, as LCE has it; for each further one it is shifted by an addition.
"""

from __future__ import annotations

import tensorflow as tf

from tfbnas.lce.graph import Call
from tfbnas.lce.registry import Layer, absorbs, bits_of, rules_of
from tfbnas.lce.standard import is_addition, is_relu


def is_quantizer(layer: Layer) -> bool:
    """Whether a layer is a quantiser to one bit."""
    return bits_of(layer).outputs == 1


def reads_bits(call: Call) -> bool:
    """Whether a layer's input is binary, quantised by itself or by the layer in front."""
    return bits_of(call.layer).inputs == 1 or (bool(call.writers) and is_quantizer(call.writers[0].layer))


def is_binary_convolution(call: Call) -> bool:
    """Whether LCE computes a layer on bits."""
    return rules_of(call.layer).binary_operator and bits_of(call.layer).kernel == 1 and reads_bits(call)


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
        return absorbs(writer.layer) and (
            getattr(writer.layer, "activation", None) in (None, tf.keras.activations.linear)
            or is_binary_convolution(writer)
        )
    if not is_relu(call.layer):
        return False
    if isinstance(writer.layer, tf.keras.layers.BatchNormalization):
        # Behind a binary convolution's scale and offset a ReLU stays an operator.
        return is_folded(writer) and not is_binary_convolution(writer.writers[0])
    return absorbs(writer.layer) or is_addition(writer.layer)


def is_quantized(call: Call) -> bool:
    """Whether a layer takes the sign of its input, as a whole or at first."""
    bits = bits_of(call.layer)
    return 1 in (bits.inputs, bits.outputs)


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
    keeps = _folds_behind_bits(reader) or rules_of(reader.layer).keeps_bits(reader.layer)
    return len(call.readers) == 1 and keeps and writes_bits(reader)


def has_threshold(call: Call) -> bool:
    """Whether a layer quantises at a threshold of its own, not at zero."""
    return rules_of(call.layer).threshold is not None


def thresholds(call: Call) -> int:
    """At how many thresholds the readers of a tensor quantise it: each learned step has one, all signs share zero."""
    learned = sum(has_threshold(reader) for reader in call.readers)
    return learned + any(is_quantized(reader) and not has_threshold(reader) for reader in call.readers)


def origin(call: Call) -> Call:
    """The tensor of which a tensor holds the elements, some of them several times."""
    while isinstance(call.layer, tf.keras.layers.UpSampling2D):
        call = call.writers[0]
    return call


def carries(layer: Layer) -> bool:
    """Whether what becomes of the neighbours on one side of a layer can depend on those on its other side.

    All other layers are walls: two networks that differ beyond one are the same to a layer on this side.
    """
    bits = bits_of(layer)
    if bits.kernel == 1 and bits.inputs != 1:
        return True  # it takes the bits that the layer in front gives
    keeps = rules_of(layer).keeps_bits(layer) or isinstance(layer, tf.keras.layers.UpSampling2D)
    return keeps or _is_foldable(layer)


def merges(layer: Layer) -> bool:
    """Whether what reads a layer may be merged with it, beyond a ReLU with an addition, or read bits from it."""
    return absorbs(layer) or is_quantizer(layer) or carries(layer)


def _is_foldable(layer: Layer) -> bool:
    return isinstance(layer, tf.keras.layers.BatchNormalization) or is_relu(layer)


def _folds_behind_bits(call: Call) -> bool:
    return _is_foldable(call.layer) and is_folded(call)


def _comes_from_bits(call: Call) -> bool:
    rules = rules_of(call.layer)
    if is_binary_convolution(call):
        return rules.writes_bits(call.layer)
    if _folds_behind_bits(call) or rules.keeps_bits(call.layer):
        return _comes_from_bits(call.writers[0])
    return False
