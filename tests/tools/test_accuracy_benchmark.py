"""tools/benchmark_accuracy.py runs in its tiny form, goes on where it was, and its table is complete."""

import importlib.util
import re

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROWS = ["tfbnas", "larq", *(["torch"] if importlib.util.find_spec("torch") else [])]
LABELS = {"tfbnas": "tfbnas", "larq": "Larq", "torch": "PyTorch"}


@pytest.fixture(scope="module")
def outcome(run_tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("accuracy")
    figure = folder / "lines.svg"
    arguments = ("--tiny", "--recipes", "adam_sgd", "--at", 0, "--run_dir", folder / "run")
    first = run_tool("benchmark_accuracy.py", *arguments)
    again = run_tool("benchmark_accuracy.py", *arguments, "--rows", *ROWS, "--figure", figure)
    return first, again, figure.read_text(encoding="utf-8")


def test_every_row_has_every_epoch(outcome):
    (_, result), _, _ = outcome
    found = [(entry["row"], entry["recipe"], entry["seed"], entry["epoch"]) for entry in result["entries"]]
    assert found == [(row, "adam_sgd", 0, epoch) for row in ROWS for epoch in (1, 2)]
    for entry in result["entries"]:
        assert entry["accuracy"] * 20 == pytest.approx(round(entry["accuracy"] * 20)) and entry["seconds"] > 0
    for one, two in zip(result["entries"][::2], result["entries"][1::2], strict=True):
        assert one["seconds"] < two["seconds"]


def test_what_is_done_is_not_done_again(outcome):
    (_, first), (lines, again), _ = outcome
    assert again["entries"] == first["entries"]
    assert not any("epoch" in line for line in lines)


def test_the_table_says_the_same(outcome):
    (lines, result), _, _ = outcome
    head = next(index for index, line in enumerate(lines) if line.startswith("training"))
    table = [re.split(r"\s{2,}", line) for line in lines[head:] if line]
    assert table[0][1:] == ["seeds", "accuracy", "deviation", "seconds", "s to 0 %"]
    for cells, row, first, last in zip(table[1:], ROWS, result["entries"][::2], result["entries"][1::2], strict=True):
        assert cells[:2] == [f"{LABELS[row]}, Adam for the kernels", "1"]
        assert cells[2] == f"{100 * last['accuracy']:.2f} %" and cells[3] == "-"
        np.testing.assert_allclose([float(cells[4]), float(cells[5])], [last["seconds"], first["seconds"]], atol=0.51)


def test_the_figure_names_the_rows(outcome):
    figure = outcome[2]
    for text in ("Minutes of training", *(f"{LABELS[row]}, Adam for the kernels" for row in ROWS)):
        assert text in figure
