"""Augmentation against plain numpy."""

import numpy as np
import pytest

import tfbnas  # noqa: F401
from tfbnas.data import augment

import tensorflow as tf  # isort: skip


def test_normalise_maps_bytes_to_minus_one_and_one():
    np.testing.assert_allclose(augment.normalise(tf.constant([0, 127, 255], tf.uint8)), [-1, 127 / 127.5 - 1, 1])


@pytest.mark.parametrize("channels", [1, 3])
def test_pad_crop_flip_is_what_numpy_does(channels):
    images = np.random.default_rng(0).integers(0, 256, (64, 6, 7, channels), dtype=np.uint8)
    seed = tf.constant([5, 9], tf.int64)
    result = augment.pad_crop_flip(tf.constant(images), seed, padding=2).numpy()
    down, right, mirrored = (x.numpy() for x in augment.crop_and_flip(64, seed, padding=2))
    expected = []
    for image, dy, dx, flip in zip(images, down, right, mirrored, strict=True):
        padded = np.pad(image / 127.5 - 1, ((2, 2), (2, 2), (0, 0)))
        crop = padded[2 + dy : 8 + dy, 2 + dx : 9 + dx]
        expected.append(crop[:, ::-1] if flip else crop)
    np.testing.assert_allclose(result, np.array(expected), atol=1e-6)


def test_shifts_reach_every_value_and_half_are_mirrored():
    down, right, mirrored = augment.crop_and_flip(20_000, tf.constant([1, 2], tf.int64), padding=4)
    for shifts in (down.numpy(), right.numpy()):
        values, counts = np.unique(shifts, return_counts=True)
        assert values.tolist() == list(range(-4, 5))
        assert np.all(np.abs(counts / 20_000 - 1 / 9) < 0.01)
    assert abs(np.mean(mirrored) - 0.5) < 0.02
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.03


@pytest.mark.parametrize("height,width", [(40, 20), (20, 40), (21, 21), (7, 9)])
def test_fit_keeps_the_middle(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2] = 255
    fitted = augment.fit(tf.constant(image), 10).numpy()
    assert fitted.shape == (10, 10, 3)
    assert fitted[4:6, 4:6].min() > 100
    if min(height, width) > 10:
        assert fitted[0].max() == 0


def test_fit_with_margin_cuts_the_middle_of_a_larger_one():
    image = tf.reshape(tf.range(16 * 16 * 3, dtype=tf.float32) % 251, [16, 16, 3])
    np.testing.assert_array_equal(augment.fit(image, 14, margin=16 / 14), image[1:15, 1:15])


@pytest.mark.parametrize("encode", ["jpeg", "png"])
def test_random_resized_crop_shows_a_part(encode):
    ramp = np.broadcast_to(np.arange(0, 240, 2, dtype=np.uint8)[None, :, None], (90, 120, 3))
    file = tf.io.encode_jpeg(ramp, quality=100) if encode == "jpeg" else tf.io.encode_png(ramp)
    lows, mirrored = [], 0
    for number in range(40):
        seed = tf.constant([3, number], tf.int64)
        image = augment.random_resized_crop(file, 16, 3, seed).numpy()
        assert image.shape == (16, 16, 3) and image.min() >= 0 and image.max() <= 255
        np.testing.assert_array_equal(image, augment.random_resized_crop(file, 16, 3, seed))
        columns = image[8, :, 0]
        lows.append(columns.min())
        mirrored += columns[0] > columns[-1]
        # A part of at least 8 % of the area with sides 3:4 to 4:3 is at least 26 of 120 columns wide.
        assert columns.max() - columns.min() > 35
    assert len(set(np.round(lows))) > 10
    assert 8 < mirrored < 32


@pytest.mark.parametrize("size", [1, 4, 5, 20])
def test_cutout_is_a_square_of_grey_around_any_pixel(size):
    images = np.random.default_rng(0).uniform(0.1, 1.0, (500, 8, 10, 3)).astype(np.float32)
    cut = augment.cutout(tf.constant(images), tf.constant([3, 4], tf.int64), size=size).numpy()
    hidden = np.all(cut == 0.0, axis=-1)
    np.testing.assert_array_equal(cut[~hidden], images[~hidden])
    spans = {
        axis: {(max(0, c - size // 2), min(extent, c - size // 2 + size)) for c in range(extent)}
        for axis, extent in ((0, 8), (1, 10))
    }
    found = {0: set(), 1: set()}
    for one in hidden:
        rows, columns = np.flatnonzero(one.any(axis=1)), np.flatnonzero(one.any(axis=0))
        assert one.sum() == len(rows) * len(columns) > 0
        for axis, places in ((0, rows), (1, columns)):
            found[axis].add((int(places[0]), int(places[-1]) + 1))
    assert found == spans
