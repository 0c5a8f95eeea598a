"""Makes the TFDS directory of Part Labels from the official files that you have.

    python tools/prepare_part_labels.py DIRECTORY [--out DATA_DIR]

DIRECTORY is where the official archives are unpacked and the lists lie; what must be in it, and how images are padded
and labelled, stands in tfbnas/data/part_labels.py. Nothing is downloaded. Afterwards `--data.name part_labels`, with
`--data.data_dir DATA_DIR` where --out was given, finds the data set.
"""

from __future__ import annotations

import argparse
import sys
import warnings

from tfbnas.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", help="holds lfw_funneled/, parts_lfw_funneled_gt_images/ and parts_*.txt")
    parser.add_argument("--out", help="default: TFDS's own directory (TFDS_DATA_DIR, ~/tensorflow_datasets)")
    options = parser.parse_args(arguments)
    from tfbnas.data.part_labels import prepare

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            written = prepare(options.directory, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for text in dict.fromkeys(str(warning.message) for warning in caught if "officially" in str(warning.message)):
        print(f"warning: {text}", file=sys.stderr)
    print(f"Wrote {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
