"""The deploy form has no operator that a plain +-1 Larq network of the same topology would not have."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from small_networks import randomise, small_resnet

from tfbnas.export import convert_model, deploy, parity
from tfbnas.export.flatbuffer import operators
from tfbnas.layers import BatchNormalization, BinaryConv2D, Dense, FloatConv2D, LearnedStep
from tfbnas.networks.resnet import resnet18
from tfbnas.networks.vgg import vgg11

layers = tf.keras.layers


def as_plain_larq(layer):
    """The layer that a plain network of +-1 activations and weights has in the place of tfbnas's."""
    if isinstance(layer, LearnedStep):
        return layers.Activation("linear", name=layer.name)
    if isinstance(layer, BinaryConv2D):
        return lq.layers.QuantConv2D(
            layer.filters,
            layer.kernel_size,
            strides=layer.strides,
            padding="same",
            pad_values=1.0,
            use_bias=False,
            input_quantizer="ste_sign",
            kernel_quantizer="ste_sign",
            kernel_constraint="weight_clip",
            name=layer.name,
        )
    if isinstance(layer, FloatConv2D):
        options = {"strides": layer.strides, "padding": "same", "use_bias": False, "name": layer.name}
        return layers.Conv2D(layer.filters, layer.kernel_size, **options)
    if isinstance(layer, BatchNormalization):
        return layers.BatchNormalization(name=layer.name)
    if isinstance(layer, Dense):
        return layers.Dense(layer.units, name=layer.name)
    return layer.__class__.from_config(layer.get_config())


def keep(name, channels):
    return channels


NETWORKS = {
    "resnet18": (small_resnet, 16),
    "resnet18 in ImageNet form": (lambda: resnet18(keep, input_shape=(72, 72, 3), base=4), 72),
    "vgg11": (lambda: vgg11(keep, base=4), 32),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_same_operators_as_plain_larq(name):
    build, size = NETWORKS[name]
    model = randomise(build())
    plain = randomise(tf.keras.models.clone_model(model, clone_function=as_plain_larq), seed=1)
    deployed = deploy(model)
    flatbuffer = convert_model(deployed)
    wanted = [(operator.name, operator.outputs[0].shape) for operator in operators(convert_model(plain))]
    assert [(operator.name, operator.outputs[0].shape) for operator in operators(flatbuffer)] == wanted
    parity(flatbuffer, deployed, model, images=np.random.default_rng(0).normal(size=(4, size, size, 3)))
