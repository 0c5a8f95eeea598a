"""Command line: audits, verifies and converts a Keras or Larq model from anywhere.

python -m tfbnas.export MODEL OUT.tflite [--audit-only] [--images IMAGES.npy] [--allow LAYER ...]
    [--import MODULE]
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tfbnas.errors import UserError
from tfbnas.quiet import import_tensorflow


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code, 0 or (for what a user can mend) 2."""
    parser = argparse.ArgumentParser(prog="python -m tfbnas.export", description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, help=".keras or .h5 file, or directory of a SavedModel with Keras layers")
    parser.add_argument("out", type=Path, nargs="?", help="file to write; not needed with --audit-only")
    parser.add_argument("--audit-only", action="store_true", help="show the operators and sizes, write nothing")
    parser.add_argument("--images", type=Path, help=".npy file of preprocessed images to compare the outputs on")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest relative error (default: 1e-4)")
    parser.add_argument("--allow", nargs="*", default=[], metavar="LAYER", help="quantised layers that may be float")
    parser.add_argument(
        "--import", dest="module", metavar="MODULE", help="registers the model's own classes with Keras"
    )
    options = parser.parse_args(arguments)
    if options.out is None and not options.audit_only:
        parser.error("expected a file to write, OUT.tflite, or --audit-only")
    try:
        _run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    # Imported late: --help need not wait for TensorFlow.
    import_tensorflow()
    import numpy as np

    from tfbnas.export.auditing import table
    from tfbnas.export.loading import load_model
    from tfbnas.export.pipeline import examine
    from tfbnas.files import atomic_write

    def show(rows, sizes):
        print(table(rows), sizes.summary(), sep="\n", flush=True)

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
            tolerance=options.tolerance,
            allow=options.allow,
            audited=show,
        )
    print(result.parity.summary())
    if options.audit_only:
        return
    with atomic_write(options.out) as path:
        path.write_bytes(result.flatbuffer)
    print(f"written: {options.out}")


if __name__ == "__main__":
    sys.exit(main())
