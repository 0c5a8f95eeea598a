"""The figures of a search over modules, against the numbers in its files."""

from __future__ import annotations

from dataclasses import replace

import matplotlib

matplotlib.use("svg")

import pytest
import report_samples as samples
from matplotlib.colors import to_rgba

from tfbnas import report
from tfbnas.report import choices, fabric, history, page, style, trained
from tfbnas.report.methods import method_named
from tfbnas.report.reading import read
from tfbnas.results import Limited

CHOICES = samples.FABRIC
KEPT = {name: probability > 0.5 for name, probability in CHOICES.items()}


@pytest.fixture
def directory(tmp_path):
    return samples.fabric(tmp_path)


def artists(drawing, run, narrow=False):
    canvas = style.draw(lambda small: drawing(run, small), narrow=narrow)
    return {artist.get_gid(): artist for artist in canvas.findobj(lambda artist: artist.get_gid())}


def picture(run, narrow=False):
    return fabric.draw(fabric.drawing(run), narrow)


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
    result = samples.take(directory, "search")
    kept = {name: value > 0.5 for name, value in names.items()}
    found = samples.architecture("bsn", "cnf", kept, segmentation=segmentation) | {"input_shape": [48, 32, 3]}
    rows = [{"epoch": 1, "choices": {name: {"value": value, "closed": kept[name]} for name, value in names.items()}}]
    samples.put(directory, "search", replace(result, architecture=found, history=rows))
    run = read(directory)
    found = artists(picture, run)
    assert found["kept:l1_s0/from_l0_s1"]._posA_posB == [(0.0, -1.0), (1.0, 0.0)]
    assert found["kept:l0_s1/from_l0_s0"]._posA_posB == [(0.0, 0.0), (0.0, -1.0)]
    assert found["left:l1_s0/from_l0_s0"].get_linewidth() < found["kept:l1_s1/from_l0_s1"].get_linewidth()
    drawn = fabric.drawing(run)
    assert drawn.rows == {0.0: "48×32", -1.0: "24×16"}
    assert drawn.first == (0.0, 0.0) and drawn.last == (1.0, 0.0 if segmentation else -1.0)
    captions = {figure.name: figure.caption for figure in fabric.figures(run)}
    assert "columns are layers" in captions["architecture"]


def test_large_networks_stay_readable():
    """Lines get thinner and lose their arrowheads where there is no room, so that no edge covers the next one."""
    edges = [fabric.Edge(f"group1/block{b}/body", (float(b), 0.0), (b + 1.0, 0.0), 0.0, 1.0, True) for b in range(18)]
    nodes = [(float(x), 0.0) for x in range(19)]
    drawn = fabric.Drawing("", edges, nodes, {0.0: "Group 1"}, [], nodes[0], nodes[-1], 115.0)
    styles = {}
    for narrow in (False, True):
        canvas = style.draw(lambda small: fabric.draw(drawn, small), narrow=narrow)
        lines = [artist for artist in canvas.findobj() if str(artist.get_gid()).startswith("kept")]
        styles[narrow] = max(line.get_linewidth() for line in lines), type(lines[0].get_arrowstyle()).__name__
    assert styles[False] == (pytest.approx(4.0), "CurveFilledB") and styles[True][0] < 3 and styles[True][1] == "Curve"


def test_cost_and_entropy_show_what_the_history_says(directory):
    run, method = read(directory), method_named("bsn")
    found = artists(lambda run, small: history.cost_over_epochs(run, method, run.costs[0], small), run)
    assert list(found["cost"].get_xdata()) == [1, 2, 3, 4] and list(found["cost"].get_ydata()) == [8, 7, 6, 5]
    assert found["budget"].get_ydata()[0] == 6 and found["found"].get_ydata()[0] == 5
    assert found["reference:ResNet-14"].get_ydata()[0] == 14
    assert found["warm-up"].get_xdata()[0] == 1.5
    numbers = artists(lambda run, small: history.history(run, method, small), run)
    assert list(numbers["entropy"].get_ydata()) == pytest.approx([0.25, 0.2, 0.15, 0.1])
    (shown,) = choices.figures(run, method)
    lines = artists(lambda run, small: shown.draw(small), run)
    assert {gid.partition(":")[2] for gid in lines if gid.startswith("value")} == set(CHOICES)
    assert lines["value:group1/block0/body"].get_ydata()[-1] == pytest.approx(0.1)
    for name, kept in KEPT.items():
        assert to_rgba(lines[f"value:{name}"].get_color()) == to_rgba(style.COLORS["accent" if kept else "bar"])


def test_the_page_holds_the_figures_and_the_comparison(directory):
    text = report.write(directory).read_text()
    for figure in ("architecture", "choices", "cost", "history"):
        assert (directory / "plots" / f"{figure}.svg").exists()
    assert "limited the network to 6 steps; the one found takes 5 (for comparison: ResNet-14 14)" in text
    assert "ResNet Fabric, searched with BSN" in text and "Mirrors figure 6 of the paper" in text
    assert "proposition 1 of the paper" in text and "Entropy (bits)" in text and "Nothing moves in the warm-up" in text


def test_several_budgets_are_told(directory):
    memory = Limited("binary_memory", "MiB", 2.0**20, 2.0**19, found=2.0**18, expected=0.0)
    samples.change(directory, "search", costs=(*read(directory).costs, memory))
    first, second = trained.limits(read(directory))
    assert "limited the network to 6 steps" in first
    assert second == "At the same time it was limited to 0.500 MiB of binary memory; the one found takes 0.250."


def test_half_a_run_has_the_figures_that_can_be_drawn(directory):
    method = method_named("bsn")
    for row, names in (({"loss": 1.0}, ["history"]), ({"cost": 3.0}, ["cost"]), ({}, [])):
        limited = Limited("steps", "steps", 1.0, 6.0)
        samples.change(directory, "search", costs=(limited,), history=[{"epoch": 1, **row}])
        assert [figure.name for figure in page.figures(read(directory), method)] == names
        assert report.write(directory).exists() and trained.limits(read(directory)) == []
