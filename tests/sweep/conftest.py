"""Sweeps over a recipe that is over at once, in processes as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tfbnas

HERE = Path(__file__).parent
RECIPE = "standins.search"


@pytest.fixture
def standins(monkeypatch):
    """The stand-in's module can be imported, in this process and by those it starts."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(Path(tfbnas.__file__).parents[1])]))
    for name in ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"):
        monkeypatch.delenv(name, raising=False)
    return RECIPE


@pytest.fixture
def start(standins, spawn):
    """Starts a sweep as a process of its own, which is gone when the test ends."""

    def run(*arguments: str, **environment: str) -> subprocess.Popen:
        return spawn([sys.executable, "-m", "tfbnas.sweep", *arguments], {**os.environ, **environment})

    return run


@pytest.fixture
def events():
    """Function: the stages that the trials of a sweep began, as (trial, stage), with repetitions."""

    def read(run_dir: Path) -> list[tuple[str, str]]:
        return [
            (file.parent.name, event["stage"])
            for file in sorted((run_dir / "trials").glob("*/log.jsonl"))
            for event in map(json.loads, file.read_text().splitlines())
            if event.get("event") == "stage begins"
        ]

    return read
