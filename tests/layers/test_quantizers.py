"""Forward passes and gradients of the quantisers, against their formulas in numpy, or against Larq's."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas.layers import ApproxSign, LearnedStep, StandardizedSign, SteSign
from tfbnas.layers.quantizers import MINIMAL_STEP, unit_step
from tfbnas.layers.width import OpenWidth


def signed_inputs(step):
    """Values all around the thresholds, with the ties: 0, step / 2 and step themselves."""
    special = np.array([-1e9, -step, -0.0, 0.0, step / 2, np.nextafter(step / 2, 9), step, 2 * step, 1e9])
    rest = np.random.default_rng(0).normal(scale=step, size=2 * 3 * 3 * 4 - special.size)
    return np.concatenate([special, rest]).reshape(2, 3, 3, 4).astype(np.float32)


@pytest.mark.parametrize("step", [1.0, 0.5, 2.0, 0.37])
def test_learned_step_rounds_half_to_even(step):
    layer = LearnedStep(step)
    inputs = signed_inputs(step)
    expected = np.round(np.clip(inputs / np.float32(step), 0, 1))  # numpy rounds 0.5 to 0
    found = layer(inputs)
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found)) == {0.0, 1.0} and found.dtype == tf.float32


def test_learned_step_gradients():
    step = 0.75
    inputs = signed_inputs(step)
    upstream = np.random.default_rng(1).normal(size=inputs.shape).astype(np.float32)
    layer = LearnedStep(step)
    layer.build(inputs.shape)
    x = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x) * upstream)
    by_x, by_step = tape.gradient(loss, [x, layer.step])
    inside = (inputs > 0) & (inputs < np.float32(step))
    np.testing.assert_allclose(by_x, upstream * inside / step, rtol=1e-6)
    # LSQ divides by the root of the number of elements of one example, here 3 * 3 * 4.
    expected = -np.sum((upstream * inputs)[inside].astype(np.float64)) / step**2 / np.sqrt(36)
    assert by_step.numpy() == pytest.approx(expected, rel=1e-5)
    assert inside.any() and not inside.all()


def test_gradient_of_the_step_does_not_depend_on_the_layout():
    """The same five channels, given and in an open width that is laid out as sixteen."""
    inputs = np.random.default_rng(0).normal(size=(2, 3, 3, 5)).astype(np.float32)
    gradients = []
    for channels in (5, 16):
        given = np.concatenate([inputs, np.zeros((2, 3, 3, channels - 5), np.float32)], axis=-1)
        layer = LearnedStep(1.5)
        if channels == 16:
            layer._open_input = OpenWidth("w", 5)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(given)[..., :5] * inputs)
        gradients.append(tape.gradient(loss, layer.step).numpy())
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-6) and gradients[0] != 0


def test_bits_are_exact_in_bfloat16():
    inputs = tf.constant(signed_inputs(1.0), tf.bfloat16)
    found = unit_step(inputs, tf.constant(1.0), tf.constant(36.0))
    assert found.dtype == tf.bfloat16
    expected = np.round(np.clip(tf.cast(inputs, tf.float32), 0, 1))
    np.testing.assert_array_equal(tf.cast(found, tf.float32), expected)


def test_gradients_in_bfloat16_are_those_in_float32():
    """The one pass that is compiled for bfloat16, on values that bfloat16 holds exactly."""
    step = tf.constant(0.75)
    x = tf.cast(tf.cast(signed_inputs(0.75), tf.bfloat16), tf.float32)
    upstream = tf.cast(tf.cast(np.random.default_rng(1).normal(size=x.shape), tf.bfloat16), tf.float32)
    found = {}
    for dtype in (tf.float32, tf.bfloat16):
        with tf.GradientTape() as tape:
            tape.watch([step, values := tf.cast(x, dtype)])
            output = unit_step(values, step, tf.constant(36.0))
        gradients = tape.gradient(output, [values, step], output_gradients=tf.cast(upstream, dtype))
        found[dtype] = [tf.cast(gradient, tf.float32).numpy() for gradient in gradients]
    # A sum or product in bfloat16 is off by 2^-9 of its value at most, twice here.
    np.testing.assert_allclose(found[tf.bfloat16][0], found[tf.float32][0], rtol=2**-7)
    scale = np.sum(np.abs(found[tf.float32][0] * x)) / 0.75 / 6
    assert abs(found[tf.bfloat16][1] - found[tf.float32][1]) <= 2**-7 * scale
    assert np.count_nonzero(found[tf.float32][0]) > 5


def test_step_stays_positive():
    layer = LearnedStep(0.1)
    layer.build((None, 2, 2, 3))
    optimizer = tf.keras.optimizers.SGD(1.0)
    optimizer.apply_gradients([(tf.constant(5.0), layer.step)])
    assert layer.step.numpy() == pytest.approx(MINIMAL_STEP)


def test_frozen_step_stays_a_weight():
    layer = LearnedStep()
    layer.build((None, 2, 2, 3))
    layer.trainable = False
    assert [weight.name for weight in layer.weights] == ["step:0"] and not layer.trainable_weights


def explicit_standardisation(kernel):
    axes = tuple(range(kernel.ndim - 1))
    return (kernel - kernel.mean(axes, keepdims=True)) / kernel.std(axes, keepdims=True)


def test_standardized_sign_forward():
    kernel = np.random.default_rng(1).normal(1.0, 1.0, size=(3, 3, 2, 3)).astype(np.float32)
    found = StandardizedSign()(kernel).numpy()
    np.testing.assert_array_equal(found, np.where(explicit_standardisation(kernel) >= 0, 1, -1))
    assert np.abs(found.sum(axis=(0, 1, 2))).max() < 18  # unlike the signs of the kernel, which are nearly all +1


def test_filters_that_cannot_be_standardised_are_plus_one_and_finite():
    """Filters that read one value, as a 1x1 convolution of one channel has."""
    kernel = tf.constant([[[[-0.3, 0.7]]]])
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        signs = StandardizedSign()(kernel)
    np.testing.assert_array_equal(signs, np.ones((1, 1, 1, 2)))
    np.testing.assert_array_equal(tape.gradient(signs, kernel), np.zeros((1, 1, 1, 2)))


@pytest.mark.parametrize("clip_value", [None, 1.0])
def test_standardized_sign_gradient_is_that_of_the_standardisation(clip_value):
    """Straight through the sign, exactly through the standardisation: against finite differences in float64."""
    chance = np.random.default_rng(2)
    kernel, upstream = chance.normal(0.5, 0.7, size=(3, 3, 2, 3)), chance.normal(size=(3, 3, 2, 3))
    if clip_value is not None:
        upstream_used = upstream * (np.abs(explicit_standardisation(kernel)) <= clip_value)
        assert 0 < np.count_nonzero(upstream_used) < upstream.size
    else:
        upstream_used = upstream
    expected, step = np.zeros_like(kernel), 1e-6
    for index in np.ndindex(kernel.shape):
        ends = []
        for sign in (1, -1):
            moved = kernel.copy()
            moved[index] += sign * step
            ends.append(np.sum(explicit_standardisation(moved) * upstream_used))
        expected[index] = (ends[0] - ends[1]) / (2 * step)
    x = tf.constant(kernel, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(StandardizedSign(clip_value)(x) * tf.constant(upstream, tf.float32))
    np.testing.assert_allclose(tape.gradient(loss, x), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SteSign(), lq.quantizers.SteSign()),
        (SteSign(1.3), lq.quantizers.SteSign(1.3)),
        (SteSign(None), lq.quantizers.SteSign(None)),
        (ApproxSign(), lq.quantizers.ApproxSign()),
    ],
)
def test_signs_are_those_of_larq(ours, theirs, dtype):
    inputs = tf.cast(signed_inputs(1.0), dtype)
    upstream = tf.cast(np.random.default_rng(1).normal(size=inputs.shape), dtype)
    found = []
    for quantizer in (ours, theirs):
        quantizer = type(quantizer).from_config({**quantizer.get_config(), "dtype": dtype})
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = quantizer(inputs)
        found.append((outputs, tape.gradient(outputs, inputs, upstream)))
    for own, other in zip(*found, strict=True):
        assert own.dtype == other.dtype == dtype
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("layer", [LearnedStep(0.7, name="s"), StandardizedSign(1.25), StandardizedSign()])
def test_configuration_round_trip(layer):
    config = tf.keras.layers.serialize(layer)
    again = tf.keras.layers.deserialize(config)
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
    assert isinstance(again, lq.quantizers.Quantizer) and again.precision == 1
