"""Command line: `python -m tfbnas.report RUN_DIR` writes the report anew, for instance after a benchmark."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tfbnas.errors import UserError, exit_code
from tfbnas.report.page import write
from tfbnas.run import SETTINGS, STAGES


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for an error that the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m tfbnas.report", description="Writes report.html and plots/ of a run, finished or not."
    )
    parser.add_argument("run_dir", metavar="RUN_DIR")
    options = parser.parse_args(arguments)
    return exit_code(lambda: print(write(_run(options.run_dir))))


def _run(path: str) -> Path:
    of_runs = (SETTINGS, STAGES, "checkpoints")
    if Path(path).is_dir() and not any((Path(path) / name).exists() for name in of_runs):
        raise UserError(f"Expected the directory of a run. Received: {path}, which holds no {SETTINGS}.")
    return Path(path)


if __name__ == "__main__":
    sys.exit(main())
