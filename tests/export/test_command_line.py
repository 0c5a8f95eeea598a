import importlib
import subprocess
import sys
import zipfile

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from small_networks import randomise

from tfbnas import predict
from tfbnas.export import deploy
from tfbnas.export.__main__ import main
from tfbnas.export.convert import Interpreter
from tfbnas.loading import load_model

layers = tf.keras.layers


@pytest.fixture(scope="module")
def model():
    """A Larq model that tfbnas did not build."""
    options = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip", "use_bias": False}
    inputs = tf.keras.Input((8, 8, 3))
    x = lq.layers.QuantConv2D(32, 3, name="first", use_bias=False)(inputs)
    x = layers.BatchNormalization(scale=False)(x)
    x = lq.layers.QuantConv2D(32, 3, input_quantizer="ste_sign", name="second", **options)(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return randomise(tf.keras.Model(inputs, layers.Dense(4)(x)))


@pytest.fixture(scope="module", params=["model.keras", "model.h5", "saved_model"])
def saved(model, request, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / request.param
    model.save(path)
    return path


def test_converts_each_kind_of_file(saved, tmp_path, capsys):
    np.save(tmp_path / "images.npy", np.random.default_rng(0).normal(size=(3, 8, 8, 3)))
    out = tmp_path / "out.tflite"
    assert main([str(saved), str(out), "--images", str(tmp_path / "images.npy")]) == 0
    printed = capsys.readouterr().out
    assert out.read_bytes()[4:8] == b"TFL3"
    assert "LceBconv2d" in printed and "on 3 images and" in printed and str(out) in printed


def test_a_trained_network_of_tfbnas_survives_its_file(trained, images, tmp_path):
    trained.save(tmp_path / "trained.keras")
    loaded = load_model(tmp_path / "trained.keras")
    np.testing.assert_allclose(loaded(images, training=False), trained(images, training=False), atol=1e-4)
    deploy(loaded)


def blur(shape, dtype=None):
    raise AssertionError("initialisers of a file are not called")


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_unknown_initialisers_do_not_matter(model, name, tmp_path, capsys):
    x = layers.DepthwiseConv2D(3, name="blurred")(model.input)
    x = layers.Dense(4, name="dense", kernel_initializer=tf.keras.initializers.HeNormal(seed=1))(x)
    own = randomise(tf.keras.Model(model.input, layers.Flatten()(x)))
    own.get_layer("blurred").depthwise_initializer = blur
    own.save(tmp_path / name)
    loaded = load_model(tmp_path / name)
    for old, new in zip(own.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert isinstance(loaded.get_layer("blurred").depthwise_initializer, tf.keras.initializers.Zeros)
    assert isinstance(loaded.get_layer("dense").kernel_initializer, tf.keras.initializers.HeNormal)
    assert main([str(tmp_path / name), str(tmp_path / "out.tflite")]) == 0


def blur_with_zeros(shape, dtype=None):
    return tf.zeros(shape, dtype)


class Own(layers.Layer):
    """A layer that no file can bring along."""


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_unknown_layers_are_still_refused(name, tmp_path, capsys):
    inputs = tf.keras.Input((3,))
    outputs = layers.Dense(2, kernel_initializer=blur_with_zeros)(Own()(inputs))
    tf.keras.Model(inputs, outputs).save(tmp_path / name)
    assert main([str(tmp_path / name), "--audit-only"]) == 2
    message = capsys.readouterr().err
    assert "cannot be loaded" in message and "refers to Own, which" in message


@pytest.mark.parametrize("name", ["trained.keras", "trained.h5"])
def test_quantisers_of_tfbnas_load_from_either_file(name, trained, images, tmp_path):
    """A .h5 file names them without the package, which Keras does not find."""
    trained.save(tmp_path / name)
    loaded = load_model(tmp_path / name)
    np.testing.assert_allclose(loaded(images, training=False), trained(images, training=False), atol=1e-4)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_own_classes_come_from_a_module(name, tmp_path, capsys, monkeypatch):
    kind = name.split(".")[1].capitalize()  # a class that is registered once stays so
    module = f"my_{kind.lower()}_layers"
    (tmp_path / f"{module}.py").write_text(
        "import tensorflow as tf\n"
        "@tf.keras.utils.register_keras_serializable('mine')\n"
        f"class Own{kind}(tf.keras.layers.Layer):\n"
        "    def call(self, inputs):\n"
        "        return 2 * inputs\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registered = dict(tf.keras.utils.get_custom_objects())
    inputs = tf.keras.Input((4, 4, 3))
    tf.keras.Model(inputs, getattr(importlib.import_module(module), f"Own{kind}")()(inputs)).save(tmp_path / name)
    tf.keras.utils.get_custom_objects().clear()
    tf.keras.utils.get_custom_objects().update(registered)
    sys.modules.pop(module)
    assert main([str(tmp_path / name), "--audit-only"]) == 2
    assert f"Own{kind}, which neither Keras" in capsys.readouterr().err
    assert main([str(tmp_path / name), "--audit-only", "--import", module]) == 0
    assert main([str(tmp_path / name), "--audit-only", "--import", "no_such_layers"]) == 2
    assert "--import no_such_layers" in capsys.readouterr().err


def halve(x):
    return x / 2


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_unknown_functions_are_named(name, tmp_path, capsys):
    inputs = tf.keras.Input((4, 4, 3))
    model = tf.keras.Model(inputs, lq.layers.QuantConv2D(2, 1, kernel_quantizer=halve)(inputs))
    model.save(tmp_path / name)
    assert main([str(tmp_path / name), "--audit-only"]) == 2
    assert "refers to halve, which" in capsys.readouterr().err


def test_audit_only_writes_nothing(model, tmp_path, capsys):
    model.save(tmp_path / "model.keras")
    assert main([str(tmp_path / "model.keras"), "--audit-only"]) == 0
    assert "second" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_refusal_shows_the_audit_and_ends_with_code_2(tmp_path, capsys):
    inputs = tf.keras.Input((4, 4, 3))
    dense = lq.layers.QuantDense(4, input_quantizer="ste_sign", kernel_quantizer="ste_sign", name="binary")
    randomise(tf.keras.Model(inputs, dense(layers.Flatten()(inputs)))).save(tmp_path / "model.keras")
    out = tmp_path / "out.tflite"
    assert main([str(tmp_path / "model.keras"), str(out)]) == 2
    printed = capsys.readouterr()
    assert "FULLY_CONNECTED" in printed.out and "'binary'" in printed.err
    assert not out.exists()
    assert "allow the layer by name: --allow binary." in printed.err and "allow=" not in printed.err
    assert main([str(tmp_path / "model.keras"), str(out), "--allow", "binray"]) == 2
    assert "'binray', which the model does not have. Did you mean 'binary'?" in capsys.readouterr().err
    assert not out.exists()
    assert main([str(tmp_path / "model.keras"), str(out), "--allow", "binary"]) == 0
    assert out.exists()


def test_no_directory_is_made_for_the_file(model, tmp_path, capsys):
    model.save(tmp_path / "model.keras")
    assert main([str(tmp_path / "model.keras"), str(tmp_path / "typo" / "out.tflite")]) == 2
    assert f"lies in {tmp_path / 'typo'}, which does not exist" in capsys.readouterr().err
    assert main([str(tmp_path / "model.keras"), str(tmp_path)]) == 2
    assert "which is a directory" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_pixels_and_labels(model, tmp_path, capsys):
    model.save(tmp_path / "model.keras")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.float32)
    np.save(tmp_path / "images.npy", pixels / 127.5 - 1)
    out = tmp_path / "out.tflite"
    options = ["--input", "pixels", "--images", str(tmp_path / "images.npy"), "--labels", str(tmp_path / "names.txt")]
    assert main([str(tmp_path / "model.keras"), str(out), *options]) == 0
    # The converter takes the scaling into a first convolution without padding.
    assert "ADD" not in capsys.readouterr().out
    with zipfile.ZipFile(out) as archive:
        assert archive.read("labels.txt") == b"a\nb\nc\nd\n" and b'"0..255"' in archive.read("input.json")
    np.testing.assert_allclose(Interpreter(out.read_bytes()).predict(pixels)[0], model(pixels / 127.5 - 1), atol=1e-3)
    assert main([str(tmp_path / "model.keras"), str(out), "--labels", str(tmp_path / "none.txt")]) == 2
    assert "--labels to be a text file" in capsys.readouterr().err
    assert main([str(tmp_path / "model.keras"), str(out)]) == 0
    assert not zipfile.is_zipfile(out)  # nothing is known of the model, nothing is said


def test_an_exported_keras_model_keeps_what_it_says(exported, tmp_path):
    out = tmp_path / "again.tflite"
    assert main([str(exported / "model.keras"), str(out)]) == 0
    found, wanted = zipfile.ZipFile(out), zipfile.ZipFile(exported / "model.tflite")
    assert {name: found.read(name) for name in found.namelist()} == {n: wanted.read(n) for n in wanted.namelist()}
    photo = exported / "photo.jpg"
    assert predict.Classifier(out).predict(photo).classes == predict.Classifier(exported).predict(photo).classes


def test_bad_input_gets_one_sentence(tmp_path, capsys):
    (tmp_path / "damaged.keras").write_text("no model")
    for path, message in (("missing.keras", "is missing"), ("damaged.keras", "cannot be loaded")):
        assert main([str(tmp_path / path), str(tmp_path / "out.tflite")]) == 2
        assert message in capsys.readouterr().err


def test_help_needs_no_tensorflow():
    program = "import sys; sys.modules['tensorflow'] = None; from tfbnas.export.__main__ import main; main(['--help'])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "--audit-only" in result.stdout, result.stderr
