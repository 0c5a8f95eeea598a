"""The README's examples run as they stand there, on fewer images. Its command: see tests/recipes/test_dms_run.py."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tfbnas

README = Path(__file__).resolve().parents[1] / "README.md"
EVERY = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
MODULES = {found[1]: block for block in EVERY if (found := re.match(r"# (\w+\.py)\n", block))}
"""By its name in the first line, a file that the examples behind it import."""
BLOCKS = [block for block in EVERY if block not in MODULES.values()]
FEWER = """
from dataclasses import replace
from tfbnas import data
import tensorflow as tf
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # as the other tests do
whole = data.load
data.load = lambda name: replace(whole(name), train=whole(name).train.take(128, seed=0))
"""


def run(code: str, folder: Path) -> None:
    for name, content in MODULES.items():
        (folder / name).write_text(content)
    environment = {**os.environ, "PYTHONPATH": str(Path(tfbnas.__file__).parents[1])}
    program = [sys.executable, "-c", FEWER + code]
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_first_example_searches_trains_and_exports(tmp_path):
    run(BLOCKS[0], tmp_path)
    names = {path.name for path in (tmp_path / "exported").iterdir()}
    assert names == {"model.keras", "saved_model", "model.tflite", "labels.txt", "export.json"}
    labels = (tmp_path / "exported" / "labels.txt").read_text(encoding="utf-8")  # those of the TFDS directory
    assert labels.splitlines()[:4] == ["airplane", "automobile", "bird", "cat"]


def test_the_first_example_is_about_15_lines():
    statements = [line for line in BLOCKS[0].splitlines() if line and not line.startswith(("import", "from"))]
    assert len(statements) <= 15


@pytest.mark.parametrize("code", BLOCKS[1:])
def test_the_other_examples_run(code, tmp_path):
    run(code, tmp_path)


def test_nothing_is_left_to_fill_in():
    assert not re.findall(r"@[A-Z_]+@|TODO", README.read_text(encoding="utf-8"))


def test_links_and_commands_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (README.parent / target).exists(), target
    for module in set(re.findall(r"python -m (tfbnas[\w.]*)", text)):
        assert importlib.util.find_spec(module) is not None, module
    for script in set(re.findall(r"python (tools/\w+\.py)", text)):
        assert (README.parent / script).exists(), script
