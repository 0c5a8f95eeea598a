"""What an exported model takes and answers is said in each of its files: read by hand, byte by byte."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.errors import UserError
from tfbnas.export import convert_model, export
from tfbnas.export.convert import Interpreter
from tfbnas.export.description import Description, append, check_class_names
from tfbnas.export.file_size import sizes
from tfbnas.export.metadata import described, metadata
from tfbnas.networks import build

NAMES = ("ant", "großer Käfer", "犬", "no name, but a comma")
LABELS = "ant\ngroßer Käfer\n犬\nno name, but a comma\n"
INPUT = {
    "range": "0..255",
    "channels": "RGB",
    "height": 8,
    "width": 8,
    "resize": "scaled until it covers 8x8 pixels, middle cut out",
}


class Table:
    """A table of a flatbuffer: a distance back to the places of its fields, which count from the table's own place."""

    def __init__(self, content: bytes, place: int):
        self.content, self.place = content, place

    @classmethod
    def root(cls, content: bytes, identifier: bytes):
        assert content[4:8] == identifier
        return cls(content, cls(content, 0).number("I", 0))

    def number(self, kind: str, place: int):
        return struct.unpack_from(f"<{kind}", self.content, place)[0]

    def field(self, slot: int) -> int:
        places = self.place - self.number("i", self.place)
        assert self.number("H", places) > 4 + 2 * slot, f"no field {slot}"
        return self.place + self.number("H", places + 4 + 2 * slot)

    def value(self, kind: str, slot: int):
        return self.number(kind, self.field(slot))

    def target(self, place: int) -> int:
        return place + self.number("I", place)

    def table(self, slot: int):
        return Table(self.content, self.target(self.field(slot)))

    def vector(self, slot: int) -> tuple[int, int]:
        place = self.target(self.field(slot))
        return place + 4, self.number("I", place)

    def tables(self, slot: int):
        start, length = self.vector(slot)
        return [Table(self.content, self.target(start + 4 * i)) for i in range(length)]

    def floats(self, slot: int):
        start, length = self.vector(slot)
        return list(struct.unpack_from(f"<{length}f", self.content, start))

    def bytes(self, slot: int) -> bytes:
        start, length = self.vector(slot)
        return self.content[start : start + length]

    def text(self, slot: int) -> str:
        return self.bytes(slot).decode()


@pytest.fixture(scope="module")
def model(randomised):
    return randomised(build(Architecture("test", "test-small", {}, (8, 8, 3), 4)))


@pytest.fixture(scope="module")
def images():
    return (np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)) / 127.5 - 1).astype(np.float32)


@pytest.fixture(scope="module")
def result(model, images, tmp_path_factory):
    return export(model, tmp_path_factory.mktemp("described"), images=images, class_names=NAMES)


def members(file):
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        return {
            name: archive.read(name).decode() for name in ("labels.txt", "input.json") if name in archive.namelist()
        }


def test_every_file_holds_labels_and_input(result):
    directory = result.directory
    assert {file.name for file in directory.iterdir()} == {
        "model.keras", "saved_model", "model.tflite", "labels.txt", "export.json"
    }  # fmt: skip
    assert (directory / "labels.txt").read_text(encoding="utf-8") == LABELS
    for file in ("model.keras", "model.tflite"):
        found = members(directory / file)
        assert found["labels.txt"] == LABELS and json.loads(found["input.json"]) == INPUT
    loaded = tf.saved_model.load(str(directory / "saved_model"))
    assert tf.io.read_file(loaded.labels.asset_path).numpy().decode() == LABELS
    assert json.loads((directory / "saved_model/assets.extra/input.json").read_text()) == INPUT
    written = json.loads((directory / "export.json").read_text())
    assert written["input"] == INPUT and written["class_names"] == list(NAMES)


def test_tflite_metadata_names_image_scaling_and_labels(result):
    """Fields by their numbers in schema.fbs of TensorFlow Lite and metadata_schema.fbs of its Support Library."""
    model = Table.root((result.directory / "model.tflite").read_bytes(), b"TFL3")
    entries = {entry.text(0): entry.value("I", 1) for entry in model.tables(6)}
    assert set(entries) == {"min_runtime_version", "TFLITE_METADATA"}
    found = Table.root(model.tables(4)[entries["TFLITE_METADATA"]].bytes(0), b"M001")
    assert found.text(0) == "tfbnas" and found.text(7) == "1.0.0"
    (graph,) = found.tables(3)
    (image,), (answer,) = graph.tables(2), graph.tables(3)
    assert image.text(0) == "image" and image.text(1) == "RGB image, values 0..255"
    content = image.table(3)
    assert content.value("B", 0) == 2  # ImageProperties
    assert content.table(1).value("b", 0) == 1  # RGB
    assert [content.table(1).table(1).value("I", slot) for slot in (0, 1)] == [8, 8]
    (unit,) = image.tables(4)
    assert unit.value("B", 0) == 1 and (unit.table(1).floats(0), unit.table(1).floats(1)) == ([0.0], [1.0])
    assert (image.table(5).floats(0), image.table(5).floats(1)) == ([255.0], [0.0])
    assert answer.text(0) == "logit" and answer.text(1) == "Logit of each class"
    (labels,) = answer.tables(6)
    assert labels.text(0) == "labels.txt" and labels.value("b", 2) == 2  # TENSOR_AXIS_LABELS


def test_metadata_of_other_models():
    """(x - 127.5) / 127.5 of pixels x is what a model of -1..1 takes."""
    grey = Table.root(metadata(Description("normalised", (4, 6, 1), NAMES), probabilities=True), b"M001").tables(3)[0]
    (image,), (answer,) = grey.tables(2), grey.tables(3)
    assert image.text(1) == "grey image, values -1..1" and image.table(3).table(1).value("b", 0) == 2
    assert [image.table(3).table(1).table(1).value("I", slot) for slot in (0, 1)] == [6, 4]  # width, height
    assert [image.tables(4)[0].table(1).floats(slot) for slot in (0, 1)] == [[127.5], [127.5]]
    assert [image.table(5).floats(slot) for slot in (0, 1)] == [[1.0], [-1.0]]
    assert answer.text(0) == "probability"
    unknown = Table.root(metadata(Description(None, (8, 8, 3), NAMES)), b"M001").tables(3)[0].tables(2)[0]
    assert unknown.text(0) == "image" and unknown.number("H", unknown.place - unknown.number("i", unknown.place)) == 6


def test_the_description_changes_no_output_and_is_the_same_each_time(model):
    inputs = tf.keras.Input((8, 8, 3))
    plain = convert_model(tf.keras.Model(inputs, tf.keras.layers.Conv2D(4, 3)(inputs)))
    about = Description("pixels", (8, 8, 3), NAMES)
    once = described(plain, about)
    assert once == described(plain, about) and len(once) < len(plain) + 2048
    assert described(plain, Description()) == plain
    x = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(Interpreter(once).predict(x)[0], Interpreter(plain).predict(x)[0])
    again = described(once, Description("normalised", (8, 8, 3)))
    model = Table.root(again, b"TFL3")
    assert [entry.text(0) for entry in model.tables(6)].count("TFLITE_METADATA") == 1


def test_a_thousand_names_are_no_reason_to_warn(model):
    """They are told apart from what the network takes."""
    inputs = tf.keras.Input((8, 8, 3))
    small = tf.keras.Model(inputs, tf.keras.layers.Conv2D(4, 3)(inputs))
    plain = convert_model(small)
    names = tuple(f"a class with a name of some length, number {i}" for i in range(1000))
    whole = described(plain, Description("pixels", (8, 8, 3), names))
    found = sizes(plain, small, description=len(whole) - len(plain))
    assert found.file == len(whole) > found.limit and found.description > 40_000
    assert not found.excess and found.to_json()["within_limit"] is True
    assert f"{found.description} class names and metadata" in found.summary()
    assert sizes(plain, small).structure == found.structure


def test_sizes_of_an_export_add_up(result):
    found = result.sizes
    assert found.file == (result.directory / "model.tflite").stat().st_size
    assert 500 < found.description < 2500


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("a", "b", "c"), "names of the model's 4 classes. Received: 3"),
        (("a", "b\nc", "d", "e"), r"without line breaks, none empty. Received: 'b\\nc'"),
        (("a", "b\u2028c", "d", "e"), "without line breaks"),
        (("a", "", "d", "e"), "none empty. Received: ''"),
    ],
)
def test_names_that_do_not_fit_are_refused(names, match):
    with pytest.raises(UserError, match=match):
        check_class_names(names, 4)


def test_names_of_another_model_are_refused_before_the_work(model, images, tmp_path):
    with pytest.raises(UserError, match="names of the model's 4 classes"):
        export(model, tmp_path / "out", images=images, class_names=["a", "b"])
    assert not (tmp_path / "out").exists()


def test_labels_of_an_earlier_export_do_not_stay(model, images, tmp_path):
    export(model, tmp_path, images=images, class_names=NAMES)
    export(model, tmp_path, images=images)
    assert not (tmp_path / "labels.txt").exists() and "labels.txt" not in members(tmp_path / "model.tflite")
    (tmp_path / "labels.txt").write_text("w\nx\ny\nz\n")  # the user's own
    export(model, tmp_path, images=images)
    assert (tmp_path / "labels.txt").exists()


def test_files_of_an_archive_can_be_read_by_who_unpacks_them():
    stream = io.BytesIO(b"anything")
    stream.seek(0, 2)
    append(stream, {"labels.txt": "a\n"})
    with zipfile.ZipFile(stream) as archive:
        (entry,) = archive.infolist()
        assert entry.external_attr >> 16 == 0o644 and archive.read(entry) == b"a\n"
    assert stream.getvalue().startswith(b"anything")
