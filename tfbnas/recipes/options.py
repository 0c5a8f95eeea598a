"""Groups of settings that every method's recipe shares. TensorFlow is not imported here: `--help` answers at once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from tfbnas.errors import UserError, require_positive, require_range
from tfbnas.recipes.baselines import Baselines
from tfbnas.shipped_tables import table_file
from tfbnas.weight_settings import WeightSettings

FULL_PRECISION = "full_precision"
"""The teacher that is the same network in full precision."""


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
      held_out: Training images kept for that, where there is no such split: how many, or their share if it is below 1;
        0 for none. A sweep keeps a tenth.
      memory_limit: Bytes of decoded images above which they are streamed instead of kept in memory.
      padding: Pixels added on each side before the random crop of training; null for an eighth of the shorter side.
    """

    name: str = "cifar10-quick"
    data_dir: str | None = None
    image_size: int | None = None
    train_split: str = "train"
    test_split: str | None = None
    validation_split: str | None = None
    held_out: int | float = 0
    memory_limit: int = 2**30
    padding: int | None = None

    def check(self) -> None:
        require_range("data", 0, None, held_out=self.held_out, memory_limit=self.memory_limit)
        if self.held_out > 1 and self.held_out % 1:
            raise UserError(
                f"Expected `data.held_out` to be a number of images, or a share below 1. Received: {self.held_out}."
            )
        if self.held_out and self.validation_split:
            raise UserError(
                "Expected one of `data.validation_split` and `data.held_out`. "
                f"Received: validation_split={self.validation_split!r}, held_out={self.held_out}."
            )


@dataclass
class TrainSettings(WeightSettings):
    """Training of the searched network and of the baselines, from scratch, all with the same schedule.

    Attributes:
      epochs: Passes over all training images.
      batch_size: Images per step.
      schedule: cosine (to zero), or steps (divided by ten at each of `drops`).
      drops: Fractions of the epochs at which the learning rate drops, for `steps`.
      label_smoothing: Share of each label that is divided among all classes; 0 for none.
      cutout: Side in pixels of the grey square that hides a part of each training image; 0 for none.
      full_precision_epochs: Epochs of the same network in full precision, from whose weights the binary one starts;
        0 for none.
      teacher: What the network follows beside the labels: full_precision, the same network, which is trained first (for
        full_precision_epochs, or as many epochs as this one), or a Keras file; null for the labels alone.
      follows: Of the teacher: its logits, its features (the outputs of its additions), or discriminators, which learn
        to tell the features of both apart.
      teacher_weight: Share of the logits in the loss, up to 1; or weight of the features or of the verdicts.
      temperature: By which the logits are divided.
      normalization_epochs: Epochs at the end in which batch normalisation alone is trained, all else fixed.
    """

    epochs: int = 16
    batch_size: int = 128
    schedule: Literal["cosine", "steps"] = "cosine"
    drops: list[float] = field(default_factory=lambda: [140 / 300, 220 / 300, 260 / 300])
    label_smoothing: float = 0.0
    cutout: int = 0
    full_precision_epochs: int = 0
    teacher: str | None = None
    follows: Literal["logits", "features", "discriminators"] = "logits"
    teacher_weight: float = 0.5
    temperature: float = 4.0
    normalization_epochs: int = 0

    def check(self) -> None:
        require_positive("train", epochs=self.epochs, batch_size=self.batch_size, temperature=self.temperature)
        self.check_updates("train", self.epochs)
        counts = {name: getattr(self, name) for name in ("full_precision_epochs", "normalization_epochs")}
        require_range("train", 0, None, **counts)
        require_range("train", 0, 0.99, label_smoothing=self.label_smoothing)
        require_range("train", 0, None, cutout=self.cutout)
        most = 1 if self.follows == "logits" else None
        require_range("train", 0, most, teacher_weight=self.teacher_weight)
        if self.teacher is not None and self.teacher != FULL_PRECISION and not Path(self.teacher).exists():
            raise UserError(
                f"Expected `train.teacher` to be {FULL_PRECISION} or a Keras file. Received: {self.teacher!r}, which "
                "is missing."
            )

    def absolute(self) -> TrainSettings:
        """With the path of a teacher's file from the root."""
        is_file = self.teacher is not None and self.teacher != FULL_PRECISION
        return replace(self, teacher=os.path.abspath(str(self.teacher))) if is_file else self


class NoBudget:
    """In the place of the group `budget` of a recipe that trains one network and searches none."""

    limits: ClassVar[dict[str, float]] = {}
    device: ClassVar[str] = "raspberry_pi_4b"
    """Whose time is predicted."""


@dataclass
class TrainingRecipeSettings(RecipeSettings):
    """Settings of a recipe that trains one network and searches none."""

    budget: ClassVar[NoBudget] = NoBudget()
    search: ClassVar[None] = None
    baselines: ClassVar[Baselines] = Baselines()


@dataclass
class ExportSettings:
    """Export through Larq Compute Engine.

    Attributes:
      images: Test images on which the exported model must agree with the trained one.
      tolerance: Largest relative error of the logits.
      input: What the files take: pixels 0..255, which they scale themselves, or normalised images in [-1, 1].
      float_operators: Whether binary layers without a binary operator may run in float, for instance depthwise
        convolutions; false refuses to export them.
      fast_on: Latency table that says where constant channels make model.tflite faster, with the same outputs to the
        bit; null for no such channels.
    """

    images: int = 256
    tolerance: float = 1e-4
    input: Literal["pixels", "normalised"] = "pixels"
    float_operators: bool = False
    fast_on: str | None = "raspberry_pi_4b"

    def check(self) -> None:
        require_positive("export", images=self.images, tolerance=self.tolerance)
        if self.fast_on is not None:
            table_file(self.fast_on, argument="export.fast_on")
