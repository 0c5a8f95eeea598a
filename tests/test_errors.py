"""Hints: near names are suggested, and only those."""

import pytest

from tfbnas.data.offline import tfds
from tfbnas.errors import nearest


@pytest.fixture(scope="module")
def data_sets():
    return ["cifar10-quick", "cifar10-shapes", "part_labels", *tfds().list_builders(with_community_datasets=False)]


@pytest.mark.parametrize(
    "written,meant",
    [
        ("minst", "mnist"),
        ("cifar10-quik", "cifar10-quick"),
        ("CIFAR-10", "cifar10"),
        ("imagnet2012", "imagenet2012"),
        ("flowers", "tf_flowers"),
        ("svhn", "svhn_cropped"),
        ("cats", "cats_vs_dogs"),
        ("stanford_dog", "stanford_dogs"),
    ],
)
def test_slips_and_beginnings_get_a_hint(written, meant, data_sets):
    assert nearest(written, data_sets) == f" Did you mean {meant!r}?"


@pytest.mark.parametrize(
    "written",
    [
        "photos",
        "nofolder",
        "images",
        "pictures",
        "mydata",
        "data",
        "dataset",
        "birds",
        "animals",
        "plants",
        "train",
        "q",
    ],
)
def test_names_of_their_own_get_none(written, data_sets):
    assert nearest(written, data_sets) == ""


@pytest.mark.parametrize(
    "written,known,meant",
    [
        ("tset", ["test", "train"], "test"),
        ("cpuu", ["quick", "cpu"], "cpu"),
        ("search.round", ["search.rounds", "search.ratio"], "search.rounds"),
        ("bfloat61", ["float32", "bfloat16"], "bfloat16"),
    ],
)
def test_settings_and_splits(written, known, meant):
    assert nearest(written, known) == f" Did you mean {meant!r}?"
    assert nearest(written, []) == ""
