import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from small_networks import randomise

from tfbnas.errors import UserError
from tfbnas.export import ExportError, comparison, convert_model, deploy, parity
from tfbnas.export.rounding import explained_by_rounding

layers = tf.keras.layers


@pytest.fixture(scope="module")
def deployed(trained):
    return deploy(trained)


@pytest.fixture(scope="module")
def flatbuffer(deployed):
    return convert_model(deployed)


def test_agrees_on_images_and_random_inputs(trained, deployed, flatbuffer, images):
    labels = np.asarray(trained(images, training=False)).argmax(1)
    result = parity(flatbuffer, deployed, trained, images=images, labels=labels, random_inputs=5)
    assert (result.images, result.random) == (len(images), 5)
    assert result.error <= 1e-4 and result.error_deployed <= 1e-4
    assert result.accuracy == 1.0
    assert result.accuracy_converted == 1.0 - len(result.other_class) / len(images)


def test_other_weights_are_found(trained, deployed, flatbuffer, images):
    other = randomise(tf.keras.models.clone_model(trained), seed=5)
    with pytest.raises(ExportError, match="differs from the trained model on"):
        parity(flatbuffer, deployed, other, images=images)


def test_one_wrong_bit_of_one_kernel_is_found(trained, flatbuffer, images, monkeypatch):
    monkeypatch.setattr(comparison, "first_difference", lambda *arguments: None)  # has its own test; slow
    deployed = deploy(trained)
    layer = deployed.get_layer("stage2_block1_conv1")
    kernel = layer.get_weights()[0]
    kernel[1, 1, 0, 0] *= -1
    layer.set_weights([kernel])
    with pytest.raises(ExportError, match="differs from the deploy form"):
        parity(flatbuffer, deployed, images=images)


def test_names_the_first_layer_that_differs():
    """LCE takes a ternary input quantiser for a sign."""
    inputs = tf.keras.Input((6, 6, 32))
    options = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    x = layers.BatchNormalization()(lq.layers.QuantConv2D(32, 3, input_quantizer="ste_sign", **options)(inputs))
    x = lq.layers.QuantConv2D(32, 3, input_quantizer="ste_tern", name="ternary", **options)(x)
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
    model = randomise(tf.keras.Model(inputs, layers.Dense(3)(x)))
    with pytest.raises(ExportError, match="first layer that differs is 'ternary'"):
        parity(convert_model(model), model, images=np.random.default_rng(0).normal(size=(4, 6, 6, 32)))


@pytest.fixture(scope="module")
def threshold():
    """A network that puts out +10 where the sum of its inputs is at least 1, else -10."""
    inputs = tf.keras.Input((2,))
    x = layers.Dense(1, trainable=False)(inputs)
    outputs = layers.Activation(lambda x: 10 * lq.quantizers.ste_sign(x))(x)
    model = tf.keras.Model(inputs, outputs)
    model.layers[1].set_weights([np.ones((2, 1)), np.array([-1.0])])
    return model


@pytest.mark.parametrize("distance, explained", [(1e-7, True), (-1e-7, True), (1e-4, False), (0.1, False)])
def test_only_rounding_at_a_threshold_is_an_excuse(threshold, distance, explained):
    inputs = np.array([[0.5, 0.5 + distance]], np.float32)
    a = np.asarray(threshold(inputs))
    assert explained_by_rounding(threshold, inputs, a, -a, 1e-4).tolist() == [explained]
    assert not explained_by_rounding(threshold, inputs, a, 0.9 * a, 1e-4).any()


def test_weights_are_the_same_after_the_search_for_ties(threshold):
    before = threshold.get_weights()
    explained_by_rounding(threshold, np.zeros((1, 2), np.float32), np.zeros((1, 1)), np.ones((1, 1)), 1e-4)
    for old, new in zip(before, threshold.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_several_open_bits_are_searched_together():
    """32 bits of one input are open at once: a single draw has no chance to meet their combination."""
    inputs = tf.keras.Input((32,))
    x = layers.Activation(lq.quantizers.ste_sign)(layers.BatchNormalization()(inputs))
    model = tf.keras.Model(inputs, layers.Dense(1)(x))
    powers = np.concatenate([np.full(24, 1.0), 2.0 ** np.arange(8) * 30])[:, None]
    model.layers[-1].set_weights([powers, np.zeros(1)])
    x = np.random.default_rng(0).choice([-1e-8, 1e-8], size=(1, 32)).astype(np.float32)
    x[0, 8] = 1.0
    outputs = np.asarray(model(x))
    flipped = np.asarray(model(np.where(np.arange(32) < 4, -x, x)))
    assert explained_by_rounding(model, x, outputs, flipped, 1e-5).all()


def test_infinite_outputs_are_an_error(images):
    inputs = tf.keras.Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D()(inputs)
    model = tf.keras.Model(inputs, layers.Activation(lambda x: 1.0 / (x - x))(x))
    with pytest.raises(ExportError, match="NaN or infinite outputs"):
        parity(convert_model(model), model, images=images)


def test_nan_weights_are_an_error(trained, flatbuffer, images):
    deployed = deploy(trained)
    deployed.get_layer("logits").bias.assign(np.full(10, np.nan))
    with pytest.raises(ExportError, match="logits.*checkpoint"):
        parity(flatbuffer, deployed, images=images)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_must_be_finite(deployed, flatbuffer, images, value):
    damaged = images.copy()
    damaged[3, 0, 0, 0] = value
    with pytest.raises(UserError, match="finite images.*number 3"):
        parity(flatbuffer, deployed, images=damaged)


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (16, 16, 3), (0, 16, 16, 3), (2, 16, 16, 1)])
def test_images_must_fit_the_model(deployed, flatbuffer, shape):
    with pytest.raises(UserError, match="images of shape"):
        parity(flatbuffer, deployed, images=np.zeros(shape, np.float32))
