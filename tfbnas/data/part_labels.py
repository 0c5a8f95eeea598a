"""Part Labels as a TFDS data set: faces of which every pixel is background, hair or skin.

A subset of Labeled Faces in the Wild with label maps (Kae, Sohn, Lee, Learned-Miller, CVPR 2013,
http://vis-www.cs.umass.edu/lfw/part_labels/). Nothing is downloaded: the builder reads a directory in which the
official archives have been unpacked:

    DIRECTORY/
      lfw_funneled/Abdullah_Gul/Abdullah_Gul_0013.jpg            from lfw-funneled.tgz; 250x250
      parts_lfw_funneled_gt_images/Abdullah_Gul_0013.ppm         from parts_lfw_funneled_gt_images.tgz; 250x250
      parts_train.txt  parts_validation.txt  parts_test.txt      lines such as "Abdullah_Gul 13"; 1500 / 500 / 927

In the label images hair is red, skin green and background blue. Images are padded with zeros to 256x256, three pixels
on each side, before anything else is done with them, as in the BSN paper.

The border is labelled *background*, and counts in losses and accuracies. The paper mentions no mask, classifies 256x256
pixels, and padding a map of class numbers with zeros gives the number of the background. So every label is one of three
classes, for losses, searches and the export alike. It makes 4.6 % of the pixels easy: a network that has the border
right and an accuracy of `a` has (a - 0.0463) / 0.9537 on the 250x250 pixels of the photographs.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tfbnas.data.offline import tfds as _tfds
from tfbnas.errors import UserError

tfds = _tfds()

CLASS_NAMES = ["background", "hair", "skin"]
COLOURS = {(0, 0, 255): 0, (255, 0, 0): 1, (0, 255, 0): 2}
COUNTS = {"train": 1500, "validation": 500, "test": 927}
SIDE, PADDED = 250, 256
IMAGES, LABELS = "lfw_funneled", "parts_lfw_funneled_gt_images"

_HOME = "http://vis-www.cs.umass.edu/lfw"
_SOURCES = {
    IMAGES: f"{_HOME}/lfw-funneled.tgz",
    LABELS: f"{_HOME}/part_labels/parts_lfw_funneled_gt_images.tgz",
    **{f"parts_{split}.txt": f"{_HOME}/part_labels/parts_{split}.txt" for split in COUNTS},
}


class PartLabels(tfds.core.GeneratorBasedBuilder):  # type: ignore[name-defined]
    """The TFDS builder; `prepare` runs it. The directory is TFDS's `manual_dir`."""

    name = "part_labels"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Unpack and put into one directory: " + ", ".join(_SOURCES.values())

    def _info(self) -> Any:
        kinds = tfds.features
        return tfds.core.DatasetInfo(
            builder=self,
            description="Faces of LFW of which every pixel is labelled background, hair or skin, padded to 256x256.",
            features=kinds.FeaturesDict(
                {
                    "image": kinds.Image(shape=(PADDED, PADDED, 3), encoding_format="png"),
                    "segmentation_mask": kinds.LabeledImage(
                        shape=(PADDED, PADDED, 1), labels=CLASS_NAMES, encoding_format="png"
                    ),
                    "name": kinds.Text(),
                }
            ),
            supervised_keys=("image", "segmentation_mask"),
            homepage=f"{_HOME}/part_labels/",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        root = Path(dl_manager.manual_dir)
        return {split: self._generate_examples(root, names) for split, names in read_lists(root).items()}

    def _generate_examples(self, root: Path, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in names:
            image, labels = read_example(root, name)
            yield name, {"image": image, "segmentation_mask": labels[..., None], "name": name}


def prepare(directory: str | os.PathLike, out: str | os.PathLike | None = None) -> Path:
    """Writes Part Labels as a TFDS directory, `out/part_labels/1.0.0`; all images are checked.

    Args:
      directory: Holds the unpacked official archives and the three lists.
      out: Where prepared TFDS data sets lie; default: TFDS's own (TFDS_DATA_DIR, ~/tensorflow_datasets).

    Returns:
      The directory written. One that is there already is left as it is.

    Raises:
      UserError: A file is missing, damaged, of another size or has colours that stand for no class; names it.
    """
    root = Path(directory).expanduser()
    read_lists(root)
    builder = PartLabels(data_dir=None if out is None else str(Path(out).expanduser()))
    config = tfds.download.DownloadConfig(manual_dir=str(root), try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
    return Path(builder.data_dir)


def read_lists(root: Path) -> dict[str, list[str]]:
    """Names of the images of each split, such as "Abdullah_Gul_0013", in the order of the official lists.

    A number of images other than the official one is worth a warning only.

    Raises:
      UserError: A list, folder or file is missing, a line is not "name number", or an image is listed twice.
    """
    if not root.is_dir():
        raise UserError(
            f"Expected the directory of Part Labels. Received: {str(root)!r}, which "
            f"{'is a file' if root.exists() else 'does not exist'}; unpack {_SOURCES[IMAGES]} and {_SOURCES[LABELS]} "
            "in it, and put the three lists beside."
        )
    for name, source in _SOURCES.items():
        if not (root / name).exists():
            raise UserError(f"{root} is not Part Labels: {name} is missing. It comes from {source}.")
    seen: dict[str, str] = {}
    splits: dict[str, list[str]] = {}
    for split, official in COUNTS.items():
        file = root / f"parts_{split}.txt"
        names = splits[split] = []
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if not line.strip():
                continue
            person, _, index = line.strip().rpartition(" ")
            if not person or not index.isdigit():
                raise UserError(
                    f"Expected lines of a name and a number in {file}. Received: {line[:60]!r} in line {number}; "
                    f"fetch it again from {_SOURCES[file.name]}."
                )
            name = f"{person.strip()}_{int(index):04d}"
            if name in seen:
                raise UserError(f"Expected each image once. Received: {name} in {file} and in {seen[name]}.")
            seen[name] = str(file)
            names.append(name)
        if not names:
            raise UserError(f"{file} lists no images. Fetch it again from {_SOURCES[file.name]}.")
        if len(names) != official:
            warnings.warn(f"{file} lists {len(names)} images; officially there are {official}.", stacklevel=2)
    for name in seen:
        for path, source in zip(_paths(root, name), (_SOURCES[IMAGES], _SOURCES[LABELS]), strict=True):
            if not path.is_file():
                raise UserError(f"{path} is missing, but {seen[name]} lists it. It comes from {source}.")
    return splits


def read_example(root: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """An image and its label map, both padded.

    Returns:
      uint8 [256, 256, 3] and uint8 [256, 256] with values 0 (background), 1 (hair) and 2 (skin).

    Raises:
      UserError: One of the files is damaged, has another size, or the label image a colour that stands for no class.
    """
    paths = _paths(root, name)
    image, colours = (_read(path) for path in paths)
    if image.shape != colours.shape:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (image, colours)]
        raise UserError(
            f"Expected an image and its label image to have the same size. Received: {paths[0]} of {sizes[0]} and "
            f"{paths[1]} of {sizes[1]} pixels; unpack both archives again."
        )
    if image.shape != (SIDE, SIDE, 3):
        raise UserError(
            f"Expected the images of Part Labels to have {SIDE}x{SIDE} pixels. Received: {paths[0]} of "
            f"{image.shape[1]}x{image.shape[0]}; take them from {_SOURCES[IMAGES]}."
        )
    labels = np.full((SIDE, SIDE), 255, np.uint8)
    for colour, label in COLOURS.items():
        labels[(colours == colour).all(axis=2)] = label
    if (labels == 255).any():
        y, x = np.argwhere(labels == 255)[0]
        raise UserError(
            "Expected red (hair), green (skin) and blue (background) in a label image. Received: the colour "
            f"{tuple(int(v) for v in colours[y, x])} at row {y}, column {x} of {paths[1]} (such pixels: "
            f"{int((labels == 255).sum())}); take it from {_SOURCES[LABELS]}."
        )
    border = (PADDED - SIDE) // 2
    around = [(border, border)] * 2
    return np.pad(image, [*around, (0, 0)]), np.pad(labels, around, constant_values=CLASS_NAMES.index("background"))


def _paths(root: Path, name: str) -> tuple[Path, Path]:
    return root / IMAGES / name[:-5] / f"{name}.jpg", root / LABELS / f"{name}.ppm"


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises all three for damaged files
        text = " ".join(str(error).split())[:120]
        raise UserError(f"The image file {path} is damaged: {text}. Unpack its archive again.") from error
