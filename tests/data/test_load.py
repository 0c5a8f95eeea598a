"""TFDS directories: what loads, and what is refused with one sentence."""

import json
import os
import shutil

import numpy as np
import pytest
from data_files import make_images, make_tfds

import tfbnas  # noqa: F401
from tfbnas import data
from tfbnas.data.offline import tfds
from tfbnas.errors import UserError


def sorted_rows(images):
    return sorted(image.tobytes() for image in images)


def pixels(split):
    images, labels = split.images(split.size)
    return np.rint((images + 1) * 127.5).astype(np.uint8), labels


def refused(match, *arguments, **keywords):
    with pytest.raises(UserError, match=match) as caught:
        data.load(*arguments, **keywords)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("below", ["", "tiny", "tiny/1.0.0"])
def test_directory_at_any_level(tiny_tfds, below):
    loaded = data.load(str(tiny_tfds / below))
    assert loaded.input_shape == (8, 8, 3) and loaded.classes == 3
    assert loaded.class_names == ("0", "1", "2")
    assert (loaded.train.size, loaded.test.size) == (30, 12)


def test_pixels_and_labels_are_those_written(tiny_tfds):
    images, labels = pixels(data.load(str(tiny_tfds)).train)
    written = make_images(30, seed=1)
    by_image = {image.tobytes(): i % 3 for i, image in enumerate(written)}
    assert sorted_rows(images) == sorted_rows(written)
    assert [by_image[image.tobytes()] for image in images] == labels.tolist()


def test_loading_twice_gives_the_same_order(tiny_tfds):
    first, second = (data.load(str(tiny_tfds)).train.images(30) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])


def test_by_name_in_data_dir(tiny_tfds):
    assert data.load("tiny", data_dir=tiny_tfds).train.size == 30
    assert data.load("tiny:1.0.0", data_dir=str(tiny_tfds)).train.size == 30


def test_newest_version_and_config_folders(tmp_path, tiny_tfds):
    for version, count in (("1.2.0", 9), ("1.10.0", 6)):
        arrays = (make_images(count), np.arange(count) % 3)
        make_tfds(tmp_path, {"train": arrays, "test": arrays}, version=version)
    assert data.load(str(tmp_path)).train.size == 6
    shutil.copytree(tiny_tfds / "tiny", tmp_path / "other")
    refused("holds 3 data sets. Name one of them: .*1.10.0", str(tmp_path))


def test_image_size_scales(tiny_tfds):
    assert data.load(str(tiny_tfds), image_size=16).train.images(2)[0].shape == (2, 16, 16, 3)
    np.testing.assert_array_equal(pixels(data.load(str(tiny_tfds), image_size=8).train)[0][:3],
                                  pixels(data.load(str(tiny_tfds)).train)[0][:3])  # fmt: skip
    refused("image_size.*at least 1. Received: 0", str(tiny_tfds), image_size=0)


def test_grey_images_have_one_channel(tmp_path):
    arrays = (make_images(6, channels=1), np.arange(6) % 3)
    make_tfds(tmp_path, {"train": arrays, "validation": arrays}, shape=(8, 8, 1))
    loaded = data.load(str(tmp_path))
    assert loaded.input_shape == (8, 8, 1)
    assert sorted_rows(pixels(loaded.test)[0]) == sorted_rows(arrays[0])


def test_images_without_declared_size(tmp_path):
    equal = (list(make_images(6)), np.arange(6) % 3)
    make_tfds(tmp_path / "equal", {"train": equal, "test": equal}, shape=(None, None, 3))
    assert data.load(str(tmp_path / "equal")).input_shape == (8, 8, 3)
    mixed = ([*make_images(5), make_images(1, height=9)[0]], np.arange(6) % 3)
    make_tfds(tmp_path / "mixed", {"train": mixed, "test": equal}, shape=(None, None, 3))
    refused(r"Image number \d .*'train'.*(9x8 pixels.*8x8|8x8 pixels.*9x8).*image_size", str(tmp_path / "mixed"))
    assert data.load(str(tmp_path / "mixed"), image_size=8).train.images(6)[0].shape == (6, 8, 8, 3)


def test_padding(tiny_tfds):
    for limit in (2**30, 1):
        loaded = data.load(str(tiny_tfds), memory_limit=limit, padding=2)
        assert loaded.train.padding == loaded.train.hold_out(5, seed=0)[0].padding == 2
    refused("padding.*at least 0. Received: -1", str(tiny_tfds), padding=-1)


def test_unknown_names_get_a_hint():
    refused("Received: 'cifar10-quik'.*Did you mean 'cifar10-quick'", "cifar10-quik")
    refused("Received: 'minst'.*Did you mean 'mnist'", "minst")
    refused("Received: './nowhere', which does not exist.*cifar10-quick.*prepare_cifar", "./nowhere")


def test_missing_data_name_the_quick_set_and_the_tool(tmp_path, monkeypatch):
    match = "'cifar10' has not been prepared in .*downloads nothing.*--data.name cifar10-quick.*tools/prepare_cifar"
    refused(match, "cifar10", data_dir=tmp_path)
    refused("data_dir.*to be a directory.*gone", "cifar10", data_dir=tmp_path / "gone")
    (tmp_path / "cifar10").mkdir()
    monkeypatch.chdir(tmp_path)
    refused("write --data.name ./cifar10", "cifar10", data_dir=tmp_path)
    (tmp_path / "empty").mkdir()
    refused("neither a TFDS directory.*nor a folder of images", str(tmp_path / "empty"))
    (tmp_path / "file.zip").write_text("")
    refused("file.zip', which is a file", str(tmp_path / "file.zip"))


def test_splits_must_exist_and_differ(tmp_path, tiny_tfds):
    arrays = (make_images(6), np.arange(6) % 3)
    make_tfds(tmp_path, {"train": arrays})
    refused("test_split.*Received: 'test'; it has train", str(tmp_path))
    refused(
        "train_split.*Received: 'trian'; it has test, train. Did you mean 'train'", str(tiny_tfds), train_split="trian"
    )
    refused("different splits", str(tiny_tfds), test_split="train")
    assert data.load(str(tiny_tfds), train_split="test", test_split="train").train.size == 12


def test_other_kinds_of_data_are_refused(tmp_path):
    kinds = tfds().features
    boxes = {"image": kinds.Image(shape=(8, 8, 3)), "objects": kinds.Sequence({"bbox": kinds.BBoxFeature()})}
    arrays = (make_images(2), [0, 1])
    make_tfds(tmp_path / "boxes", {"train": arrays, "test": arrays}, features=boxes,
              examples=lambda image, _: {"image": image, "objects": []})  # fmt: skip
    refused("for image classification.*image \\(Image\\), objects \\(Sequence\\)", str(tmp_path / "boxes"))
    clear = (make_images(2, channels=4), [0, 1])
    make_tfds(tmp_path / "clear", {"train": clear, "test": clear}, shape=(8, 8, 4))
    refused("1 or 3 channels.*Received: 4 channels", str(tmp_path / "clear"))


@pytest.mark.parametrize("limit", [2**30, 1])
def test_labels_out_of_range(tmp_path, limit):
    images = make_images(6)
    make_tfds(tmp_path, {"train": (images, [0, 1, 2, 0, 1, 2]), "test": (images, [-1] * 6)})
    refused(r"labels of .*'test'.* 0\.\.2.*label -1 of Image number 0", str(tmp_path), memory_limit=limit)
    features = tmp_path / "tiny/1.0.0/features.json"
    features.write_text(features.read_text().replace('"numClasses": "3"', '"numClasses": "2"'))
    refused(r"'train'.* 0\.\.1.*label 2 of.*wrong labels: 2", str(tmp_path), memory_limit=limit)


def test_empty_split(tmp_path, tiny_tfds):
    copy = shutil.copytree(tiny_tfds, tmp_path / "copy")
    manifest = copy / "tiny/1.0.0/dataset_info.json"
    content = json.loads(manifest.read_text())
    content["splits"][0].update(shardLengths=["0"], numBytes="0")
    manifest.write_text(json.dumps(content))
    refused("'train'.*is empty", str(copy))


@pytest.mark.parametrize("limit", [2**30, 1])
def test_missing_and_damaged_files(tmp_path, tiny_tfds, limit):
    copy = shutil.copytree(tiny_tfds, tmp_path / "copy") / "tiny/1.0.0"
    (train,) = copy.glob("*train*")
    content = bytearray(train.read_bytes())
    middle = len(content) // 2
    train.write_bytes(content[:middle])
    refused("'train'.*(cannot be read|damaged)", str(copy), memory_limit=limit)
    content[middle : middle + 50] = os.urandom(50)
    train.write_bytes(content)
    refused("'train'.*(cannot be read|damaged)", str(copy), memory_limit=limit)
    train.unlink()
    refused("'train'.*incomplete: .*tiny-train.*is missing", str(copy), memory_limit=limit)
    (copy / "dataset_info.json").write_text("{")
    refused("cannot be opened", str(copy))


def test_bundled_images():
    """What ships: balanced, small, apart from the test images, and different images."""
    loaded = data.load()
    assert loaded.name == "cifar10-quick" and loaded.input_shape == (32, 32, 3)
    assert loaded.class_names[:3] == ("airplane", "automobile", "bird")
    assert np.bincount(loaded.train.labels).tolist() == [280] * 10
    assert np.bincount(loaded.test.labels).tolist() == [200] * 10
    train, test = (set(sorted_rows(pixels(split)[0])) for split in (loaded.train, loaded.test))
    assert len(train) == 2800 and len(test) == 2000 and not train & test
    folder = os.path.join(os.path.dirname(data.__file__), "bundled")
    size = sum(os.path.getsize(os.path.join(top, file)) for top, _, files in os.walk(folder) for file in files)
    assert size <= 16_000_000
