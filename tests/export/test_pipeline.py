import json
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from small_networks import head, stem

from tfbnas.export import ExportError, export
from tfbnas.layers import BatchNormalization

FILES = ["export.json", "model.keras", "model.tflite", "saved_model"]


@pytest.fixture(scope="module")
def exported(trained, images, tmp_path_factory):
    directory = tmp_path_factory.mktemp("export") / "new"
    return export(trained, directory, images=images, labels=np.zeros(len(images), int), input=None)


def names(directory):
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def test_writes_all_files_and_nothing_else(exported):
    assert names(exported.directory) == FILES


def test_json_holds_audit_sizes_parity_versions(exported):
    content = json.loads((exported.directory / "export.json").read_text())
    assert set(content) == {"audit", "sizes", "parity", "conversions", "versions", "seconds"}
    binary = [row for row in content["audit"] if row["operator"] == "LceBconv2d"]
    assert len(binary) == 19 and all(row["bit_packed"] and row["declared"] == "1 bit x 1 bit" for row in binary)
    assert content["conversions"] == {}
    assert content["sizes"]["file"] == (exported.directory / "model.tflite").stat().st_size
    assert content["parity"]["error"] <= 1e-4 and content["parity"]["accuracy"] is not None
    assert {"tensorflow", "larq", "larq-compute-engine"} <= set(content["versions"])


def test_summary_speaks_of_layers_sizes_and_parity(exported):
    text = exported.summary()
    assert "stage4_block2_conv2" in text and "float parameters" in text and "predicted classes equal" in text


def _outputs_in_a_process_without(blocked, load, directory, images):
    """Runs a saved model in a Python that cannot import the `blocked` packages."""
    program = f"""
        import os, sys
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        for name in {blocked!r}:
            sys.modules[name] = None
        import numpy as np
        import tensorflow as tf
        images = np.load("images.npy")
        {load}
        np.save("outputs.npy", outputs)
    """
    np.save(directory / "images.npy", images)
    run = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(run, cwd=directory, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    return np.load(directory / "outputs.npy")


def test_keras_file_loads_without_tfbnas(exported, trained, images, tmp_path):
    file = exported.directory / "model.keras"
    load = f"import larq; outputs = tf.keras.models.load_model({str(file)!r}, compile=False)(images)"
    got = _outputs_in_a_process_without(["tfbnas"], load, tmp_path, images)
    np.testing.assert_allclose(got, trained(images, training=False), atol=1e-3)


def test_saved_model_loads_with_tensorflow_alone(exported, trained, images, tmp_path):
    file = exported.directory / "saved_model"
    load = f"""outputs = tf.saved_model.load({str(file)!r}).signatures["serving_default"](inputs_0=images)["outputs"]"""
    got = _outputs_in_a_process_without(["tfbnas", "larq", "tf_keras", "keras"], load, tmp_path, images)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, trained(images, training=False), atol=1e-3)


def test_a_second_export_replaces_the_first(trained, images, exported, tmp_path):
    shutil.copytree(exported.directory, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.tflite").write_bytes(b"the first")
    result = export(trained, tmp_path, images=images[:2], input=None)
    assert names(tmp_path) == FILES
    assert (tmp_path / "model.tflite").read_bytes() == result.flatbuffer


def test_nothing_is_written_when_the_check_fails(images, tmp_path):
    inputs, x = stem(16)
    model = head(inputs, BatchNormalization(name="broken")(x))
    model.get_layer("broken").gamma.assign(np.full(8, np.nan))
    with pytest.raises(ExportError, match="broken.*NaN"):
        export(model, tmp_path / "out", images=images, input=None)
    assert names(tmp_path / "out") == []
