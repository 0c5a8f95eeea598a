"""`python -m tfbnas.predict` on a real exported model."""

import csv
import importlib.util
import json
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import predict
from tfbnas.data import augment
from tfbnas.errors import UserError


@pytest.fixture
def model(exported, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(exported, tmp_path / "model")


@pytest.fixture
def bare(model):
    """The same, of which the .tflite file says nothing: without the zip behind the model."""
    with zipfile.ZipFile(model / "model.tflite") as archive:
        end = min(entry.header_offset for entry in archive.infolist())
    (model / "model.tflite").write_bytes((model / "model.tflite").read_bytes()[:end])
    return model


def shares(directory, image, scale=lambda pixels: pixels):
    """What TensorFlow makes of the pixels."""
    serve = tf.saved_model.load(str(directory / "saved_model")).signatures["serving_default"]
    return tf.nn.softmax(serve(tf.constant(scale(image)[None], tf.float32))["outputs"][0]).numpy()


def pixels(directory, name="photo.jpg"):
    image = tf.io.decode_image((directory / name).read_bytes(), channels=3, expand_animations=False)
    return np.rint(augment.fit(image, 8))


def run(capsys, *arguments):
    code = predict.main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def refused(match, function, *arguments):
    with pytest.raises(UserError, match=match) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)


def test_it_says_what_the_trained_network_says(exported):
    found = predict.Classifier(exported).predict(exported / "photo.jpg", top=4)
    expected = dict(zip(["ant", "bee", "cat", "dog"], shares(exported, pixels(exported)), strict=True))
    assert dict(found.classes) == pytest.approx(expected, abs=1e-4)
    assert [name for name, _ in found.classes] == sorted(expected, key=expected.get, reverse=True)
    assert found.changes == "64x48 pixels, scaled to 8x8, its middle cut out"


def test_the_command_line(exported, capsys):
    code, out, err = run(capsys, exported / "model.tflite", exported / "photo.jpg", "--top", 2)
    lines = out.splitlines()
    assert code == 0 and len(lines) == 3 and "photo.jpg (64x48 pixels, scaled to 8x8" in lines[0]
    assert lines[1].split()[0] in ("ant", "bee", "cat", "dog") and lines[1].endswith(" %")
    assert "does not say" not in err


def test_the_file_alone_says_all(exported, tmp_path, capsys):
    shutil.copy(exported / "model.tflite", tmp_path)
    code, out, err = run(capsys, tmp_path / "model.tflite", exported / "photo.jpg", "--top", 1)
    best, share = predict.Classifier(exported).predict(exported / "photo.jpg").classes[0]
    assert code == 0 and not err and out.splitlines()[1].split() == [best, f"{100 * share:.1f}", "%"]


def test_a_model_that_says_nothing_is_given_what_older_ones_take(bare, capsys):
    (bare / "export.json").unlink()
    code, _, err = run(capsys, bare, bare / "photo.jpg")
    assert code == 0 and "does not say what pixels it takes: they are scaled to -1..1" in err
    found = dict(predict.Classifier(bare).predict(bare / "photo.jpg", top=4).classes)
    expected = shares(bare, pixels(bare), scale=lambda image: image / 127.5 - 1)
    assert found == pytest.approx(dict(zip(["ant", "bee", "cat", "dog"], expected, strict=True)), abs=1e-4)


@pytest.mark.parametrize("where", ["export.json", "inside"])
def test_the_description_decides_how_pixels_are_scaled(bare, where):
    """Here, a model of 0..255 is called one of -1..1."""
    model, about = bare, {"range": "-1..1"}
    if where == "inside":
        with zipfile.ZipFile(model / "model.tflite", "a") as archive:
            archive.writestr("input.json", json.dumps(about))
            archive.writestr("labels.txt", "w\nx\ny\nz\n")
    else:
        content = json.loads((model / "export.json").read_text())
        (model / "export.json").write_text(json.dumps({**content, "input": about}))
    classifier = predict.Classifier(model)
    found = dict(classifier.predict(model / "photo.jpg", top=4).classes)
    expected = shares(model, pixels(model), scale=lambda image: image / 127.5 - 1)
    assert classifier.described and list(found) == [classifier.labels[i] for i in np.argsort(-expected, kind="stable")]
    assert set(found) == (set("wxyz") if where == "inside" else {"ant", "bee", "cat", "dog"})


def test_an_image_of_the_right_size_is_taken_as_it_is(model):
    image = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    (model / "small.png").write_bytes(tf.io.encode_png(image).numpy())
    found = predict.Classifier(model).predict(model / "small.png", top=4)
    assert found.changes == ""
    assert sorted(share for _, share in found.classes) == pytest.approx(sorted(shares(model, image)), abs=1e-4)


def test_a_turned_photograph_is_remarked(model):
    from PIL import Image

    photo = Image.open(model / "photo.jpg")
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(model / "turned.jpg", exif=exif)
    assert "camera turned, which is not corrected" in predict.Classifier(model).predict(model / "turned.jpg").changes


def test_a_directory_gives_a_table(model, tmp_path, capsys):
    for name in ("ant", "bee", "elsewhere"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        shutil.copy(model / "photo.jpg", tmp_path / "photos" / name / "1.jpg")
    out = tmp_path / "table.csv"
    code, said, _ = run(capsys, model, "--dir", tmp_path / "photos", "--csv", out, "--top", 2)
    rows = list(csv.reader(out.open(newline="")))
    assert code == 0 and rows[0] == ["image", "class 1", "probability 1", "class 2", "probability 2"]
    assert [row[0] for row in rows[1:]] == ["ant/1.jpg", "bee/1.jpg", "elsewhere/1.jpg"]
    right = sum(row[0].startswith(row[1]) for row in rows[1:])
    assert f"{right} of 2 images that lie in a folder" in said
    (tmp_path / "photos/ant/2.jpg").write_text("no image")
    code, _, err = run(capsys, model, "--dir", tmp_path / "photos", "--csv", out)
    assert code == 2 and "1 of 4 images were left out. The first: " in err and len(list(csv.reader(out.open()))) == 4


def test_wrong_models(model, tmp_path):
    refused("does not exist", predict.Classifier, tmp_path / "nowhere.tflite")
    refused("a directory without model.tflite", predict.Classifier, tmp_path)
    refused("model.keras, which is none. Take the model.tflite beside it", predict.Classifier, model / "model.keras")
    content = (model / "model.tflite").read_bytes()
    (model / "model.tflite").write_bytes(content[: len(content) // 3])
    refused("model.tflite is damaged", predict.Classifier, model)


def test_wrong_labels_and_descriptions(bare):
    model = bare
    (model / "labels.txt").write_text("ant\nbee\n")
    refused("names of 4 classes.*Received: 2", predict.Classifier, model)
    (model / "labels.txt").unlink()
    assert predict.Classifier(model).labels == ["class 0", "class 1", "class 2", "class 3"]
    (model / "export.json").write_text('{"input": {"range": "0..1"}}')
    refused(r"range of 0\.\.255 or -1\.\.1. Received: '0..1'", predict.Classifier, model)
    (model / "export.json").write_text("{")
    refused("description of the input in .*export.json is damaged", predict.Classifier, model)


def test_wrong_images(model, tmp_path, capsys):
    classifier = predict.Classifier(model)
    refused("nowhere.jpg .*No such file", classifier.predict, tmp_path / "nowhere.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    refused("text.jpg is damaged: it cannot be decoded", classifier.predict, tmp_path / "text.jpg")
    clear = tf.io.encode_png(np.zeros((8, 8, 4), np.uint8)).numpy()
    (tmp_path / "clear.png").write_bytes(clear)
    refused(
        "clear.png has 4 channels .colour with transparency.; expected 3", classifier.predict, tmp_path / "clear.png"
    )
    code, _, err = run(capsys, model, tmp_path / "nowhere.jpg")
    assert code == 2 and "nowhere.jpg, which does not exist" in err
    (tmp_path / "empty").mkdir()
    code, _, err = run(capsys, model, "--dir", tmp_path / "empty")
    assert code == 2 and "Expected images (.jpg, " in err


def test_without_larq_compute_engine(model, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused("needs larq-compute-engine.*docs/deploy.md", predict.Classifier, model)


@pytest.mark.parametrize("arguments", [[], ["a.jpg", "--dir", "b"], ["a.jpg", "--top", "0"]])
def test_wrong_options(model, arguments, capsys):
    with pytest.raises(SystemExit):
        predict.main([str(model), *arguments])
    assert "expected" in capsys.readouterr().err
