"""A run knows its data again: in any directory, and not when an image was moved."""

import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from data_files import make_folder, make_images, make_tfds, write_png

import tfbnas  # noqa: F401
from tfbnas import data
from tfbnas.data.fingerprint import difference
from tfbnas.errors import UserError


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "photos", per_class={"train": 5, "test": 2}, classes=("bird", "cat", "dog"))


def of(path, **keywords):
    return data.load(str(path), **keywords).fingerprint


def test_it_is_the_same_in_every_directory_in_memory_and_streamed(folder, tmp_path, tiny_tfds):
    before = of(folder)
    assert before["splits"]["train"]["counts"] == {"bird": 5, "cat": 5, "dog": 5} and len(before["hash"]) == 32
    assert of(shutil.copytree(folder, tmp_path / "elsewhere")) == before == of(folder, memory_limit=1)
    records = of(tiny_tfds)
    copy = shutil.copytree(tiny_tfds, tmp_path / "copy")
    assert of(copy) == records and not difference(records, of(copy, memory_limit=1))
    assert of("cifar10-quick")["splits"]["test"]["images"] == 2000
    assert of("cifar10-shapes")["splits"]["test"]["counts"] is None


def test_holding_images_out_changes_nothing(folder):
    images = data.load(str(folder))
    assert images.hold_out(3, seed=0).fingerprint == images.fingerprint


def test_deleted_and_moved_images_are_told_in_words(folder):
    before = of(folder)
    (folder / "train/cat/0.png").unlink()
    (folder / "train/cat/1.png").unlink()
    shutil.move(folder / "train/dog/4.png", folder / "train/bird/other.png")
    changed = difference(before, of(folder))
    assert changed == "train: 2 images fewer, class 'bird' 1 more, class 'cat' 2 fewer, class 'dog' 1 fewer"
    with pytest.raises(UserError, match="photos with which the run began.*2 images fewer.*another --run_dir"):
        data.check_unchanged(before, of(folder), name="photos")
    data.check_unchanged(before, before, name="photos")


def test_replaced_images_new_classes_and_splits(folder):
    before = of(folder)
    write_png(folder / "test/dog/0.png", make_images(1)[0])
    assert difference(before, of(folder)) == "test: files of other names or sizes"
    for split in ("train", "test"):
        write_png(folder / split / "eel/0.png", make_images(1)[0])
    changed = difference(before, of(folder))
    assert "train: 1 image more, class 'eel' 1 more" in changed and "test: 1 image more" in changed
    with_validation = of(folder, validation_split=None)
    with_validation["splits"]["validation"] = with_validation["splits"]["test"]
    assert "validation: new" in difference(before, with_validation)


def test_many_classes_are_counted(tmp_path):
    names = tuple(f"class{number}" for number in range(9))
    folder = make_folder(tmp_path, per_class={"train": 2, "test": 1}, classes=names)
    before = of(folder)
    for name in names:
        (folder / "train" / name / "0.png").unlink()
    assert difference(before, of(folder)).endswith("class 'class3' 1 fewer, and 5 more classes")


def test_labels_of_a_tfds_directory(tmp_path):
    images = make_images(6)
    for name, last in (("one", 2), ("two", 1)):
        arrays = (images, np.array([0, 1, 2, 0, 1, last]))
        make_tfds(tmp_path / name, {"train": arrays, "test": arrays})
    assert "class '1' 1 more, class '2' 1 fewer" in difference(of(tmp_path / "one"), of(tmp_path / "two"))


@dataclass(frozen=True)
class Settings:
    name: str = "cifar10-quick"
    data_dir: str | None = None
    image_size: int | None = 8


def test_absolute_names_lead_to_the_data_from_any_directory(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    for name in ("photos", "./photos", "../" + tmp_path.name + "/photos"):
        assert data.absolute(Settings(name)) == Settings(str(folder))
    for name in ("cifar10-quick", "cifar10-shapes", "part_labels", "mnist", "mnist:3.0.1", "nowhere"):
        assert data.absolute(Settings(name)) == Settings(name)
    assert data.absolute(Settings("mnist", "photos")) == Settings("mnist", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.absolute(Settings("~/photos")).name == str(folder)
