"""Command line: `python -m tfbnas.report RUN_DIR` writes the report anew, for instance after a benchmark."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tfbnas.errors import UserError
from tfbnas.report.page import write


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for an error that the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m tfbnas.report", description="Writes report.html and plots/ of a run, finished or not."
    )
    parser.add_argument("run_dir", metavar="RUN_DIR")
    options = parser.parse_args(arguments)
    try:
        print(write(options.run_dir))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
