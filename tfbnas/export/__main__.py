"""Command line: audits, verifies and converts a Keras or Larq model from anywhere.

python -m tfbnas.export MODEL OUT.tflite [--audit-only] [--images IMAGES.npy] [--input pixels] [--labels labels.txt]
    [--allow NAME ...] [--import MODULE]
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tfbnas.errors import UserError
from tfbnas.export.description import LABELS
from tfbnas.quiet import import_tensorflow


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code, 0 or (for what a user can mend) 2."""
    parser = argparse.ArgumentParser(prog="python -m tfbnas.export", description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, help=".keras or .h5 file, or directory of a SavedModel with Keras layers")
    parser.add_argument("out", type=Path, nargs="?", help="file to write; not needed with --audit-only")
    parser.add_argument("--audit-only", action="store_true", help="show the operators and sizes, write nothing")
    parser.add_argument("--images", type=Path, help=".npy file of preprocessed images to compare the outputs on")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative error (default: 1e-4)")
    parser.add_argument("--allow", nargs="*", default=[], metavar="NAME", help="quantised layers that may be float")
    parser.add_argument(
        "--input",
        choices=("pixels", "normalised"),
        help="the model was trained on images in -1..1; the file takes pixels 0..255, or -1..1 (default: what the "
        "model takes)",
    )
    parser.add_argument(
        "--fast_on",
        default="raspberry_pi_4b",
        metavar="TABLE",
        help='latency table that says where constant channels are faster; "" for none (default: raspberry_pi_4b)',
    )
    parser.add_argument(
        "--labels", type=Path, help="class names, one a line (default: those that MODEL carries, if it does)"
    )
    parser.add_argument(
        "--import", dest="module", metavar="MODULE", help="registers the model's own classes with Keras"
    )
    options = parser.parse_args(arguments)
    if options.out is None and not options.audit_only:
        parser.error("expected a file to write, OUT.tflite, or --audit-only")
    try:
        _check_out(options.out)
        _run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _check_out(out: Path | None) -> None:
    """Refuses what could not be written, before the work is done."""
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        what = "is a directory" if out.is_dir() else f"lies in {out.parent}, which does not exist"
        raise UserError(f"Expected a file to write in a directory that exists. Received: {out}, which {what}.")


def _labels(options: argparse.Namespace) -> list[str]:
    """The class names of --labels, else those in the .keras file, else none."""
    try:
        if options.labels is not None:
            return options.labels.read_text(encoding="utf-8").splitlines()
        if zipfile.is_zipfile(options.model):
            with zipfile.ZipFile(options.model) as archive:
                return archive.read(LABELS).decode("utf-8").splitlines() if LABELS in archive.namelist() else []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Expected --labels to be a text file. Received: {options.labels} ({error}).") from error
    return []


def _run(options: argparse.Namespace) -> None:
    # Imported late: --help need not wait for TensorFlow.
    import_tensorflow()
    import numpy as np

    from tfbnas.export.auditing import check, table
    from tfbnas.export.pipeline import examine
    from tfbnas.files import atomic_write
    from tfbnas.loading import load_model

    def show(rows, sizes):
        print(table(rows), sizes.summary(), sep="\n", flush=True)
        check(rows, spell=lambda names: shlex.join(["--allow", *names]))

    if options.module is not None:
        try:
            importlib.import_module(options.module)
        except ImportError as error:
            raise UserError(f"Expected a module to import. Received: --import {options.module} ({error}).") from error
    model = load_model(options.model)
    images = None
    if options.images is not None:
        try:
            images = np.load(options.images, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(f"Expected a .npy file of images. Received: {options.images} ({error}).") from error
    with tempfile.TemporaryDirectory() as scratch:
        result = examine(
            model,
            Path(scratch) / "saved_model",
            images=images,
            input=options.input,
            class_names=_labels(options),
            tolerance=options.tolerance,
            allow=options.allow,
            fast_on=options.fast_on or None,
            audited=show,
        )
    print(*filter(None, [result.parity.summary(), result.padding.summary()]), sep="\n")
    if options.audit_only:
        return
    with atomic_write(options.out) as path:
        path.write_bytes(result.flatbuffer)
    print(f"written: {options.out}")


if __name__ == "__main__":
    sys.exit(main())
