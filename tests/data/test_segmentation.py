"""Data sets with a class for each pixel: shapes on photographs, checks, flips, halves."""

import numpy as np
import pytest
from data_files import make_images, make_tfds

import tfbnas  # noqa: F401
from tfbnas import data
from tfbnas.data import MemorySplit, augment, shapes
from tfbnas.data.offline import tfds
from tfbnas.errors import UserError

import tensorflow as tf  # isort: skip


def make_maps(count, *, classes=3, seed=0, side=8):
    return np.random.default_rng(seed).integers(0, classes, (count, side, side, 1), np.uint8)


def write(out, maps, *, images=None, classes=3, labels=None):
    """A TFDS directory whose labels are maps."""
    kinds = tfds().features
    images = make_images(len(maps)) if images is None else images
    features = {
        "image": kinds.Image(shape=(8, 8, 3)),
        "label": labels or kinds.LabeledImage(shape=(None, None, 1), labels=classes),
    }
    return make_tfds(
        out,
        {"train": (images, maps), "test": (images, maps)},
        features=features,
        examples=lambda image, label: {"image": image, "label": label},
    )


def refused(match, *arguments, **keywords):
    with pytest.raises(UserError, match=match) as caught:
        data.load(*arguments, **keywords)
    assert "\n" not in str(caught.value)


def test_tfds_directory_with_maps(tmp_path):
    images, maps = make_images(6), make_maps(6)
    loaded = data.load(str(write(tmp_path, maps, images=images)))
    assert loaded.segmentation and loaded.classes == 3 and loaded.train.label_shape == (8, 8)
    expected = {image.tobytes(): label[..., 0] for image, label in zip(images, maps, strict=True)}
    found, labels = loaded.train.images(6)
    for image, label in zip(np.rint((found + 1) * 127.5).astype(np.uint8), labels, strict=True):
        np.testing.assert_array_equal(label, expected[image.tobytes()])


def test_maps_that_are_wrong(tmp_path):
    maps = make_maps(6)
    maps[:, 5, 2] = 3
    refused(r"labels of .* in 0\.\.2.*label 3 of Image number 0.*\(row 5, column 2\) \(wrong labels: 6\)",
            str(write(tmp_path / "class", maps)))  # fmt: skip
    uneven = [*make_maps(5), make_maps(1, side=6)[0]]
    refused("Image number . .*has 8x8 pixels, but its label map 6x6", str(write(tmp_path / "size", uneven)))
    grey = tfds().features.Image(shape=(8, 8, 1))
    refused("LabeledImage of uint8.*label \\(Image\\)", str(write(tmp_path / "image", make_maps(6), labels=grey)))


def test_labels_and_images_that_do_not_match():
    images = make_images(4)
    for labels in (np.zeros(3), np.zeros((4, 8, 7), np.uint8), np.zeros((4, 8, 8, 1), np.uint8)):
        with pytest.raises(UserError, match=r"label for each image or each pixel of here.*\[4, 8, 8, 3\]"):
            MemorySplit(images, labels, name="here")


def test_flip_turns_image_and_map_together():
    maps = make_maps(40, classes=256)[..., 0]
    images = np.repeat(maps[..., None], 3, axis=-1)
    flipped, labels = augment.flip(tf.constant(images), tf.constant(maps), tf.constant([3, 4], tf.int64))
    np.testing.assert_array_equal(np.rint((flipped.numpy()[..., 0] + 1) * 127.5), labels)
    turned = [np.array_equal(label, map[:, ::-1]) for label, map in zip(labels.numpy(), maps, strict=True)]
    kept = [np.array_equal(label, map) for label, map in zip(labels.numpy(), maps, strict=True)]
    assert all(a != b for a, b in zip(turned, kept, strict=True)) and 8 < sum(turned) < 32


def test_training_batches_are_flipped_and_nothing_else():
    maps = make_maps(24, classes=256)[..., 0]
    split = MemorySplit(np.repeat(maps[..., None], 3, axis=-1), maps, name="maps")
    seen = {}
    for images, labels in split.epoch(0, 8, augment=True):
        np.testing.assert_array_equal(np.rint((images.numpy()[..., 1] + 1) * 127.5), labels)
        assert labels.dtype == tf.int32
        seen.update({label.astype(np.uint8).tobytes(): label for label in labels.numpy()})
    originals = {map.tobytes() for map in maps} | {map[:, ::-1].tobytes() for map in maps}
    assert len(seen) == 24 and set(seen) <= originals
    assert not set(seen) <= {map.tobytes() for map in maps}


def test_halves_and_subsets_of_maps():
    maps = make_maps(20, classes=256)[..., 0]
    split = MemorySplit(make_images(20), maps, name="maps")
    first, second = split.halves(seed=1)
    assert (first.size, second.size) == (10, 10)
    rest, held = split.hold_out(6, seed=1)
    for parts in ((first, second), (rest, held)):
        rows = [label.tobytes() for part in parts for label in part.labels]
        assert sorted(rows) == sorted(map.tobytes() for map in maps)
    assert split.take(3, seed=0).labels.shape == (3, 8, 8)


def test_shapes_are_what_their_labels_say():
    """Where a label is background the photograph is untouched; kinds are even, and colours tell much, not all."""
    photographs = make_images(400, height=32, width=32, seed=5)
    images, labels = shapes.make_shapes(photographs, seed=0)
    assert images.dtype == labels.dtype == np.uint8
    np.testing.assert_array_equal(images[labels == 0], photographs[labels == 0])
    assert (images != photographs).any(axis=-1)[labels > 0].mean() > 0.99
    shares = np.bincount(labels.ravel(), minlength=3) / labels.size
    assert 0.6 < shares[0] < 0.8 and abs(shares[1] - shares[2]) < 0.03
    red, blue = images[..., 0], images[..., 2]
    redder = [(red > blue)[labels == kind].mean() for kind in (1, 2)]
    assert 0.7 < redder[0] < 0.95 and 0.05 < redder[1] < 0.3
    again, other = (shapes.make_shapes(photographs, seed=seed)[1] for seed in (0, 1))
    np.testing.assert_array_equal(again, labels)
    assert (other != labels).any()


def test_one_ellipse_and_one_rectangle_against_geometry():
    """The outline of a kind, checked by its area, and by an ellipse having no point far from its middle."""
    half = np.full((1, 1, 1), 0.5)
    ellipse = shapes._outline(64, np.array([[[True]]]), half, half, half, half, half)[0]
    rectangle = shapes._outline(64, np.array([[[False]]]), half, half, half, half, half)[0]
    radius = (0.18 + 0.07) * 64
    rows, columns = np.mgrid[:64, :64] - 32
    np.testing.assert_array_equal(ellipse, rows**2 + columns**2 <= radius**2)
    np.testing.assert_array_equal(rectangle, np.maximum(abs(rows), abs(columns)) <= radius * np.sqrt(np.pi) / 2)


def test_shapes_by_name():
    loaded = data.load("cifar10-shapes")
    assert (loaded.train.size, loaded.test.size, loaded.input_shape) == (2800, 2000, (32, 32, 3))
    assert loaded.class_names == ("background", "ellipse", "rectangle") and loaded.segmentation
    photographs, _ = data.load("cifar10-quick").test.images(2000)
    images, labels = loaded.test.images(2000)
    np.testing.assert_array_equal(images[labels == 0], photographs[labels == 0])
    with pytest.raises(UserError, match="validation_split.*it has test, train"):
        data.load("cifar10-shapes", validation_split="val")
    with pytest.raises(UserError, match="Did you mean 'cifar10-shapes'"):
        data.load("cifar-shapes")
