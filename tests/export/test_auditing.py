import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from small_networks import block, head, randomise, stem

from tfbnas.export import ExportError, audit, auditing, check, convert_model, deploy, sizes, table
from tfbnas.export.deploy_form import deploy_with_notes
from tfbnas.export.flatbuffer import Operator, Tensor, operators, unpack_kernel
from tfbnas.networks.resnet import resnet18

layers = tf.keras.layers


@pytest.fixture(scope="module")
def deployed(trained):
    return deploy(trained)


@pytest.fixture(scope="module")
def flatbuffer(deployed):
    return convert_model(deployed)


def test_unpacks_bits_as_packed_by_hand():
    kernel = np.random.default_rng(0).choice([-1.0, 1.0], size=(2, 3, 3, 40)).astype(np.float32)
    bits = np.pad(kernel < 0, ((0, 0), (0, 0), (0, 0), (0, 24)))
    packed = np.packbits(bits, axis=-1, bitorder="little").view(np.int32)
    np.testing.assert_array_equal(unpack_kernel(packed, 40), kernel)


def test_every_kernel_is_found_once(deployed, flatbuffer):
    rows = [row for row in audit(flatbuffer, deployed) if row.declared]
    wanted = [layer.name for layer in deployed.layers if hasattr(layer, "kernel")]
    assert sorted(row.layer for row in rows) == sorted(wanted)
    assert {row.operator for row in rows if row.declared == "1 bit x 1 bit"} == {"LceBconv2d"}
    assert {row.operator for row in rows if row.declared == "float32"} == {"CONV_2D", "FULLY_CONNECTED"}
    check(rows)


def test_bytes_are_those_of_packed_kernels(deployed, flatbuffer):
    for row in audit(flatbuffer, deployed):
        if row.bit_packed:
            height, width, channels, filters = deployed.get_layer(row.layer).kernel.shape
            assert row.weight_bytes == filters * height * width * 4 * -(-channels // 32)


def test_glue_is_named_and_explained(deployed, flatbuffer):
    additions = [row for row in audit(flatbuffer, deployed) if row.operator == "ADD"]
    assert [row.layer for row in additions] == [layer.name for layer in deployed.layers if "add" in layer.name]
    assert all("shortcut" in row.note for row in additions)


def test_conversions_of_the_deploy_form_are_explained():
    inputs, x = stem()
    x = layers.MaxPool2D(2, name="pool")(x)
    notes = deploy_with_notes(head(inputs, block(x)))
    rows = audit(convert_model(notes.model), notes.model, conversions=notes.conversions)
    (row,) = [row for row in rows if row.operator == "MUL"]
    assert "'pool'" in row.note and "absorb" in row.note


def test_works_without_a_model(flatbuffer):
    assert [row.operator for row in audit(flatbuffer)] == [operator.name for operator in operators(flatbuffer)]


def binary_dense():
    inputs = tf.keras.Input((4, 4, 3))
    x = layers.Flatten()(inputs)
    x = lq.layers.QuantDense(
        6, input_quantizer="ste_sign", kernel_quantizer="ste_sign", kernel_constraint="weight_clip", name="binary"
    )(x)
    return randomise(tf.keras.Model(inputs, layers.Dense(2)(x)))


def test_refusal_names_layer_reason_and_remedy():
    model = binary_dense()
    with pytest.raises(
        ExportError, match="(?s)'binary'.*no binary dense operator.*1x1 QuantConv2D.*allow=\\['binary'\\]"
    ):
        check(audit(convert_model(model), model))


def test_named_layers_are_allowed():
    model = binary_dense()
    rows = audit(convert_model(model), model, allow=["binary"])
    check(rows)
    assert [row.layer for row in rows if row.allowed] == ["binary"]


def test_masked_kernel_is_refused():
    inputs = tf.keras.Input((4, 4, 32))
    options = {"input_quantizer": "ste_sign", "padding": "same", "pad_values": 1.0, "name": "masked"}
    mask = np.ones(8, np.float32)
    mask[3] = 0
    layer = lq.layers.QuantConv2D(8, 3, kernel_quantizer=lambda w: lq.quantizers.ste_sign(w) * mask, **options)
    layer.kernel_quantizer.precision = 1
    model = randomise(tf.keras.Model(inputs, layer(inputs)))
    with pytest.raises(ExportError, match="'masked'.*zeros.*cut masked filters out"):
        check(audit(convert_model(model), model))


def test_operators_that_no_runtime_has_are_refused():
    inputs = tf.keras.Input((3, 3))
    model = tf.keras.Model(inputs, tf.linalg.inv(inputs))
    with pytest.raises(ExportError, match="no operator for TensorFlow's MatrixInverse"):
        check(audit(convert_model(model), model))


def test_size_counts_bits_and_float_parameters():
    model = deploy(randomise(resnet18(lambda name, channels: channels)))
    counted = sizes(convert_model(model), model)
    binary = sum(
        np.prod(v.shape) for layer in model.layers if hasattr(layer, "kernel_quantizer") for v in layer.weights
    )
    floats = 3 * 3 * 3 * 16 + 128 * 10 + 10  # stem, dense layer
    floats += 2 * sum(
        int(layer.beta.shape[0]) for layer in model.layers if isinstance(layer, layers.BatchNormalization)
    )
    assert counted.binary_weights == binary // 8
    assert counted.float_parameters == 4 * floats
    assert counted.file <= counted.limit == int(1.1 * (binary // 8 + 4 * floats)) + 16384
    assert counted.largest_float[0] == ("logits", 4 * 1290)


def binary_network(channels, filters=1024):
    """One binary convolution, which makes up nearly all of it."""
    inputs = tf.keras.Input((4, 4, channels))
    options = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    x = lq.layers.QuantConv2D(filters, 3, use_bias=False, name="binary", **options)(inputs)
    return randomise(tf.keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))))


def test_bytes_of_the_file_by_kind():
    model = binary_network(36)
    counted = sizes(convert_model(model), model)
    assert counted.binary_weights == 36 * 9 * 1024 // 8
    assert counted.word_padding == (64 - 36) * 9 * 1024 // 8
    assert counted.unpacked == 0
    assert counted.float_parameters <= counted.constants < counted.float_parameters + 100
    assert 500 < counted.structure < 8000
    kinds = counted.binary_weights + counted.word_padding + counted.constants + counted.structure
    assert kinds == counted.file


def test_a_file_beyond_the_limit_says_why_and_what_to_do():
    model = binary_network(36)
    counted = sizes(convert_model(model), model)
    assert counted.file > counted.limit and not counted.to_json()["within_limit"]
    for text in (counted.summary(), counted.to_json()["excess"]):
        assert "multiple of 32" in text and "width_multiple=32" in text and f"{counted.word_padding} bytes" in text
    snapped = binary_network(64)
    counted = sizes(convert_model(snapped), snapped)
    assert counted.word_padding == 0 and counted.excess == "" and counted.to_json()["within_limit"]


def test_binary_weights_as_floats_are_the_cause_where_they_are():
    inputs = tf.keras.Input((256,))
    options = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    model = randomise(tf.keras.Model(inputs, lq.layers.QuantDense(256, name="binary", **options)(inputs)))
    counted = sizes(convert_model(model), model)
    assert counted.unpacked == 4 * 256 * 256 and "stored as floats" in counted.excess


def test_widths_that_are_no_multiples_of_32_stay_within_the_limit():
    """Widths that a search gave to a ResNet-18; without `rewriting.compact` the file was 2 KB over the limit."""
    widths = {"stem": 30, "stage2/stream": 51, "stage3/stream": 84, "stage4/stream": 133}
    inner = [34, 30, 45, 65, 91, 77, 145, 111]
    widths |= {f"stage{i // 2 + 1}/block{i % 2 + 1}/inner": width for i, width in enumerate(inner)}
    model = deploy(randomise(resnet18(lambda name, channels: widths[name])))
    counted = sizes(convert_model(model), model)
    assert counted.word_padding > 10000
    assert counted.file <= counted.limit, counted.summary()


def test_the_last_operator_has_the_name_of_the_last_layer():
    inputs, x = stem()
    x = layers.GlobalAveragePooling2D(name="average")(x)
    model = randomise(tf.keras.Model(inputs, layers.Softmax(name="shares")(x)))
    rows = audit(convert_model(model), model)
    assert [row.layer for row in rows if row.operator in ("MEAN", "SOFTMAX")] == ["average", "shares"]
    pooled = tf.keras.Model(inputs, model.get_layer("average").output)
    (row,) = [row for row in audit(convert_model(pooled), pooled) if row.operator == "MEAN"]
    assert row.layer == "average"


def test_table_is_aligned(flatbuffer, deployed):
    lines = table(audit(flatbuffer, deployed)).splitlines()
    column = lines[0].index("operator")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)


def test_kernels_that_are_computed_at_run_time_are_told():
    """As where a kernel is too large for the converter to compute it in advance."""
    found = [Operator("MEAN", (constant(0),), (plain(1),)), Operator("MUL", (constant(0), plain(1)), (plain(2),))]
    found.append(Operator("CONV_2D", (plain(3), plain(2)), (plain(4),)))
    rows = [auditing.Row("", "", operator.name, []) for operator in found]
    auditing._tell_of_kernels_at_run_time(found, rows)
    assert [row.note for row in rows] == ["computes a kernel anew at every run"] * 2 + [""]


def plain(index):
    return Tensor(index, "", (1,), "float32", None)


def constant(index):
    return Tensor(index, "", (1,), "float32", np.ones(1, np.float32))


@pytest.mark.parametrize(
    ("quantizers", "declared"),
    [
        ({"input_quantizer": "ste_sign", "kernel_quantizer": lq.quantizers.DoReFa(2, mode="weights")}, "1 bit x 2 bit"),
        ({"input_quantizer": lq.quantizers.DoReFa(2)}, "2 bit x float32"),
        ({"input_quantizer": "ste_sign"}, "1 bit x float32"),
    ],
)
def test_what_is_declared_as_quantised_and_runs_in_float_is_refused(quantizers, declared):
    inputs = tf.keras.Input((4, 4, 32))
    layer = lq.layers.QuantConv2D(8, 3, name="some", kernel_constraint="weight_clip", **quantizers)
    model = randomise(tf.keras.Model(inputs, layer(inputs)))
    flatbuffer = convert_model(model)
    with pytest.raises(ExportError, match=f"layer 'some' .operator CONV_2D.: it declares {declared}.*full precision"):
        check(audit(flatbuffer, model))
    rows = audit(flatbuffer, model, allow=["some"])
    check(rows)
    assert [row.declared for row in rows if row.allowed] == [declared]
