"""The rectified convolution: gradients against numpy and finite differences, and what becomes of it in export."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas.layers import BatchNormalization, Dense, FloatConv2D, OpenWidth, RectifiedConv2D, SignConv2D, blocks
from tfbnas.layers.rectified import kernel_loss

layers = tf.keras.layers
BITS = np.sign(np.random.default_rng(7).normal(size=(2, 6, 6, 5))).astype(np.float32)


@pytest.fixture(scope="module")
def layer():
    """With latent weights on both sides of one, and an uneven scale matrix."""
    chance = np.random.default_rng(0)
    found = RectifiedConv2D(4, 3, kernel_loss_weight=0.5)
    found.build(BITS.shape)
    found.set_weights([chance.normal(0, 0.6, (3, 3, 5, 4)), chance.uniform(0.1, 0.9, (3, 3, 5))])
    return found


def sign(x):
    return np.where(x >= 0, 1.0, -1.0)


def test_it_is_a_sign_convolution_times_the_mean_of_the_scale_matrix(layer):
    twin = SignConv2D(4, 3)
    twin.build(BITS.shape)
    twin.set_weights(layer.get_weights()[:1])
    np.testing.assert_allclose(layer(BITS), twin(BITS) * layer.get_weights()[1].mean(), rtol=1e-5, atol=1e-5)


def test_the_gradient_passes_the_sign_with_two_minus_two_w():
    values = np.array([-1.5, -1.0, -0.75, -0.0, 0.0, 0.25, 1.0, 1.5], np.float32)
    kernel, layer = tf.Variable(values), RectifiedConv2D(1, 1)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer.kernel_quantizer(tf.convert_to_tensor(kernel)) * np.arange(1.0, 9.0))
    factor = [0.0, 0.0, 2 + 2 * -0.75, 2.0, 2.0, 2 - 2 * 0.25, 0.0, 0.0]
    np.testing.assert_allclose(tape.gradient(total, kernel), factor * np.arange(1.0, 9.0), rtol=1e-6)


def test_gradients_of_kernel_and_scale_through_the_convolution(layer):
    kernel, scale = layer.get_weights()
    upstream = np.random.default_rng(1).normal(size=(2, 6, 6, 4)).astype(np.float32)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(BITS) * upstream)
    by_kernel, by_scale = tape.gradient(total, layer.trainable_weights)
    effective = tf.Variable(sign(kernel).astype(np.float32) * scale.mean())
    padded = tf.pad(BITS, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.0)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.nn.conv2d(padded, effective, 1, "VALID") * upstream)
    by_effective = tape.gradient(total, effective).numpy()
    expected = by_effective * scale.mean() * np.maximum(0.0, 2 - 2 * np.abs(kernel))
    np.testing.assert_allclose(by_kernel, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        by_scale, np.full(scale.shape, (by_effective * sign(kernel)).sum() / scale.size), rtol=1e-4
    )


def differences(function, x, step=1e-5):
    """Central differences by each element of `x`, in float64."""
    found = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        moved = [x.copy(), x.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        found[index] = (float(function(moved[0])) - float(function(moved[1]))) / (2 * step)
    return found


def test_kernel_loss_has_the_derivatives_of_the_paper():
    """By the signs and by C as printed; by W itself W - C S, which the paper leaves out."""
    chance = np.random.default_rng(2)
    kernel, scale = chance.normal(size=(2, 1, 3, 2)), chance.uniform(0.2, 0.9, (2, 1, 3))
    signs = sign(kernel)
    rest = kernel - scale[..., None] * signs
    for function, at, expected in (
        (lambda s: kernel_loss(kernel, s, scale), signs, -rest * scale[..., None]),
        (lambda c: kernel_loss(kernel, signs, c), scale, -(rest * signs).sum(axis=-1)),
        (lambda w: kernel_loss(w, signs, scale), kernel, rest),
    ):
        np.testing.assert_allclose(differences(function, at), expected, atol=1e-7)
        variable = tf.Variable(at)
        with tf.GradientTape() as tape:
            value = function(variable)
        np.testing.assert_allclose(tape.gradient(value, variable), expected, atol=1e-12)


def test_the_layers_loss_has_both_parts_of_the_gradient_and_falls_along_it(layer):
    kernel, scale = layer.get_weights()
    rest, signs = kernel - scale[..., None] * sign(kernel), sign(kernel)
    with tf.GradientTape() as tape:
        (loss,) = layer.losses
    by_kernel, by_scale = tape.gradient(loss, layer.trainable_weights)
    through_sign = -rest * scale[..., None] * np.maximum(0.0, 2 - 2 * np.abs(kernel))
    np.testing.assert_allclose(by_kernel, 0.5 * (rest + through_sign), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(by_scale, -0.5 * (rest * signs).sum(axis=-1), rtol=1e-4, atol=1e-6)
    # Where C is small, as in a network, the paper's form without W - C S climbs; the one that is kept falls.
    small = scale * 0.05
    rest = kernel - small[..., None] * sign(kernel)
    through_sign = -rest * small[..., None] * np.maximum(0.0, 2 - 2 * np.abs(kernel))
    steps = {"none": 0.0, "kept": rest + through_sign, "paper": through_sign}
    after = {name: float(kernel_loss(kernel - 0.01 * step, sign(kernel), small)) for name, step in steps.items()}
    assert after["kept"] < after["none"] < after["paper"]


def test_keras_fit_adds_the_kernel_loss():
    inputs = tf.keras.Input((4, 4, 5))
    conv = RectifiedConv2D(3, 3, kernel_loss_weight=2.0)
    model = tf.keras.Model(inputs, layers.GlobalAveragePooling2D()(conv(inputs)))
    model.compile("sgd", lambda labels, outputs: 0.0 * tf.reduce_sum(outputs))
    value = float(conv.losses[0])
    assert value > 0 and model.evaluate(BITS[:, :4, :4], np.zeros(2), verbose=0) == pytest.approx(value, rel=1e-5)
    assert RectifiedConv2D(3, 3, kernel_loss_weight=0.0).losses == []


def test_mixed_precision_keeps_float_variables_and_the_loss():
    layers_ = [RectifiedConv2D(4, 3, dtype=policy) for policy in ("float32", "mixed_bfloat16")]
    for one in layers_:
        one.build(BITS.shape)
        one.set_weights(layers_[0].get_weights())
    exact, mixed = (one(BITS) for one in layers_)
    assert mixed.dtype == tf.bfloat16 and layers_[1].scale.dtype == tf.float32
    np.testing.assert_allclose(tf.cast(mixed, tf.float32), exact, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(layers_[1].losses, layers_[0].losses, rtol=1e-5)


def test_the_scale_begins_at_the_mean_size_of_the_kernel():
    found = []
    for seed in (0, 1):
        tf.keras.utils.set_random_seed(seed)
        layer = RectifiedConv2D(16, 3, name="conv")
        layer.build((1, 8, 8, 16))
        found.append(layer.get_weights())
    kernel, scale = found[0]
    np.testing.assert_allclose(scale, np.abs(kernel).mean(), rtol=0.1)
    np.testing.assert_array_equal(found[1][1], scale)  # the numbers that are drawn for the kernel do not move it
    assert not np.array_equal(found[1][0], kernel)


def test_channels_whose_gate_is_closed_are_as_if_cut_out():
    width, gate = OpenWidth("width", 5), np.array([1, 0, 1, 1, 0], np.float32)
    width.mask = width.gate = lambda: tf.constant(gate)
    inputs = tf.keras.Input((4, 4, 3))
    chance, x = np.random.default_rng(3), np.random.default_rng(4).normal(size=(2, 4, 4, 3)).astype(np.float32)
    for name in ("rectified", "sign", "zero_alpha"):
        activation, convolution = blocks(name)
        stream = BatchNormalization()(FloatConv2D(width, 1)(inputs))
        bits = activation()(stream)
        conv = convolution(6, 3)
        model = tf.keras.Model(inputs, conv(bits))
        for weight in conv.weights:
            weight.assign(chance.normal(0.4, 0.5, weight.numpy().shape))  # of uneven mean: a cut changes it
        cut = convolution(6, 3)
        kept = np.flatnonzero(gate)
        given = tf.keras.Model(inputs, bits)(x).numpy()[..., kept]
        cut.build(given.shape)
        cut.set_weights([weight.numpy()[:, :, kept] for weight in conv.weights])
        np.testing.assert_allclose(model(x), cut(given), rtol=1e-5, atol=1e-5, err_msg=name)


def test_survives_its_configuration():
    layer = RectifiedConv2D(4, 3, 2, kernel_loss_weight=0.25, name="conv")
    copy = tf.keras.layers.deserialize(tf.keras.layers.serialize(layer))
    assert type(copy) is RectifiedConv2D and copy.get_config() == layer.get_config()
    assert isinstance(copy.kernel_quantizer, lq.quantizers.ApproxSign)


def network(binarisation):
    activation, convolution = blocks(binarisation)
    inputs = tf.keras.Input((8, 8, 3))
    x = BatchNormalization(name="stem_bn")(FloatConv2D(8, 3, name="stem")(inputs))
    for index in (1, 2, 3):
        y = convolution(8, 3, name=f"conv{index}")(activation(name=f"step{index}")(x))
        y = BatchNormalization(name=f"bn{index}")(y)
        x = layers.Add(name=f"add{index}")([x, y]) if index == 3 else y  # a chain on bits, then a sum of floats
    return tf.keras.Model(inputs, Dense(4, name="logits")(layers.GlobalAveragePooling2D(name="pool")(x)))


def test_the_scale_takes_no_operator_and_no_memory(randomised, tmp_path):
    pytest.importorskip("larq_compute_engine")
    from tfbnas.costs import Memory, trace
    from tfbnas.export import export

    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    found, bytes_ = {}, {}
    for name in ("sign", "rectified"):
        model = randomised(network(name))
        result = export(model, tmp_path / name, images=images, input=None)
        assert result.parity.error < 1e-4
        found[name] = [(row.layer, row.operator) for row in result.rows]
        bytes_[name] = sum(Memory("deployed").of_operation(operation) for operation in trace(model))
    assert found["rectified"] == found["sign"] and bytes_["rectified"] == bytes_["sign"]
    assert [operator for _, operator in found["sign"]].count("LceBconv2d") == 3
