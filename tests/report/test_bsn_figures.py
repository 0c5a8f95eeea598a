"""The figures of a BSN search, against the numbers in its files."""

from __future__ import annotations

import json

import matplotlib

matplotlib.use("svg")

import pytest
from matplotlib.colors import to_rgba

from tfbnas import report
from tfbnas.report import bsn, bsn_architecture, bsn_figures, style
from tfbnas.report.reading import read

CHOICES = {
    f"group{group}/block{block}/{kind}": 0.1 + 0.11 * index
    for index, (group, block, kind) in enumerate(
        [
            (1, 0, "body"),
            (1, 0, "skip"),
            (1, 1, "body"),
            (1, 1, "skip"),
            (2, 0, "body"),
            (2, 0, "from0"),
            (2, 1, "skip"),
        ]
    )
} | {"group2/block1/from_input": 0.95}
KEPT = {name: probability > 0.5 for name, probability in CHOICES.items()}


@pytest.fixture
def directory(tmp_path):
    history = [
        {
            "epoch": epoch,
            "loss": 2.0 / epoch,
            "accuracy": 0.2 * epoch,
            "cost": 9.0 - epoch,
            "entropy": 0.3 - 0.05 * epoch,
            "choices": {name: 0.95 + (p - 0.95) * epoch / 4 for name, p in CHOICES.items()},
        }
        for epoch in (1, 2, 3, 4)
    ]
    architecture = {"format": 1, "method": "bsn", "network": "resnet_fabric", "choices": KEPT, "options": {"n": 2}}
    architecture |= {"input_shape": [32, 32, 3], "classes": 10}
    limit = {"cost": "steps", "unit": "steps", "scale": 1.0, "limit": 6.0, "expected": 5.5, "found": 5.0}
    limit["references"] = {"ResNet-14": 14.0}
    result = {"seconds": 3.0, "architecture": architecture, "limit": limit, "warm_up_epochs": 1, "history": history}
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "search.json").write_text(json.dumps(result, sort_keys=True))
    (tmp_path / "settings.yaml").write_text("recipe: bsn_resnet_fabric\ndata: {name: cifar10-quick}\n")
    return tmp_path


def artists(drawing, run, narrow=False):
    canvas = style.draw(lambda small: drawing(run, small), narrow=narrow)
    return {artist.get_gid(): artist for artist in canvas.findobj(lambda artist: artist.get_gid())}


def picture(run, narrow=False):
    return bsn_architecture.draw(bsn_architecture.drawing(run), narrow)


@pytest.mark.parametrize("narrow", [False, True])
def test_the_drawn_architecture_shows_every_module_as_thick_as_its_probability(directory, narrow):
    found = artists(picture, read(directory), narrow)
    edges = {gid: artist for gid, artist in found.items() if gid.split(":")[0] in ("kept", "left")}
    assert set(edges) == {f"{'kept' if kept else 'left'}:{name}" for name, kept in KEPT.items()}
    kept = sorted((CHOICES[gid[5:]], edge.get_linewidth()) for gid, edge in edges.items() if gid.startswith("kept"))
    assert [width for _, width in kept] == sorted(width for _, width in kept)
    assert all(width == pytest.approx(0.8 + 3.2 * probability) for probability, width in kept)
    left = [edge for gid, edge in edges.items() if gid.startswith("left")]
    assert {edge.get_edgecolor() for edge in left} == {to_rgba(style.COLORS["bar"])}
    assert max(edge.get_zorder() for edge in left) < found["used"].get_zorder()


def test_rows_of_the_fabric_turn_so_that_mirrored_links_are_short(directory):
    found = artists(picture, read(directory))

    def ends(gid):
        return found[gid]._posA_posB

    assert ends("left:group1/block1/body") == [(1.0, 0.0), (2.0, 0.0)]
    assert ends("kept:group2/block0/from0") == [(1.0, 0.0), (1.0, -1.0)]
    assert ends("kept:group2/block1/from_input") == [(0.0, 0.0), (0.0, -1.0)]
    assert ends("kept:group2/block1/skip") == [(1.0, -1.0), (0.0, -1.0)]
    # Nodes of the network: the input, what the kept modules read and write, and the output.
    used = set(zip(*found["used"].get_data(), strict=True))
    assert used == {(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (2.0, -1.0), (1.0, -1.0), (0.0, -1.0)} and "unused" in found


@pytest.mark.parametrize("segmentation", [False, True])
def test_a_neural_fabric_is_a_grid_of_columns_and_scales(directory, segmentation):
    names = {
        "l0_s1/from_l0_s0": 0.9,
        "l1_s0/from_l0_s0": 0.2,
        "l1_s0/from_l0_s1": 0.7,
        "l1_s1/from_l0_s1": 0.6,
        "l1_s0/from_l1_s1" if segmentation else "l1_s1/from_l1_s0": 0.4,
    }
    path = directory / "stages" / "search.json"
    result = json.loads(path.read_text())
    result["architecture"] |= {
        "network": "cnf",
        "choices": {name: value > 0.5 for name, value in names.items()},
        "options": {"segmentation": segmentation},
        "input_shape": [48, 32, 3],
    }
    result["history"][-1]["choices"] = names
    path.write_text(json.dumps(result))
    run = read(directory)
    found = artists(picture, run)
    assert found["kept:l1_s0/from_l0_s1"]._posA_posB == [(0.0, -1.0), (1.0, 0.0)]
    assert found["kept:l0_s1/from_l0_s0"]._posA_posB == [(0.0, 0.0), (0.0, -1.0)]
    assert found["left:l1_s0/from_l0_s0"].get_linewidth() < found["kept:l1_s1/from_l0_s1"].get_linewidth()
    drawn = bsn_architecture.drawing(run)
    assert drawn.rows == {0.0: "48×32", -1.0: "24×16"}
    assert drawn.first == (0.0, 0.0) and drawn.last == (1.0, 0.0 if segmentation else -1.0)
    captions = {figure.name: figure.caption for figure in bsn.figures(run)}
    assert "columns are layers" in captions["architecture"]


def test_large_networks_stay_readable():
    """Lines get thinner and lose their arrowheads where there is no room, so that no edge covers the next one."""
    edges = [
        bsn_architecture.Edge(f"group1/block{b}/body", (float(b), 0.0), (b + 1.0, 0.0), 0.0, 1.0, True)
        for b in range(18)
    ]
    nodes = [(float(x), 0.0) for x in range(19)]
    drawn = bsn_architecture.Drawing("", edges, nodes, {0.0: "Group 1"}, [], nodes[0], nodes[-1], 115.0)
    styles = {}
    for narrow in (False, True):
        canvas = style.draw(lambda small: bsn_architecture.draw(drawn, small), narrow=narrow)
        lines = [artist for artist in canvas.findobj() if str(artist.get_gid()).startswith("kept")]
        styles[narrow] = max(line.get_linewidth() for line in lines), type(lines[0].get_arrowstyle()).__name__
    assert styles[False] == (pytest.approx(4.0), "CurveFilledB") and styles[True][0] < 3 and styles[True][1] == "Curve"


def test_cost_and_entropy_show_what_the_history_says(directory):
    run = read(directory)
    found = artists(bsn_figures.cost, run)
    assert list(found["cost"].get_xdata()) == [1, 2, 3, 4] and list(found["cost"].get_ydata()) == [8, 7, 6, 5]
    assert found["budget"].get_ydata()[0] == 6 and found["found"].get_ydata()[0] == 5
    assert found["reference:ResNet-14"].get_ydata()[0] == 14
    assert list(artists(bsn_figures.entropy, run)["entropy"].get_ydata()) == pytest.approx([0.25, 0.2, 0.15, 0.1])
    lines = artists(bsn_figures.probabilities, run)
    assert {gid.partition(":")[2] for gid in lines if gid.startswith("probability")} == set(CHOICES)
    assert lines["probability:group1/block0/body"].get_ydata()[-1] == pytest.approx(0.1)


def test_the_page_holds_the_figures_and_the_comparison(directory):
    page = report.write(directory).read_text()
    for figure in ("architecture", "probabilities", "cost", "entropy"):
        assert (directory / "plots" / f"{figure}.svg").exists()
    assert "limited the network to 6 steps; the one found takes 5 (for comparison: ResNet-14 14)" in " ".join(
        bsn.remarks(read(directory))
    )
    assert "Budgeted super networks" in page or "BSN" in page


def test_several_budgets_are_told(directory):
    path = directory / "stages" / "search.json"
    result = json.loads(path.read_text())
    result["limit"]["also"] = {
        "memory": {"unit": "MiB", "scale": 2**20, "limit": 2**19, "expected": 0.0, "found": 2**18}
    }
    path.write_text(json.dumps(result))
    first, second = bsn.remarks(read(directory))
    assert "limited the network to 6 steps" in first
    assert second == "At the same time it was limited to 0.5 MiB, of which it takes 0.25."


def test_half_a_run_has_the_figures_that_can_be_drawn(directory):
    (directory / "stages" / "search.json").write_text(json.dumps({"history": [{"epoch": 1, "loss": 1.0}]}))
    assert [figure.name for figure in bsn.figures(read(directory))] == []
    (directory / "stages" / "search.json").write_text(json.dumps({"history": [{"epoch": 1, "cost": 3.0}]}))
    assert [figure.name for figure in bsn.figures(read(directory))] == ["cost"]
    assert report.write(directory).exists() and bsn.remarks(read(directory)) == []
