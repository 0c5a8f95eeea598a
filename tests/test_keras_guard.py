"""Keras 2 is chosen before TensorFlow is loaded, or the user is told how to."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf


def run(code, **environment):
    clean = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    clean |= {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, timeout=120
    )


def test_tfbnas_chooses_keras_2():
    assert tf.keras.Model.__module__.split(".")[0] == "tf_keras"
    assert os.environ["TF_USE_LEGACY_KERAS"] == "1"  # processes that this one starts choose the same


@pytest.mark.parametrize(
    "before",
    [
        "import tensorflow",
        "import tensorflow as tf, os; tf.keras.Model; os.environ['TF_USE_LEGACY_KERAS'] = '1'",
    ],
    ids=["imported first", "variable set too late"],
)
def test_keras_3_is_one_clear_import_error(before):
    done = run(f"{before}\nimport tfbnas")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("ImportError: ")]
    assert len(errors) == 1
    assert "Import tfbnas before tensorflow" in errors[0] and "TF_USE_LEGACY_KERAS=1" in errors[0]


def test_the_variable_set_in_time_is_enough():
    done = run("import tensorflow, tfbnas; print(tensorflow.keras.Model.__module__)", TF_USE_LEGACY_KERAS="True")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(".")[0] == "tf_keras"
