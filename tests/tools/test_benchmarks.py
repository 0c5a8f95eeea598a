"""The benchmarks run, in a tiny form, and their tables can be read; what they measure is not tested."""

import importlib.util
import json
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


@pytest.mark.slow
def test_reward_signal(tmp_path):
    sizes = {"data.image_size": 8, "network.base": 4, "budget.cost": "edges", "budget.limit": 400}
    sizes |= {"search.epochs": 2, "search.reward_images": 8}
    settings = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    about, head, *rows = run(
        "reward_signal.py", "--edges", "6", "--batches", "4", "--json", str(tmp_path / "out.json"), *settings
    )
    assert about.startswith("cibcnn_resnet20 quick, seed 0: 2 epochs") and about.endswith("4 batches of 8 images")
    assert head.split() == ["kind", "edges", "estimate", "mean", "spread", "noise", "help", "hurt"]
    assert [row.split()[:2] for row in rows[:2]] == [["added", "6"], ["best", "6"]] and rows[2].startswith("kept")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["signal"][1]["estimate"] > abs(found["signal"][0]["estimate"])
    assert [(row["images"], row["threshold"]) for row in found["rewards"]] == [(8, 0.003), (16, 0.003), (8, 0), (16, 0)]
    assert all(0 <= row["help"] + row["hurt"] <= 1 and row["noise"] > 0 for row in found["signal"])


def test_signal_and_noise_are_told_apart(tool):
    """Edges whose usefulness has the spread 2 are seen through noise of 5 on each of 400 batches."""
    found, random = tool("reward_signal"), np.random.default_rng(0)
    useful = random.normal(1.0, 2.0, size=(500, 1))
    changes = useful + random.normal(0, 5.0, size=(500, 400))
    said = found.signal(changes)
    assert said["spread"] == pytest.approx(np.std(useful, ddof=1), abs=0.05)
    assert said["noise"] == pytest.approx(5, abs=0.05)
    assert said["help"] == pytest.approx(np.mean(useful > 0.5), abs=0.02)
    assert said["hurt"] == pytest.approx(np.mean(useful < -0.5), abs=0.02)
    nothing = found.rewards(random.normal(size=(500, 400)), 4, 0.5)
    assert nothing["not 0"] == pytest.approx(0.317, abs=0.01) and nothing["right"] == pytest.approx(0.5, abs=0.02)
    assert found.rewards(np.full((3, 8), -2.0), 4, 1.0) == {"not 0": 1, "right": 1}


@pytest.fixture
def tool(monkeypatch):
    """Imports a tool by its name."""
    monkeypatch.syspath_prepend(TOOLS)

    def imported(name):
        specification = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
        found = importlib.util.module_from_spec(specification)
        monkeypatch.setitem(sys.modules, name, found)
        specification.loader.exec_module(found)
        return found

    return imported


def test_the_authors_schedule_is_ours(tool):
    """The benchmark's plain loops price what `Distributed` prices."""
    tool = tool("benchmark_bsn_step")
    graph = resnet_fabric_graph(n=3)
    order = tool.allocation_order("depth_first", graph.costs, graph.successors)
    architecture = tfbnas.Architecture("t", "resnet_fabric", {}, (32, 32, 3), 10, {"n": 3})
    ours = Distributed(tool.MACHINES).over(architecture)
    for chance in (1.0, 0.8, 0.4):
        gates = tool.draw(graph, chance, np.random.default_rng(0), 10)
        lengths = [tool.schedule_length(graph, order, row) for row in gates.tolist()]
        assert lengths == [ours(kept) for kept in graph.prune(gates).modules] and min(lengths) > 0
