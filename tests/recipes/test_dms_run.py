"""A DMS recipe from end to end, undisturbed and killed again and again."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from tfbnas.architecture import Architecture
from tfbnas.recipes.recipe import Recipe


@pytest.fixture
def command(command):
    """A command line with a small network family of one's own."""
    return functools.partial(
        command,
        network__family="own_family:network",
        budget__memory=0.008,
        baselines__int8="[equal_memory, equal_latency]",
    )


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
    assert "DMS" in output and "BNN 0.4x" in output and "test images an accuracy has a standard error of" in output
    search = json.loads((undisturbed / "stages" / "search.json").read_text())
    assert [entry["epoch"] for entry in search["history"]] == [1, 2]
    assert Architecture.load(undisturbed / "architecture.json").to_dict() == search["architecture"]
    trained = json.loads((undisturbed / "stages" / "train-searched.json").read_text())
    assert len(trained["history"]) == 2 and 0 <= trained["test"]["accuracy"] <= 1


@pytest.mark.parametrize("kills", [2, pytest.param(7, marks=pytest.mark.slow)])
def test_killed_again_and_again_it_comes_out_the_same(
    undisturbed, command, kill_again_and_again, results, tmp_path, kills
):
    assert (undisturbed / "report.html").exists(), "needs the undisturbed run of the test above"
    kill_again_and_again(command(tmp_path / "run"), tmp_path / "run", kills)
    assert results(tmp_path / "run") == results(undisturbed)


def test_rerunning_a_finished_run_repeats_nothing(undisturbed, command, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    before = {file: file.stat().st_mtime_ns for file in (undisturbed / "stages").iterdir()}
    with pytest.raises(SystemExit) as exit_code:
        Recipe("dms_vgg11").main(command(undisturbed)[3:])
    assert exit_code.value.code == 0
    assert before == {file: file.stat().st_mtime_ns for file in (undisturbed / "stages").iterdir()}
