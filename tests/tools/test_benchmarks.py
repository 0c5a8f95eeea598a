"""The benchmarks run, in a tiny form, and their tables can be read; what they measure is not tested."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfbnas
from tfbnas.costs import Distributed
from tfbnas.networks.resnet_fabric import resnet_fabric_graph

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def run(name, *arguments):
    """Standard output of a tool, which writes nothing else."""
    environment = {**os.environ, "PYTHONPATH": str(Path(tfbnas.__file__).parents[1])}
    command = [sys.executable, str(TOOLS / name), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.slow
def test_bsn_step():
    about, head, *rows = run("benchmark_bsn_step.py", "--tiny", "--precision", "float32")
    assert about.startswith("ResNet Fabric n=1, base=4, binary, float32; 4 images of 16x16")
    names = [name.strip() for name in head.split("|")]
    assert names == ["chance", "modules", "multiply-adds", "drawn", "masked", "each", "authors", "compiled", "ratios"]
    # "19.2 M  100%" is read as [19.2, 100.0].
    cells = [[cell.replace(" M", "").replace("%", "").split() for cell in row.split("|")] for row in rows]
    found = [[[float(word) for word in cell] for cell in row] for row in cells]
    assert [row[0][0] for row in found] == [1.0, 0.75, 0.45]
    assert all(row[column][1] == 100 for row in found[:1] for column in (1, 2, 3))
    for row in found:
        assert row[1][0] <= found[0][1][0] and row[2][0] <= found[0][2][0]
        assert row[8] == pytest.approx([row[way][0] / row[3][0] for way in (6, 7)], rel=0.05) and min(row[8]) > 0


@pytest.mark.slow
def test_interactions():
    about, head, *rows = run("benchmark_interactions.py", "--tiny", "--precision", "float32")
    assert about == "resnet20, 1008 edges, float32; 4 images of 8x8 in a step"
    assert head.split() == ["network", "images/s", "share"] and [row.split()[0] for row in rows] == [
        "plain",
        "closed",
        "open",
    ]
    plain, *others = [[float(word) for word in row.split()[1:]] for row in rows]
    assert plain[1] == 1 and all(share == pytest.approx(speed / plain[0], abs=0.02) for speed, share in others)


def test_the_authors_schedule_is_ours(monkeypatch):
    """The benchmark's plain loops price what `Distributed` prices."""
    path = TOOLS / "benchmark_bsn_step.py"
    monkeypatch.syspath_prepend(TOOLS)
    specification = importlib.util.spec_from_file_location("benchmark_bsn_step", path)
    tool = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "benchmark_bsn_step", tool)
    specification.loader.exec_module(tool)
    graph = resnet_fabric_graph(n=3)
    order = tool.allocation_order("depth_first", graph.costs, graph.successors)
    architecture = tfbnas.Architecture("t", "resnet_fabric", {}, (32, 32, 3), 10, {"n": 3})
    ours = Distributed(tool.MACHINES).over(architecture)
    for chance in (1.0, 0.8, 0.4):
        gates = tool.draw(graph, chance, np.random.default_rng(0), 10)
        lengths = [tool.schedule_length(graph, order, row) for row in gates.tolist()]
        assert lengths == [ours(kept) for kept in graph.prune(gates).modules] and min(lengths) > 0
