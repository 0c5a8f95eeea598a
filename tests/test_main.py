"""`python -m tfbnas` lists what there is."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tfbnas
from tfbnas.__main__ import PROGRAMS, main
from tfbnas.sweep.recipe import known

PACKAGE = Path(tfbnas.__file__).parent


def test_every_program_and_recipe_has_one_line(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = dict(re.match(r"  (\w+) +(.+)", line).groups() for line in lines if line.startswith("  "))
    assert set(listed) == {*PROGRAMS, *known()}
    assert all(importlib.util.find_spec(f"tfbnas.{name}") for name in PROGRAMS)
    assert listed["dms_resnet18"] == "searches the widths of a binary ResNet-18 under a memory budget"
    assert all(len(about) > 20 for about in listed.values()) and max(map(len, lines)) <= 120


def test_no_program_is_missing():
    assert {file.parent.name for file in PACKAGE.glob("*/__main__.py")} <= set(PROGRAMS)


@pytest.mark.parametrize(
    "name,match",
    [
        ("sweep", "Start it with `python -m tfbnas.sweep`"),
        ("dms_vgg11", "Start it with `python -m tfbnas.recipes.dms_vgg11`"),
        ("dms_vg11", "Did you mean 'dms_vgg11'"),
        ("x", "See the list.\n"),
    ],
)
def test_a_name_behind_it_is_answered(name, match, capsys):
    assert main([name]) == 2
    assert match in capsys.readouterr().err


def test_it_needs_no_tensorflow():
    code = "import sys; from tfbnas.__main__ import main; main([]); sys.exit('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0 and "dms_vgg11" in done.stdout, done.stderr
