"""The way of a user: own photographs and network, a DMS recipe killed and undisturbed, its report, a new photograph.

The network and the command line are those of the README.
"""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.recipes.recipe import Recipe

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
(BUILDER,) = re.findall(r"```python\n([^`]*def small[^`]*)```", README)
(COMMAND,) = re.findall(r"^python -m (\S+ --network.family my_network:small .*)$", README, re.MULTILINE)
PROGRAM, *OPTIONS = COMMAND.split()
RECIPE = PROGRAM.rpartition(".")[2]


@pytest.fixture
def command(command, tmp_path):
    """Function: the README's command line on the tiny images. Its network is where the command is started."""
    (tmp_path / "my_network.py").write_text(BUILDER, encoding="utf-8")
    return lambda run: command(run, *OPTIONS, recipe=RECIPE, train__epochs=12)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return tmp_path_factory.mktemp("undisturbed") / "my run"


def test_a_run_leaves_everything_that_is_promised(undisturbed, command, start):
    process = start(command(undisturbed))
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    expected = "settings.yaml log.jsonl tensorboard checkpoints architecture.json model.keras saved_model model.tflite"
    for name in (*expected.split(), "export.json", "report.html"):
        assert (undisturbed / name).exists(), name
    assert output.strip().splitlines()[-1] == str(undisturbed)
    assert "DMS" in output and "BNN 0.4x" in output and "test images an accuracy has a standard error of" in output
    search = json.loads((undisturbed / "stages" / "search.json").read_text())
    assert [entry["epoch"] for entry in search["history"]] == [1, 2]
    (cost,) = search["costs"]
    assert (cost["name"], cost["limit"]) == ("latency", 0.12) and 0 < cost["found"] <= 0.12
    found = Architecture.load(undisturbed / "architecture.json")
    assert found.to_dict() == search["architecture"] and found.network == "my_network:small"
    trained = json.loads((undisturbed / "stages" / "train-searched.json").read_text())
    assert len(trained["history"]) == 12 and 0 <= trained["test"]["accuracy"] <= 1


def test_new_photographs_are_told_apart_without_tfbnas(undisturbed, tmp_path):
    """Snippets of the report are pasted into processes that cannot import tfbnas."""
    page = (undisturbed / "report.html").read_text(encoding="utf-8")
    snippets = [html.unescape(code) for code in re.findall(r'<pre class="snippet">(.*?)</pre>', page, re.DOTALL)]
    assert len(snippets) == 3
    chance = np.random.default_rng(5)
    # The first runs SavedModel with TensorFlow alone, the last one model.tflite by LCE's interpreter.
    for name, darkest, code in (("dark", 0, snippets[0]), ("light", 127, snippets[2])):
        photo = (chance.integers(0, 128, (32, 32, 3)) + darkest).astype(np.uint8).repeat(3, axis=0).repeat(2, axis=1)
        (tmp_path / "photo.jpg").write_bytes(tf.io.encode_jpeg(photo, quality=95).numpy())
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        blocked = f"import sys\nsys.modules['tfbnas'] = None\n{code}"
        done = subprocess.run(
            [sys.executable, "-c", blocked], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr
        shares = {label: float(share) for label, share in re.findall(r"^(\w+) (\d+\.\d) %$", done.stdout, re.MULTILINE)}
        assert set(shares) == {"dark", "light"} and sum(shares.values()) == pytest.approx(100, abs=0.2)
        assert max(shares, key=shares.get) == name, done.stdout


@pytest.mark.parametrize("kills", [2, pytest.param(7, marks=pytest.mark.slow)])
def test_killed_again_and_again_it_comes_out_the_same(
    undisturbed, command, kill_again_and_again, results, tmp_path, kills
):
    assert (undisturbed / "report.html").exists(), "needs the undisturbed run of the test above"
    kill_again_and_again(command(tmp_path / "run"), tmp_path / "run", kills)
    assert results(tmp_path / "run") == results(undisturbed)


def test_rerunning_a_finished_run_repeats_nothing(undisturbed, command, monkeypatch, tmp_path):
    arguments = command(undisturbed)[3:]
    monkeypatch.syspath_prepend(str(tmp_path))
    before = {file: file.stat().st_mtime_ns for file in (undisturbed / "stages").iterdir()}
    with pytest.raises(SystemExit) as exit_code:
        Recipe(RECIPE).main(arguments)
    assert exit_code.value.code == 0
    assert before == {file: file.stat().st_mtime_ns for file in (undisturbed / "stages").iterdir()}
