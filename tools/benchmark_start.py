"""Times of start: imports, the help of every command, and one export.

    python tools/benchmark_start.py [--repetitions 5] [--json OUT.json] [--tiny]

Every row is the median of processes that take turns, each of which does nothing else. Beside the seconds stand those
of the processors, which hold on a busy machine, too. Where a goal is missed, `python -X importtime -m tfbnas.sweep` and
its like show what is imported and how long each module takes.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import turns

from tfbnas.__main__ import PROGRAMS
from tfbnas.files import write_json
from tfbnas.sweep.recipe import known

COMMANDS = [*(f"tfbnas.recipes.{recipe}" for recipe in known()), *(f"tfbnas.{name}" for name in PROGRAMS)]
IMPORTS = {
    "import tensorflow": "import tensorflow",
    "import tfbnas": "import tfbnas",
    "import tfbnas, tensorflow": "import tfbnas, tensorflow",
    "import tensorflow, larq": "import tensorflow, larq",
    "from tfbnas import *": "from tfbnas import *",  # all that is public, which loads TensorFlow and Larq
}
ADDED = {
    "import tfbnas, added to tensorflow": ("import tfbnas, tensorflow", "import tensorflow"),
    "from tfbnas import *, added to larq": ("from tfbnas import *", "import tensorflow, larq"),
}
GOALS = {"import tfbnas, added to tensorflow": 0.5, "export of ResNet-18": 20.0} | {
    f"python -m {command} --help": 3.0 for command in COMMANDS
}
EXPORT = """
import sys, tempfile, time
import tfbnas.quiet
tfbnas.quiet.import_tensorflow()
import numpy as np
from tfbnas.architecture import Architecture
from tfbnas.export import export
from tfbnas.networks import build
base, size = map(int, sys.argv[1:])
model = build(Architecture("benchmark", "resnet18", {}, (size, size, 3), 10, {"base": base}))
images = np.random.default_rng(0).uniform(-1, 1, (100, size, size, 3)).astype("float32")
begin = time.process_time()
with tempfile.TemporaryDirectory() as directory:
    print(export(model, directory, images=images).seconds, time.process_time() - begin)
"""


class Process:
    """A command that is run again and again; `seconds` are what the processors spent on it, run for run."""

    def __init__(self, *arguments: str):
        self.command = [sys.executable, *arguments]
        self.seconds: list[float] = []
        self.output = ""

    def __call__(self) -> None:
        before = _children()
        environment = os.environ | {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(self.command, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(self.command[:4])} failed:\n{done.stderr}")
        self.output = done.stdout
        self.seconds.append(_children() - before)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def processes() -> dict[str, Process]:
    """What is run in turns, by the name of its row."""
    rows = {name: Process("-c", code) for name, code in IMPORTS.items()}
    return rows | {f"python -m {command} --help": Process("-m", command, "--help") for command in COMMANDS}


def measure(repetitions: int, base: int, size: int, *, warm_up: int = 1) -> list[dict[str, Any]]:
    """Entries of the result; the first start of a program reads it from the disk and is not counted."""
    tasks = processes()
    wall = dict(zip(tasks, turns.median_seconds(list(tasks.values()), repetitions, warm_up=warm_up), strict=True))
    busy = {name: float(np.median(task.seconds[warm_up:])) for name, task in tasks.items()}
    for name, (whole, part) in ADDED.items():
        for seconds in (wall, busy):
            seconds[name] = seconds[whole] - seconds[part]
    # Its own seconds: of the export alone, not of the import before it.
    exporting = Process("-c", EXPORT, str(base), str(size))
    printed = []
    for _ in range(min(repetitions, 3)):
        exporting()
        printed.append([float(word) for word in exporting.output.split()[-2:]])
    wall["export of ResNet-18"], busy["export of ResNet-18"] = np.median(printed, axis=0).tolist()
    return [
        {"name": name, "seconds": wall[name], "processor_seconds": busy[name], "goal": GOALS.get(name)} for name in wall
    ]


def show(entries: list[dict[str, Any]]) -> str:
    """The table; goals are seconds."""
    columns = {"seconds": ".2f", "processor seconds": ".2f", "goal": ".1f"}
    cells = {head: turns.column(entries, head.replace(" ", "_"), form) for head, form in columns.items()}
    return turns.table({"": turns.column(entries, "name"), **cells})


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5, help="of which the median is taken (default: 5)")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--tiny", action="store_true", help="only see that all runs: each once, a small network")
    arguments = parser.parse_args()
    if arguments.repetitions < 1:
        parser.error("expected a positive number")
    entries = measure(1, 4, 8, warm_up=0) if arguments.tiny else measure(arguments.repetitions, 16, 32)
    print(show(entries))
    if arguments.json:
        write_json(arguments.json, {"threads": turns.threads(), "entries": entries})


if __name__ == "__main__":
    main()
