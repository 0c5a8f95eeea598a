"""The page: what stands in it, that it is self-contained and whole, and what it says of runs that are not finished."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import report_samples as samples

import tfbnas.files
from tfbnas import paired
from tfbnas.errors import UserError
from tfbnas.report import __main__, dms, page, trained, write
from tfbnas.report.figure import Figure
from tfbnas.report.methods import Method, Published
from tfbnas.report.reading import read

FIGURES = [
    "accuracy-memory",
    "training",
    "channels",
    "choices",
    "training-error",
    "cost",
    "history",
    "candidates",
    "size-by-layer",
]


class Page(HTMLParser):
    """Elements with their attributes, and the visible text."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.hidden = False
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.hidden = tag == "style"

    def handle_endtag(self, tag):
        self.hidden = False

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)

    def rows(self, table: str) -> list[list[str]]:
        body = re.search(rf'<table class="{table}">.*?</table>', self.source, re.DOTALL)[0]
        lines = re.findall(r"<tr.*?</tr>", body.partition("<tbody>")[2], re.DOTALL)
        cells = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", line, re.DOTALL) for line in lines]
        return [[html.unescape(cell).strip() for cell in row] for row in cells]


@pytest.fixture(scope="module")
def resnet(tmp_path_factory) -> Path:
    path = samples.run(tmp_path_factory.mktemp("resnet"), samples.RESNET, "resnet18")
    assert write(path) == path / "report.html"
    return path


@pytest.fixture
def no_figures(monkeypatch):
    """For tests that read the words only: to draw the figures takes two seconds."""
    monkeypatch.setattr(page, "plots", lambda path, figures: [])


def test_every_figure_is_on_the_page_and_a_file(resnet):
    content = Page(resnet / "report.html")
    ids = [attributes.get("id") for tag, attributes in content.elements if tag == "figure"]
    assert ids == [f"fig-{name}" for name in FIGURES]
    assert sorted(file.name for file in (resnet / "plots").iterdir()) == sorted(f"{name}.svg" for name in FIGURES)
    for file in (resnet / "plots").iterdir():
        assert ElementTree.parse(file).getroot().tag.endswith("svg")
    assert "could not be drawn" not in content.text
    assert sum(tag == "svg" for tag, _ in content.elements) == 2 * len(FIGURES)
    for number, name in enumerate(FIGURES, start=1):
        figure = content.source.split(f'id="fig-{name}"')[1].split("</figure>")[0]
        assert f"<b>Figure {number}.</b>" in figure


def test_captions_name_the_figures_of_the_paper(resnet):
    text = Page(resnet / "report.html").text
    for mirrored in ("figure 4", "figure 3", "figure 1", "table 1"):
        assert f"Mirrors {mirrored} of the paper" in text


def test_results_stand_beside_the_paper(resnet):
    rows = {row[0]: row[1:] for row in Page(resnet / "report.html").rows("results")}
    stored = json.loads((resnet / "stages/train-searched.json").read_text())
    assert rows["DMS"][0] == f"{100 * stored['test']['accuracy']:.2f}"
    assert rows["DMS"][1] == "0.119"
    assert rows["DMS"][2] == f"{stored['memory']['deployed'] / 2**20:.3f}"
    assert rows["DMS"][4:] == ["DMS-A", "89.32", "0.10"]
    assert rows["BNN 2x"][4:] == ["BNN 2×", "90.25", "0.40"]
    assert rows["uniform, equal memory"][4:] == ["", "", ""]
    missing = Page(resnet / "report.html").rows("results")[-4:]
    assert missing[0][0] == "In the paper only, not trained in this run."
    assert sorted(row[-3] for row in missing) == ["BNN 3×", "BNN 4×", "DMS-B", "Full precision"]
    assert [len(row) for row in missing] == [4, 3, 3, 3] and 'rowspan="4"' in Page(resnet / "report.html").source


def test_summary_compares_with_equal_memory(resnet):
    text = Page(resnet / "report.html").text
    accuracy = {
        key: 100 * samples.take(resnet, f"train-{key}").test["accuracy"]
        for key in ("searched", "equal-memory", "uniform-1.00")
    }
    gain = accuracy["searched"] - accuracy["equal-memory"]
    assert "ResNet-18, searched with DMS on CIFAR-10" in text
    assert f"{gain:.1f} percentage points more than “uniform, equal memory” (0.120 MiB)" in text
    assert f"{accuracy['searched'] - accuracy['uniform-1.00']:.1f} more than “BNN 1x”" in text
    assert "99 % of its budget of 0.120 MiB" in text


def test_a_budget_that_is_left_is_explained(no_figures, tmp_path):
    path = samples.run(tmp_path, samples.RESNET, "resnet18")
    samples.change(path, "search", unspent="The network uses 90.1 % of its budget: `fill_budget` is false.")
    write(path)
    text = Page(path / "report.html").text
    assert "than “BNN 1x”" in text and "The network uses 90.1 % of its budget: fill_budget is false." in text


def test_what_chance_leaves_open(resnet, no_figures, tmp_path):
    """Of n independent images the number that is classified correctly is binomial."""
    draws = np.random.default_rng(0).binomial(500, 0.4, 100_000) / 500
    assert f"standard error of {100 * draws.std():.2g} percentage points" in trained.chance(0.4, 500)
    assert "With 10000 test images an accuracy has a standard error of 0.3" in Page(resnet / "report.html").text
    without = samples.run(tmp_path, samples.TINY, "vgg11", uniform=(1,))
    for file in (without / "stages").glob("train-*.json"):
        samples.change(without, file.stem, test_images=0)
    assert trained.uncertainty(read(without)) == "" and "standard error" not in write(without).read_text()


def test_a_difference_has_its_interval_on_the_same_images(no_figures, tmp_path):
    """b = 900 and c = 500 of 10 000: 4.0 points, and 4.0 +- 1.96 sqrt(1401 - 16) / 100 = 3.3 to 4.7."""
    samples.run(tmp_path, samples.TINY, "vgg11", rounds=2)
    better, other = np.zeros((2, 10_000), bool)
    better[:5900], other[:5000], other[5900:6400] = True, True, True
    samples.change(tmp_path, "train-searched", test={"accuracy": 0.59}, correct=paired.packed(better))
    samples.change(tmp_path, "train-equal-memory", test={"accuracy": 0.55}, correct=paired.packed(other))
    text = Page(write(tmp_path)).text
    assert re.search(r"4\.0 percentage points more than “uniform, equal memory” \([^;)]*; 95 % interval ", text)
    assert "95 % interval +3.3 to +4.7: better" in text and "+4.0 points over “uniform, equal memory”, better" in text
    samples.change(tmp_path, "train-equal-memory", test={"accuracy": 0.585}, correct=paired.packed(better))
    assert "95 % interval −0.0 to +0.0: not distinguishable" in Page(write(tmp_path)).text


def test_a_loss_is_called_a_loss(no_figures, tmp_path):
    samples.run(tmp_path, samples.TINY, "vgg11", rounds=2)
    samples.change(tmp_path, "train-searched", test={"accuracy": 0.5})
    text = Page(write(tmp_path)).text
    assert re.search(r"That is \d+\.\d percentage points less than “uniform, equal memory”", text)
    assert re.search(r"−\d+\.\d points over “uniform, equal memory”", text)


def test_the_exported_model_is_told(resnet):
    content = Page(resnet / "report.html")
    assert "Largest relative error 2.1e-06" in content.text and "Same predicted class 256 of 256" in content.text
    rows = content.rows("audit")
    assert len(rows) == 2 + 2 * len(samples.RESNET)
    channels = json.loads((resnet / "architecture.json").read_text())["choices"]["stem"]
    constants = f"{8 * channels} B"
    assert rows[2] == ["stem_conv", "LceBconv2d", "binary x binary", f"8 × 8 × {channels}", "1.1 KiB", constants, "yes"]
    assert rows[1][:2] == ["", "LceQuantize<sup>1</sup>"]
    assert content.text.count("packs the signs for stem_conv") == 1
    assert rows[1][3].endswith("words") and rows[1][4:] == ["", "", ""]


def test_settings_and_commands(resnet):
    text = Page(resnet / "report.html").source
    assert f"python -m tfbnas.recipes.dms_resnet18 --config {resnet}/settings.yaml" in text
    assert f"python -m tfbnas.recipes.dms_resnet18 --run_dir {resnet}" in text
    assert (resnet / "settings.yaml").read_text().rstrip() in text


def test_nothing_is_loaded_and_nothing_runs(resnet):
    content = Page(resnet / "report.html")
    assert "script" not in {tag for tag, _ in content.elements}
    for tag, attributes in content.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "data", "srcset", "action"):
                assert value.startswith(("data:", "#")), (tag, value)
    assert not re.search(r"https?://|@import|url\((?!#)", content.source)


def test_ids_are_unique_and_references_resolve(resnet):
    content = Page(resnet / "report.html")
    ids = [attributes["id"] for _, attributes in content.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:url\(#|href="#)([^)"]+)', content.source)
    assert used and set(used) <= set(ids)


def test_what_a_user_names_is_text_not_markup(tmp_path):
    hostile = "<script>alert('$1$')</script>&amp;\"><b>"
    path = tmp_path / "run <b> & 'co'"
    names = {f"{hostile}{i}": 16 for i in range(3)}
    samples.run(path, names, "mine", rounds=2, data='"<img src=x onerror=alert(1)>"', preset="'<i>'")
    samples.change(path, "train-uniform-1.00", label=hostile)
    content = Page(write(path))
    assert not {"script", "img", "b", "i"} & {tag for tag, attributes in content.elements if tag != "b"}
    assert not any(name.startswith("on") for _, attributes in content.elements for name in attributes)
    assert "could not be drawn" not in content.text
    assert content.rows("results")[2][0] == hostile
    for file in (path / "plots").iterdir():
        ElementTree.parse(file)
    assert "--run_dir '" in html.unescape(content.source)  # quoted for the shell


def test_runs_that_are_not_finished(tmp_path):
    empty = Page(write(tmp_path))
    for sentence in (
        "No network has been trained yet",
        "The search has not finished its first epoch yet",
        "No model has been exported",
    ):
        assert sentence in empty.text
    assert not [tag for tag, _ in empty.elements if tag in ("figure", "table")]

    samples.run(tmp_path, samples.TINY, "vgg11", rounds=3, without_bei=False)
    (tmp_path / "export.json").unlink()
    for file in (tmp_path / "stages").glob("train-*.json"):
        file.unlink()
    searched = Page(write(tmp_path))
    assert "Search 3 rounds Training not yet Export not yet" in searched.text
    assert "No network has been trained yet" in searched.text and "VGG-11, searched with DMS" in searched.text
    figures = [attributes["id"] for tag, attributes in searched.elements if tag == "figure"]
    assert figures == [f"fig-{name}" for name in FIGURES[2:8]]


@pytest.mark.parametrize("rounds, epochs, uniform", [(1, 1, ()), (60, 2, (1,))])
def test_extreme_sizes(tmp_path, rounds, epochs, uniform):
    samples.run(tmp_path, samples.TINY, "vgg11", rounds=rounds, epochs=epochs, uniform=uniform)
    if not uniform:
        (tmp_path / "stages/train-equal-memory.json").unlink()
    content = Page(write(tmp_path))
    assert "could not be drawn" not in content.text
    assert f"Search {rounds} round" in content.text


def test_damaged_and_strange_files(tmp_path, caplog):
    samples.run(tmp_path, samples.TINY, "vgg11", rounds=2)
    (tmp_path / "stages/train-uniform-1.00.json").write_text('{"accuracy": 0.')
    (tmp_path / "export.json").write_text("[1, 2]")
    (tmp_path / "settings.yaml").write_text("a: [")
    history = samples.take(tmp_path, "search").history
    history[0] |= {"cost": float("nan"), "epochs": None, "choices": {"conv1": 3}}
    history[1]["choices"]["conv2"]["value"] = float("inf")
    history[1]["choices"]["conv1"] |= {"low": None, "candidates": 3, "closed": "?", "base": "?"}
    samples.change(tmp_path, "search", history=history)
    samples.change(tmp_path, "train-searched", history=5, memory=None, test={"accuracy": "?"}, costs=[])
    unknown = samples.take(tmp_path, "train-equal-memory").to_dict() | {"wheels": 4}
    samples.write(tmp_path / "stages/train-equal-memory.json", unknown)
    content = Page(write(tmp_path))
    assert "train-uniform-1.00.json is damaged" in content.text
    assert "settings.yaml" in content.text and "is damaged" in content.text
    assert "could not be drawn" not in content.text
    assert "BNN 2x" in content.text
    assert "train-equal-memory.json is damaged" in content.text


@pytest.mark.parametrize(
    "place", ["stages/search.json", "stages/train-searched.json", "checkpoints/search/step-000001"]
)
def test_older_runs_are_refused_in_one_sentence(tmp_path, place, capsys):
    old = {"history": [{"round": 0, "loss": 1.0}], "seconds": 3.0}
    samples.write(tmp_path / place / "state.json" if "step" in place else tmp_path / place, old)
    assert __main__.main([str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "to have format 2" in said[0] and "an older tfbnas" in said[0] and place in said[0]


def test_a_figure_that_fails_costs_only_itself(tmp_path, monkeypatch, caplog):
    def broken(narrow: bool):
        raise ValueError("no <numbers>")

    def figures(run):
        return [Figure("broken", "Broken", "", broken)]

    def published(run):
        return [Published("New", "searched", 90.0, 0.2, "searched")]

    monkeypatch.setattr(dms, "METHOD", Method(published=published, figures=figures))
    samples.run(tmp_path, samples.TINY, "vgg11", rounds=2)
    content = Page(write(tmp_path))
    assert "This figure could not be drawn (ValueError: no <numbers>)." in content.text
    assert "Figure broken could not be drawn" in caplog.text
    assert content.rows("results")[0][-2:] == ["90.00", "0.20"]
    assert (tmp_path / "plots/training.svg").exists() and not (tmp_path / "plots/broken.svg").exists()


@pytest.mark.parametrize("modules", [False, True])
def test_a_method_without_a_module_has_all_shared_figures(tmp_path, modules):
    """The page of a random search, of which the report knows nothing."""
    choices = dict.fromkeys(samples.FABRIC, True) if modules else samples.RESNET
    samples.drawn_at_random(tmp_path, choices, "resnet_fabric" if modules else "resnet18")
    content = Page(write(tmp_path))
    assert ("ResNet Fabric" if modules else "ResNet-18") + ", searched with dice on CIFAR-10" in content.text
    assert "Search 12 epochs" in content.text and "could not be drawn" not in content.text
    figures = [attributes["id"] for tag, attributes in content.elements if tag == "figure"]
    chosen = ["fig-architecture" if modules else "fig-channels", "fig-choices"]
    assert figures == ["fig-accuracy-memory", "fig-training", *chosen, "fig-cost", "fig-history"]
    assert len(content.rows("results")[0]) == 5  # no paper beside it


def test_the_page_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    samples.run(tmp_path, samples.TINY, "vgg11", rounds=2)
    before = write(tmp_path).read_bytes()
    plot = (tmp_path / "plots/cost.svg").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tfbnas.files.os, "replace", full)
    with pytest.raises(UserError, match="disk is full"):
        write(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert (tmp_path / "plots/cost.svg").read_bytes() == plot
    assert not [file for file in tmp_path.rglob(".*")]


def test_no_directory_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"Expected `run_directory`.*nowhere"):
        write(tmp_path / "nowhere")


def test_same_run_same_plots_and_matplotlib_untouched(resnet):
    before = dict(matplotlib.rcParams)
    plots = {file.name: file.read_bytes() for file in (resnet / "plots").iterdir()}
    write(resnet)
    assert {file.name: file.read_bytes() for file in (resnet / "plots").iterdir()} == plots
    assert dict(matplotlib.rcParams) == before


def test_tensorflow_is_not_imported():
    code = "import sys, tfbnas.report; sys.exit('tensorflow' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_templates_are_found_as_package_files():
    folder = Path(page.__file__).parent / "templates"
    assert {file.name for file in folder.iterdir()} == {"report.html.j2", "style.css.j2", "sweep.html.j2"}


def test_the_budget_belongs_to_the_memory_that_the_search_counts(tmp_path):
    run = read(samples.run(tmp_path, samples.TINY, "vgg11", rounds=2))
    assert [panel.limit is not None for panel in trained.memory_panels(run)] == [True, False]
    for one in run.trainings:
        samples.change(tmp_path, f"train-{one.key}", costs={"memory": one.memory["deployed"]})
    assert [panel.limit is not None for panel in trained.memory_panels(read(tmp_path))] == [False, True]


def test_other_costs_stand_in_the_table_and_against_the_accuracy(tmp_path):
    samples.run(tmp_path, samples.TINY, "vgg11", rounds=2)
    samples.latency_budget(tmp_path, limit=2.5, cost=2.4)
    content = Page(write(tmp_path))
    rows = {row[0]: row[1:] for row in content.rows("results")}
    assert rows["DMS"][1] == "2.400" and rows["BNN 1x"][1] == "4.800"
    (panel,) = trained.cost_panels(read(tmp_path))
    assert (panel.unit, panel.limit, panel.values["searched"]) == ("ms", 2.5, 2.4)
    assert "fig-accuracy-cost" in content.source


def test_a_measured_cost_of_the_searched_network_is_what_the_search_found(tmp_path):
    samples.run(tmp_path, samples.TINY, "vgg11", rounds=2)
    samples.latency_budget(tmp_path, limit=2.5, cost=2.4)
    for file in (tmp_path / "stages").glob("train-*.json"):
        samples.change(tmp_path, file.stem, costs={})
    run = read(tmp_path)
    rows = {row.label: row.cells for row in trained.table(run, []).rows}
    assert rows["DMS"][1] == "2.400" and rows["BNN 1x"][1] == ""
    assert trained.cost_panels(run)[0].values == {"searched": 2.4}
