"""A DMS recipe from end to end, undisturbed and killed again and again."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tfbnas.architecture import Architecture


def without_times(value):
    """A result without what depends on the clock."""
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key != "seconds"}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def results(run: Path) -> dict[str, dict]:
    files = [*(run / "stages").glob("*.json"), run / "architecture.json", run / "export.json"]
    return {file.name: without_times(json.loads(file.read_text())) for file in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return tmp_path_factory.mktemp("undisturbed") / "run"


def test_a_run_leaves_everything_that_is_promised(undisturbed, command, start):
    process = start(command(undisturbed))
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    expected = "settings.yaml log.jsonl tensorboard checkpoints architecture.json model.keras saved_model model.tflite"
    for name in (*expected.split(), "export.json", "report.html"):
        assert (undisturbed / name).exists(), name
    assert output.strip().splitlines()[-1] == str(undisturbed)
    assert "DMS" in output and "BNN 0.4x" in output
    search = json.loads((undisturbed / "stages" / "search.json").read_text())
    assert [entry["round"] for entry in search["history"]] == [0, 1]
    assert Architecture.load(undisturbed / "architecture.json").to_dict() == search["architecture"]
    trained = json.loads((undisturbed / "stages" / "train-searched.json").read_text())
    assert len(trained["history"]) == 2 and 0 <= trained["accuracy"] <= 1


def progress(run: Path) -> int:
    """How many checkpoints, stages and files a run has made."""
    # os.walk passes over directories that vanish meanwhile: the run's process writes beside and renames.
    found = [
        [*folders, *(f for f in files if f.endswith((".json", ".tflite", ".keras", ".html")))]
        for _, folders, files in os.walk(run)
    ]
    return sum(map(len, found))


def test_killed_again_and_again_it_comes_out_the_same(undisturbed, command, start, tmp_path):
    assert (undisturbed / "report.html").exists(), "needs the undisturbed run of the test above"
    run = tmp_path / "run"
    moments = random.Random(0)
    kills = 0
    while kills < 40:
        process = start(command(run))
        before = progress(run) if run.exists() else 0
        while process.poll() is None and (not run.exists() or progress(run) <= before + 1):
            time.sleep(0.01)
        time.sleep(moments.choice([0.0, 0.05, 0.3, 1.0, 2.0]))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert kills >= 3
    assert results(run) == results(undisturbed)


def test_rerunning_a_finished_run_repeats_nothing(undisturbed, command, start):
    before = {file: file.stat().st_mtime_ns for file in (undisturbed / "stages").iterdir()}
    output, _ = (process := start(command(undisturbed))).communicate(timeout=200)
    assert process.returncode == 0, output
    assert before == {file: file.stat().st_mtime_ns for file in (undisturbed / "stages").iterdir()}
