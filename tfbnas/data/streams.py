"""Splits too large for memory: read, decoded and changed while training."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfbnas.data import augment as augmentation
from tfbnas.data import balance
from tfbnas.data.split import Split, change_seed, order_seed

_BUFFER = 2048
_OPEN_FILES = 16
_TEST_MARGIN = 256 / 224


class StreamSplit(Split):
    """Common part of the streamed splits.

    Images of one fixed size are padded, cropped and mirrored as in memory. Those scaled to `image_size` get a random
    resized crop when training, else the usual test view: shorter side to 256/224 of the size, middle square.
    """

    scaled: bool

    @abc.abstractmethod
    def _encoded(self, epoch: tf.Tensor, *, seed: int, shuffle: bool) -> tf.data.Dataset:
        """Pairs (scalar string, scalar label)."""

    @abc.abstractmethod
    def sample(self, n: int) -> Iterator[tuple[int, tf.Tensor, tf.Tensor]]:
        """About `n` images out of the whole, to look at beforehand: position, file and label."""

    def _batches(
        self, epoch: tf.Tensor, batch_size: int, *, seed: int, augment: bool, shuffle: bool
    ) -> tf.data.Dataset:
        height, width, channels = self.image_shape

        def load(position: tf.Tensor, pair: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            file, label = pair
            if self.scaled and augment:
                image = augmentation.random_resized_crop(file, height, channels, change_seed(seed, epoch, position))
            else:
                image = tf.io.decode_image(file, channels=channels, expand_animations=False)
                image = tf.ensure_shape(image, [None, None, channels])
                if self.scaled:
                    image = augmentation.fit(image, height, margin=_TEST_MARGIN)
            return tf.ensure_shape(image, [height, width, channels]), tf.cast(label, tf.int32)

        def finish(step: tf.Tensor, pair: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            images, labels = pair
            if augment and not self.scaled:
                seeds = change_seed(seed, epoch, step)
                return augmentation.pad_crop_flip(images, seeds, padding=self._padding), labels
            return augmentation.normalise(images), labels

        return (
            self._encoded(epoch, seed=seed, shuffle=shuffle)
            .enumerate()
            .map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .batch(batch_size, drop_remainder=shuffle)
            .enumerate()
            .map(finish)
        )


class FileSplit(StreamSplit):
    """Image files on disk.

    Args:
      paths: The files, [n].
      labels: int [n].
      name: For messages.
      image_shape: (height, width, channels) of the batches.
      scaled: Scale every image to that, else each must have that size.
    """

    def __init__(
        self,
        paths: Sequence[str],
        labels: np.ndarray,
        *,
        name: str,
        image_shape: tuple[int, int, int],
        scaled: bool,
    ):
        self.name, self.image_shape, self.scaled = name, image_shape, scaled
        self._hold(np.asarray(paths, object), np.asarray(labels, np.int32))

    def _hold(self, paths: np.ndarray, labels: np.ndarray) -> None:
        self._paths, self.labels, self.size = paths, labels, len(paths)
        with tf.device("CPU"):
            self._path_tensor = tf.constant([str(path) for path in paths])
            self._label_tensor = tf.constant(labels)

    def halves(self, *, seed: int) -> tuple[FileSplit, FileSplit]:
        first, second = balance.halves(self.labels, seed=seed)
        self._check_halves(len(first), len(second))
        return self._subset(first, "first half"), self._subset(second, "second half")

    def take(self, n: int, *, seed: int) -> FileSplit:
        self._check_take(n)
        return self._subset(balance.take(self.labels, n, seed=seed), f"subset of {n}")

    def hold_out(self, n: int, *, seed: int) -> tuple[FileSplit, FileSplit]:
        self._check_hold_out(n)
        rest, held = balance.hold_out(self.labels, n, seed=seed)
        return self._subset(rest, f"without {n}"), self._subset(held, f"subset of {n}")

    def _subset(self, positions: np.ndarray, what: str) -> FileSplit:
        part = self._derived(what)
        part._hold(self._paths[positions], self.labels[positions])
        return part

    @property
    def _shown(self) -> np.ndarray:
        return self.labels

    def _some(self, positions: np.ndarray) -> FileSplit:
        return self._subset(positions, "some")

    def sample(self, n: int) -> Iterator[tuple[int, tf.Tensor, tf.Tensor]]:
        for i in balance.spread(self.labels, min(n, self.size)):
            yield int(i), tf.io.read_file(self._paths[i]), tf.constant(self.labels[i])

    def _encoded(self, epoch: tf.Tensor, *, seed: int, shuffle: bool) -> tf.data.Dataset:
        order = tf.range(self.size, dtype=tf.int64)
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, order_seed(seed, epoch))
        return tf.data.Dataset.range(self.size).map(
            lambda i: (tf.io.read_file(self._path_tensor[order[i]]), self._label_tensor[order[i]]),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )


@dataclass(frozen=True)
class Piece:
    """A run of records in one TFRecord file: `count` of them after the first `skip`."""

    file: str
    skip: int
    count: int


class RecordSplit(StreamSplit):
    """TFRecord files of a TFDS directory.

    Each epoch visits the files in a new order, sixteen at a time, and shuffles every 2 048 records in memory. (TFDS has
    shuffled the images once when it wrote the files.)

    Args:
      pieces: Where the records are.
      parse: A serialised record to (scalar string, scalar label).
      name: For messages.
      image_shape: (height, width, channels) of the batches.
      scaled: Scale every image to that, else each must have that size.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
        *,
        name: str,
        image_shape: tuple[int, int, int],
        scaled: bool,
    ):
        self._parse = parse
        self.name, self.image_shape, self.scaled = name, image_shape, scaled
        self._hold(pieces)

    def _hold(self, pieces: Sequence[Piece]) -> None:
        self._pieces = [piece for piece in pieces if piece.count]
        self.size = sum(piece.count for piece in self._pieces)
        self._chosen: np.ndarray | None = None

    def halves(self, *, seed: int) -> tuple[RecordSplit, RecordSplit]:
        pieces = list(self._pieces)
        if len(pieces) < 4 * _OPEN_FILES:
            # Too few files to deal out: every file is cut in the middle.
            lower = [Piece(p.file, p.skip, p.count // 2) for p in pieces]
            upper = [Piece(p.file, p.skip + p.count // 2, p.count - p.count // 2) for p in pieces]
        else:
            order = np.argsort(np.random.PCG64(seed).random_raw(len(pieces)), kind="stable")
            lower, upper = ([pieces[i] for i in sorted(order[start::2])] for start in (0, 1))
        self._check_halves(sum(p.count for p in lower), sum(p.count for p in upper))
        return self._subset(lower, "first half"), self._subset(upper, "second half")

    def take(self, n: int, *, seed: int) -> RecordSplit:
        """The first records of every file, in proportion; `seed` is not used."""
        self._check_take(n)
        return self._subset(self._cut(n)[1], f"subset of {n}")

    def hold_out(self, n: int, *, seed: int) -> tuple[RecordSplit, RecordSplit]:
        """The first records of every file, in proportion, are held out; `seed` is not used."""
        self._check_hold_out(n)
        rest, held = self._cut(n)
        return self._subset(rest, f"without {n}"), self._subset(held, f"subset of {n}")

    def _cut(self, n: int) -> tuple[list[Piece], list[Piece]]:
        """What is left of every file behind its share of the first `n` records, and these."""
        ends = np.cumsum([piece.count for piece in self._pieces]) * n // self.size
        counts = [int(count) for count in np.diff(ends, prepend=0)]
        pairs = list(zip(self._pieces, counts, strict=True))
        return (
            [Piece(p.file, p.skip + count, p.count - count) for p, count in pairs],
            [Piece(p.file, p.skip, count) for p, count in pairs],
        )

    def _subset(self, pieces: Sequence[Piece], what: str) -> RecordSplit:
        part = self._derived(what)
        part._hold(pieces)
        return part

    @property
    def _shown(self) -> np.ndarray:
        # One pass over the files, in which no image is decoded.
        pairs = self._encoded(tf.constant(0, tf.int64), seed=0, shuffle=False)
        return np.concatenate(list(pairs.map(lambda file, label: label).batch(_BUFFER).as_numpy_iterator()))

    def _some(self, positions: np.ndarray) -> RecordSplit:
        return self._derived("some", size=len(positions), _chosen=np.isin(np.arange(self.size), positions))

    def sample(self, n: int) -> Iterator[tuple[int, tf.Tensor, tf.Tensor]]:
        starts = np.cumsum([0, *(piece.count for piece in self._pieces)])
        chosen = np.unique(np.linspace(0, len(self._pieces) - 1, n).round().astype(int))
        each = -(-n // len(chosen))
        for number in chosen:
            piece = self._pieces[number]
            step = max(1, piece.count // each)
            records = tf.data.TFRecordDataset(piece.file).skip(piece.skip).take(piece.count).shard(step, 0).take(each)
            expected = min(each, -(-piece.count // step))
            found = 0
            for found, record in enumerate(records, 1):
                yield int(starts[number] + (found - 1) * step), *self._parse(record)
            if found < expected:  # TensorFlow says nothing of a file that was cut off
                raise tf.errors.DataLossError(None, None, f"{piece.file} ends too early")

    def _encoded(self, epoch: tf.Tensor, *, seed: int, shuffle: bool) -> tf.data.Dataset:
        files = tf.constant([piece.file for piece in self._pieces])
        skips = tf.constant([piece.skip for piece in self._pieces], tf.int64)
        counts = tf.constant([piece.count for piece in self._pieces], tf.int64)
        order = tf.range(len(self._pieces))
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, order_seed(seed, epoch))

        def records(i: tf.Tensor) -> tf.data.Dataset:
            piece = order[i]
            return tf.data.TFRecordDataset(files[piece]).skip(skips[piece]).take(counts[piece])

        numbers = tf.data.Dataset.range(len(self._pieces))
        if not shuffle:
            ordered = numbers.flat_map(records)
            if self._chosen is not None:
                chosen = tf.constant(self._chosen)
                ordered = ordered.enumerate().filter(lambda i, record: chosen[i]).map(lambda i, record: record)
            return ordered.map(self._parse)

        def mix(number: tf.Tensor, chunk: tf.Tensor) -> tf.Tensor:
            # Dataset.shuffle depends on the global seed and cannot be repeated from the middle of a run.
            return tf.random.experimental.stateless_shuffle(chunk, tf.random.fold_in(order_seed(seed, epoch), number))

        return (
            numbers.interleave(
                records, cycle_length=_OPEN_FILES, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
            )
            .batch(_BUFFER)
            .enumerate()
            .map(mix)
            .prefetch(1)
            .unbatch()
            .map(self._parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        )
