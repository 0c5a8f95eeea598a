"""LCE runs a BinaryDense in binary, with no operator more than the network needs; and the costs know it."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from small_networks import block, head, randomise, stem

from tfbnas.costs import trace
from tfbnas.costs.latency import Latency
from tfbnas.costs.memory import Memory
from tfbnas.errors import UserError
from tfbnas.export import audit, check, convert_model, deploy, export, parity
from tfbnas.export.convert import Interpreter
from tfbnas.layers import BatchNormalization, BinaryDense, Dense, FloatConv2D, LearnedStep

layers = tf.keras.layers
QUANTIZE, CONVOLUTION = "LceQuantize", "LceBconv2d"


def binary(x, units, **options):
    """LearnedStep, binary dense layer, BatchNormalization."""
    return BatchNormalization()(BinaryDense(units, **options)(LearnedStep()(x)))


def pooled():
    inputs, x = stem(2, 32)
    return inputs, layers.GlobalAveragePooling2D()(x)


def two_layers():
    inputs, x = pooled()
    return inputs, binary(binary(x, 48, name="first"), 33, name="second")


def residual():
    inputs, x = pooled()
    x = layers.Add()([x, binary(x, 32)])
    return inputs, layers.Add()([x, binary(x, 32)])


def flattened(channels):
    inputs, x = stem(4, channels)
    return inputs, binary(layers.Flatten()(block(x, channels)), 40)


def vector():
    inputs = tf.keras.Input((50,))
    return inputs, binary(BatchNormalization()(Dense(64)(inputs)), 40)


def shared():
    inputs, x = pooled()
    bits = LearnedStep()(x)
    return inputs, layers.Add()([BatchNormalization()(BinaryDense(32)(bits)) for _ in range(2)])


STEM = ["CONV_2D", "MEAN", QUANTIZE]
FLAT = ["CONV_2D", QUANTIZE, CONVOLUTION]
LAST = ["FULLY_CONNECTED"]
NETWORKS = {
    "two layers": (two_layers, [*STEM, CONVOLUTION, CONVOLUTION, *LAST]),
    "residual": (residual, [*STEM, CONVOLUTION, "ADD", QUANTIZE, CONVOLUTION, "ADD", *LAST]),
    "two readers": (shared, [*STEM, CONVOLUTION, CONVOLUTION, "ADD", *LAST]),
    "flattened, whole words": (lambda: flattened(32), [*FLAT, CONVOLUTION, *LAST]),
    "flattened, part of a word": (lambda: flattened(8), [*FLAT, "RESHAPE", QUANTIZE, CONVOLUTION, *LAST]),
    "vectors": (vector, ["FULLY_CONNECTED", "RESHAPE", QUANTIZE, CONVOLUTION, *LAST]),
}
# The names of the latency tables for LCE's operators; reshaping is free.
NAMES = {
    "CONV_2D": "convolution", "MEAN": "global_pool", QUANTIZE: "quantize", "ADD": "add", "FULLY_CONNECTED": "dense",
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_operators_weights_and_outputs(name):
    build, wanted = NETWORKS[name]
    inputs, x = build()
    model = randomise(tf.keras.Model(inputs, Dense(5)(x)))
    deployed = deploy(model)
    flatbuffer = convert_model(deployed)
    rows = audit(flatbuffer, deployed)
    check(rows)
    assert [row.operator for row in rows] == wanted
    packed = {row.layer: row for row in rows if row.operator == CONVOLUTION}
    for layer in model.layers:
        if isinstance(layer, BinaryDense):
            features, units = layer.kernel.shape
            row = packed[layer.name]
            assert row.bit_packed and row.weight_bytes == units * 4 * -(-features // 32)
            assert row.declared == "1 bit x 1 bit"
    examples = np.random.default_rng(0).normal(size=(16, *inputs.shape[1:]))
    assert parity(flatbuffer, deployed, model, images=examples, tolerance=1e-4).undecided == []
    predicted = [row.operator for row in Latency("pixel1").operators(trace(model))]
    outputs = {True: "packed_convolution", False: "binary_convolution"}
    assert predicted == [
        NAMES.get(row.operator) or outputs[row.output == "bitpacked"] for row in rows if row.operator != "RESHAPE"
    ]


def test_deploy_form_is_a_plain_model_of_images_with_one_pixel():
    inputs, x = two_layers()
    model = randomise(tf.keras.Model(inputs, x))
    deployed = deploy(model)
    assert not any(type(layer).__module__.startswith("tfbnas") for layer in deployed.layers)
    first, second = (deployed.get_layer(name) for name in ("first", "second"))
    assert first.output_shape == (None, 1, 1, 48) and second.kernel_size == (1, 1) and not second.use_bias
    assert sum(isinstance(layer, layers.Reshape | layers.Flatten) for layer in deployed.layers) == 2  # in and out
    examples = np.random.default_rng(0).normal(size=(16, 2, 2, 3)).astype(np.float32)
    assert deployed.output_shape == model.output_shape == (None, 33)
    np.testing.assert_allclose(deployed(examples), model(examples), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "between",
    [lambda x: x, layers.ReLU(), layers.Dropout(0.5), layers.Activation("tanh"), layers.Reshape((-1,))],
    ids=["nothing", "relu", "dropout", "tanh", "reshape"],
)
def test_layers_around_normalisation(between):
    inputs, x = pooled()
    y = BinaryDense(32)(LearnedStep()(x))
    model = randomise(tf.keras.Model(inputs, Dense(5)(binary(between(BatchNormalization()(between(y))), 24))))
    examples = np.random.default_rng(0).normal(size=(16, 2, 2, 3)).astype(np.float32)
    expected = model(examples)
    assert np.ptp(expected, axis=0).max() > 1e-3
    np.testing.assert_allclose(deploy(model)(examples), expected, atol=2e-5 * np.abs(expected).max())


def test_tie_at_the_threshold():
    inputs = tf.keras.Input((40,))
    model = randomise(tf.keras.Model(inputs, binary(inputs, 6)))
    step = next(layer for layer in model.layers if isinstance(layer, LearnedStep))
    step.step.assign(0.7)
    half = np.float32(0.7) * np.float32(0.5)
    values = np.array([half, np.nextafter(half, np.float32(1)), np.nextafter(half, np.float32(0)), 0.0, -0.0, 1.0])
    x = np.random.default_rng(0).choice(values.astype(np.float32), size=(64, 40))
    np.testing.assert_allclose(deploy(model)(x), model(x), atol=1e-5)


def test_trained_network_end_to_end(tmp_path):
    """Two binary dense layers learn a rule, are exported, and the file gives the classes of the trained network."""
    tf.keras.utils.set_random_seed(0)
    inputs = tf.keras.Input((8, 8, 3))
    x = BatchNormalization()(layers.MaxPool2D(4)(FloatConv2D(32, 3)(inputs)))
    x = binary(layers.Flatten()(x), 64)
    model = tf.keras.Model(inputs, Dense(2)(binary(x, 32)))
    examples = np.random.default_rng(0).normal(size=(256, 8, 8, 3)).astype(np.float32)
    labels = (examples[:, :, :, 0].mean((1, 2)) > 0).astype(int)
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.optimizer.learning_rate = 0.01
    model.fit(examples, labels, batch_size=32, epochs=12, verbose=0)
    result = export(model, tmp_path, images=examples[:64], labels=labels[:64], input=None)
    assert result.parity.accuracy == result.parity.accuracy_converted > 0.85
    assert result.conversions == {}
    logits = np.asarray(Interpreter((tmp_path / "model.tflite").read_bytes()).predict(examples[:64])).reshape(64, 2)
    decided = np.setdiff1d(np.arange(64), result.parity.undecided)
    np.testing.assert_array_equal(logits.argmax(1)[decided], model.predict(examples[:64], verbose=0).argmax(1)[decided])


def test_memory_counts_one_bit_per_weight():
    inputs, x = two_layers()
    model = tf.keras.Model(inputs, Dense(5)(x))
    kernels = (32 * 48 + 48 * 33) / 8
    floats = 4 * (27 * 32 + 33 * 5 + 5)
    assert float(Memory().expected(trace(model), {})) == kernels + floats
    assert float(Memory("deployed").expected(trace(model), {})) == kernels + floats + 8 * (32 + 48 + 33)


def test_summary_of_larq_counts_bits(capsys):
    inputs, x = two_layers()
    model = tf.keras.Model(inputs, x)
    for form in (model, deploy(randomise(model))):
        lq.models.summary(form)
        (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("| first "))
        assert str(32 * 48) in row and " 0.19 " in row  # kB of one bit each


def test_refuses_bits_that_are_flattened():
    inputs, x = stem(4, 8)
    x = BinaryDense(4)(layers.Flatten(name="flat")(LearnedStep(name="step")(x)))
    with pytest.raises(UserError, match="LearnedStep 'step'.*BinaryDense only.*'flat' reads them; move that layer"):
        deploy(tf.keras.Model(inputs, BatchNormalization()(x)))


def test_refuses_real_values():
    inputs, x = pooled()
    with pytest.raises(UserError, match="BinaryDense 'd' to come from a LearnedStep"):
        deploy(tf.keras.Model(inputs, BatchNormalization()(BinaryDense(4, name="d")(x))))


def test_refuses_a_missing_normalisation():
    inputs, x = pooled()
    with pytest.raises(UserError, match="BatchNormalization behind every BinaryConv2D and BinaryDense"):
        deploy(tf.keras.Model(inputs, BinaryDense(4)(LearnedStep()(x))))


def test_remedy_for_dense_layers_of_larq_names_it():
    inputs, x = stem(4, 8)
    quantizers = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    x = lq.layers.QuantDense(8, name="dense", **quantizers)(layers.GlobalAveragePooling2D()(x))
    model = deploy(randomise(tf.keras.Model(inputs, x)))
    (row,) = (row for row in audit(convert_model(model), model) if row.reason)
    assert row.layer == "dense" and "tfbnas.layers.BinaryDense" in row.remedy


def test_networks_without_it_keep_their_shapes():
    inputs, x = stem()
    deployed = deploy(head(inputs, block(x)))
    assert not any(isinstance(layer, layers.Reshape | layers.Flatten) for layer in deployed.layers)
