"""tools/benchmark_child_parent.py runs in its tiny form and its table is complete; what it measures is not tested."""

import pytest

pytestmark = pytest.mark.slow


def test_a_step_stands_beside_that_of_darts(run_tool):
    lines, result = run_tool("benchmark_child_parent.py", "--tiny", "--precision", "float32")
    darts, own = result["rows"]
    assert (darts["step"], own["step"]) == ("DARTS", "per_sample") and darts["time"] == 1
    assert own["time"] == pytest.approx(own["ms"] / darts["ms"]) and own["ms"] > 0
    if darts["MiB"] is not None:
        assert own["memory"] == pytest.approx(own["MiB"] / darts["MiB"]) and darts["MiB"] > 0
    assert lines[1].split() == ["step", "ms", "time", "MiB", "memory"] and len(lines) == 4
