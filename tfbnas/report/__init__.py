"""The report of a run: one self-contained page with its plots, from the JSON files of a run directory.

Reads files only, so that it works without TensorFlow, on a board, and on a run that is half done.

    from tfbnas.report import write
    print(write("runs/dms_resnet18/quick-20261101-120000"))

or on the command line, for instance after a benchmark: `python -m tfbnas.report RUN_DIR`.
"""

from tfbnas.report.page import write
from tfbnas.report.reading import read
from tfbnas.report.trained import uncertainty

__all__ = ["read", "uncertainty", "write"]
