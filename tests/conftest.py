"""What the tests share. Imported before any of them: tfbnas must come before TensorFlow."""

import os

# Workers of pytest-xdist, and the processes that they start, each take one core. Read when TensorFlow is imported.
# Two threads between operators: those of a MirroredStrategy wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ |= {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "2"}

import tfbnas  # noqa: E402  isort: skip
import gc
import subprocess
from collections.abc import Mapping

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.layers import BatchNormalization, Dense, blocks
from tfbnas.layers.convolution import FloatConv2D
from tfbnas.networks import register

_LONG = {
    *("test_distribution", "test_bsn_run", "test_dms_run", "test_cibcnn_run", "test_readme"),
    *("test_cibcnn", "test_dcpnas", "test_methods", "test_networks"),
    *("test_sweep", "test_search_stage", "test_interaction_policy"),
}


def pytest_collection_modifyitems(items):
    """Files that take half a minute or more come first: else one worker has the last of them while the others wait."""
    items.sort(key=lambda item: item.path.stem not in _LONG)


def small_network(choose, *, input_shape=(8, 8, 3), classes=4, binarisation="zero_alpha"):
    """All that the families are made of, small: a pool in front of normalisation, both kinds of residual block.

    Widths: "stream" (base 4), "inner" (6), "out" (8).
    """
    quantize, convolution = blocks(binarisation)
    stream, inner, out = choose("stream", 4), choose("inner", 6), choose("out", 8)
    inputs = tf.keras.Input(input_shape)
    x = FloatConv2D(stream, 3, name="stem")(inputs)
    x = tf.keras.layers.MaxPool2D(2, name="stem_pool")(x)
    x = BatchNormalization(name="stem_bn")(x)
    y = convolution(inner, 3, name="conv1")(quantize(name="step1")(x))
    y = BatchNormalization(name="bn1")(y)
    y = convolution(stream, 3, name="conv2")(quantize(name="step2")(y))
    y = BatchNormalization(name="bn2")(y)
    x = tf.keras.layers.Add(name="add1")([x, y])
    bits = quantize(name="step3")(x)
    x = BatchNormalization(name="shortcut_bn")(convolution(out, 1, 2, name="shortcut")(bits))
    y = BatchNormalization(name="bn3")(convolution(out, 3, 2, name="conv3")(bits))
    x = tf.keras.layers.Add(name="add2")([x, y])
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return tf.keras.Model(inputs, Dense(classes, name="logits", dtype="float32")(x))


def small_memory(channels, *, deployed=False, classes=4):
    """Bytes of `small_network`, layer by layer as DMS table 1 counts, from {name: channels}."""
    stream, inner, out = channels["stream"], channels["inner"], channels["out"]
    bits = 9 * stream * inner + 9 * inner * stream + 1 * stream * out + 9 * stream * out
    floats = 9 * 3 * stream + out * classes + classes
    normalized = stream + inner + stream + out + out
    return bits / 8 + 4 * floats + (8 * normalized if deployed else 0)


register("test-small", small_network)

# To rewrite a traced graph takes a fifth of a small search's time, and its numbers are the same but for rounding. Whole
# runs, each in a process of its own, go through the rewriting as a user's do.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

# A trace makes hundreds of thousands of objects that stay. Looking for circles among them again and again takes time.
gc.freeze()
gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def memory_of_small():
    return small_memory


@pytest.fixture(scope="session")
def image_batches():
    """Function: a finite dataset of batches of random images and labels, the same for the same arguments."""

    def make(count=32, *, batch=16, shape=(8, 8, 3), classes=4, seed=0):
        chance = np.random.default_rng(seed)
        images = chance.normal(size=(count, *shape)).astype(np.float32)
        labels = chance.integers(0, classes, count)
        # Something to learn: a class brightens its own part of every image.
        for label in range(classes):
            images[labels == label, label % shape[0]] += 1.0
        return tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch)

    return make


@pytest.fixture(scope="session")
def randomised():
    """Function: gives all weights of a model random values as training leaves them, and returns the model."""

    def change(model, seed=0):
        chance = np.random.default_rng(seed)
        for weight in model.weights:
            shape = weight.numpy().shape
            kind = weight.name.split("/")[-1].split(":")[0]
            value = chance.normal(size=shape)
            if kind == "gamma":
                value = chance.uniform(0.5, 1.5, shape) * chance.choice([-1, 1], shape)
            elif kind in ("moving_variance", "step"):
                value = chance.uniform(0.5, 1.5, shape)
            weight.assign(value.astype(np.float32))
        return model

    return change


__all__ = ["tfbnas"]


@pytest.fixture
def spawn(tmp_path):
    """Starts a command in an empty working directory; the process is gone when the test ends."""
    processes = []

    def run(arguments: list[str], environment: Mapping[str, str]) -> subprocess.Popen:
        process = subprocess.Popen(
            arguments, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def exported(tmp_path_factory, randomised):
    """Directory of a small exported network of the classes ant, bee, cat and dog, with photo.jpg."""
    from tfbnas.architecture import Architecture
    from tfbnas.export import export
    from tfbnas.networks import build

    directory = tmp_path_factory.mktemp("exported")
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (8, 8, 8, 3)) / 127.5 - 1
    model = randomised(build(Architecture("test", "test-small", {}, (8, 8, 3), 4)))
    export(model, directory, images=images.astype(np.float32), class_names=["ant", "bee", "cat", "dog"])
    photo = np.repeat(np.repeat(chance.integers(0, 256, (6, 8, 3), np.uint8), 8, 0), 8, 1)
    (directory / "photo.jpg").write_bytes(tf.io.encode_jpeg(photo, quality=95).numpy())
    return directory
