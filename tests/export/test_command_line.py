import subprocess
import sys

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from small_networks import randomise

from tfbnas.export import deploy
from tfbnas.export.__main__ import main
from tfbnas.export.loading import load_model

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
    assert main([str(tmp_path / "model.keras"), str(out), "--allow", "binary"]) == 0
    assert out.exists()


def test_bad_input_gets_one_sentence(tmp_path, capsys):
    (tmp_path / "damaged.keras").write_text("no model")
    for path, message in (("missing.keras", "is missing"), ("damaged.keras", "cannot be loaded")):
        assert main([str(tmp_path / path), str(tmp_path / "out.tflite")]) == 2
        assert message in capsys.readouterr().err


def test_help_needs_no_tensorflow():
    program = "import sys; sys.modules['tensorflow'] = None; from tfbnas.export.__main__ import main; main(['--help'])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "--audit-only" in result.stdout, result.stderr
