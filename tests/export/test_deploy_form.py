import itertools

import numpy as np
import pytest
import tensorflow as tf
from small_networks import block, head, randomise, small_resnet, stem

from tfbnas.errors import UserError
from tfbnas.export.deploy_form import deploy, deploy_with_notes
from tfbnas.layers import BatchNormalization, BinaryConv2D, Dense, FloatConv2D, LearnedStep, OpenWidth
from tfbnas.networks.resnet import resnet18
from tfbnas.networks.vgg import vgg11

layers = tf.keras.layers


def outputs(model, x):
    return np.asarray(model(tf.constant(x), training=False))


def assert_same_outputs(model, size=8, seed=3):
    """The deploy form agrees with the model; returns it."""
    deployed = deploy_with_notes(model)
    assert not any(type(layer).__module__.startswith("tfbnas") for layer in deployed.model.layers)
    x = np.random.default_rng(seed).normal(size=(6, size, size, 3)).astype(np.float32)
    wanted, got = outputs(model, x), outputs(deployed.model, x)
    assert np.ptp(wanted, axis=0).max() > 1e-3  # a network that ignores its input would agree with anything
    np.testing.assert_allclose(got, wanted, atol=2e-5 * np.abs(wanted).max())
    return deployed


def test_resnet_needs_no_conversion():
    assert assert_same_outputs(randomise(small_resnet()), 16).conversions == {}


def test_vgg_needs_no_conversion():
    model = randomise(vgg11(lambda name, channels: channels, base=4))
    assert assert_same_outputs(model, 32).conversions == {}


def test_imagenet_form_needs_no_conversion():
    model = randomise(resnet18(lambda name, channels: channels, input_shape=(72, 72, 3), base=4))
    assert assert_same_outputs(model, 72).conversions == {}


def test_reads_bits_as_an_independent_sum_does():
    inputs, x = stem()
    bits = LearnedStep(name="step", initial_step=0.8)(x)
    y = BinaryConv2D(4, 3, name="conv")(bits)
    model = randomise(tf.keras.Model(inputs, BatchNormalization(name="bn")(y)))
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    real = outputs(tf.keras.Model(inputs, x), image)
    ones = np.pad(real > 0.5 * model.get_layer("step").step.numpy(), ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = model.get_layer("conv").kernel.numpy()
    kernel = np.where(kernel >= kernel.mean(axis=(0, 1, 2)), 1.0, -1.0)
    y = np.zeros((1, 8, 8, 4))
    for i, j in itertools.product(range(8), range(8)):
        y[:, i, j] = np.tensordot(ones[:, i : i + 3, j : j + 3], kernel, 3)
    gamma, beta, mean, variance = model.get_layer("bn").get_weights()
    wanted = gamma * (y - mean) / np.sqrt(variance + 1e-5) + beta
    np.testing.assert_allclose(outputs(deploy(model), image), wanted, atol=1e-4)


def test_tie_at_the_threshold_and_signed_zero():
    inputs = tf.keras.Input((4, 4, 3))
    model = head(inputs, block(inputs, 6))
    step = next(layer for layer in model.layers if isinstance(layer, LearnedStep))
    step.step.assign(0.7)
    half = np.float32(0.7) * np.float32(0.5)
    values = np.array([half, np.nextafter(half, np.float32(1)), np.nextafter(half, np.float32(0)), 0.0, -0.0, 1.0])
    x = np.random.default_rng(0).choice(values.astype(np.float32), size=(64, 4, 4, 3))
    wanted = outputs(model, x)
    np.testing.assert_allclose(outputs(deploy(model), x), wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("sign", [1, -1])
def test_integer_sums_that_meet_the_threshold(sign):
    """The convolution's sums meet the next threshold exactly, or miss it by one rounding: the trained layer decides."""
    inputs, x = stem()
    y = BatchNormalization(name="bn", epsilon=1e-3)(BinaryConv2D(8, 3)(LearnedStep()(x)))
    model = head(inputs, block(y))
    size = model.get_layer("bn").moving_mean.shape[0]
    variance = np.random.default_rng(0).uniform(1, 40, size).astype(np.float32)
    half = 0.5 * model.layers[-5].step.numpy()
    beta = half - sign * (np.arange(size) - 3) / np.sqrt(variance + np.float32(1e-3))
    model.get_layer("bn").set_weights([np.full(size, sign), beta, np.zeros(size), variance])
    assert_same_outputs(model)
    deployed = deploy(model)
    real = outputs(tf.keras.Model(deployed.input, deployed.get_layer("bn").output), np.ones((1, 8, 8, 3), np.float32))
    assert np.abs(real).min() > 1e-3  # rounding has nothing to decide


def test_pool_between_normalisation_and_step_costs_one_change_of_sign():
    inputs, x = stem(16)
    x = layers.MaxPool2D(3, 2, padding="same", name="stem_pool")(x)
    x = layers.Add()([x, block(x)])
    deployed = assert_same_outputs(head(inputs, layers.Add()([x, block(x)])), 16)
    (name,) = deployed.conversions
    assert name.startswith("stem_pool")
    rescaling = deployed.model.get_layer(name)
    assert (rescaling.scale, rescaling.offset) == (-1.0, 0.0)


def test_average_pooling_in_the_shortcut():
    inputs, x = stem(16)
    shortcut = layers.AveragePooling2D(2)(x)
    assert assert_same_outputs(head(inputs, layers.Add()([shortcut, block(x, strides=2)])), 16).conversions == {}


def test_two_steps_read_one_tensor():
    inputs, x = stem()
    x = layers.Add()([block(x, initial_step=0.5), block(x, initial_step=1.0)])
    deployed = assert_same_outputs(head(inputs, x))
    assert len(deployed.conversions) == 1


def test_nested_model_and_standard_layers():
    inner_inputs = tf.keras.Input((8, 8, 8))
    inner = tf.keras.Model(inner_inputs, block(inner_inputs), name="inner")
    inputs, x = stem()
    x = layers.Dropout(0.5)(inner(x))
    x = layers.ReLU()(x * 2.0 + 1.0)
    x = layers.Conv2D(4, 3, activation="tanh")(x)
    assert_same_outputs(head(inputs, x))


def test_activation_between_convolution_and_normalisation():
    inputs, x = stem()
    x = BatchNormalization()(layers.ReLU()(BinaryConv2D(8, 3)(LearnedStep()(x))))
    deployed = assert_same_outputs(head(inputs, block(x)))
    assert deployed.conversions == {}


def test_sum_of_convolutions_and_average_in_front_of_normalisation():
    inputs, x = stem(16)
    bits = LearnedStep()(x)
    x = layers.Add()([BinaryConv2D(8, 3)(bits), BinaryConv2D(8, 1)(bits)])
    x = BatchNormalization()(layers.AveragePooling2D(2)(x))
    x = BatchNormalization()(layers.AveragePooling2D(2)(BinaryConv2D(8, 3)(LearnedStep()(x))))
    assert_same_outputs(head(inputs, block(x)), 16)


def test_preactivation_and_concatenation():
    inputs, x = stem()
    y = layers.Concatenate()([x, block(BatchNormalization()(x))])
    assert_same_outputs(head(inputs, block(BatchNormalization()(y))))


def test_dense_takes_sign_and_offset_back():
    inputs, x = stem(4)
    x = layers.Add()([x, block(x)])
    model = randomise(tf.keras.Model(inputs, Dense(3)(layers.Flatten()(x))))
    assert assert_same_outputs(model, 4).conversions == {}


def test_no_added_layer_in_a_residual_network():
    model = randomise(small_resnet())
    steps = sum(isinstance(layer, LearnedStep) for layer in model.layers)
    assert len(deploy(model).layers) == len(model.layers) - steps


def test_other_models_are_returned_as_they_are():
    model = tf.keras.Sequential([layers.Dense(2, input_shape=(3,))])
    assert deploy(model) is model


def test_refuses_open_width():
    inputs, x = stem()
    width = OpenWidth("stem", 4)
    model = tf.keras.Model(inputs, BatchNormalization()(FloatConv2D(width, 3, name="open")(inputs)))
    with pytest.raises(UserError, match="choices are closed.*'open'"):
        deploy(model)


def test_refuses_other_precision():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        inputs, x = stem()
        model = tf.keras.Model(inputs, x)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    with pytest.raises(UserError, match="float32.*mixed_bfloat16"):
        deploy(model)


def test_refuses_bits_read_by_another_layer():
    inputs, x = stem()
    x = BinaryConv2D(4, 3)(layers.MaxPool2D(2, name="pool")(LearnedStep(name="step")(x)))
    with pytest.raises(UserError, match="LearnedStep 'step'.*'pool'"):
        deploy(tf.keras.Model(inputs, BatchNormalization()(x)))


def test_refuses_convolution_of_real_values():
    inputs, x = stem()
    with pytest.raises(UserError, match="BinaryConv2D 'conv'.*'stem_bn'"):
        deploy(tf.keras.Model(inputs, BatchNormalization()(BinaryConv2D(4, 3, name="conv")(x))))


def test_refuses_subclassed_model():
    class Own(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.step = LearnedStep()

        def call(self, inputs):
            return self.step(inputs)

    model = Own()
    model(tf.zeros((1, 4, 4, 3)))
    with pytest.raises(UserError, match="functional"):
        deploy(model)
