"""Latency tables against what they are fitted to, what was published, and what Larq Compute Engine really emits.

a72_operators.csv: instructions of single operators on an emulated Cortex-A72 (height and channels of the input; pools
of 2x2 with stride 2; "mul_add" is a BatchNormalization that is not folded). a72_float_int8.csv: the same of float32 and
int8 operators of TensorFlow Lite (height of the output).
"""

import csv
import math
from pathlib import Path

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Latency, Memory, Operation, trace
from tfbnas.costs.latency import devices, latency, load_table
from tfbnas.costs.latency_features import FEATURES, OPERATORS, Shape
from tfbnas.costs.latency_fit import fit
from tfbnas.errors import UserError
from tfbnas.files import write_json
from tfbnas.layers import OpenWidth
from tfbnas.networks import build, builder

keras = tf.keras.layers
A72 = {
    "LceQuantize": "quantize", "add": "add", "mul_add": "normalization", "relu": "activation", "maxpool": "max_pool",
    "avgpool": "average_pool", "gap": "global_pool", "conv": "convolution", "dwconv": "depthwise", "dense": "dense",
}  # fmt: skip


def a72_rows():
    found = {}
    with (Path(__file__).parent / "a72_operators.csv").open() as file:
        for row in csv.DictReader(file):
            height, inputs, outputs, kernel, stride, count = (
                int(row[k]) for k in ("height", "channels_in", "channels_out", "kernel", "stride", "instructions")
            )
            key = A72.get(row["op"], "packed_convolution" if row["output"] == "packed" else "binary_convolution")
            size = math.ceil(height / stride)
            if key in ("max_pool", "average_pool"):
                size, kernel, stride = height // 2, 2, 2
            if key == "global_pool":
                size, kernel = 1, height
            shape = Shape(inputs, outputs, size, size, (kernel, kernel), stride)
            found.setdefault(key, []).append((shape, count))
    with (Path(__file__).parent / "a72_float_int8.csv").open() as file:
        for row in csv.DictReader(file):
            height, inputs, outputs, kernel, stride, count = (
                int(row[k]) for k in ("height", "channels_in", "channels_out", "kernel", "stride", "instructions")
            )
            key = A72[row["op"]]
            size, kernel = (1, height) if key == "global_pool" else (height, max(kernel, 1))
            shape = Shape(inputs, outputs, size, size, (kernel, kernel), stride)
            found.setdefault(key if row["weights"] == "float32" else f"int8_{key}", []).append((shape, count))
    return found


def predict(table, key, shape):
    terms = table["operators"][key]["terms"]
    return sum(coefficient * FEATURES[name](shape) for name, coefficient in terms.items())


def test_the_raspberry_pi_table_reproduces_every_operator_within_its_stated_error():
    table, rows = load_table("raspberry_pi_4b"), a72_rows()
    assert sum(map(len, rows.values())) == 586 + 288
    for key, points in rows.items():
        entry = table["operators"][key]
        errors = [abs(predict(table, key, shape) / count - 1) for shape, count in points]
        assert entry["points"] == len(points)
        assert np.mean(errors) == pytest.approx(entry["mean_error"], abs=2e-3), key
        assert max(errors) == pytest.approx(entry["largest_error"], abs=2e-3), key


def test_the_raspberry_pi_table_is_the_fit():
    table, rows = load_table("raspberry_pi_4b"), a72_rows()
    for key in ("packed_convolution", "binary_convolution", "convolution", "int8_convolution"):
        shapes, counts = zip(*rows[key], strict=True)
        fitted = fit(key, shapes, counts)["terms"]
        assert fitted == pytest.approx(table["operators"][key]["terms"], rel=1e-3)
        assert table["operators"][key]["mean_error"] < 0.02


# Times of binary convolutions of BinaryDenseNet28, Real-to-Binary Net and QuickNetLarge on a Pixel 1: size of the
# output, channels in and out, stride, milliseconds.
PIXEL = [
    (56, 64, 64, 1, 1.424), (56, 128, 64, 1, 2.351), (56, 192, 64, 1, 3.498), (56, 256, 64, 1, 4.432),
    (56, 320, 64, 1, 5.720), (56, 384, 64, 1, 6.624), (28, 160, 64, 1, 0.750), (28, 288, 64, 1, 1.335),
    (28, 480, 64, 1, 2.129), (14, 192, 64, 1, 0.227), (14, 256, 64, 1, 0.268), (14, 320, 64, 1, 0.345),
    (14, 384, 64, 1, 0.403), (14, 512, 64, 1, 0.543), (7, 256, 64, 1, 0.094), (7, 512, 64, 1, 0.141),
    (28, 64, 128, 2, 0.679), (28, 64, 128, 2, 0.709), (14, 128, 256, 2, 0.529), (14, 128, 256, 2, 0.552),
    (7, 256, 512, 2, 0.537), (7, 256, 512, 2, 0.561), (56, 64, 64, 1, 1.386), (56, 64, 64, 1, 1.403),
    (28, 128, 128, 1, 1.048), (28, 128, 128, 1, 1.044), (14, 256, 256, 1, 1.015), (14, 256, 256, 1, 0.998),
    (7, 512, 512, 1, 1.046), (7, 512, 512, 1, 1.028),
]  # fmt: skip


def test_the_pixel_table_reproduces_the_published_operators():
    table = load_table("pixel1")
    errors = [
        predict(table, "binary_convolution", Shape(inputs, outputs, size, size, (3, 3), stride)) / time - 1
        for size, inputs, outputs, stride, time in PIXEL
    ]
    assert np.max(np.abs(errors)) < 0.13 and np.mean(np.abs(errors)) < 0.06


def quicknet(blocks, filters):
    """QuickNet of larq-zoo 2.x (larq_zoo/sota/quicknet.py), without weights."""
    binary = {
        "input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip",
        "padding": "same", "pad_values": 1.0, "use_bias": False, "activation": "relu",
    }  # fmt: skip
    inputs = tf.keras.Input((224, 224, 3))
    x = keras.Conv2D(filters[0] // 4, 3, 2, padding="same", use_bias=False)(inputs)
    x = keras.Activation("relu")(keras.BatchNormalization()(x))
    x = keras.DepthwiseConv2D(3, 2, padding="same", use_bias=False)(x)
    x = keras.BatchNormalization(scale=False, center=False)(x)
    x = keras.BatchNormalization()(keras.Conv2D(filters[0], 1, use_bias=False)(x))
    for count, channels in zip(blocks, filters, strict=True):
        for _ in range(count):
            if channels != x.shape[-1]:
                x = keras.MaxPool2D(2, 1)(keras.Activation("relu")(x))
                x = keras.DepthwiseConv2D(3, 2, padding="same", use_bias=False)(x)
                x = keras.BatchNormalization()(keras.Conv2D(channels, 1, use_bias=False)(x))
            x = x + keras.BatchNormalization()(lq.layers.QuantConv2D(channels, 3, **binary)(x))
    x = keras.GlobalAveragePooling2D()(keras.Activation("relu")(x))
    return tf.keras.Model(inputs, keras.Activation("softmax")(keras.Dense(1000)(x)))


@pytest.mark.parametrize(
    ("blocks", "filters", "pixel", "raspberry"),
    [
        ((4, 4, 4, 4), (32, 64, 256, 512), 16.8, 27.7),
        ((4, 4, 4, 4), (64, 128, 256, 512), 25.5, 45.0),
        ((6, 8, 12, 6), (64, 128, 256, 512), 44.2, 77.0),
    ],
    ids=["QuickNetSmall", "QuickNet", "QuickNetLarge"],
)
def test_published_totals_of_quicknets(blocks, filters, pixel, raspberry):
    operations = trace(quicknet(blocks, filters))
    for device, published in (("pixel1", pixel), ("raspberry_pi_4b", raspberry)):
        total = sum(row.milliseconds for row in Latency(device).operators(operations))
        print(f"{device}: {published} ms published, {total:.1f} ms predicted")
        assert total == pytest.approx(published, rel=0.05), device


def architecture(network, **options):
    return Architecture("uniform", network, {}, (32, 32, 3), 10, options)


LCE = {
    "LceQuantize": "quantize", "CONV_2D": "convolution", "ADD": "add", "MEAN": "global_pool", "MAX_POOL_2D": "max_pool",
    "FULLY_CONNECTED": "dense", "MUL": "normalization",
}  # fmt: skip


@pytest.mark.parametrize("network", ["resnet18", "vgg11"])
def test_the_charged_operators_are_those_of_the_converted_network(network):
    pytest.importorskip("larq_compute_engine")
    from tfbnas.export import convert_model, deploy
    from tfbnas.export.flatbuffer import operators

    model = build(architecture(network, base=4))
    charged = [row.operator for row in Latency("raspberry_pi_4b").operators(trace(model))]
    emitted = []
    for operator in operators(convert_model(deploy(model))):
        if operator.name == "LceBconv2d":
            packed = operator.outputs[0].dtype == "int32"
            emitted.append("packed_convolution" if packed else "binary_convolution")
        elif operator.name == "ADD" and emitted[-1:] == ["normalization"]:
            pass  # MUL and ADD are one BatchNormalization
        else:
            emitted.append(LCE[operator.name])
    assert sorted(charged) == sorted(emitted)


def test_plain_larq_layers_are_charged_as_they_convert():
    """Rows of the contract with Larq Compute Engine: what is folded, packed, shared or left as glue."""
    binary = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "padding": "same", "use_bias": False}
    one, zero = binary | {"pad_values": 1.0}, binary

    def charged(make):
        inputs = tf.keras.Input((8, 8, 32))
        operations = trace(tf.keras.Model(inputs, make(inputs)))
        return [row.operator for row in Latency("raspberry_pi_4b").operators(operations)]

    def conv(x, options=one, size=3, **more):
        return lq.layers.QuantConv2D(32, size, **options, **more)(x)

    norm, pool, add = keras.BatchNormalization, keras.MaxPool2D, keras.Add
    first, packed, last = "quantize", "packed_convolution", "binary_convolution"
    assert charged(lambda x: conv(norm()(conv(x)))) == [first, packed, last]
    assert charged(lambda x: conv(conv(x))) == [first, packed, last]
    assert charged(lambda x: conv(norm()(conv(x, zero)))) == [first, last, first, last]
    assert charged(lambda x: conv(norm()(conv(x, zero, 1)))) == [first, packed, last]
    assert charged(lambda x: conv(norm()(conv(x, activation="relu")))) == [first, packed, last]
    assert charged(lambda x: conv(pool(2)(norm()(conv(x))))) == [first, packed, "packed_max_pool", last]
    assert charged(lambda x: conv(norm()(pool(2)(conv(x))))) == [
        first, last, "max_pool", "normalization", first, last,
    ]  # fmt: skip
    assert charged(lambda x: conv(keras.ReLU()(norm()(conv(x))))) == [first, last, "activation", first, last]
    assert charged(lambda x: add()([conv(x), conv(x)])) == [first, last, last, "add"]
    assert charged(lambda x: conv(keras.ReLU()(add()([x, norm()(conv(x))])))) == [first, last, "add", first, last]
    assert charged(lambda x: norm()(x)) == ["normalization"]
    assert charged(lambda x: conv(x, one | {"input_quantizer": None})) == ["convolution"]


def test_binary_weights_are_the_same_bytes_as_before():
    operations = trace(build(architecture("resnet18", base=4)))
    kinds = {operation.kind for operation in operations}
    assert {"quantize", "add", "global_pool", "convolution", "dense", "normalization"} == kinds
    weights = [operation for operation in operations if operation.kind in ("convolution", "dense", "normalization")]
    memory = Memory("deployed")
    assert float(memory.expected(operations, {})) == float(memory.expected(weights, {}))


# The staircase of bit packing.


def single(kind, inputs, outputs=None, **options):
    options = {"reads_bits": kind == "convolution", **options}
    return Operation("layer", kind, True, (3, 3), inputs, outputs or inputs, False, 32, 32, **options)


@pytest.mark.parametrize("device", devices())
def test_stairs(device):
    model = Latency(device)

    def time(*arguments, **options):
        return model.operators([single(*arguments, **options)])[0].milliseconds

    assert time("convolution", 33, 64) == time("convolution", 64, 64) > time("convolution", 32, 64)
    assert time("convolution", 64, 64, writes_bits=True) < time("convolution", 64, 64)
    assert time("quantize", 33) > 5 * time("quantize", 64) > 9 * time("quantize", 32)
    assert time("quantize", 16) > 10 * time("quantize", 32)


def test_quantising_32_channels_is_cheaper_than_16_and_the_convolution_hardly_dearer():
    instructions = {
        channels: [
            row.milliseconds / 0.575e-6
            for row in Latency("raspberry_pi_4b").operators(
                [single("quantize", channels), single("convolution", channels)]
            )
        ]
        for channels in (16, 32)
    }
    assert instructions[16] == pytest.approx([218_000, 461_000], rel=0.16)
    assert instructions[32] == pytest.approx([13_000, 664_000], rel=0.16)


# Closed and expected form.


def open_network(name, shape=(32, 32, 3), **options):
    widths = {}

    def choose(key, base):
        return widths.setdefault(key, OpenWidth(key, base))

    return builder(name)(choose, input_shape=shape, classes=10, **options), widths


@pytest.mark.parametrize("network", ["resnet18", "vgg11"])
def test_closed_and_expected_agree_where_every_probability_is_0_or_1(network):
    model, widths = open_network(network, base=8)
    chosen = {name: 5 + 3 * i for i, name in enumerate(widths)}
    certain = {name: (tf.constant([3.0, chosen[name], 70.0]), tf.constant([0.0, 1.0, 0.0])) for name in widths}
    closed = Architecture("test", network, chosen, (32, 32, 3), 10, {"base": 8})
    for device in devices():
        expected = Latency(device).expected(trace(model), certain)
        assert float(expected) == pytest.approx(latency(closed, device), rel=1e-5), device


def test_expected_is_the_mean_over_all_combinations_with_the_gradient_of_that_mean():
    first, second = OpenWidth("a", 32), OpenWidth("b", 32)
    operations = [
        single("convolution", first, second),
        single("quantize", second),
        single("convolution", second, second),
    ]
    values = {"a": [31.0, 33.0, 65.0], "b": [8.0, 16.0, 40.0]}
    chances = {"a": [0.2, 0.5, 0.3], "b": [0.6, 0.3, 0.1]}
    model = Latency("raspberry_pi_4b")

    def closed(a, b):
        rows = [single("convolution", a, b), single("quantize", b), single("convolution", b, b)]
        return sum(row.milliseconds for row in model.operators(rows))

    times = np.array([[closed(int(a), int(b)) for b in values["b"]] for a in values["a"]])
    probabilities = {name: tf.constant(chance) for name, chance in chances.items()}
    with tf.GradientTape() as tape:
        tape.watch(list(probabilities.values()))
        expected = model.expected(operations, {n: (tf.constant(values[n]), probabilities[n]) for n in values})
    assert float(expected) == pytest.approx(np.array(chances["a"]) @ times @ np.array(chances["b"]), rel=1e-5)
    slopes = tape.gradient(expected, probabilities["a"]).numpy()
    alone = np.array([[sum(r.milliseconds for r in model.operators([single("convolution", int(a), int(b))]))
                       for b in values["b"]] for a in values["a"]])  # fmt: skip
    np.testing.assert_allclose(slopes, alone @ np.array(chances["b"]), rtol=1e-5)


def test_a_budget_takes_it_and_a_graph_may_compute_it():
    model, widths = open_network("test-small", (8, 8, 3))
    budget = Budget(Latency("pixel1"), 1e-4, penalty_weight=1.0)
    operations = trace(model)
    values = tf.constant([4.0, 8.0])

    @tf.function
    def penalty(probabilities):
        return budget.penalty(budget.cost.expected(operations, {name: (values, probabilities) for name in widths}))

    assert float(penalty(tf.constant([0.5, 0.5]))) > 0
    with pytest.raises(UserError, match="number of ms"):
        Budget(Latency("pixel1"), 0.0)


# What is refused.


def test_open_widths_have_no_closed_time():
    with pytest.raises(UserError, match="closed widths"):
        Latency("pixel1").operators([single("quantize", OpenWidth("a", 8))])


def test_layers_of_which_nothing_is_known_are_named():
    inputs = tf.keras.Input((8, 8, 4))
    operations = trace(tf.keras.Model(inputs, keras.PReLU(name="strange")(inputs)))
    assert float(Memory().expected(operations, {})) == 4 * 8 * 8 * 4  # its slopes, one for each element
    with pytest.raises(UserError, match="'strange'.*'unknown'.*says nothing"):
        Latency("pixel1").operators(operations)


def test_unknown_devices_and_damaged_tables_are_refused(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'pixel1'"):
        Latency("pixel")
    path = tmp_path / "mine.json"
    write_json(path, {"format": 1})
    with pytest.raises(UserError, match="which is none"):
        Latency(path)
    table = load_table("pixel1")
    table["operators"]["add"]["terms"] = {"elephants": 1.0}
    write_json(path, table)
    with pytest.raises(UserError, match="elephants.*'add'"):
        Latency(path)


@pytest.mark.parametrize("device", devices())
def test_shipped_tables_say_what_they_are(device):
    table = load_table(device)
    assert table["label"] == "model, not a measurement" and table["sources"] and table["error"]
    every = {name for name in OPERATORS if device != "pixel1" or not name.startswith("int8_")}
    assert set(table["operators"]) == every and table["name"] == device
    assert all(entry["points"] or entry["note"] for entry in table["operators"].values())


def test_a_fit_finds_the_coefficients_and_has_no_negative_ones():
    shapes = [Shape(c, c, h, h, (3, 3)) for c in (8, 16, 32, 33, 64) for h in (4, 8, 15)]
    times = [0.5 + 2e-3 * s.pixels * s.outputs for s in shapes]
    result = fit("add", shapes, times)
    assert result["terms"] == pytest.approx({"calls": 0.5, "elements": 2e-3})
    assert result["largest_error"] < 1e-9 and result["points"] == 15
    falling = fit("add", shapes, [5.0 - 1e-5 * s.pixels * s.outputs for s in shapes])
    assert list(falling["terms"]) == ["calls"]
    for wrong in ([], [0.0] * len(shapes)):
        with pytest.raises(UserError, match="positive times"):
            fit("add", shapes[: len(wrong)], wrong)
    with pytest.raises(UserError, match="operator"):
        fit("sub", shapes, times)
