"""tools/where_binary_wins.py runs in its tiny form, and goes on where it was; what it measures is not tested."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tfbnas

pytestmark = pytest.mark.slow

TOOL = Path(__file__).resolve().parents[2] / "tools" / "where_binary_wins.py"


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(Path(tfbnas.__file__).parents[1])}
    command = [sys.executable, str(TOOL), "--tiny", "--run_dir", str(folder / "runs"), "--out", str(folder / "when")]
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "when.json").read_text(encoding="utf-8"))["rows"]


def test_every_kind_has_a_row_and_what_is_done_is_not_repeated(tmp_path):
    _, first = run(tmp_path, "--networks", "int8-2")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("stages/*.json")}
    table, rows = run(tmp_path)
    assert [row["kind"] for row in rows] == ["binary", "latency", "memory", "int8"]
    assert rows[-1] == first[0] and all(file.stat().st_mtime_ns == time for file, time in before.items())
    for row in rows:
        assert row["width"] == 2 and 0 <= row["accuracy"] <= 1 and row["bytes"] > 5000 and row["milliseconds"] > 0.1
    by_kind = {row["kind"]: row for row in rows}
    assert by_kind["latency"]["milliseconds"] <= by_kind["binary"]["milliseconds"]
    assert table.count("\n") == 6 and (tmp_path / "when.md").read_text(encoding="utf-8") == table
    figure = (tmp_path / "when.svg").read_text(encoding="utf-8")
    assert "int8, uniform" in figure and "Predicted time" in figure and "Bytes of the file" in figure
