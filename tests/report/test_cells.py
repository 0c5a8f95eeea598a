"""The drawing of cells and what is said of a collapse, against the numbers in the files of a run."""

from __future__ import annotations

from dataclasses import replace

import matplotlib

matplotlib.use("svg")

import pytest
import report_samples as samples
from matplotlib.colors import to_rgba

from tfbnas import report
from tfbnas.report import cells, page, style
from tfbnas.report.methods import method_named
from tfbnas.report.reading import read

FOUND = {
    "normal/node2/from0": "conv_3x3",
    "normal/node2/from1": "identity",
    "normal/node3/from0": "none",
    "normal/node3/from1": "dil_conv_3x3",
    "normal/node3/from2": "max_pool_3x3",
    "reduction/node2/from0": "none",
    "reduction/node2/from1": "none",
    "reduction/node3/from0": "none",
    "reduction/node3/from1": "conv_1x1",
    "reduction/node3/from2": "conv_5x5",
}


def row(epoch, choices, **numbers):
    kept = {name: {"value": 0.4, "closed": operation} for name, operation in choices.items()}
    return {"epoch": epoch, "loss": 1.0 / epoch, "cosine": 0.1 * epoch, "choices": kept, **numbers}


def searched(directory, rows):
    built = samples.architecture("dcpnas", "cells", {name: one["closed"] for name, one in rows[-1]["choices"].items()})
    result = replace(samples.take(directory, "search"), method="dcpnas", network="cells", architecture=built)
    samples.put(directory, "search", replace(result, history=rows))
    return read(directory)


@pytest.fixture
def directory(tmp_path):
    return samples.fabric(tmp_path)


@pytest.mark.parametrize("narrow", [False, True])
def test_every_kept_edge_is_drawn_with_its_operation(directory, narrow):
    run = searched(directory, [row(1, FOUND, identity_edges=1.0)])
    canvas = style.draw(lambda small: cells.draw(cells.cells(run), small), narrow=narrow)
    found = {artist.get_gid(): artist for artist in canvas.findobj(lambda artist: artist.get_gid())}
    # What reads a node that nothing reaches is left out with it.
    normal = {"edge:normal:2:0", "edge:normal:2:1", "edge:normal:3:1", "edge:normal:3:2"}
    assert {gid for gid in found if gid.startswith("edge")} == normal | {"edge:reduction:3:1"}
    assert {gid for gid in found if gid.startswith("node:reduction")} == {f"node:reduction:{n}" for n in (0, 1, 3)}
    texts = [artist.get_text() for artist in canvas.findobj(lambda artist: hasattr(artist, "get_text"))]
    for text in ("conv 3x3  0.40", "identity  0.40", "dil conv 3x3  0.40", "max pool 3x3  0.40", "conv 1x1  0.40"):
        assert texts.count(text) == 1, text
    arrow = found["edge:normal:3:1"].arrow_patch
    assert to_rgba(arrow.get_edgecolor()) == to_rgba(style.COLORS["accent"])


def test_networks_without_cells_have_no_drawing_of_them(directory):
    assert cells.figures(read(directory)) == []


def test_the_page_says_when_cells_collapse(directory, monkeypatch):
    monkeypatch.setattr(page, "plots", lambda path, figures: [])
    method = method_named("dcpnas")
    collapsed = FOUND | {"normal/node3/from1": "identity", "normal/node2/from0": "identity"}
    run = searched(directory, [row(1, FOUND), row(2, collapsed), row(3, collapsed)])
    (doubt,) = method.doubts(run)
    assert "since epoch 2" in doubt and "3 of 6" in doubt and "warm_up_epochs" in doubt
    text = report.write(directory).read_text()
    assert "The cells may have collapsed" in text
    assert method.doubts(searched(directory, [row(1, collapsed), row(2, FOUND)])) == []
    assert method_named("cpnas").doubts is method.doubts and method_named("cpnas").label == "CPNAS"
