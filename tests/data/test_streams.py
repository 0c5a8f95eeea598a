"""Data sets too large for memory: the same promises, image by image from disk."""

import numpy as np
import pytest
from data_files import make_folder, make_images, make_tfds

import tfbnas  # noqa: F401
from tfbnas import data
from tfbnas.data import streams
from tfbnas.data.streams import FileSplit, Piece, RecordSplit

import tensorflow as tf  # isort: skip


@pytest.fixture(scope="module", params=["records", "files"])
def stream(request, tmp_path_factory, tiny_tfds):
    if request.param == "records":
        split = data.load(str(tiny_tfds), memory_limit=1).train
        assert isinstance(split, RecordSplit)
    else:
        folder = make_folder(tmp_path_factory.mktemp("images"), per_class={"train": 15, "test": 1})
        split = data.load(str(folder), memory_limit=1).train
        assert isinstance(split, FileSplit)
    assert split.size == 30
    return split


def rows(batches):
    return [image.tobytes() for x, _ in batches for image in x.numpy()]


def arrays(batches):
    return [part.numpy() for batch in batches for part in batch]


def same(first, second):
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_same_content_as_in_memory(tiny_tfds):
    streamed, in_memory = (data.load(str(tiny_tfds), memory_limit=limit).train for limit in (1, 2**30))
    first, second = streamed.images(30), in_memory.images(30)
    assert same(first, second)


def test_images_out_of_the_whole(stream):
    x, y = stream.images(6)
    assert len(y) == 6 and len(set(np.bincount(y))) == 1, "of each class equally many"
    everything = rows(stream.epoch(0, 30, shuffle=False))
    positions = [everything.index(image.tobytes()) for image in x]
    assert positions == sorted(set(positions)) and positions[0] < 15 < positions[-1]
    np.testing.assert_array_equal(x, stream.images(6)[0])


def test_sample_is_of_the_whole(stream):
    for n in (5, 30, 100):
        positions = [number for number, *_ in stream.sample(n)]
        assert len(set(positions)) == min(n, 30) and positions == sorted(positions) and positions[-1] >= 20


@pytest.mark.parametrize("augment", [False, True])
def test_resume(stream, augment):
    undisturbed = arrays(stream.epochs(8, seed=4, augment=augment).take(9))
    assert len(undisturbed[0]) == 8 and stream.steps(8) == 3
    assert same(undisturbed[12:], arrays(stream.epochs(8, seed=4, augment=augment, start=2).take(3)))
    assert not same(undisturbed[:6], undisturbed[6:12])


def test_epoch_has_every_image_once(stream):
    everything = set(rows(stream.epoch(0, 30, shuffle=False)))
    assert set(rows(stream.epoch(0, 10))) == everything and len(everything) == 30
    assert rows(stream.epoch(0, 10)) != rows(stream.epoch(1, 10))


def test_halves_and_subsets(stream):
    first, second = stream.halves(seed=0)
    a, b = (set(rows(half.epoch(0, 15))) for half in (first, second))
    assert (first.size, second.size) == (len(a), len(b)) == (15, 15) and not a & b
    taken = stream.take(7, seed=0)
    assert taken.size == 7 == len(set(rows(taken.epoch(0, 7))))
    assert same(arrays(taken.epoch(0, 7)), arrays(stream.take(7, seed=0).epoch(0, 7)))
    rest, held = (set(rows(part.epoch(0, part.size))) for part in stream.hold_out(7, seed=0))
    assert (len(rest), len(held)) == (23, 7) and not rest & held and held == set(rows(taken.epoch(0, 7)))


def test_image_size_makes_random_resized_crops(stream, tiny_tfds):
    scaled = data.load(str(tiny_tfds), memory_limit=1, image_size=14).train
    (images, labels), *_ = scaled.epoch(0, 30, shuffle=False)
    assert images.shape == (30, 14, 14, 3)
    # The test view of an 8x8 image: scaled to 16x16, of which the middle 14x14.
    original = data.load(str(tiny_tfds)).train.images(30)[0][0]
    expected = tf.image.resize(original, [16, 16], antialias=True)[1:15, 1:15]
    np.testing.assert_allclose(images[0], expected, atol=1e-5)
    changed = scaled.epoch(0, 30, seed=1, augment=True)
    assert same(arrays(changed), arrays(changed))
    assert not same(arrays(changed), arrays(scaled.epoch(1, 30, seed=1, augment=True)))


def test_many_files_are_dealt_out_whole():
    pieces = [Piece(f"{i}.tfrecord", 0, 10 + i) for i in range(80)]
    split = RecordSplit(pieces, lambda record: (record, record), name="many", image_shape=(8, 8, 3), scaled=False)
    first, second = split.halves(seed=3)
    files = [{piece.file for piece in half._pieces} for half in (first, second)]
    assert len(files[0]) == len(files[1]) == 40 and not files[0] & files[1]
    assert first.size + second.size == split.size
    assert {p.file for p in split.halves(seed=3)[0]._pieces} == files[0]
    assert split.take(100, seed=0).size == 100


def test_several_files_and_buffers(tmp_path, monkeypatch):
    """More files than are open at once, more records than the buffer holds."""
    monkeypatch.setattr(streams, "_BUFFER", 16)
    images = make_images(60)
    serialised = [tf.io.serialize_tensor(tf.constant(image)).numpy() for image in images]
    files = []
    for number in range(20):
        files.append(str(tmp_path / f"{number}.tfrecord"))
        with tf.io.TFRecordWriter(files[-1]) as writer:
            for record in serialised[3 * number : 3 * number + 3]:
                writer.write(record)

    def parse(record):
        return tf.io.encode_png(tf.ensure_shape(tf.io.parse_tensor(record, tf.uint8), [8, 8, 3])), tf.constant(0)

    split = RecordSplit([Piece(f, 0, 3) for f in files], parse, name="x", image_shape=(8, 8, 3), scaled=False)
    ordered, shuffled = rows(split.epoch(0, 60, shuffle=False)), rows(split.epoch(0, 20, seed=5))
    assert set(shuffled) == set(ordered) and len(set(shuffled)) == 60 and shuffled != ordered
    assert shuffled == rows(split.epoch(0, 20, seed=5))
    lower, upper = (set(rows(half.epoch(0, 10, shuffle=False))) for half in split.halves(seed=0))
    assert len(lower | upper) == 60 and not lower & upper


def test_imagenet_uses_the_validation_split(tmp_path):
    arrays_ = (list(make_images(6)), np.arange(6) % 3)
    unlabelled = (list(make_images(6)), [-1] * 6)
    make_tfds(
        tmp_path,
        {"train": arrays_, "validation": arrays_, "test": unlabelled},
        name="imagenet2012",
        version="5.1.0",
        shape=(None, None, 3),
    )
    loaded = data.load("imagenet2012", data_dir=tmp_path, image_size=16, memory_limit=1)
    assert "'validation'" in loaded.test.name and loaded.input_shape == (16, 16, 3)
