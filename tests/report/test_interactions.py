"""The figures of a search over channel interactions, against the numbers in its files."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import report_samples as samples

from tfbnas import report
from tfbnas.report import cibcnn, page, style
from tfbnas.report.methods import method_named
from tfbnas.report.reading import read
from tfbnas.results import Limited, SearchResult

EDGES = {
    "stage1_conv1": [[0, 1, 3], [2, 1, -5], [15, 3, 5]],
    "stage1_conv2": [],
    "stage3_conv1": [[16, 17, 3], [18, 31, -3], [19, 20, -3], [31, 16, 5], [0, 40, 3]],
}


@pytest.fixture
def directory(tmp_path):
    """A run of five epochs, the first one a warm-up."""
    chance, history = random.Random(0), []
    for epoch in range(1, 6):
        kept = {name: own[: len(own) * (epoch - 1) // 4] for name, own in EDGES.items()}
        own = {
            name: {"value": len(edges) / 240, "closed": edges, "edges": len(edges), "influences": {"3": len(edges)}}
            for name, edges in kept.items()
        }
        row = {"epoch": epoch, "loss": 2.0 / epoch, "accuracy": 0.1 * epoch, "cost": 1.0 + epoch / 10, "seconds": 2.0}
        row |= {"reward": chance.random() if epoch > 1 else 0.0, "active": 0.01 * epoch, "idle": 1 - 0.1 * epoch}
        history.append({**row, "warm_up": epoch == 1, "choices": own})
    found = samples.architecture("cibcnn", "resnet20", EDGES, n=1)
    costs = (Limited("latency", "ms", 1.0, 1.6, found=1.55, expected=1.55),)
    samples.put(tmp_path, "search", SearchResult("cibcnn", "resnet20", "Density", costs, found, 10.0, history))
    settings = "recipe: cibcnn_resnet20\npreset: quick\ndata: {name: cifar10-quick}\nsearch: {epochs: 5}\n"
    (tmp_path / "settings.yaml").write_text(settings)
    return tmp_path


def artists(drawing, run, narrow=False):
    canvas = style.draw(lambda small: drawing(run, small), narrow=narrow)
    return {artist.get_gid(): artist for artist in canvas.findobj(lambda artist: artist.get_gid())}


def test_the_page_has_the_figures(directory):
    run = read(directory)
    names = [figure.name for figure in page.figures(run, method_named("cibcnn"))]
    assert names == ["choices", "reward", "edges", "influences", "graph", "cost", "history"]
    text = report.write(directory).read_text(encoding="utf-8")
    assert "Reward of the policy" in text and "How many of the 8 edges" in text
    assert all((directory / f"plots/{name}.svg").exists() for name in names)


@pytest.mark.parametrize("narrow", [False, True])
def test_reward_of_the_epochs_in_which_the_policy_acted(directory, narrow):
    run = read(directory)
    line = artists(cibcnn.reward, run, narrow)["reward"]
    assert list(line.get_xdata()) == [2, 3, 4, 5]
    assert list(line.get_ydata()) == [row["reward"] for row in run.history[1:]]


def test_edges_of_each_layer_by_sign(directory):
    found = artists(cibcnn.by_layer, read(directory))
    bars = {gid: bar.get_width() for gid, bar in found.items()}
    assert bars["follow:stage1_conv1 (1.2 %)"] == 2 and bars["oppose:stage1_conv1 (1.2 %)"] == 1
    assert bars["follow:stage3_conv1 (2.1 %)"] == 3 and bars["oppose:stage3_conv1 (2.1 %)"] == 2
    assert bars["follow:stage1_conv2 (0.0 %)"] == 0


def test_histogram_of_influences(directory):
    found = artists(cibcnn.influences, read(directory))
    heights = {gid: bar.get_height() for gid, bar in found.items()}
    assert heights == {"influence:-5": 1, "influence:-3": 2, "influence:3": 3, "influence:5": 2}


def test_the_graph_is_that_of_the_block_with_the_most_edges(directory):
    run = read(directory)
    assert cibcnn.busiest(cibcnn.edges(run)) == ("stage3_conv1", 1)
    (shown,) = (figure for figure in cibcnn.figures(run) if figure.name == "graph")
    found = artists(lambda run, small: shown.draw(small), run)
    lines = {gid: (list(line.get_ydata()), line.get_color()) for gid, line in found.items()}
    blue, orange = style.COLORS["accent"], style.COLORS["second"]
    assert lines == {
        "edge:16:17": ([0, 1], blue),
        "edge:18:31": ([2, 15], orange),
        "edge:19:20": ([3, 4], orange),
        "edge:31:16": ([15, 0], blue),
    }
    assert "channels 16 to 31 of stage3_conv1" in shown.caption and "4 edges" in shown.caption


def test_without_edges_there_is_only_the_reward(directory):
    samples.change(directory, "search", architecture=samples.architecture("cibcnn", "resnet20", {}, n=1))
    history = samples.take(directory, "search").history
    for row in history:
        for choice in row["choices"].values():
            choice["closed"] = []
    samples.change(directory, "search", history=history)
    assert [figure.name for figure in cibcnn.figures(read(directory))] == ["reward"]


def test_what_the_interactions_cost_is_said(directory):
    assert cibcnn.remarks(read(directory)) == []
    times = {"stage1_conv1": 0.5, "stage1_conv1_scaled": 0.1, "stage1_conv1_corrected": 0.025, "logits": 0.2}
    operators = [{"layer": layer, "operator": "add", "milliseconds": time} for layer, time in times.items()]
    predictions = [{"name": "pixel1", "operators": operators[:2]}, {"name": "raspberry_pi_4b", "operators": operators}]
    samples.write(directory / "latency.json", {"format": 1, "predictions": predictions, "left_out": {}})
    for key, extra in (("searched", 0.25), ("plain", 0.0)):
        built = samples.architecture("cibcnn", "resnet20", EDGES if extra else {}, n=1)
        role = "searched" if extra else "reference"
        one = samples.training(key, key, role, 1, built, memory=0.1, level=0.5, epochs=2)
        memory = {"paper": 1e5, "deployed": 1e5 + 4000 * extra}
        samples.put(directory, f"train-{key}", replace(one, costs={"latency": 1.0 + extra}, memory=memory))
    text = " ".join(cibcnn.remarks(read(directory)))
    assert "predicted to take 0.125 of 0.825 ms (a model, not a measurement)" in text
    assert "they cost +0.250 ms and +1000 bytes of weights as deployed" in text
