"""Small data sets, made for real in the layouts that users have."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tfbnas  # noqa: F401  (before tensorflow)
from tfbnas.data.offline import tfds


def make_images(count: int, *, height: int = 8, width: int = 8, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def make_tfds(
    out: Path,
    splits: dict[str, tuple[list[np.ndarray] | np.ndarray, list[int] | np.ndarray]],
    *,
    name: str = "tiny",
    version: str = "1.0.0",
    classes: int = 3,
    shape: tuple[int | None, int | None, int] = (8, 8, 3),
    features: dict | None = None,
    examples: Callable[[np.ndarray, int], dict] | None = None,
) -> Path:
    """Writes a TFDS directory and returns it."""
    kinds = tfds().features
    if features is None:
        features = {"image": kinds.Image(shape=shape), "label": kinds.ClassLabel(num_classes=classes)}
    if examples is None:

        def examples(image: np.ndarray, label: int) -> dict:
            return {"image": image, "label": int(label)}

    def generate(images, labels):
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield number, examples(image, label)

    with contextlib.redirect_stdout(io.StringIO()):
        tfds().dataset_builders.store_as_tfds_dataset(
            name=name,
            version=version,
            data_dir=out,
            features=kinds.FeaturesDict(features),
            split_datasets={split: generate(*arrays) for split, arrays in splits.items()},
        )
    return out / name / version


def write_png(path: Path, image: np.ndarray) -> Path:
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(image).numpy())
    return path


def make_folder(root: Path, *, per_class: dict[str, int], classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """A folder of images: the pixels tell split, class and number."""
    for number, (split, count) in enumerate(per_class.items()):
        for label, name in enumerate(classes):
            for i in range(count):
                image = np.zeros((8, 8, 3), np.uint8) + np.array([number, label, i], np.uint8)
                write_png(root / split / name / f"{i}.png", image)
    return root
