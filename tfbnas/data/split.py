"""A split of a data set: batches that depend on nothing but seed, epoch and position."""

from __future__ import annotations

import abc
import copy
from typing import TypeVar

import numpy as np
import tensorflow as tf

from tfbnas.data import augment as augmentation
from tfbnas.data import balance
from tfbnas.errors import UserError
from tfbnas.hints import has_type

# Streams of random numbers that must not meet are folded apart by these.
_ORDER, _CHANGES, _CUTOUT = 0, 1, 2

AnySplit = TypeVar("AnySplit", bound="Split")


class Split(abc.ABC):
    """Images and labels of one split.

    Attributes:
      name: For messages, for example "cifar10 train".
      size: Number of images.
      image_shape: (height, width, channels) of what the batches hold.
      label_shape: () for one class an image, (height, width) for a class for each pixel.
      classes: Number of classes of the data set; None where nothing says it.
      padding: Pixels added on each side before the random crop of training; None for one eighth of the shorter side.
    """

    label_shape: tuple[int, ...] = ()
    classes: int | None = None
    padding: int | None = None
    name: str
    size: int
    image_shape: tuple[int, int, int]

    @abc.abstractmethod
    def halves(self, *, seed: int) -> tuple[Split, Split]:
        """Two disjoint halves, for weights and for architecture: the same ones for the same seed.

        Every class is divided equally where the labels are known beforehand, that is, always except for TFDS
        directories too large for memory: those are divided by files, which TFDS has shuffled.

        Raises:
          UserError: There are not enough images for two halves.
        """

    @abc.abstractmethod
    def take(self, n: int, *, seed: int) -> Split:
        """A subset of `n` images, equally many of each class (as in `halves`): the same one for the same seed.

        Raises:
          UserError: `n` is not in 1..size.
        """

    @abc.abstractmethod
    def hold_out(self, n: int, *, seed: int) -> tuple[Split, Split]:
        """All but `n` images, and these `n`, chosen as by `take`.

        Raises:
          UserError: `n` is not in 1..size - 1.
        """

    @abc.abstractmethod
    def _batches(
        self, epoch: tf.Tensor, batch_size: int, *, seed: int, augment: bool, shuffle: bool
    ) -> tf.data.Dataset: ...

    def steps(self, batch_size: int, *, shuffle: bool = True) -> int:
        """Batches in one epoch: with `shuffle` an incomplete last batch is dropped, without it is counted."""
        self._check(batch_size, shuffle)
        return self.size // batch_size if shuffle else -(-self.size // batch_size)

    def epoch(
        self,
        epoch: int | tf.Tensor,
        batch_size: int,
        *,
        seed: int = 0,
        augment: bool = False,
        shuffle: bool = True,
    ) -> tf.data.Dataset:
        """The batches of one epoch.

        Args:
          epoch: Number of the epoch, counted from 0; may be a tensor.
          batch_size: Images a batch.
          seed: Epochs of equal seed and number are equal, on any machine and in any process.
          augment: Random crop and mirror image: pad by `padding` (4 pixels of 32) with middle grey and
            crop; for streamed images scaled to `image_size`, a random resized crop instead. Images with label maps are
            mirrored only, together with their labels.
          shuffle: New order in each epoch, and only whole batches. Without: order of the data, all images.

        Returns:
          Pairs of float32 [batch_size, height, width, channels] in [-1, 1] and int32 [batch_size, *label_shape].

        Raises:
          UserError: `batch_size` is below 1, or above the split's size and `shuffle` is set.
        """
        return self._epoch(epoch, batch_size, seed=seed, augment=augment, shuffle=shuffle).prefetch(4)

    def epochs(self, batch_size: int, *, seed: int, augment: bool, start: int = 0, cutout: int = 0) -> tf.data.Dataset:
        """Endless shuffled epochs from number `start` on.

        A run that was killed and goes on with `start=k` sees the batches which the undisturbed run sees after its
        first k epochs. Other arguments and errors as in `epoch`.

        Args:
          cutout: Side in pixels of a grey square on each image, see `augment.cutout`. Default: 0, none.

        Raises:
          UserError: As in `epoch`; or `cutout` is larger than an image.
        """
        self._check(batch_size, True)
        if cutout > min(self.image_shape[:2]):
            raise UserError(
                f"Expected `cutout` to be a side that fits on images of {self.image_shape[0]}x{self.image_shape[1]} "
                f"pixels; half of their side is usual. Received: {cutout}."
            )
        batches = tf.data.Dataset.counter(start).flat_map(
            lambda epoch: self._epoch(epoch, batch_size, seed=seed, augment=augment, shuffle=True)
        )
        if cutout:
            positions = tf.data.Dataset.counter(start * self.steps(batch_size))

            def covered(position: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
                seeds = tf.random.fold_in(tf.stack([tf.constant(seed, tf.int64), position]), _CUTOUT)
                return augmentation.cutout(batch[0], seeds, size=cutout), batch[1]

            batches = tf.data.Dataset.zip((positions, batches)).map(covered)
        return batches.prefetch(4)

    def images(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """`n` images (all, where there are fewer) out of the whole split, unchanged, in the order of the data.

        They are the same ones each time. Each class has its share of them, and at least one image where `n` allows it;
        with label maps, an image counts for the rarest class that it shows.

        Returns:
          float32 [n, height, width, channels] in [-1, 1] and int32 [n, *label_shape].
        """
        if not (has_type(n, int) and n >= 1):
            raise UserError(f"Expected `n` to be an integer of at least 1, the images to give. Received: n={n!r}.")
        n = min(n, self.size)
        chosen = self if n == self.size else self._some(balance.spread(self._shown, n))
        images, labels = next(iter(chosen.epoch(0, min(n, 256), shuffle=False).unbatch().batch(n)))
        return images.numpy(), labels.numpy()

    @property
    @abc.abstractmethod
    def _shown(self) -> np.ndarray:
        """The class for which each image counts where some are chosen to show all: int [size]."""

    @abc.abstractmethod
    def _some(self, positions: np.ndarray) -> Split:
        """The images at these positions, sorted."""

    def _derived(self: AnySplit, what: str, **changes: object) -> AnySplit:
        """A copy with other images; `what` of this split they are goes into its name."""
        part = copy.copy(self)
        vars(part).update(changes, name=f"{self.name} ({what})")
        return part

    @property
    def _padding(self) -> int:
        return max(1, min(self.image_shape[:2]) // 8) if self.padding is None else self.padding

    def _epoch(
        self, epoch: int | tf.Tensor, batch_size: int, *, seed: int, augment: bool, shuffle: bool
    ) -> tf.data.Dataset:
        self._check(batch_size, shuffle)
        return self._batches(tf.cast(epoch, tf.int64), batch_size, seed=seed, augment=augment, shuffle=shuffle)

    def _check(self, batch_size: int, shuffle: bool) -> None:
        if not has_type(batch_size, int) or batch_size < 1 or (shuffle and batch_size > self.size):
            raise UserError(
                f"Expected `batch_size` to be in 1..{self.size}, the number of images of {self.name}. "
                f"Received: batch_size={batch_size!r}. Choose a smaller one or take more images."
            )

    def _check_halves(self, first: int, second: int) -> None:
        if not first or not second:
            raise UserError(
                f"{self.name} cannot be divided into a half for the weights and a half for the architecture: it has "
                f"{self.size} image(s). Use a larger data set."
            )

    def _check_hold_out(self, n: int) -> None:
        if not has_type(n, int) or not 1 <= n < self.size:
            raise UserError(
                f"Expected to hold out 1..{self.size - 1} of the {self.size} images of {self.name}. Received: {n!r}."
            )

    def _check_take(self, n: int) -> None:
        if not has_type(n, int) or not 1 <= n <= self.size:
            raise UserError(f"Expected to take 1..{self.size} images of {self.name}. Received: {n!r}.")


def order_seed(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """int64 [2], for the order of an epoch."""
    return tf.random.fold_in(tf.stack([tf.constant(seed, tf.int64), epoch]), _ORDER)


def change_seed(seed: int, epoch: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """int64 [2], for the augmentation of the batch or image at `position` of an epoch."""
    return tf.random.fold_in(tf.random.fold_in(tf.stack([tf.constant(seed, tf.int64), epoch]), _CHANGES), position)


class MemorySplit(Split):
    """A split whose decoded images lie in memory; its halves and subsets share them.

    Args:
      images: uint8 [all, height, width, channels].
      labels: int [all], or uint8 [all, height, width] for a class for each pixel.
      name: For messages.

    Raises:
      UserError: There are more or fewer labels than images, or a label map has another size than its image.
    """

    _indices: np.ndarray
    _index_tensor: tf.Tensor

    def __init__(self, images: np.ndarray | tf.Tensor, labels: np.ndarray, *, name: str):
        with tf.device("CPU"):
            self._images = tf.convert_to_tensor(images, tf.uint8)
            labels = np.asarray(labels)
            self._all_labels = labels.astype(np.int32 if labels.ndim == 1 else np.uint8, copy=False)
            self._label_tensor = tf.convert_to_tensor(self._all_labels)
        self.name = name
        vars(self).update(_of(np.arange(len(labels))))
        self.image_shape = tuple(self._images.shape[1:])
        self.label_shape = labels.shape[1:]
        if labels.shape not in (self._images.shape[:1], self._images.shape[:3]):
            raise UserError(
                f"Expected a label for each image or each pixel of {name}. Received: images of shape "
                f"{list(self._images.shape)} and labels of shape {list(labels.shape)}."
            )

    @property
    def labels(self) -> np.ndarray:
        """int32 [size] or uint8 [size, height, width], in the order of the data."""
        return self._all_labels[self._indices]

    @property
    def _kinds(self) -> np.ndarray:
        """What halves and subsets hold equally much of: the classes, or with label maps just the images."""
        return np.zeros(self.size, np.int32) if self.label_shape else self.labels

    @property
    def _shown(self) -> np.ndarray:
        return balance.rarest(self.labels) if self.label_shape else self.labels

    def halves(self, *, seed: int) -> tuple[MemorySplit, MemorySplit]:
        first, second = balance.halves(self._kinds, seed=seed)
        self._check_halves(len(first), len(second))
        return self._subset(first, "first half"), self._subset(second, "second half")

    def take(self, n: int, *, seed: int) -> MemorySplit:
        self._check_take(n)
        return self._subset(balance.take(self._kinds, n, seed=seed), f"subset of {n}")

    def hold_out(self, n: int, *, seed: int) -> tuple[MemorySplit, MemorySplit]:
        self._check_hold_out(n)
        rest, held = balance.hold_out(self._kinds, n, seed=seed)
        return self._subset(rest, f"without {n}"), self._subset(held, f"subset of {n}")

    def _some(self, positions: np.ndarray) -> MemorySplit:
        return self._subset(positions, "some")

    def _subset(self, positions: np.ndarray, what: str) -> MemorySplit:
        return self._derived(what, **_of(self._indices[positions]))

    def _batches(
        self, epoch: tf.Tensor, batch_size: int, *, seed: int, augment: bool, shuffle: bool
    ) -> tf.data.Dataset:
        order = self._index_tensor
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, order_seed(seed, epoch))

        def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            chosen = order[step * batch_size : (step + 1) * batch_size]
            if shuffle:
                chosen = tf.ensure_shape(chosen, [batch_size])
            images, labels = tf.gather(self._images, chosen), tf.gather(self._label_tensor, chosen)
            labels = tf.cast(labels, tf.int32)
            if augment and self.label_shape:
                return augmentation.flip(images, labels, change_seed(seed, epoch, step))
            if augment:
                seeds = change_seed(seed, epoch, step)
                return augmentation.pad_crop_flip(images, seeds, padding=self._padding), labels
            return augmentation.normalise(images), labels

        return tf.data.Dataset.range(self.steps(batch_size, shuffle=shuffle)).map(batch)


def _of(indices: np.ndarray) -> dict[str, object]:
    """The attributes of a MemorySplit that say which images it has."""
    with tf.device("CPU"):
        return {"_indices": indices, "_index_tensor": tf.constant(indices, tf.int64), "size": len(indices)}
