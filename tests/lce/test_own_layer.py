"""A layer of the user's own: registered once, it is charged, exported and audited like one of tfbnas's."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas import lce
from tfbnas.costs import Latency, Memory, trace
from tfbnas.errors import UserError
from tfbnas.export import deploy, export
from tfbnas.export.lowering import binary_convolution
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D

layers = tf.keras.layers


class ScaledConv2D(layers.Layer):
    """Signs of the input, convolved with signs of a kernel that a learned number per filter scales."""

    def __init__(self, filters, kernel_size=(3, 3), **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size = filters, kernel_size

    def build(self, input_shape):
        self.kernel = self.add_weight("kernel", (*self.kernel_size, input_shape[-1], self.filters))
        self.logarithm = self.add_weight("logarithm", (self.filters,))

    @property
    def scaled(self):
        return tf.exp(self.logarithm) * lq.math.sign(tf.convert_to_tensor(self.kernel))

    def call(self, inputs):
        bits = tf.pad(lq.math.sign(inputs), [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.0)
        return tf.nn.conv2d(bits, self.scaled, 1, "VALID")


def lower(call, deployment):
    return binary_convolution(deployment.read(call), call.layer.scaled.numpy(), name=call.name)


lce.register(
    ScaledConv2D,
    kind="convolution",
    bits=lambda layer: lce.Bits(inputs=1, kernel=1),
    binary_operator=True,
    writes_bits=lambda layer: True,
    absorbs=True,
    lower=lower,
)


@pytest.fixture
def model(randomised):
    inputs = tf.keras.Input((8, 8, 3))
    x = BatchNormalization()(FloatConv2D(32, 3, name="stem")(inputs))
    x = BatchNormalization()(ScaledConv2D(32, name="first")(x))
    x = BatchNormalization()(ScaledConv2D(32, name="second")(x))
    return randomised(tf.keras.Model(inputs, Dense(4, name="logits")(layers.GlobalAveragePooling2D()(x))))


def test_it_is_charged_as_what_it_becomes(model):
    operations = {operation.layer: operation for operation in trace(model) if operation.kind == "convolution"}
    assert operations["first"].binary and operations["first"].reads_bits and operations["first"].writes_bits
    assert operations["second"].binary and not operations["second"].writes_bits
    binary = sum(Memory(part="binary").of_operation(operation) for operation in trace(model))
    assert binary == 2 * 9 * 32 * 32 / 8
    charged = [row.operator for row in Latency("pixel1").operators(trace(model))]
    assert charged == ["convolution", "quantize", "packed_convolution", "binary_convolution", "global_pool", "dense"]


def test_it_is_exported_with_parity_and_a_clean_audit(model, tmp_path):
    pytest.importorskip("larq_compute_engine")
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    result = export(model, tmp_path, images=images, input=None)
    assert [row.operator for row in result.rows] == [
        "CONV_2D", "LceQuantize", "LceBconv2d", "LceBconv2d", "MEAN", "FULLY_CONNECTED"
    ]  # fmt: skip
    found = {row.layer: row for row in result.rows}
    assert found["first"].bit_packed and found["first"].output == "bitpacked"
    assert found["second"].declared == "1 bit x 1 bit" and result.parity.error < 1e-4
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-3)


def test_a_subclass_is_not_taken_for_its_base():
    class Other(ScaledConv2D):
        """It may compute something else: the lowering is not inherited, what it costs is."""

    assert lce.rules_of(Other(8)).kind == "convolution" and lce.rules_of(Other(8)).lower is not None
    from tfbnas.lce.registry import exact_rules_of

    assert exact_rules_of(Other(8)).lower is None
    lce.register(Other, absorbs=False)
    assert lce.rules_of(Other(8)).lower is None and not lce.rules_of(Other(8)).absorbs
    assert lce.rules_of(ScaledConv2D(8)).absorbs


def test_rules_have_known_names():
    with pytest.raises(TypeError, match="lowering"):
        lce.register(ScaledConv2D, lowering=lower)


@pytest.mark.parametrize("make", [lambda: ScaledConv2D(3), lambda: layers.Dense(3)], ids=["binary", "float"])
def test_costs_refuse_a_layer_that_is_called_twice(make):
    inputs = tf.keras.Input((4, 4, 3))
    layer = make()
    with pytest.raises(UserError, match=f"called once.*{layer.name}.*2 times"):
        trace(tf.keras.Model(inputs, layer(layer(inputs))))


def test_export_refuses_a_binary_layer_that_is_called_twice():
    """It took the bits of one call for those of both."""
    inputs = tf.keras.Input((4, 4, 32))
    options = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    layer = lq.layers.QuantConv2D(32, 1, name="shared", **options)
    with pytest.raises(UserError, match="called once.*'shared'.*2 times; make a layer for each call"):
        deploy(tf.keras.Model(inputs, layer(layer(inputs))))
    dense = layers.Dense(32)  # a float one may be shared
    deploy(tf.keras.Model(inputs, dense(dense(inputs))))


def test_models_in_a_model_are_charged_like_their_layers():
    inputs = tf.keras.Input((4, 4, 3))
    first, second = FloatConv2D(4, 3, name="first"), FloatConv2D(5, 3, name="second")
    flat = tf.keras.Model(inputs, second(first(inputs)))
    held = tf.keras.Input((4, 4, 3))
    nested = tf.keras.Sequential([FloatConv2D(4, 3, name="first"), FloatConv2D(5, 3, name="second")])
    assert trace(tf.keras.Model(held, nested(held))) == trace(flat)
