"""Exported models take pixels 0..255: the scaling is inside, and parity is checked with it."""

import numpy as np
import pytest
import tensorflow as tf
from small_networks import randomise

from tfbnas import data
from tfbnas.architecture import Architecture
from tfbnas.costs import Latency, Memory, trace
from tfbnas.errors import UserError
from tfbnas.export import ExportError, audit, convert_model, deploy, export, parity, scaling
from tfbnas.export.comparison import first_difference
from tfbnas.export.convert import Interpreter
from tfbnas.export.flatbuffer import operators
from tfbnas.loading import load_model
from tfbnas.networks import build
from tfbnas.recipes.exporting import predicted_latencies

layers = tf.keras.layers
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype(np.float32)
IMAGES = (PIXELS / 127.5 - 1).astype(np.float32)


@pytest.fixture(scope="module")
def model(randomised):
    return randomised(build(Architecture("test", "test-small", {}, (8, 8, 3), 4)))


@pytest.fixture(scope="module")
def result(model, tmp_path_factory):
    return export(model, tmp_path_factory.mktemp("pixels"), images=IMAGES)


@pytest.fixture(scope="module")
def normalised(model, tmp_path_factory):
    return export(model, tmp_path_factory.mktemp("normalised"), images=IMAGES, input="normalised")


def plain(activation=None):
    """A network without layers of tfbnas, in which the deploy form finds nothing to do."""
    inputs = tf.keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, padding="same", name="stem")(inputs))
    return randomise(tf.keras.Model(inputs, layers.Dense(4, activation=activation, name="answer")(x)))


def of_saved_model(directory, x):
    serve = tf.saved_model.load(str(directory / "saved_model")).signatures["serving_default"]
    return serve(inputs_0=tf.constant(x))["outputs"].numpy()


def of_keras(directory, x):
    return load_model(directory / "model.keras")(x, training=False).numpy()


def of_tflite(directory, x):
    return Interpreter((directory / "model.tflite").read_bytes()).predict(x)[0]


@pytest.mark.parametrize("way", [of_saved_model, of_keras, of_tflite])
def test_each_file_gives_for_pixels_what_was_trained(way, model, result):
    decided = np.setdiff1d(np.arange(16), result.parity.undecided)
    wanted = model(IMAGES, training=False).numpy()
    np.testing.assert_allclose(way(result.directory, PIXELS)[decided], wanted[decided], atol=1e-3)
    assert np.abs(way(result.directory, IMAGES) - wanted).max() > 0.1  # -1..1 is not what it takes


def test_the_audit_names_the_scaling_and_nothing_else_is_new(result, normalised):
    rows = [(row.layer, row.operator) for row in result.rows]
    assert rows[:2] == [("pixels", "MUL"), ("pixels", "ADD")]
    assert rows[2:] == [(row.layer, row.operator) for row in normalised.rows]
    assert all("scales pixels 0..255 to -1..1" in row.note for row in result.rows[:2])
    assert "BatchNormalization" not in result.rows[0].note and not result.conversions


def test_normalised_gives_the_network_as_it_was(model, normalised):
    """Operator for operator and constant for constant what the conversion of the deploy form gives."""
    wanted = operators(convert_model(deploy(model)))
    for old, new in zip(wanted, operators(normalised.flatbuffer), strict=True):
        assert old.name == new.name
        for a, b in zip(old.inputs + old.outputs, new.inputs + new.outputs, strict=True):
            assert (a.shape, a.dtype, a.content) == (b.shape, b.dtype, b.content)
    assert normalised.to_json()["input"]["range"] == "-1..1"
    np.testing.assert_allclose(of_tflite(normalised.directory, IMAGES), model(IMAGES), atol=1e-3)


def test_parity_is_checked_with_the_scaling_inside(model, tmp_path, monkeypatch):
    """A scaling that is not that of training, by x / 255, is found out."""
    monkeypatch.setattr(scaling, "SCALE", 1 / 255)
    with pytest.raises(ExportError, match="differs from the trained model"):
        export(model, tmp_path / "out", images=IMAGES)
    assert not (tmp_path / "out").exists()


def test_its_arithmetic_is_that_of_training():
    pixels = tf.constant(np.arange(256, dtype=np.uint8).reshape(1, 1, 256, 1))
    inputs = tf.keras.Input((1, 256, 1))
    through = scaling.with_scaling(tf.keras.Model(inputs, layers.Activation("linear")(inputs)))
    found, wanted = through(tf.cast(pixels, tf.float32)).numpy(), data.augment.normalise(pixels).numpy()
    np.testing.assert_allclose(found, wanted, atol=2**-23)
    as_trained = scaling.as_in_training(tf.keras.Model(inputs, layers.Activation("linear")(inputs)))
    np.testing.assert_array_equal(as_trained(tf.cast(pixels, tf.float32)), wanted)


def test_the_price_of_the_scaling(model, result):
    """A multiplication and an addition for each of the 8 x 8 x 3 values, each as an addition of tensors."""
    content = predicted_latencies(result.deployed)
    assert not content["left_out"]
    for entry in content["predictions"]:
        scalings = [row for row in entry["operators"] if row["layer"] == "pixels"]
        assert [row["operator"] for row in scalings] == ["add", "add"]
        table = Latency(entry["name"]).table
        terms = table["operators"]["add"]["terms"]
        wanted = 2 * (terms["calls"] + terms["elements"] * 192) * table["milliseconds_per_unit"]
        assert sum(row["milliseconds"] for row in scalings) == pytest.approx(wanted)
    costs = [sum(Memory().of_operation(o) for o in trace(network)) for network in (result.deployed, deploy(model))]
    assert costs[0] == costs[1]


@pytest.mark.parametrize(
    ("scale", "offset", "count"), [(1.0, 0.0, 0), (1.0, -0.5, 1), (2.0, 0.0, 1), (2.0, [1.0, 0.0, 0.0], 2)]
)
def test_what_a_rescaling_costs(scale, offset, count):
    inputs = tf.keras.Input((4, 4, 3))
    operations = trace(tf.keras.Model(inputs, layers.Rescaling(scale, offset)(inputs)))
    assert [row.operator for row in Latency("pixel1").operators(operations)] == ["add"] * count


def test_a_network_that_needs_no_deploy_form(tmp_path):
    """The scaling stands in front of a nested model: names, softmax and the search for a difference look into it."""
    model = plain("softmax")
    result = export(model, tmp_path, images=IMAGES)
    names = [(row.layer, row.operator) for row in result.rows]
    assert names[:3] == [("pixels", "MUL"), ("pixels", "ADD"), ("stem", "CONV_2D")]
    assert names[-2:] == [("answer", "FULLY_CONNECTED"), ("answer", "SOFTMAX")]
    np.testing.assert_allclose(of_keras(tmp_path, PIXELS), model(IMAGES), atol=1e-5)
    whole = convert_model(result.deployed)
    result.deployed.layers[-1].get_layer("stem").bias.assign_add(np.ones(8))
    with pytest.raises(ExportError, match="differs from the deploy form"):
        parity(whole, result.deployed, images=PIXELS)
    assert first_difference(result.deployed, PIXELS[:2], 1e-4) is None  # it is converted anew


def test_the_layer_that_differs_is_named_behind_the_scaling(tmp_path, monkeypatch):
    from tfbnas.export import comparison

    whole = scaling.with_scaling(plain())

    def converted(part):
        wrong = tf.keras.models.clone_model(part)
        wrong.set_weights([weight + 0.1 for weight in part.get_weights()])
        return convert_model(wrong)

    monkeypatch.setattr(comparison, "convert_model", converted)
    assert first_difference(whole, PIXELS[:2], 1e-4) == "stem"


def test_random_inputs_are_pixels_where_a_model_takes_these():
    seen = []

    class Watch(layers.Layer):
        def call(self, x):
            tf.py_function(lambda value: seen.append(value.numpy()), [x], [])
            return x

    inputs = tf.keras.Input((8, 8, 3))
    watched = tf.keras.Model(inputs, plain()(layers.Rescaling(1 / 127.5, -1)(Watch()(inputs))))
    whole = scaling.with_scaling(plain())
    assert scaling.takes_pixels(whole) and not scaling.takes_pixels(watched)
    parity(convert_model(whole), whole, watched, images=None)
    assert 120 < np.mean(seen[0]) < 135 and 55 < np.std(seen[0]) < 75


def test_a_model_that_scales_pixels_itself_is_left_so(result, tmp_path):
    """Exported again, it is not scaled twice; nothing need be said of it."""
    loaded = load_model(result.directory / "model.keras")
    for given in ("pixels", None):
        again = export(loaded, tmp_path / str(given), images=PIXELS, input=given)
        assert [row.operator for row in again.rows] == [row.operator for row in result.rows]
        assert again.to_json()["input"]["range"] == "0..255"
    with pytest.raises(UserError, match="scales pixels 0..255 itself; pass input='pixels'"):
        export(loaded, tmp_path / "out", images=PIXELS, input="normalised")
    with pytest.raises(UserError, match=r"in \[0, 255\], the model scales them itself. Received: values from -1 to 1"):
        export(loaded, tmp_path / "out", images=IMAGES)


@pytest.mark.parametrize(
    ("images", "given", "match"),
    [
        (PIXELS, "pixels", r"in \[-1, 1\], as tfbnas.data gives them. Received: values from 0 to 255; pass input=None"),
        (PIXELS, "normalised", r"in \[-1, 1\]"),
        (PIXELS / 255, "pixels", r"Received: values from 0 to 1 that look like pixels / 255; pass input=None"),
        (3 * IMAGES, "pixels", "Received: values from -3 to 3"),
        (IMAGES, "pixel", "'pixels', 'normalised' or None. Received: 'pixel'. Did you mean 'pixels'?"),
    ],
)
def test_other_images_are_refused_in_a_sentence(model, images, given, match, tmp_path):
    with pytest.raises(UserError, match=match) as caught:
        export(model, tmp_path / "out", images=images.astype(np.float32), input=given)
    assert "\n" not in str(caught.value)


def test_bright_images_are_not_taken_for_others(model, tmp_path):
    """All above the middle grey, as they come from 8 bits."""
    bright = np.maximum(PIXELS, 200) / 127.5 - 1
    assert export(model, tmp_path, images=bright.astype(np.float32)).parity.images == 16


def test_no_images_no_pixels(tmp_path):
    inputs = tf.keras.Input((6,))
    model = randomise(tf.keras.Model(inputs, layers.Dense(3)(inputs)))
    with pytest.raises(UserError, match=r"takes images \[height, width, 1 or 3\].*Received: .*\(6,\).*input=None"):
        export(model, tmp_path, images=np.zeros((2, 6), np.float32))
    assert "input" not in export(model, tmp_path, images=np.ones((2, 6), np.float32), input=None).to_json()
    vectors = tf.keras.Model(inputs, layers.Dense(3)(layers.Rescaling(1 / 127.5, -1)(inputs)))
    assert not scaling.takes_pixels(vectors)


def test_a_sequential_model_of_batch_size_one(tmp_path):
    model = tf.keras.Sequential([tf.keras.Input((8, 8, 3), batch_size=1), *plain().layers[1:]])
    export(model, tmp_path, images=IMAGES)
    np.testing.assert_allclose(of_tflite(tmp_path, PIXELS[:1]), model(IMAGES[:1]), atol=1e-5)


def test_int8_inputs_are_not_scaled(model, tmp_path):
    with pytest.raises(UserError, match="input=None with input_type='int8'.*quantisation ranges"):
        export(model, tmp_path, images=IMAGES, input_type="int8")


def test_layers_that_are_allowed_must_exist(model, tmp_path):
    with pytest.raises(UserError, match="'logit', which the model does not have. Did you mean 'logits'?"):
        export(model, tmp_path / "out", images=IMAGES, allow=["logit"])
    assert not any(row.reason for row in audit(convert_model(deploy(model)), deploy(model)))
