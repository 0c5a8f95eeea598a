"""What a run may rely on: batches depend on seed, epoch and position, subsets are balanced and disjoint."""

import numpy as np
import pytest

import tfbnas  # noqa: F401
from tfbnas.data import MemorySplit, balance
from tfbnas.errors import UserError

import tensorflow as tf  # isort: skip


@pytest.fixture(scope="module")
def split():
    """Images that carry their number in the first two pixels' first channel."""
    images = np.zeros((90, 8, 8, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(90)
    return MemorySplit(images, np.arange(90) % 3, name="numbers")


def numbers(batches):
    return [np.rint((x[:, 0, 0, 0] + 1) * 127.5).astype(int).tolist() for x, _ in batches]


def arrays(batches):
    return [(x.numpy(), y.numpy()) for x, y in batches]


def same(first, second):
    return all(np.array_equal(a, b) for p, q in zip(first, second, strict=True) for a, b in zip(p, q, strict=True))


def test_epoch_without_shuffle_is_every_image_once_in_order(split):
    batches = arrays(split.epoch(0, 40, shuffle=False))
    assert [len(y) for _, y in batches] == [40, 40, 10] and split.steps(40, shuffle=False) == 3
    x, y = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert x.dtype == np.float32 and y.dtype == np.int32
    np.testing.assert_array_equal(np.rint((x[:, 0, 0, 0] + 1) * 127.5), np.arange(90))
    np.testing.assert_array_equal(y, np.arange(90) % 3)
    assert x.min() == -1


def test_shuffled_epoch_has_whole_batches_and_no_image_twice(split):
    seen = sum(numbers(split.epoch(0, 16)), [])
    assert len(seen) == 16 * split.steps(16) == 80
    assert len(set(seen)) == 80 and seen != sorted(seen)


def test_labels_follow_their_images(split):
    for x, y in split.epoch(3, 16, augment=False):
        np.testing.assert_array_equal(np.rint((x[:, 0, 0, 0] + 1) * 127.5) % 3, y)


def test_batches_have_a_static_shape(split):
    assert split.epoch(0, 16).element_spec[0].shape == [16, 8, 8, 3]
    assert split.epochs(16, seed=0, augment=True).element_spec[0].shape == [16, 8, 8, 3]


@pytest.mark.parametrize("augment,cutout", [(False, 0), (True, 0), (True, 3)])
def test_resumed_run_sees_the_batches_of_an_undisturbed_one(split, augment, cutout):
    steps = split.steps(20)
    undisturbed = arrays(split.epochs(20, seed=7, augment=augment, cutout=cutout).take(4 * steps))
    resumed = arrays(split.epochs(20, seed=7, augment=augment, start=2, cutout=cutout).take(2 * steps))
    assert same(undisturbed[2 * steps :], resumed)
    if cutout:
        assert np.all([np.any(np.all(images == 0, axis=-1), axis=(1, 2)).mean() > 0.9 for images, _ in undisturbed])
        return
    single = arrays(split.epoch(tf.constant(3), 20, seed=7, augment=augment))
    assert same(undisturbed[3 * steps :], single)


def test_global_seed_and_other_random_numbers_do_not_matter(split):
    first = arrays(split.epochs(20, seed=7, augment=True).take(3))
    tf.random.set_seed(99)
    np.random.seed(3)
    tf.random.uniform([4])
    assert same(first, arrays(split.epochs(20, seed=7, augment=True).take(3)))


def test_epochs_and_seeds_differ(split):
    order = [numbers(split.epoch(epoch, 30, seed=seed)) for epoch, seed in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert all(a != b for i, a in enumerate(order) for b in order[:i])
    images = np.full((64, 8, 8, 3), 200, np.uint8)
    same_image = MemorySplit(images, np.zeros(64, int), name="equal")
    changes = [x.numpy() for x, _ in same_image.epochs(32, seed=0, augment=True).take(4)]
    assert all(not np.array_equal(a, b) for i, a in enumerate(changes) for b in changes[:i])


def test_halves_are_disjoint_balanced_and_repeatable(split):
    first, second = split.halves(seed=1)
    assert np.bincount(first.labels).tolist() == np.bincount(second.labels).tolist() == [15, 15, 15]
    a, b = (set(sum(numbers(half.epoch(0, 45, shuffle=False)), [])) for half in (first, second))
    assert not a & b and len(a | b) == 90
    again = set(sum(numbers(split.halves(seed=1)[0].epoch(0, 45)), []))
    other = set(sum(numbers(split.halves(seed=2)[0].epoch(0, 45)), []))
    assert again == a != other


def test_halves_of_halves_stay_inside(split):
    first, _ = split.halves(seed=1)
    inner = set(sum(numbers(first.halves(seed=5)[1].epoch(0, 22, shuffle=False)), []))
    assert inner <= set(sum(numbers(first.epoch(0, 45)), []))


def test_odd_classes_give_their_odd_image_in_turn():
    labels = np.repeat([0, 1, 2, 3], [3, 3, 5, 4])
    first, second = balance.halves(labels, seed=0)
    assert np.bincount(labels[first]).tolist() == [2, 1, 3, 2]
    assert sorted([*first, *second]) == list(range(15))


def test_take_is_balanced_nested_and_bounded(split):
    ten = split.take(10, seed=0)
    assert sorted(np.bincount(ten.labels)) == [3, 3, 4]
    small, large = (set(sum(numbers(split.take(n, seed=0).epoch(0, n)), [])) for n in (10, 30))
    assert small < large
    assert balance.take(np.array([0, 0, 0, 0, 1]), 4, seed=0).size == 4
    for n in (0, 91):
        with pytest.raises(UserError, match=rf"1\.\.90.*numbers.*{n}"):
            split.take(n, seed=0)


def test_held_out_images_are_balanced_and_apart(split):
    rest, held = split.hold_out(12, seed=3)
    assert (rest.size, held.size) == (split.size - 12, 12)
    assert np.bincount(held.labels).tolist() == np.bincount(split.take(12, seed=3).labels).tolist()
    pictures = [{image.tobytes() for image in part.images(part.size)[0]} for part in (rest, held, split)]
    assert not pictures[0] & pictures[1] and pictures[0] | pictures[1] == pictures[2]
    for n in (0, split.size):
        with pytest.raises(UserError, match=f"hold out.*Received: {n}"):
            split.hold_out(n, seed=0)


def test_images_are_of_the_whole_split_with_each_class_its_share(split):
    x, y = split.images(9)
    assert x.shape == (9, 8, 8, 3) and isinstance(x, np.ndarray)
    (found,) = numbers([(x, y)])
    assert found == sorted(found) and max(found) > 45 and np.bincount(y).tolist() == [3, 3, 3]
    np.testing.assert_array_equal(np.array(found) % 3, y)
    np.testing.assert_array_equal(x, split.images(9)[0])
    assert numbers([split.images(1000)]) == [list(range(90))]


def test_images_in_folder_order_show_every_class():
    """What one user had: the first 256 images hold none of the fourth class."""
    labels = np.repeat([0, 1, 2, 3], [300, 100, 60, 5])
    sorted_by_class = MemorySplit(np.zeros((465, 4, 4, 1), np.uint8), labels, name="sorted")
    counts = np.bincount(sorted_by_class.images(256)[1])
    assert counts.sum() == 256 and counts[3] >= 1
    np.testing.assert_allclose(counts / 256, np.bincount(labels) / 465, atol=0.01)
    assert np.unique(sorted_by_class.images(4)[1]).tolist() == [0, 1, 2, 3]
    assert len(set(sorted_by_class.images(3)[1])) == 3


def test_the_share_of_a_class_for_any_number_of_images():
    chance = np.random.default_rng(0)
    for n in (1, 2, 5, 17, 100, 299):
        labels = chance.choice(7, 300, p=[0.5, 0.3, 0.1, 0.05, 0.03, 0.01, 0.01])
        chosen = balance.spread(labels, n)
        assert len(set(chosen)) == n and np.all(np.diff(chosen) > 0)
        if n >= len(set(labels)):
            assert set(labels[chosen]) == set(labels)


def test_images_with_label_maps_show_every_class():
    maps = np.zeros((60, 4, 4), np.uint8)
    maps[50:] = 1
    maps[57, 0, 0] = 2  # in one image, on one pixel
    split = MemorySplit(np.zeros((60, 4, 4, 3), np.uint8), maps, name="maps")
    labels = split.images(6)[1]
    assert labels.shape == (6, 4, 4) and set(np.unique(labels)) == {0, 1, 2}
    assert sum(label.max() == 0 for label in labels) == 3


def test_padding_of_the_crop():
    white = MemorySplit(np.full((64, 16, 16, 1), 255, np.uint8), np.zeros(64, int), name="white")

    def grey_rows(split):
        images = np.concatenate([x.numpy() for x, _ in split.epoch(0, split.size, augment=True)])
        return (images == 0).all(axis=(2, 3)).sum(axis=1).max()

    assert grey_rows(white) == 2  # one eighth of 16
    for padding in (0, 1, 4):
        white.padding = padding
        assert grey_rows(white) == grey_rows(white.halves(seed=0)[0]) == padding


@pytest.mark.parametrize("batch_size", [0, -1, 91])
def test_batch_size_must_fit(split, batch_size):
    for ask in (
        lambda: split.epoch(0, batch_size),
        lambda: split.epochs(batch_size, seed=0, augment=False),
        lambda: split.steps(batch_size),
    ):
        with pytest.raises(UserError, match=f"batch_size.*1..90.*batch_size={batch_size}"):
            ask()


def test_one_image_has_no_halves():
    with pytest.raises(UserError, match="cannot be divided.*1 image"):
        MemorySplit(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, int), name="one").halves(seed=0)


def test_a_cutout_that_hides_the_image_is_refused(split):
    with pytest.raises(UserError, match="Expected `cutout` to be a side that fits on images of 8x8 pixels"):
        split.epochs(20, seed=0, augment=True, cutout=9)
