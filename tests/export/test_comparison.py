import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from small_networks import randomise

from tfbnas.errors import UserError
from tfbnas.export import ExportError, comparison, convert_model, deploy, parity
from tfbnas.export.computed_bits import ComputedBits
from tfbnas.export.convert import Interpreter
from tfbnas.export.rounding import GivenBits, errors, flat

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


def test_bits_read_from_the_converted_model_are_those_of_keras(deployed, flatbuffer, images):
    outputs, bits = ComputedBits(flatbuffer, deployed).read(images)
    np.testing.assert_array_equal(outputs[0], Interpreter(flatbuffer).predict(images)[0])
    assert set(bits) == {layer.name for layer in deployed.layers if hasattr(layer, "input_quantizer")}
    for name, found in bits.items():
        real = tf.keras.Model(deployed.inputs, deployed.get_layer(name).input)(images)
        assert np.mean(found == np.where(np.asarray(real) >= 0, 1, -1)) > 0.999


def test_the_trained_model_takes_the_bits_of_the_converted_one(trained, deployed, flatbuffer, images):
    outputs, bits = ComputedBits(flatbuffer, deployed).read(images)
    turned = {**bits, "stage4_block2_conv2": -bits["stage4_block2_conv2"]}  # no later bits correct that
    for model in (trained, deployed):
        given = GivenBits(model, bits)
        assert (given.errors(images, bits, flat(outputs)) <= 1e-4).all()
        got, distance = given.run(images, turned)
        assert (errors(flat(outputs), got) > 1e-3).all() and (distance > 0.1).all()


@pytest.fixture(scope="module")
def dense():
    """A binary layer that reads the sum of two inputs less 1 in its first channel, and decided bits in the others."""
    inputs = tf.keras.Input((1, 1, 2))
    x = layers.Conv2D(32, 1)(inputs)
    options = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    outputs = layers.Flatten()(lq.layers.QuantConv2D(1, 1, name="binary", use_bias=False, **options)(x))
    model = tf.keras.Model(inputs, outputs)
    kernel = np.zeros((1, 1, 2, 32))
    kernel[..., 0] = 1.0
    model.layers[1].set_weights([kernel, np.array([-1.0] + [1.0] * 31)])
    model.get_layer("binary").set_weights([np.ones((1, 1, 32, 1))])
    return model


@pytest.mark.parametrize("distance, explained", [(1e-6, True), (-1e-6, True), (1e-4, False), (0.1, False)])
def test_only_rounding_at_a_threshold_is_an_excuse(dense, distance, explained):
    inputs = np.array([[0.5, 0.5 + distance]], np.float32).reshape(1, 1, 1, 2)
    own = np.asarray(dense(inputs))
    bits = np.ones((1, 1, 1, 32), np.int8)
    bits[..., 0] = -np.sign(distance)
    other = own - 2 * np.sign(distance)
    given = GivenBits(dense, ["binary"])
    assert given.errors(inputs, {"binary": bits}, other)[0] == (pytest.approx(0, abs=1e-6) if explained else np.inf)
    assert given.errors(inputs, {"binary": bits}, own)[0] > 0.01
    assert GivenBits(dense, []).errors(inputs, {}, own)[0] <= 1e-6


def test_the_model_is_the_same_afterwards(dense):
    quantizer, weights = dense.get_layer("binary").input_quantizer, dense.get_weights()
    GivenBits(dense, ["binary"]).run(np.zeros((1, 1, 1, 2)), {"binary": np.ones((1, 1, 1, 32), np.int8)})
    assert dense.get_layer("binary").input_quantizer is quantizer
    for old, new in zip(weights, dense.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.fixture(scope="module")
def sums():
    """A network whose first real values are sums of 64 products, and a function that makes images for given sums."""
    inputs = tf.keras.Input((1, 1, 64))
    options = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    x = layers.Conv2D(64, 1, use_bias=False, name="sums")(inputs)
    x = layers.BatchNormalization(name="threshold", scale=False, epsilon=0)(x)
    x = lq.layers.QuantConv2D(32, 1, use_bias=False, **options)(x)
    model = randomise(tf.keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x))))
    model.get_layer("threshold").set_weights([np.zeros(64), np.zeros(64), np.ones(64)])
    kernel = model.get_layer("sums").kernel.numpy()[0, 0, :, 0].astype(np.float64)

    def images(first):
        x = np.random.default_rng(1).normal(size=(len(first), 64)).astype(np.float32).astype(np.float64)
        x[:, -1] = (first - x[:, :-1] @ kernel[:-1]) / kernel[-1]
        return x.astype(np.float32).reshape(-1, 1, 1, 64)

    return model, images


def test_every_image_may_have_a_tie(sums):
    model, images = sums
    result = parity(convert_model(model), model, images=images(np.zeros(100)))
    assert 0 < result.error <= 1e-4
    assert len(result.undecided) > 10  # Keras and LCE sum in different orders


def test_a_threshold_off_by_a_thousandth_is_refused(sums):
    model, images = sums
    moved = tf.keras.models.clone_model(model)
    moved.set_weights(model.get_weights())
    moved.get_layer("threshold").beta.assign(np.eye(64)[0] * 1e-3)
    with pytest.raises(ExportError, match="differs from"):
        parity(convert_model(moved), model, images=images(np.linspace(-2e-3, 2e-3, 100)))


@pytest.fixture(params=["Activation", "Softmax", "Dense"])
def ending_in_softmax(request):
    """A model of which the softmax is saturated."""
    inputs = tf.keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3)(inputs))
    if request.param == "Dense":
        return randomise(tf.keras.Model(inputs, layers.Dense(5, activation="softmax")(x)))
    softmax = layers.Softmax() if request.param == "Softmax" else layers.Activation("softmax")
    return randomise(tf.keras.Model(inputs, softmax(layers.Dense(5)(x))))


def test_a_saturated_softmax_hides_no_fault(ending_in_softmax):
    model = ending_in_softmax
    images = 1000 * np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
    outputs = model.predict(images, verbose=0)
    flatbuffer = convert_model(model)
    assert np.median(outputs.max(axis=1)) == 1.0
    assert 0 < parity(flatbuffer, model, images=images).error <= 1e-4
    kernel = next(layer for layer in model.layers if isinstance(layer, layers.Dense)).kernel
    kernel.assign(1.001 * kernel)
    assert np.abs(model.predict(images, verbose=0) - outputs).max(axis=1).min() < 1e-6
    with pytest.raises(ExportError, match="differs from"):
        parity(flatbuffer, model, images=images)
    np.testing.assert_allclose(model.predict(images, verbose=0).sum(axis=1), 1.0, rtol=1e-5)


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
