import os
import subprocess
import sys
import warnings

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from small_networks import randomise

from tfbnas.errors import UserError
from tfbnas.export.convert import ExportError, Interpreter, convert, convert_model, versions, write_saved_model
from tfbnas.export.flatbuffer import operators
from tfbnas.quiet import captured


@pytest.fixture(scope="module")
def dense():
    return tf.keras.Sequential([tf.keras.layers.Dense(3, input_shape=(4,))])


def test_converts_and_runs(dense):
    flatbuffer = convert_model(dense)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    interpreter = Interpreter(flatbuffer)
    np.testing.assert_allclose(interpreter.predict(x)[0], dense(x), rtol=1e-5)
    assert interpreter.input_types == interpreter.output_types == ["float32"]
    assert [operator.name for operator in operators(flatbuffer)] == ["FULLY_CONNECTED"]


@pytest.fixture(scope="module")
def with_ranges():
    """A binary network that carries quantisation ranges."""

    def quantise(x):
        return tf.quantization.fake_quant_with_min_max_args(x, -6.0, 6.0)

    options = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    inputs = tf.keras.Input((6, 6, 32))
    x = lq.layers.QuantConv2D(8, 3, use_bias=False, **options)(quantise(inputs))
    x = quantise(tf.keras.layers.BatchNormalization()(x))
    return randomise(tf.keras.Model(inputs, quantise(tf.keras.layers.GlobalAveragePooling2D()(x))))


@pytest.mark.parametrize("types", [("int8", "int8"), ("int8", "float32"), ("float32", "float32")])
def test_int8_where_the_model_has_ranges(with_ranges, types):
    flatbuffer = convert_model(with_ranges, input_type=types[0], output_type=types[1])
    interpreter = Interpreter(flatbuffer)
    assert (interpreter.input_types, interpreter.output_types) == ([types[0]], [types[1]])
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 32)).astype(np.float32)
    np.testing.assert_allclose(interpreter.predict(x)[0], with_ranges(x), atol=2 * 12 / 255)


def test_int8_is_refused_without_ranges(dense):
    with pytest.raises(ExportError, match="quantisation ranges.*quantisation-aware"):
        convert_model(dense, input_type="int8")


def test_unknown_type_is_refused(dense):
    with pytest.raises(UserError, match="float32.*int8.*'float16'"):
        convert_model(dense, output_type="float16")


def test_interpreter_says_why_it_refuses():
    inputs = tf.keras.Input((3, 3))
    with pytest.raises(ExportError, match="(?s)interpreter refuses.*MatrixInverse"):
        Interpreter(convert_model(tf.keras.Model(inputs, tf.linalg.inv(inputs))))


def test_conversion_is_silent(dense, capfd):
    convert_model(dense)
    assert capfd.readouterr() == ("", "")


def test_failure_says_what_the_converter_said(tmp_path):
    with pytest.raises(ExportError, match="could not convert.*SavedModel file does not exist"):
        convert(tmp_path / "missing")


def test_captured_takes_native_output_and_warnings(capfd):
    with captured() as log:
        os.write(2, b"from C++\n")
        os.write(1, b"on stdout\n")
        warnings.warn("a warning", stacklevel=1)
    assert all(text in log.text for text in ("from C++", "on stdout", "UserWarning: a warning"))
    os.write(1, b"afterwards")
    assert capfd.readouterr() == ("afterwards", "")


def test_captured_gives_the_descriptors_back_after_an_error(capfd):
    with pytest.raises(RuntimeError), captured():
        raise RuntimeError
    os.write(2, b"visible")
    assert capfd.readouterr().err == "visible"


def test_a_refusing_flatbuffer_is_no_tflite_file():
    with pytest.raises(UserError, match="TFL3"):
        operators(b"something else")


def test_signature_takes_any_batch(dense, tmp_path):
    write_saved_model(dense, tmp_path / "model")
    serve = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    for batch in (1, 7):
        assert serve(inputs_0=tf.zeros((batch, 4)))["outputs"].shape == (batch, 3)


def test_versions_are_known():
    assert versions()["tensorflow"] == tf.__version__


def test_import_works_without_the_engine():
    """There is no larq-compute-engine for Linux on aarch64."""
    program = (
        "import sys; sys.modules['larq_compute_engine'] = None\n"
        "import tfbnas.export, tensorflow as tf\n"
        "from tfbnas.errors import UserError\n"
        "try: tfbnas.export.convert_model(tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(1,))]))\n"
        "except UserError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "larq-compute-engine" in result.stdout and "aarch64" in result.stdout
