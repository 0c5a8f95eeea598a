"""tools/benchmark_training.py runs in its tiny form and its table is complete; what it measures is not tested."""

import importlib.util
import re
import sys

import pytest

pytestmark = pytest.mark.slow

ROWS = ["tfbnas-bfloat16", "tfbnas-float32", "larq", "larq-zeros", "torch", "torch-bfloat16"]
BOUNDS = ["bound-float32", "bound-bfloat16"]


@pytest.fixture(scope="module")
def outcome(run_tool, tmp_path_factory):
    figure = tmp_path_factory.mktemp("figure") / "bars.svg"
    lines, result = run_tool("benchmark_training.py", "--tiny", "--figure", figure)
    return lines, result, figure.read_text(encoding="utf-8")


def expected_rows():
    with_torch = importlib.util.find_spec("torch") is not None
    return [row for row in ROWS + BOUNDS if with_torch or "torch" not in row]


def test_every_row_has_its_numbers(outcome):
    _, result, _ = outcome
    assert [entry["row"] for entry in result["entries"]] == expected_rows()
    by_row = {entry["row"]: entry for entry in result["entries"]}
    for row, entry in by_row.items():
        assert (entry["batch"], entry["width"]) == (4, 0.25)
        assert (
            entry["images_per_second"] == pytest.approx(4 / (entry["milliseconds"] / 1e3)) and entry["milliseconds"] > 0
        )
        bound = by_row["bound-bfloat16" if "bfloat16" in row else "bound-float32"]
        assert entry["to_larq"] == pytest.approx(entry["images_per_second"] / by_row["larq"]["images_per_second"])
        assert entry["of_bound"] == pytest.approx(entry["images_per_second"] / bound["images_per_second"])
        if "torch" in by_row:
            assert entry["to_torch"] == pytest.approx(entry["images_per_second"] / by_row["torch"]["images_per_second"])
    assert result["machine"]["threads"] == 1  # a tiny run takes no more of the machine


def test_the_table_says_the_same(outcome):
    lines, result, _ = outcome
    head = next(index for index, line in enumerate(lines) if line.startswith("batch 4, width 0.25x"))
    table = [re.split(r"\s{2,}", line) for line in lines[head:] if line]
    assert table[0][1:] == ["ms/step", "images/s", "to Larq", "to PyTorch", "of bound"]
    assert len(table) == 1 + len(result["entries"])
    for cells, entry in zip(table[1:], result["entries"], strict=True):
        assert float(cells[1]) == pytest.approx(entry["milliseconds"], abs=0.06)
        assert float(cells[3]) == pytest.approx(entry["to_larq"], abs=0.006)


def test_the_figure_names_the_rows(outcome):
    _, result, figure = outcome
    assert figure.count("0.25× channels, batch 4") == 1
    for text in ("tfbnas, bfloat16", "Larq, padded with zeros", "Images per second"):
        assert text in figure
    speeds = [entry["images_per_second"] for entry in result["entries"] if entry["row"] not in BOUNDS]
    assert all(f">{speed:.0f}<" in figure for speed in speeds)


def test_memory_is_that_of_a_process_of_its_own(run_tool):
    lines, result = run_tool("benchmark_training.py", "--tiny", "--rows", "bound-float32", "--memory")
    (entry,) = result["entries"]
    assert entry["of_bound"] == 1.0 and entry["to_larq"] is None
    if sys.platform == "linux":
        assert 0 < entry["peak_memory"] < 4096  # MiB
    assert "peak MiB" in "".join(lines)
