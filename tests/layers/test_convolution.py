"""Convolutions and the dense layer, against explicit numpy and their Keras and Larq twins."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, BinaryConv2D, Dense, FloatConv2D, LearnedStep, StandardizedSign


def explicit_convolution(inputs, kernel, stride, dilation=1):
    """Zero "same" padding as TensorFlow places it: the odd pixel goes to the end. Dilated kernels have holes."""
    holes = np.zeros((*((size - 1) * dilation + 1 for size in kernel.shape[:2]), *kernel.shape[2:]), kernel.dtype)
    holes[::dilation, ::dilation] = kernel
    kernel = holes
    count, height, width, _ = inputs.shape
    rows, columns = kernel.shape[:2]
    out_height, out_width = -(-height // stride), -(-width // stride)
    down = max((out_height - 1) * stride + rows - height, 0)
    right = max((out_width - 1) * stride + columns - width, 0)
    padded = np.pad(inputs, [(0, 0), (down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0)])
    result = np.zeros((count, out_height, out_width, kernel.shape[-1]))
    for row in range(out_height):
        for column in range(out_width):
            window = padded[:, row * stride : row * stride + rows, column * stride : column * stride + columns]
            result[:, row, column] = np.tensordot(window, kernel, axes=3)
    return result


def bits(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 2, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "dilation"),
    [((6, 5), 3, 1, 1), ((6, 5), 3, 2, 1), ((7, 8), 1, 2, 1), ((8, 8), 7, 2, 1), ((7, 8), 3, 1, 2)],
)
def test_binary_convolution(size, kernel_size, stride, dilation):
    inputs = bits((2, *size, 5))
    layer = BinaryConv2D(4, kernel_size, stride, dilation_rate=dilation)
    layer.build(inputs.shape)
    latent = np.random.default_rng(1).normal(0.3, 1.0, layer.kernel.shape)
    layer.set_weights([latent])
    signs = np.where(latent - latent.mean(axis=(0, 1, 2)) >= 0, 1.0, -1.0)
    found = layer(inputs)
    np.testing.assert_array_equal(found, explicit_convolution(inputs, signs, stride, dilation))
    assert tuple(found.shape) == tuple(layer.compute_output_shape(inputs.shape))


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "dilation"),
    [((6, 5), 3, 1, 1), ((9, 8), 7, 2, 1), ((5, 5), (1, 3), (2, 1), 1), ((6, 5), 3, 1, 2)],
)
def test_float_convolution_is_that_of_keras(size, kernel_size, stride, dilation):
    inputs = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    ours = FloatConv2D(4, kernel_size, stride, dilation_rate=dilation)
    twin = tf.keras.layers.Conv2D(4, kernel_size, stride, padding="same", use_bias=False, dilation_rate=dilation)
    expected = twin(inputs)
    ours(inputs)
    ours.set_weights(twin.get_weights())
    np.testing.assert_allclose(ours(inputs), expected, rtol=1e-5, atol=1e-5)


def test_binary_convolution_is_that_of_larq():
    inputs = tf.constant(bits((2, 6, 6, 3)))
    ours, twin = (
        BinaryConv2D(4, 3),
        lq.layers.QuantConv2D(
            4, 3, padding="same", use_bias=False, kernel_quantizer=StandardizedSign(), kernel_constraint="weight_clip"
        ),
    )
    results = []
    for layer in (ours, twin):
        layer.build(inputs.shape)
        layer.set_weights([np.random.default_rng(3).normal(size=(3, 3, 3, 4))])
        with tf.GradientTape() as tape:
            output = layer(inputs)
            loss = tf.reduce_sum(output**2)
        results.append((output, tape.gradient(loss, layer.trainable_weights)[0]))
    for ours_, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours_, theirs, rtol=1e-5, atol=1e-5)


def paper_block(x, step, kernel, gamma, beta, epsilon):
    """Eq. 1 and 2 word for word, then batch normalisation: with alpha and E|w|, straight through both roundings."""
    clipped = tf.clip_by_value(x / step, 0.0, 1.0)
    activations = step * (clipped + tf.stop_gradient(tf.round(clipped) - clipped))
    mean = tf.reduce_mean(kernel, axis=(0, 1, 2), keepdims=True)
    deviation = tf.sqrt(tf.reduce_mean((kernel - mean) ** 2, axis=(0, 1, 2), keepdims=True))
    standardized = (kernel - mean) / deviation
    signs = standardized + tf.stop_gradient(tf.sign(standardized) - standardized)
    weights = signs * tf.reduce_mean(tf.abs(standardized), axis=(0, 1, 2), keepdims=True)
    y = tf.nn.conv2d(activations, weights, 1, "SAME")
    mean, variance = tf.nn.moments(y, (0, 1, 2))
    return gamma * (y - mean) / tf.sqrt(variance + epsilon) + beta


def test_scales_of_the_paper_are_absorbed_by_normalisation():
    """The layers leave out alpha and E|w|: outputs and all gradients stay those of Eq. 1-2."""
    chance = np.random.default_rng(4)
    x = tf.Variable(chance.normal(0.4, 1.0, (8, 6, 6, 5)), dtype=tf.float32)
    target = tf.constant(chance.normal(size=(8, 6, 6, 4)), tf.float32)
    quantize, convolution, normalize = LearnedStep(1.3), BinaryConv2D(4, 3), BatchNormalization(epsilon=1e-9)
    inputs = tf.keras.Input((6, 6, 5))
    model = tf.keras.Model(inputs, normalize(convolution(quantize(inputs))))
    normalize.gamma.assign(chance.uniform(0.5, 1.5, 4) * [1, -1, 1, 1])
    normalize.beta.assign(chance.normal(size=4))
    variables = [x, quantize.step, convolution.kernel, normalize.gamma, normalize.beta]
    results = []
    for compute in (
        lambda: model(x, training=True),
        lambda: paper_block(x, *[tf.convert_to_tensor(v) for v in variables[1:]], 1e-9),
    ):
        with tf.GradientTape() as tape:
            output = compute()
            loss = tf.reduce_sum(tf.tanh(output) * target)
        results.append([output, *tape.gradient(loss, variables)])
    ours, papers = results
    papers[2] = papers[2] / np.sqrt(6 * 6 * 5)  # LSQ's scale of the step's gradient
    for name, left, right in zip(["output", "x", "step", "kernel", "gamma", "beta"], ours, papers, strict=True):
        assert np.abs(right).max() > 1e-3, name
        np.testing.assert_allclose(left, right, rtol=2e-3, atol=2e-4 * np.abs(right).max(), err_msg=name)


def test_mixed_precision_keeps_float_variables_and_exact_sums():
    inputs = bits((2, 6, 6, 16))
    layers = [BinaryConv2D(4, 3, dtype=policy) for policy in ("float32", "mixed_bfloat16")]
    for layer in layers:
        layer.build(inputs.shape)
        layer.set_weights([np.random.default_rng(5).normal(size=(3, 3, 16, 4))])
    exact, mixed = (layer(inputs) for layer in layers)
    assert layers[1].kernel.dtype == tf.float32 and mixed.dtype == tf.bfloat16
    np.testing.assert_array_equal(tf.cast(mixed, tf.float32), exact)  # integers up to 256 are exact


def test_mixed_precision_takes_the_sign_of_kernels_as_they_are():
    """Differences that bfloat16 does not hold decide signs: 1 + k 2^-12 standardised."""
    kernel = (1 + np.random.default_rng(0).permutation(3 * 3 * 16 * 4).reshape(3, 3, 16, 4) * 2.0**-12).astype(
        "float32"
    )
    layers = [BinaryConv2D(4, 3, dtype=policy) for policy in ("float32", "mixed_bfloat16")]
    outputs = []
    for layer in layers:
        layer.build((2, 6, 6, 16))
        layer.set_weights([kernel])
        outputs.append(layer(bits((2, 6, 6, 16))))
    np.testing.assert_array_equal(tf.cast(outputs[1], tf.float32), outputs[0])


@pytest.mark.parametrize("options", [{}, {"activation": "softmax"}, {"use_bias": False}])
def test_dense_is_that_of_keras(options):
    inputs = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    ours, twin = Dense(4, **options), tf.keras.layers.Dense(4, **options)
    expected = twin(inputs)
    ours(inputs)
    weights = [np.random.default_rng(1).normal(size=weight.shape) for weight in twin.get_weights()]
    ours.set_weights(weights)
    twin.set_weights(weights)
    np.testing.assert_allclose(ours(inputs), twin(inputs), rtol=1e-5, atol=1e-6)
    assert expected.shape == (3, 4)


@pytest.mark.parametrize(
    "layer",
    [
        FloatConv2D(4, (3, 1), 2, name="f"),
        BinaryConv2D(4, 3, dilation_rate=2, name="b"),
        BinaryConv2D(4, 3, kernel_quantizer=StandardizedSign(1.25), name="c"),
        Dense(4, activation="relu", name="d"),
    ],
    ids=lambda layer: layer.name,
)
def test_configuration_round_trip(layer):
    again = tf.keras.layers.deserialize(tf.keras.layers.serialize(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


def test_no_warning_of_starved_weights(caplog):
    BinaryConv2D(4, 3)
    assert "starved" not in caplog.text


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (FloatConv2D, {"use_bias": True}),
        (FloatConv2D, {"padding": "valid"}),
        (FloatConv2D, {"activation": "relu"}),
        (FloatConv2D, {"groups": 2}),
        (BinaryConv2D, {"kernel_constraint": "weight_clip"}),
        (BinaryConv2D, {"input_quantizer": "ste_sign"}),
        (BinaryConv2D, {"pad_values": 1.0}),
    ],
)
def test_arguments_that_would_be_ignored_are_refused(layer, options):
    (name,) = options
    with pytest.raises(UserError, match=f"Expected `{name}` of {layer.__name__} to be .* Received: {name}="):
        layer(4, 3, **options)


def test_strides_and_dilation_together_are_refused():
    with pytest.raises(UserError, match="`strides` or `dilation_rate` of BinaryConv2D to be 1. Received: strides=2"):
        BinaryConv2D(4, 3, 2, dilation_rate=(2, 2))


@pytest.mark.parametrize("filters", [0, -3, 2.5, "16", None, True])
def test_channels_that_are_no_number_are_refused(filters):
    with pytest.raises(UserError, match="channels of layer 'c1' to be a positive integer.* Received: "):
        FloatConv2D(filters, 3, name="c1")
