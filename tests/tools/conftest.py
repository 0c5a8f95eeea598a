"""What the tests of the benchmarks share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tfbnas

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="session")
def run_tool(tmp_path_factory):
    """Function: runs a script of tools/ with arguments and `--json`; returns its lines and the content of that file."""

    def run(name, *arguments):
        result = tmp_path_factory.mktemp("tool") / "result.json"
        environment = {**os.environ, "PYTHONPATH": str(Path(tfbnas.__file__).parents[1])}
        command = [sys.executable, str(TOOLS / name), *map(str, arguments), "--json", str(result)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines(), json.loads(result.read_text(encoding="utf-8"))

    return run
