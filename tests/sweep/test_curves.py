"""Curves over seeds against numpy, and what their figure shows."""

from __future__ import annotations

import numpy as np
import pytest

from tfbnas.report import style
from tfbnas.report.methods import METHODS, method_named
from tfbnas.report.reading import Run
from tfbnas.results import Limited, SearchResult
from tfbnas.sweep import curves

COST = Limited("memory", "MiB", 2.0**20, 2.0**20)


def run(tmp_path, rows):
    return Run(tmp_path, searches={"search": SearchResult("bsn", "mine", "Probability", (COST,), history=rows)})


@pytest.fixture
def runs(tmp_path):
    chance = np.random.default_rng(0)
    histories = [
        [{"epoch": e, "entropy": v, "cost": 2.0**20 * v, "warm_up": e == 1} for e, v in enumerate(values, start=1)]
        for values in chance.random((3, 6))
    ]
    del histories[1][4:]  # this one was shorter
    histories[2][2]["entropy"] = float("nan")
    return [run(tmp_path, rows) for rows in histories]


def test_mean_and_deviation_of_the_epochs_that_all_seeds_have(runs):
    found = curves.over_seeds(runs)
    values = np.array([[row["entropy"] for row in one.history[:4]] for one in runs])
    assert found["entropy"]["epochs"] == [2, 4]
    assert found["entropy"]["mean"] == pytest.approx(values[:, [1, 3]].mean(axis=0))
    assert found["entropy"]["deviation"] == pytest.approx(values[:, [1, 3]].std(axis=0, ddof=1))
    costs = np.array([[row["cost"] / 2**20 for row in one.history[:4]] for one in runs])
    assert found["cost"]["epochs"] == [1, 2, 3, 4] and found["cost"]["mean"] == pytest.approx(costs.mean(axis=0))
    assert curves.over_seeds(runs[:1])["entropy"]["deviation"] == []
    assert curves.over_seeds([]) == {} and curves.labels(Run(runs[0].path)) == {}


def test_the_figure_has_a_line_for_each_point_and_a_band_over_seeds(runs):
    points = [
        {"name": name, "label": name, "curves": curves.over_seeds(own)} for name, own in (("a", runs), ("b", runs[:1]))
    ]
    unfinished = {"name": "c", "label": "c", "curves": {}}
    labels = curves.labels(runs[0])
    assert labels == {"cost": "Expected memory (MiB)", "entropy": "Entropy (bits)"}
    content = {"points": [*points, unfinished], "curves": labels, "seeds": [0, 1, 2], "epoch": "epoch"}
    (figure,) = curves.figures(content)
    axes = style.draw(figure.draw).axes
    assert [axis.get_title(loc="left") for axis in axes] == list(labels.values())
    for axis, key in zip(axes, labels, strict=True):
        for line, point in zip(axis.lines, points, strict=True):
            assert line.get_ydata() == pytest.approx(point["curves"][key]["mean"])
        (band,) = axis.collections
        edges = band.get_paths()[0].vertices[:, 1]
        mean, deviation = (np.array(points[0]["curves"][key][name]) for name in ("mean", "deviation"))
        assert edges.max() == pytest.approx(np.max(mean + deviation))
    assert curves.figures({**content, "points": [unfinished]}) == []


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_curves_have_a_word_for_the_axis(name):
    method = method_named(name)
    assert set(method.curves) <= set(method.axes)
