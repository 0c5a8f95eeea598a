"""Arrays as Keras users have them: taken as they are, or refused with what to write instead."""

import numpy as np
import pytest
from data_files import make_images

import tfbnas  # noqa: F401
from tfbnas import data
from tfbnas.errors import UserError

IMAGES = make_images(12)
LABELS = np.arange(12) % 3


def test_what_keras_gives_becomes_a_split():
    split = data.from_arrays(
        IMAGES, LABELS[:, None].astype(np.uint8), padding=2
    )  # as keras.datasets.cifar10 has labels
    x, y = split.images(12)
    np.testing.assert_allclose(x, IMAGES / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(y, LABELS)
    assert (split.classes, split.padding, split.image_shape) == (3, 2, (8, 8, 3))
    assert data.from_arrays(IMAGES.astype(np.float32), LABELS, classes=5).classes == 5
    maps = data.from_arrays(IMAGES, np.arange(12 * 64).reshape(12, 8, 8) % 3)
    assert maps.label_shape == (8, 8) and maps.classes == 3


@pytest.mark.parametrize(
    "images,labels,match",
    [
        (IMAGES / 255.0, LABELS, r"float64 in 0\.\.1.* take \(images \* 255\)"),
        (IMAGES / 127.5 - 1.0, LABELS, r"in -1\.\.1.* take \(\(images \+ 1\) \* 127.5\)"),
        ((IMAGES - 120.7) / 63, LABELS, "as they were before they were scaled"),
        (IMAGES * np.nan, LABELS, "whole pixels"),
        (IMAGES.astype(int) * 2, LABELS, r"int64 in 0\.\.510"),
        (IMAGES.astype(str), LABELS, "to be of uint8. Received: <U"),
        (IMAGES[..., 0], LABELS, r"\[12, 8, 8\]. For grey images take images\[\.\.\., None\]"),
        (np.moveaxis(IMAGES, -1, 1), LABELS, r"np.moveaxis\(images, 1, -1\)"),
        (IMAGES, np.eye(3)[LABELS], r"shape \[12, 3\].*labels.argmax"),
        (IMAGES, LABELS.astype(float), "whole numbers. Received: float64.*astype"),
        (IMAGES, LABELS[:7], r"images of shape \[12, 8, 8, 3\] and labels of shape \[7\]"),
        (IMAGES[:0], LABELS[:0], "one or more images"),
        (IMAGES, LABELS - 1, r"0\.\.1. Received: -1"),
    ],
)
def test_others_are_refused_with_the_remedy(images, labels, match):
    with pytest.raises(UserError, match=match) as caught:
        data.from_arrays(images, labels)
    assert "\n" not in str(caught.value)


def test_labels_outside_classes():
    with pytest.raises(UserError, match=r"0\.\.1. Received: 2"):
        data.from_arrays(IMAGES, LABELS, classes=2)


def test_what_fit_is_given():
    split = data.from_arrays(IMAGES, LABELS)
    assert data.splits(split, split) == (split, split) and data.splits(split) == (split, None)
    train, validation = data.splits((IMAGES, LABELS), (IMAGES[:6], LABELS[:6]), halves=True)
    assert (train.size, validation.size) == (12, 6)
    train, validation = data.splits(IMAGES, LABELS)
    assert train.size == 12 and validation is None
    for arguments in ((IMAGES, LABELS), ((IMAGES, LABELS),)):
        first, second = data.splits(*arguments, halves=True, seed=1)
        assert first.size == second.size == 6 and first.classes == 3
        np.testing.assert_array_equal(first.labels, data.from_arrays(IMAGES, LABELS).halves(seed=1)[0].labels)
    with pytest.raises(UserError, match=r"fit\(images, labels\)"):
        data.splits(IMAGES)
    with pytest.raises(UserError, match=r"pair \(images, labels\). Received: 3"):
        data.splits((IMAGES, LABELS, LABELS))
