"""Makes the small part of CIFAR-10 that ships inside tfbnas (data set "cifar10-quick").

    python tools/make_quick_dataset.py CIFAR10_DIRECTORY

CIFAR10_DIRECTORY is what tools/prepare_cifar.py writes. Training images come from CIFAR-10's training split and test
images from its test split, equally many of each class, chosen by a fixed seed: the result is always the same.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prepare_cifar import CLASSES, Images, write

from tfbnas import data
from tfbnas.errors import UserError

NAME, VERSION, SEED = "cifar10_quick", "1.0.0", 0
SIZES = {"train": 2800, "test": 2000}
LIMIT = 16_000_000


def make(directory: str | Path, out: str | Path, *, sizes: dict[str, int] = SIZES, limit: int = LIMIT) -> Path:
    """Writes the balanced subset of the data set in `directory` to `out/cifar10_quick/1.0.0`.

    Raises:
      UserError: The result is there already, would be larger than `limit` bytes, or the source is unfit.
    """
    whole = data.load(str(directory))
    splits = {}
    for split, part in (("train", whole.train), ("test", whole.test)):
        images, labels = part.take(sizes[split], seed=SEED).images(sizes[split])
        # Back from [-1, 1] to the pixels, exactly: float32 holds them with room to spare.
        splits[split] = {"image": ((images + 1) * 127.5).round().astype("uint8"), "label": labels.astype("int64")}
    described = f"{sizes['train']} training and {sizes['test']} test images of CIFAR-10, equally many of each class."
    written = write(Images(NAME, described, {"label": CLASSES}, splits), out, version=VERSION)
    size = sum(file.stat().st_size for file in written.rglob("*") if file.is_file())
    print(f"Wrote {written}: {size} bytes")
    if size > limit:
        raise UserError(f"{written} has {size} bytes, more than the {limit} that may ship. Take fewer images.")
    return written


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", help="TFDS directory of CIFAR-10")
    bundled = Path(__file__).resolve().parents[1] / "tfbnas" / "data" / "bundled"
    parser.add_argument("--out", default=str(bundled), help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        make(options.directory, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
