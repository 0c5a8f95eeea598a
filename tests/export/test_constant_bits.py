"""A binary input that can only be +1: the audit says so, wherever in front the sign is lost."""

import larq as lq
import pytest
import tensorflow as tf
from small_networks import randomise

from tfbnas.export import audit, convert_model

layers = tf.keras.layers


def binary(x, name="binary", **options):
    options = {"input_quantizer": "ste_sign", "padding": "same", "pad_values": 1.0, **options}
    return lq.layers.QuantConv2D(32, 3, kernel_quantizer="ste_sign", name=name, **options)(x)


def norm(x):
    return layers.BatchNormalization()(x)


def notes(build):
    """By layer, what the audit of a converted model says of bits that are all +1."""
    inputs = tf.keras.Input((8, 8, 32))
    x = build(inputs)
    x = layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x
    model = randomise(tf.keras.Model(inputs, layers.Dense(2)(x)))
    return {row.layer: row.note for row in audit(convert_model(model), model) if "is +1" in row.note}


def relu(x):
    return layers.ReLU(name="source")(norm(x))


CONSTANT = {
    "relu": lambda x: binary(relu(x)),
    "relu6": lambda x: binary(layers.ReLU(6.0, name="source")(norm(x))),
    "activation": lambda x: binary(layers.Activation("sigmoid", name="source")(norm(x))),
    "inside a convolution": lambda x: binary(layers.Conv2D(32, 1, activation="relu", name="source")(x)),
    "a function": lambda x: binary(tf.nn.relu(norm(x), name="source")),
    "behind max pooling": lambda x: binary(layers.MaxPool2D(2)(relu(x))),
    "behind average pooling": lambda x: binary(layers.AveragePooling2D(2)(relu(x))),
    "behind reshape": lambda x: binary(layers.Reshape((4, 16, 32))(relu(x))),
    "behind flatten": lambda x: binary(layers.Reshape((1, 1, 2048))(layers.Flatten()(relu(x)))),
    "behind dropout": lambda x: binary(layers.Dropout(0.5)(relu(x))),
    "behind a linear activation": lambda x: binary(layers.Activation("linear")(relu(x))),
    "behind several": lambda x: binary(layers.Dropout(0.1)(layers.MaxPool2D(2)(layers.UpSampling2D(2)(relu(x))))),
    "a sum": lambda x: binary(layers.Add()([relu(x), layers.ReLU()(norm(x))])),
    "a quantiser of its own": lambda x: binary(lq.quantizers.SteSign(name="quantiser")(relu(x)), input_quantizer=None),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_bits_that_are_all_one_are_told(name):
    found = notes(CONSTANT[name])
    assert found, name
    taker = "quantiser" if "quantiser" in name else "binary"
    for note in found.values():
        assert f"every bit that {taker!r} takes is +1" in note and "put BatchNormalization in between" in note
        assert "reads 'source'" in note or "reads 'tf.nn.relu" in note


OTHERS = {
    "normalised behind the relu": lambda x: binary(norm(relu(x))),
    "leaky": lambda x: binary(layers.LeakyReLU()(norm(x))),
    "a slope": lambda x: binary(layers.ReLU(negative_slope=0.1)(norm(x))),
    "tanh": lambda x: binary(layers.Activation("tanh")(norm(x))),
    "a sum with values of both signs": lambda x: binary(layers.Add()([relu(x), norm(x)])),
    "behind a convolution": lambda x: binary(layers.Conv2D(32, 1)(relu(x))),
    "bits 0 and 1": lambda x: binary(relu(x), input_quantizer="ste_heaviside"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_is_said_of_others(name):
    assert not notes(OTHERS[name])
