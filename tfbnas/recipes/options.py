"""Groups of settings that every method's recipe shares. TensorFlow is not imported here: `--help` answers at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfbnas.errors import UserError, require_positive, require_range


@dataclass
class RecipeSettings:
    """Settings of any recipe.

    Attributes:
      seed: Of everything random.
      precision: Number format of training: float32, bfloat16, or auto (bfloat16 where this CPU computes with it).
      strategy: Devices that divide each batch: none for one device, mirrored for all GPUs of this machine, multiworker
        for those of several processes (TF_CONFIG; the same command on each, and a run_dir that all can read).
    """

    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    strategy: Literal["none", "mirrored", "multiworker"] = "none"

    def check(self) -> None:
        require_range("settings", 0, 2**31 - 1, seed=self.seed)


@dataclass
class DataSettings:
    """Images to search and train on.

    Attributes:
      name: cifar10-quick (ships with tfbnas), a TFDS name, a TFDS directory, or a folder SPLIT/CLASS/*.jpg. With a
        class for every pixel: part_labels (tools/prepare_part_labels.py), or cifar10-shapes (made from cifar10-quick).
      data_dir: Where prepared TFDS data sets lie; null for TFDS's own place.
      image_size: Side in pixels to which images are scaled; null keeps images of one size as they are.
      train_split: Name of the split to search and train on.
      test_split: Name of the split to test on; null for the first of test, validation, val, valid.
      validation_split: Name of a split on which the networks of a sweep are compared; null for none.
      held_out: Training images kept for that, where there is no such split; 0 for none.
      memory_limit: Bytes of decoded images above which they are streamed instead of kept in memory.
      padding: Pixels added on each side before the random crop of training; null for an eighth of the shorter side.
    """

    name: str = "cifar10-quick"
    data_dir: str | None = None
    image_size: int | None = None
    train_split: str = "train"
    test_split: str | None = None
    validation_split: str | None = None
    held_out: int = 0
    memory_limit: int = 2**30
    padding: int | None = None

    def check(self) -> None:
        require_range("data", 0, None, held_out=self.held_out)
        if self.held_out and self.validation_split:
            raise UserError(
                "Expected one of `data.validation_split` and `data.held_out`. "
                f"Received: validation_split={self.validation_split!r}, held_out={self.held_out}."
            )


@dataclass
class TrainSettings:
    """Training of the searched network and of the baselines, from scratch, all with the same schedule.

    Attributes:
      epochs: Passes over all training images.
      batch_size: Images per step.
      recipe: sgd for all weights; adam for all weights; or adam_sgd, Adam for the latent weights of the binary kernels
        and SGD with Nesterov momentum for the rest.
      learning_rate: Of SGD, at the start; of Adam, for adam.
      schedule: cosine (to zero), or steps (divided by ten at each of `drops`).
      drops: Fractions of the epochs at which the learning rate drops, for `steps`.
      momentum: Of SGD.
      weight_decay: Of the recipe sgd, on all weights, decoupled: a step takes learning_rate * weight_decay of each
        weight away. The L2 penalty of other frameworks acts through the momentum: there, 1e-4 with momentum 0.9 is 1e-3
        here. The other recipes have no decay.
      kernel_learning_rate: Of Adam, at the start; it falls as that of SGD does. For adam_sgd.
      kernel_bound: Latent weights of binary kernels are clipped to [-kernel_bound, kernel_bound] after each step; null
        for no clipping. For adam_sgd.
      warm_up: Epochs in which both rates rise in a straight line from zero; may be a fraction. For adam_sgd.
      full_precision_epochs: Epochs of the same network in full precision, from whose weights the binary one starts;
        0 for none.
    """

    epochs: int = 16
    batch_size: int = 128
    recipe: Literal["sgd", "adam", "adam_sgd"] = "sgd"
    learning_rate: float = 0.1
    schedule: Literal["cosine", "steps"] = "cosine"
    drops: list[float] = field(default_factory=lambda: [140 / 300, 220 / 300, 260 / 300])
    momentum: float = 0.9
    weight_decay: float = 1e-4
    kernel_learning_rate: float = 1e-2
    kernel_bound: float | None = None
    warm_up: float = 0.5
    full_precision_epochs: int = 0

    def check(self) -> None:
        names = ("epochs", "batch_size", "learning_rate", "kernel_learning_rate")
        require_positive("train", **{name: getattr(self, name) for name in names})
        require_range("train", 0, 1, momentum=self.momentum)
        if self.kernel_bound is not None:
            require_positive("train", kernel_bound=self.kernel_bound)
            if self.recipe != "adam_sgd":
                raise UserError(
                    "Expected `train.recipe` to be adam_sgd with a `train.kernel_bound`. "
                    f"Received: recipe={self.recipe}, kernel_bound={self.kernel_bound}."
                )
        if not 0 <= self.warm_up < self.epochs:
            raise UserError(
                "Expected `train.warm_up` to be at least 0 and below `train.epochs`. "
                f"Received: {self.warm_up} of {self.epochs}."
            )
        require_range(
            "train", 0, None, weight_decay=self.weight_decay, full_precision_epochs=self.full_precision_epochs
        )
        if not all(0 < drop < 1 for drop in self.drops) or self.drops != sorted(self.drops):
            raise UserError(f"Expected `train.drops` to be rising fractions in (0, 1). Received: {self.drops}.")


@dataclass
class ExportSettings:
    """Export through Larq Compute Engine.

    Attributes:
      images: Test images on which the exported model must agree with the trained one.
      tolerance: Largest relative error of the logits.
    """

    images: int = 256
    tolerance: float = 1e-4

    def check(self) -> None:
        require_positive("export", images=self.images, tolerance=self.tolerance)
