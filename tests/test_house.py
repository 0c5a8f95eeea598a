"""The house does not know its methods, imports run downward, and files stay short."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tfbnas
from tfbnas.search.registry import METHODS

PACKAGE = Path(tfbnas.__file__).parent
SHARED = ["recipes", "report", "sweep", "export", "device", "training", "callbacks", "run.py", "checkpoints.py"]

# A room may import its own floor and those below; what stands beside the rooms is free to all.
FLOORS = [
    ["sweep"],
    ["recipes"],
    ["report"],
    ["search", "training", "export", "device"],
    ["costs", "data"],
    ["lce"],
    ["networks"],
    ["layers"],
]


def files(place: str) -> list[Path]:
    path = PACKAGE / place
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def shared() -> list[Path]:
    own = tuple(f"{name}{end}" for name in METHODS for end in (".py", "_"))
    return [file for place in SHARED for file in files(place) if not file.name.startswith(own)]


@pytest.mark.parametrize("file", shared(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_shared_file_names_a_method(file):
    names = {name for method in METHODS.values() for name in (method.name, method.label)} - {"random", "Random"}
    text = file.read_text(encoding="utf-8")
    assert not re.findall(rf"\b(?:{'|'.join(sorted(names))})\b", text)
    assert "search.random" not in text  # else a word like any other


def imported(file: Path) -> set[str]:
    """The rooms that a file imports when it is imported itself."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tfbnas"):
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("tfbnas.")}
    return found


@pytest.mark.parametrize("room", [room for floor in FLOORS for room in floor])
def test_imports_run_downward(room):
    level = next(index for index, floor in enumerate(FLOORS) if room in floor)
    above = {name for floor in FLOORS[:level] for name in floor}
    for file in files(room):
        assert not imported(file) & above, file


@pytest.mark.parametrize("file", files("."), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_file_is_longer_than_400_lines(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400
