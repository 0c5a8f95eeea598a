"""Networks in full precision as TensorFlow Lite files: float32 is the network itself, int8 stays within its steps."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.export.convert import ExportError
from tfbnas.export.flatbuffer import operators
from tfbnas.export.full_precision import Converted, convert, uneven
from tfbnas.networks.resnet import resnet18


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(-1, 1, (8, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    return uneven(resnet18(lambda name, base: base, input_shape=(16, 16, 3), base=4, binarisation="float"))


def test_the_float_file_computes_the_network(network, images):
    found = Converted(convert(network))(tf.constant(images))
    np.testing.assert_allclose(found, network(images), atol=1e-5)


def test_the_int8_file_holds_a_byte_for_each_weight_and_no_float(network, images):
    flatbuffer = convert(network, images=images)
    found = operators(flatbuffer)
    kernels = [o.weights for o in found if o.name in ("CONV_2D", "FULLY_CONNECTED")]
    assert {tensor.dtype for o in found for tensor in (*o.inputs, *o.outputs)} <= {"int8", "int32"}
    assert sum(kernel.bytes for kernel in kernels) == sum(
        int(np.prod(weight.shape)) for weight in network.weights if "kernel" in weight.name
    )
    # Normalisations are part of the convolutions.
    assert not {"MUL", "SUB"} & {o.name for o in found}
    assert Converted(flatbuffer).output_shape == (None, 10)
    assert Converted(flatbuffer)(tf.constant(images)).shape == (8, 10)


def test_int8_differs_from_a_dense_layer_by_its_steps_alone():
    """Kernels in 127 steps for each output, inputs in 255 of their range, outputs in 255 of theirs."""
    random = np.random.default_rng(0)
    inputs = tf.keras.Input((1, 1, 12))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(5)(tf.keras.layers.Flatten()(inputs)))
    kernel, bias = random.normal(size=(12, 5)), random.normal(size=5)
    model.layers[-1].set_weights([kernel, bias])
    images = random.uniform(-1, 1, (64, 1, 1, 12)).astype(np.float32)
    exact = images[:, 0, 0] @ kernel + bias
    found = Converted(convert(model, images=images))(tf.constant(images)).numpy()
    step = np.ptp(exact) / 255
    # Half a step of the input for each weight, half a step of each weight for inputs of size 1, a step of the output.
    bound = 0.5 * (np.ptp(images) / 255) * np.abs(kernel).sum(0) + 0.5 * 12 * np.abs(kernel).max(0) / 127 + step
    assert np.all(np.abs(found - exact) <= bound)
    assert np.abs(found - exact).max() > step / 10  # it is quantised
    assert len(np.unique(np.round(found / (np.diff(np.unique(found)).min())))) <= 256


def test_a_binary_network_is_refused(images):
    architecture = Architecture("test", "resnet18", {}, (16, 16, 3), 10, {"base": 4})
    with pytest.raises(ExportError, match="to compute in int8. Received: .* with the float tensor|could not convert"):
        convert(networks.build(architecture), images=images)
