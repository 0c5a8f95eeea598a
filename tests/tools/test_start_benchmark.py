"""tools/benchmark_start.py runs in its tiny form and its table is complete; what it measures is not tested."""

import re
from pathlib import Path

import pytest

import tfbnas

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcome(run_tool):
    return run_tool("benchmark_start.py", "--tiny")


def test_every_program_is_measured(outcome):
    package = Path(tfbnas.__file__).parent
    programs = {f"tfbnas.{path.parent.name}" for path in package.glob("*/__main__.py")}
    recipes = [path for path in (package / "recipes").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")]
    programs |= {f"tfbnas.recipes.{path.stem}" for path in recipes}
    measured = {entry["name"] for entry in outcome[1]["entries"] if entry["goal"] == 3.0}
    assert measured >= {f"python -m {program} --help" for program in programs}


def test_numbers_and_goals(outcome):
    entries = {entry["name"]: entry for entry in outcome[1]["entries"]}
    for name, entry in entries.items():
        if "added" not in name:
            assert entry["seconds"] > 0 and entry["processor_seconds"] > 0
    added = entries["import tfbnas, added to tensorflow"]
    alone, both = entries["import tensorflow"], entries["import tfbnas, tensorflow"]
    assert added["seconds"] == pytest.approx(both["seconds"] - alone["seconds"]) and added["goal"] == 0.5
    assert entries["export of ResNet-18"]["goal"] == 20.0


def test_the_table_says_the_same(outcome):
    lines, result = outcome
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
    assert rows[0] == ["seconds", "processor seconds", "goal"]
    for cells, entry in zip(rows[1:], result["entries"], strict=True):
        assert cells[0] == entry["name"] and float(cells[1]) == pytest.approx(entry["seconds"], abs=0.006)
        assert cells[3] == ("-" if entry["goal"] is None else f"{entry['goal']:.1f}")
