"""Why a layer that declares binary weights came out as something else, and what to do about it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfbnas.export.declared import Declared, input_quantizer, is_sign, quantizer_name
from tfbnas.lce.registry import rules_of

_SIGN = "use ste_sign, approx_sign or SwishSign from larq.quantizers"
# MLIR's constant folding of TensorFlow operators stops at some size; 150 MB were seen left over, 67 MB folded.
_LARGEST_FOLDED = 100e6


def why_float(declared: Declared) -> tuple[str, str]:
    """Reason and remedy for a kernel that is declared as quantised and that LCE stores as float."""
    layer = declared.layer
    quantizer = input_quantizer(layer)
    if not declared.is_binary:
        return (
            f"it declares {declared.precision} (inputs x weights), and Larq Compute Engine has operators for 1 bit x 1 "
            "bit only: the layer is as large and as slow as a float one",
            "use ste_sign as input_quantizer and kernel_quantizer, or leave the layer in full precision",
        )
    if (known := rules_of(layer).no_operator) is not None:
        return known
    name = quantizer_name(quantizer)
    if np.any(declared.kernel == 0):
        return (
            "the kernel contains zeros (a mask, or a ternary quantiser): it does not fit into one bit",
            "cut masked filters out before the export, and use a quantiser with the values -1 and +1 only",
        )
    size = np.abs(declared.kernel)
    if np.any(size.max(axis=tuple(range(size.ndim - 1))) > 1.005 * size.min(axis=tuple(range(size.ndim - 1)))):
        return "the quantised kernel has more than one magnitude in a filter", _SIGN + " as kernel_quantizer"
    groups = getattr(layer, "groups", 1)
    if groups > 1 and (declared.kernel.shape[2] % 32):
        return (
            f"{declared.kernel.shape[2]} input channels per group cannot be bit-packed",
            "give each group a multiple of 32 input channels, or use groups=1",
        )
    if quantizer is None:
        return (
            "only the weights are binary: Larq Compute Engine has no operator for a real input with binary weights, "
            "so the layer is as large and as slow as a float one",
            "give it an input_quantizer, or leave the layer in full precision (kernel_quantizer=None)",
        )
    recognised = is_sign(quantizer)
    if recognised is False or (recognised is None and declared.input_bits != 1):
        return f"the input quantiser {name} does not give sign(x) with sign(0) = +1", _SIGN
    if None in tuple(layer.input_shape[1:3]):
        return (
            "height or width of the input is not fixed, so that its padding cannot be computed at conversion",
            "give tf.keras.Input a fixed height and width",
        )
    if declared.kernel.nbytes > _LARGEST_FOLDED:
        return (
            f"the kernel has {declared.kernel.size / 1e6:.0f} million weights, and the converter binarises none of "
            f"more than about {_LARGEST_FOLDED / 4e6:.0f} million: it stores them as floats, to be binarised at every "
            "run",
            "share the filters out among several layers and concatenate their outputs",
        )
    return (
        f"the converter does not recognise the input quantiser {name} as a sign function",
        _SIGN + "; tf.where needs scalar constants, tf.ones_like is none",
    )


def why_wrong(declared: Declared) -> tuple[str, str] | None:
    """Reason and remedy where LCE emits a binary operator that computes something else, or `None`."""
    quantizer = input_quantizer(declared.layer)
    if quantizer is not None and is_sign(quantizer) is False:
        return (
            f"Larq Compute Engine miscompiles the input quantiser {quantizer_name(quantizer)}: it takes it for a sign, "
            "which it is not",
            _SIGN,
        )
    return None


def grouped(layer: tf.keras.layers.Layer) -> tuple[str, str] | None:
    """Reason and remedy for a grouped binary convolution, which LCE's default kernel does not run, or `None`."""
    if getattr(layer, "groups", 1) == 1:
        return None
    return (
        "Larq Compute Engine's default kernel refuses grouped binary convolutions at run time",
        "use groups=1, or allow the layer by name and run the model with use_indirect_bgemm only",
    )
