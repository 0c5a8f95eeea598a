"""The figures of adversarial pruning, against the numbers in its files; and a run that trains without a search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import report_samples as samples

from tfbnas import report
from tfbnas.report import page, rbcn, style
from tfbnas.report.methods import method_named
from tfbnas.report.reading import read
from tfbnas.results import Limited, SearchResult, TrainingResult

BASE = {"stem": 8, "stage2/stream": 16}
FOUND = {"stem": 6, "stage2/stream": 8}


def masks_after(epoch):
    """Behind the warm-up, two of the stem's and eight of the stream's masks fall to zero."""
    found = {}
    for name, base in BASE.items():
        values = np.linspace(0.5, 1.2, base)
        values[: base - FOUND[name]] *= max(0.0, 1 - (epoch - 2) / 3)
        found[name] = [round(float(value), 4) for value in values] if epoch > 2 else [1.0] * base
    return found


@pytest.fixture
def directory(tmp_path):
    """A run of five epochs, the first two a warm-up."""
    history = []
    for epoch in range(1, 6):
        row = {"epoch": epoch, "loss": 2.0 / epoch, "accuracy": 0.1 * epoch, "cost": 2.0e5 - 2e4 * max(0, epoch - 2)}
        row |= {"real": 0.6, "fake": 0.3 + 0.02 * epoch, "data_loss": 0.1, "filters": 1.0, "sparsity": 0.01 * epoch}
        own = {
            name: {
                "value": float(np.mean(np.array(masks) > 0)),
                "closed": FOUND[name],
                "base": BASE[name],
                "masks": masks,
            }
            for name, masks in masks_after(epoch).items()
        }
        history.append({**row, "seconds": 2.0, "warm_up": epoch <= 2, "choices": own})
    found = samples.architecture("rbcn", "resnet18", FOUND)
    costs = (Limited("memory", "MiB", 2.0**20, 1.5e5, found=1.4e5, expected=1.4e5),)
    samples.put(tmp_path, "search", SearchResult("rbcn", "resnet18", "Share", costs, found, 10.0, history))
    settings = "recipe: rbcn_prune_resnet18\npreset: quick\ndata: {name: cifar10-quick}\nsearch: {epochs: 5}\n"
    (tmp_path / "settings.yaml").write_text(settings)
    return tmp_path


def artists(drawing, narrow=False):
    canvas = style.draw(drawing, narrow=narrow)
    return {artist.get_gid(): artist for artist in canvas.findobj(lambda artist: artist.get_gid())}


def test_the_page_has_the_figures(directory):
    names = [figure.name for figure in page.figures(read(directory), method_named("rbcn"))]
    assert names == ["channels", "choices", "masks", "cut", "path", "verdicts", "cost", "history"]
    text = report.write(directory).read_text(encoding="utf-8")
    assert "Of 24 filters 14 are left, 58 %" in text
    assert all((directory / f"plots/{name}.svg").exists() for name in names)


@pytest.mark.parametrize("narrow", [False, True])
def test_what_is_drawn_is_what_the_files_say(directory, narrow):
    run = read(directory)
    shown = rbcn.masks(run)
    found = artists(lambda small: rbcn.over_time(run, shown, small), narrow)
    line = found["median:stage2/stream"]
    assert line.get_xdata().tolist() == [3, 4, 5]
    assert line.get_ydata().tolist() == [pytest.approx(np.median(masks_after(e)["stage2/stream"])) for e in (3, 4, 5)]
    assert (shown["stage2/stream"][-1][1] == 0).sum() == 8
    found = artists(lambda small: rbcn.by_layer(run, small), narrow)
    assert [found[f"{part}:stem"].get_width() for part in ("left", "cut")] == [6, 2]
    found = artists(lambda small: rbcn.along(run, run.costs[0], small), narrow)
    np.testing.assert_allclose(found["path"].get_xdata(), np.array([1.8e5, 1.6e5, 1.4e5]) / 2**20)
    np.testing.assert_allclose(found["path"].get_ydata(), [30, 40, 50])
    judged = {"The search": rbcn.verdicts(run.history)}
    found = artists(lambda small: rbcn.judgements(judged, small), narrow)
    np.testing.assert_allclose(found["fake:The search"].get_ydata(), [0.36, 0.38, 0.4])


def test_a_run_that_only_trains_has_no_search_on_its_page(tmp_path):
    history = [
        {"epoch": e, "loss": 1.0 / e, "accuracy": 0.2 * e, "real": 0.7, "fake": 0.2 * e, "seconds": 1.0} for e in (1, 2)
    ]
    about = TrainingResult("searched", "resnet18", "searched", 0, samples.architecture("rbcn", "resnet18", {}))
    done = replace(
        about, epochs=2, test={"accuracy": 0.4}, memory={"paper": 1e5}, seconds=2.0, history=history, done=True
    )
    samples.put(tmp_path, "train-searched", done)
    (tmp_path / "settings.yaml").write_text("recipe: rbcn_resnet18\npreset: quick\ndata: {name: cifar10-quick}\n")
    text = report.write(tmp_path).read_text(encoding="utf-8")
    assert "ResNet-18, trained on" in text and "The network classifies 40.00 %" in text
    assert "<h2>Search</h2>" not in text and "The search" not in text and "Discriminators" in text


def test_a_damaged_history_draws_what_is_left(directory):
    samples.change(
        directory, "search", history=[{"epoch": 1}, {"epoch": 2, "choices": {"stem": {"value": 1.0, "masks": "x"}}}]
    )
    assert "masks" not in [figure.name for figure in page.figures(read(directory), method_named("rbcn"))]
