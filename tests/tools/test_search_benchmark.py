"""tools/benchmark_search.py runs in its tiny form and its tables are complete; what it measures is not tested."""

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcome(run_tool):
    return run_tool("benchmark_search.py", "--tiny")


def test_steps_stand_beside_those_of_the_widest_network(outcome):
    steps = {row["step"]: row for row in outcome[1]["steps"]}
    assert len(steps) == len(outcome[1]["steps"]) == 5 and all(row["milliseconds"] > 0 for row in steps.values())
    for name, other in (("weights step", "training step"), ("architecture step", "forward and backward")):
        assert steps[name]["ratio"] == pytest.approx(steps[name]["milliseconds"] / steps[other]["milliseconds"])
    assert steps["training step"]["ratio"] is None


def test_share_of_a_round(outcome):
    (row,) = outcome[1]["rounds"]
    beside = row["between_steps"] + row["slower_first_steps"]
    assert beside > 0 and row["share"] == pytest.approx(beside / (beside + row["steps"]))
    assert 0 < row["share"] < 1


def test_every_round_is_watched(outcome):
    rows = outcome[1]["watched"]
    assert [row["round"] for row in rows] == [1, 2, 3]
    assert len({row["channels"] for row in rows}) > 1, "widths that stay the same show nothing"
    assert {row["traces"] for row in rows} == {1}
    assert all(row["memory"] is None or row["memory"] > 0 for row in rows)


def test_candidates_of_both_methods(outcome):
    rows = outcome[1]["candidates"]
    assert [(row["method"], row["candidates"]) for row in rows] == [("DMS", 3), ("DMS", 40), ("sum", 3)]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["milliseconds"] / rows[0]["milliseconds"]) and row["ratio"] > 0


def test_the_tables_hold_every_row(outcome):
    lines, result = outcome
    blocks = "\n".join(lines).split("\n\n")[1:]
    assert [block.split()[0] for block in blocks] == ["round", "step", "precision", "method"]
    assert [len(block.strip().splitlines()) - 1 for block in blocks] == [3, 5, 1, 3]
    assert result["machine"]["threads"] == 1
