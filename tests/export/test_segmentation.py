"""Networks that classify every pixel, binary and float: what the export writes computes what was trained."""

import numpy as np
import pytest
import tensorflow as tf
from small_networks import randomise

from tfbnas.export import ExportError, export, parity
from tfbnas.export.rounding import agree
from tfbnas.networks.cnf import cnf


def fabric(binary, seed=0):
    """Three scales, two columns: every kind of connection there is."""
    model = cnf(
        lambda name, default: default,
        input_shape=(8, 12, 3),
        classes=3,
        columns=2,
        scales=3,
        filters=32 if binary else 8,
        segmentation=True,
        binarisation="zero_alpha" if binary else "float",
    )
    return randomise(model, seed)


@pytest.fixture(scope="module", params=[True, False], ids=["binary", "float"])
def exported(request, tmp_path_factory):
    model = fabric(request.param)
    images = np.random.default_rng(0).normal(size=(20, 8, 12, 3)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 3, (20, 8, 12))
    result = export(model, tmp_path_factory.mktemp("export"), images=images, labels=labels, input=None)
    return request.param, model, images, labels, result


def test_audit_is_clean_and_explains_upsampling(exported):
    binary, model, _, _, result = exported
    assert not any(row.reason for row in result.rows)
    # A node that several convolutions read is compared with a threshold of each: one addition for each but the first.
    steps = [layer.name for layer in model.layers if layer.name.endswith("_step")]
    nodes = {name.split("_from_")[1] for name in steps}
    assert len(result.conversions) <= len(steps) - len(nodes)
    assert all("_convert" in name for name in result.conversions) and bool(result.conversions) is binary
    resized = [row for row in result.rows if row.operator == "RESIZE_NEAREST_NEIGHBOR"]
    ups = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.UpSampling2D)]
    assert len(resized) == len(ups) and all("LCE cannot resize bits" in row.note for row in resized)
    packed = [row.layer for row in result.rows if row.bit_packed]
    wanted = [layer.name for layer in model.layers if layer.name.endswith("_conv")]
    assert sorted(packed) == (sorted(wanted) if binary else [])


def test_parity_counts_pixels(exported):
    _, model, images, labels, result = exported
    found = result.parity
    assert found.pixels == 20 * 8 * 12 and found.error <= 1e-4 and found.other_pixels <= 2
    predicted = np.asarray(model(images, training=False)).argmax(-1)
    assert found.accuracy == pytest.approx((predicted == labels).mean())
    assert abs(found.accuracy_converted - found.accuracy) <= found.other_pixels / found.pixels
    assert f"{found.pixels - found.other_pixels} of 1920 predicted classes equal" in found.summary()


def test_float_network_is_plain_tflite(exported):
    """TensorFlow's own interpreter, without Larq Compute Engine, runs it; that of a binary one it refuses."""
    binary, model, images, _, result = exported
    interpreter = tf.lite.Interpreter(model_content=result.flatbuffer)
    if binary:
        with pytest.raises(RuntimeError, match="custom op|Lce"):
            interpreter.allocate_tensors()
        return
    interpreter.allocate_tensors()
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert outputs["shape"].tolist() == [1, 8, 12, 3]
    interpreter.set_tensor(inputs["index"], images[:1])
    interpreter.invoke()
    logits = np.asarray(model(images[:1], training=False))
    np.testing.assert_allclose(interpreter.get_tensor(outputs["index"]), logits, atol=1e-4 * abs(logits).max())


def test_other_weights_are_found(exported):
    binary, _, images, _, result = exported
    other = fabric(binary, seed=9)
    with pytest.raises(ExportError, match="differs from the trained model on .*different at .* % of its pixels"):
        parity(result.flatbuffer, result.deployed, other, images=images)


def test_pixels_between_two_classes_are_no_difference():
    """Of two pixels with almost the same largest value, rounding decides which is larger; nothing depends on it."""
    a = np.array([[0.0, 1.0, 0.0, 1.0 + 1e-6]], np.float32)
    b = np.array([[0.0, 1.0 + 1e-6, 0.0, 1.0]], np.float32)
    assert agree(a, b, 1e-4, maps=True).all() and not agree(a, b, 1e-4).any()
    assert not agree(a, a + 1e-3, 1e-4, maps=True).any()
