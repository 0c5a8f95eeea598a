"""What Larq Compute Engine makes of each pattern: if an upgrade of it or of TensorFlow changes one, it shows here."""

from collections.abc import Callable
from dataclasses import dataclass

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from small_networks import randomise

from tfbnas.export import ExportError, audit, check, convert_model, parity
from tfbnas.export.flatbuffer import operators

layers = tf.keras.layers
BINARY = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
    "padding": "same",
    "pad_values": 1.0,
    "use_bias": False,
}
QUANTIZE, CONVOLUTION = "LceQuantize", "LceBconv2d"


def conv(x, filters=32, size=3, **changes):
    return lq.layers.QuantConv2D(filters, size, **{**BINARY, **changes})(x)


def norm(x, **options):
    return layers.BatchNormalization(**options)(x)


def between(middle: Callable, **changes):
    """Two binary convolutions with something in between."""
    return lambda x: norm(conv(middle(conv(x, **changes)), **changes))


def relu(x):
    return layers.ReLU()(x)


def where_scalar(x):
    return tf.where(x >= 0, 1.0, -1.0)


def where_tensor(x):
    return tf.where(x >= 0, tf.ones_like(x), -tf.ones_like(x))


def two_readers(x):
    x = norm(conv(x))
    return layers.Add()([conv(x), conv(x, size=1)])


@dataclass
class Pattern:
    """`operators` are those of the converted model; `refused` is part of the reason where the audit refuses it."""

    build: Callable
    operators: list[str]
    refused: str = ""
    channels: int = 32
    runs: bool = True
    note: str = ""


FLOAT = [QUANTIZE, "LceDequantize", "PADV2", "CONV_2D"]
CHAIN = [QUANTIZE, CONVOLUTION, CONVOLUTION]
PATTERNS = {
    "one_padding": Pattern(between(norm), CHAIN),
    "valid": Pattern(between(norm, padding="valid", pad_values=0.0), CHAIN),
    "stride_2": Pattern(between(norm, strides=2), CHAIN),
    "1x1": Pattern(between(norm, size=1), CHAIN),
    "5x5": Pattern(between(norm, size=5), CHAIN),
    "1x3": Pattern(between(norm, size=(1, 3)), CHAIN),
    "dilation": Pattern(between(norm, dilation_rate=2), CHAIN),
    "odd_channels": Pattern(lambda x: norm(conv(norm(conv(x, 20)))), CHAIN, channels=48),
    "zero_padding": Pattern(between(norm, pad_values=0.0), [QUANTIZE, CONVOLUTION, QUANTIZE, CONVOLUTION]),
    "relu_norm": Pattern(between(lambda x: norm(relu(x))), CHAIN),
    "relu6_norm": Pattern(between(lambda x: norm(layers.ReLU(6.0)(x))), CHAIN),
    "norm_relu": Pattern(
        between(lambda x: relu(norm(x))),
        [QUANTIZE, CONVOLUTION, "RELU", QUANTIZE, CONVOLUTION],
        note="takes is +1",
        runs=False,  # the bits are constant, and so the statistics that follow are degenerate
    ),
    "prelu": Pattern(
        between(lambda x: norm(layers.PReLU()(x))),
        [QUANTIZE, CONVOLUTION, "PRELU", "MUL", "ADD", QUANTIZE, CONVOLUTION],
    ),
    "norm_pool": Pattern(
        between(lambda x: layers.MaxPool2D(2)(norm(x))), [QUANTIZE, CONVOLUTION, "LceBMaxPool2d", CONVOLUTION]
    ),
    "norm_pool_same": Pattern(
        between(lambda x: layers.MaxPool2D(3, 1, padding="same")(norm(x))),
        [QUANTIZE, CONVOLUTION, "LceBMaxPool2d", CONVOLUTION],
    ),
    "pool_norm": Pattern(
        between(lambda x: norm(layers.MaxPool2D(2)(x))),
        [QUANTIZE, CONVOLUTION, "MAX_POOL_2D", "MUL", "ADD", QUANTIZE, CONVOLUTION],
    ),
    "average_pool": Pattern(
        between(lambda x: layers.AveragePooling2D(2)(norm(x))),
        [QUANTIZE, CONVOLUTION, "AVERAGE_POOL_2D", QUANTIZE, CONVOLUTION],
    ),
    "residual": Pattern(
        lambda x: norm(conv(layers.Add()([x, norm(conv(x))]))), [QUANTIZE, CONVOLUTION, "ADD", QUANTIZE, CONVOLUTION]
    ),
    "preactivation": Pattern(lambda x: conv(norm(x)), ["MUL", "ADD", QUANTIZE, CONVOLUTION]),
    "bias": Pattern(between(norm, use_bias=True), CHAIN),
    "norm_without_scale": Pattern(between(lambda x: norm(x, scale=False)), CHAIN),
    "dropout": Pattern(between(lambda x: layers.Dropout(0.5)(norm(x))), CHAIN),
    "two_readers": Pattern(two_readers, [QUANTIZE, CONVOLUTION, CONVOLUTION, CONVOLUTION, "ADD"]),
    "concatenation": Pattern(
        lambda x: conv(layers.Concatenate()([norm(conv(x)), norm(conv(x))])),
        [QUANTIZE, CONVOLUTION, CONVOLUTION, "CONCATENATION", QUANTIZE, CONVOLUTION],
    ),
    "approx_sign": Pattern(between(norm, input_quantizer="approx_sign"), CHAIN),
    "swish_sign": Pattern(between(norm, input_quantizer="swish_sign", kernel_quantizer="swish_sign"), CHAIN),
    "magnitude_aware_sign": Pattern(between(norm, kernel_quantizer="magnitude_aware_sign"), CHAIN),
    "where_scalar": Pattern(between(norm, input_quantizer=where_scalar), CHAIN),
    "where_tensor": Pattern(
        lambda x: norm(conv(x, input_quantizer=where_tensor)),
        ["GREATER_EQUAL", "SELECT", "PADV2", "CONV_2D"],
        "does not recognise",
    ),
    "tf_sign": Pattern(
        lambda x: norm(conv(x, input_quantizer=tf.sign)), ["SIGN", "PADV2", "CONV_2D"], "does not give sign"
    ),
    "ternary_input": Pattern(
        lambda x: norm(conv(x, input_quantizer="ste_tern")), ["ADD", QUANTIZE, CONVOLUTION], "miscompiles", runs=False
    ),
    "dorefa_input": Pattern(
        lambda x: norm(conv(x, input_quantizer="dorefa_quantizer")),
        ["MINIMUM", "RELU", "MUL", "ROUND", "MUL", "PADV2", "CONV_2D"],
        "does not give sign",
    ),
    "heaviside_input": Pattern(
        lambda x: norm(conv(x, input_quantizer="ste_heaviside")),
        ["RELU", "SIGN", "PADV2", "CONV_2D"],
        "does not give sign",
    ),
    "heaviside_kernel": Pattern(lambda x: norm(conv(x, kernel_quantizer="ste_heaviside")), FLOAT, "contains zeros"),
    "ternary_kernel": Pattern(lambda x: norm(conv(x, kernel_quantizer="ste_tern")), FLOAT, "1 bit x 2 bit"),
    "dorefa_kernel": Pattern(
        lambda x: norm(conv(x, kernel_quantizer=lq.quantizers.DoReFa(2, mode="weights"))), FLOAT, "1 bit x 2 bit"
    ),
    "weights_only": Pattern(
        lambda x: norm(conv(x, input_quantizer=None, pad_values=0.0)), ["CONV_2D"], "only the weights are binary"
    ),
    "groups": Pattern(lambda x: norm(conv(x, groups=2)), [QUANTIZE, CONVOLUTION], "grouped", channels=64),
    "narrow_groups": Pattern(lambda x: norm(conv(x, groups=2)), FLOAT, "per group cannot be bit-packed"),
    "dense": Pattern(
        lambda x: lq.layers.QuantDense(8, input_quantizer="ste_sign", kernel_quantizer="ste_sign")(
            layers.GlobalAveragePooling2D()(x)
        ),
        ["MEAN", QUANTIZE, "LceDequantize", "FULLY_CONNECTED"],
        "no binary dense",
    ),
    "depthwise": Pattern(
        lambda x: lq.layers.QuantDepthwiseConv2D(3, input_quantizer="ste_sign", depthwise_quantizer="ste_sign")(x),
        [QUANTIZE, "LceDequantize", "DEPTHWISE_CONV_2D"],
        "no binary depthwise",
    ),
    "separable": Pattern(
        lambda x: lq.layers.QuantSeparableConv2D(
            8, 3, input_quantizer="ste_sign", depthwise_quantizer="ste_sign", pointwise_quantizer="ste_sign"
        )(x),
        [QUANTIZE, "LceDequantize", "DEPTHWISE_CONV_2D", "CONV_2D"],
        "no binary depthwise",
    ),
    "transposed": Pattern(
        lambda x: lq.layers.QuantConv2DTranspose(8, 3, input_quantizer="ste_sign", kernel_quantizer="ste_sign")(x),
        [QUANTIZE, "LceDequantize", "TRANSPOSE_CONV"],
        "transposed",
    ),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_pattern(name):
    pattern = PATTERNS[name]
    inputs = tf.keras.Input((8, 8, pattern.channels))
    model = randomise(tf.keras.Model(inputs, pattern.build(inputs)))
    flatbuffer = convert_model(model)
    found = [operator.name for operator in operators(flatbuffer)]
    assert found == pattern.operators
    rows = audit(flatbuffer, model)
    warnings = [row.note for row in rows if "every bit" in row.note]
    assert any(pattern.note in note for note in warnings) if pattern.note else not warnings
    if pattern.runs:
        parity(flatbuffer, model, images=np.random.default_rng(0).normal(size=(4, *inputs.shape[1:])), tolerance=1e-4)
    if pattern.refused:
        with pytest.raises(ExportError, match=pattern.refused):
            check(rows)
    else:
        check(rows)
