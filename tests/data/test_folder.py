"""Folders of images."""

import importlib
import shutil

import numpy as np
import pytest
from data_files import make_folder, make_images, write_png

import tfbnas  # noqa: F401
from tfbnas import data
from tfbnas.data.offline import tfds
from tfbnas.errors import UserError

import tensorflow as tf  # isort: skip


def refused(match, path, **keywords):
    with pytest.raises(UserError, match=match) as caught:
        data.load(str(path), **keywords)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("images"), per_class={"train": 5, "val": 3})


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.mark.parametrize("limit", [2**30, 1])
def test_every_image_with_its_label(folder, limit):
    loaded = data.load(str(folder), memory_limit=limit)
    assert loaded.class_names == ("cat", "dog") and loaded.input_shape == (8, 8, 3)
    for number, split, count in ((0, loaded.train, 5), (1, loaded.test, 3)):
        images, labels = split.images(100)
        found = np.rint((images[:, 3, 3] + 1) * 127.5).astype(int)
        assert sorted(map(tuple, found)) == [(number, label, i) for label in (0, 1) for i in range(count)]
        np.testing.assert_array_equal(found[:, 1], labels)


def test_agrees_with_tfds_image_folder(folder):
    builder = tfds().ImageFolder(str(folder))
    expected = {
        (example["image"].tobytes(), int(example["label"])) for example in tfds().as_numpy(builder.as_dataset("train"))
    }
    images, labels = data.load(str(folder)).train.images(100)
    found = np.rint((images + 1) * 127.5).astype(np.uint8)
    assert {(image.tobytes(), int(label)) for image, label in zip(found, labels, strict=True)} == expected


def test_grey_files_become_colour(copy):
    grey = make_images(1, channels=1)[0]
    write_png(copy / "train/cat/0.png", grey)
    (copy / "train/cat/1.JPG").write_bytes(tf.io.encode_jpeg(grey).numpy())
    (images, _), *_ = data.load(str(copy)).train.epoch(0, 1, shuffle=False)
    np.testing.assert_allclose((images[0] + 1) * 127.5, np.repeat(grey, 3, axis=2), atol=1e-4)


@pytest.mark.parametrize("limit", [2**30, 1])
@pytest.mark.parametrize("channels,kind", [(4, "colour with transparency"), (2, "grey with transparency")])
def test_transparent_files_are_refused(copy, channels, kind, limit):
    write_png(copy / "train/dog/2.png", make_images(1, channels=channels)[0])
    refused(f"dog/2.png.*has {channels} channels \\({kind}\\); expected 3", copy, memory_limit=limit)


def test_damaged_files_are_named(copy):
    file = copy / "train/dog/3.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    refused("dog/3.png.*cannot be decoded", copy)
    refused("dog/3.png.*cannot be decoded", copy, image_size=16)
    refused("dog/3.png.*cannot be decoded", copy, memory_limit=1, image_size=16)
    file.write_text("no image")
    refused("dog/3.png is damaged: it does not begin like a JPEG or PNG", copy)
    file.write_text("")
    refused("dog/3.png is damaged: it is empty", copy)


@pytest.mark.parametrize("limit", [2**30, 1])
def test_sizes_must_agree_or_be_given(copy, limit):
    write_png(copy / "train/cat/4.png", make_images(1, height=10, width=12)[0])
    refused("cat/4.png.*10x12 pixels.*8x8.*image_size", copy, memory_limit=limit)
    assert data.load(str(copy), image_size=6, memory_limit=limit).train.images(99)[0].shape == (10, 6, 6, 3)


def test_streamed_images_are_checked_out_of_the_whole(tmp_path, monkeypatch):
    """Today's first images are all in order; those of the last class are not."""
    monkeypatch.setattr(importlib.import_module("tfbnas.data.load"), "_SAMPLE", 6)
    folder = make_folder(tmp_path, per_class={"train": 20, "test": 1}, classes=("ant", "bee", "cat"))
    for number in range(20):
        write_png(folder / f"train/cat/{number}.png", make_images(1, height=9)[0])
    refused("train/cat/.*9x8 pixels.*8x8.*image_size", folder, memory_limit=1)


@pytest.mark.parametrize("limit", [2**30, 1])
def test_one_class_is_none(copy, limit):
    for split in ("train", "val"):
        shutil.rmtree(copy / split / "dog")
    refused("at least two classes. Received: .*train, with 1 \\(cat\\)", copy, memory_limit=limit)


def test_class_folders(copy):
    (copy / "train/eel").mkdir()
    refused("same class folders.*no 'eel' in 'val'", copy)
    (copy / "val/eel").mkdir()
    refused("class folder .*train/eel holds no images", copy)
    shutil.rmtree(copy / "train/eel")
    refused("same class folders.*no 'eel' in 'train'", copy)


def test_splits(copy, tmp_path):
    shutil.rmtree(copy / "val")
    refused("test_split.*'test'; it has train", copy)
    for split in ("train", "test"):
        (tmp_path / "flat" / split).mkdir(parents=True)
    (tmp_path / "flat/train/x").mkdir()
    refused("same class folders", tmp_path / "flat")
    write_png(tmp_path / "classes/cat/0.png", make_images(1)[0])
    refused("neither a TFDS directory.*nor a folder of images.*SPLIT/CLASS", tmp_path / "classes")
