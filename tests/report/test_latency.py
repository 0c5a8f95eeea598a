"""Predicted and measured times on the page, against the files; budgets of time; runs that go on."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import report_samples as samples

from tfbnas.report import __main__, bars, latency, page, style
from tfbnas.report.choices import choices
from tfbnas.report.history import expected
from tfbnas.report.reading import read

AUDIT = samples.export(samples.TINY)["audit"]


@pytest.fixture
def path(tmp_path) -> Path:
    samples.run(tmp_path, samples.TINY, "vgg11", rounds=2)
    (tmp_path / "export.json").write_text(json.dumps(samples.export(samples.TINY)))
    (tmp_path / "latency.json").write_text(json.dumps(samples.latency(samples.export(samples.TINY))))
    return tmp_path


def measure(path: Path, **options) -> dict:
    result = samples.benchmark(samples.export(samples.TINY), **options)
    (path / "benchmark.json").write_text(json.dumps(result))
    return result


DRAWINGS = style.svg
BLANK = '<svg viewBox="0 0 9 9" width="9pt" height="9pt" xmlns="http://www.w3.org/2000/svg"></svg>'


@pytest.fixture(autouse=True)
def words_only(monkeypatch):
    """Drawing takes most of the time of a page, and these tests read its words."""
    monkeypatch.setattr(style, "svg", lambda drawing, narrow=False: BLANK)


def text_of(path: Path) -> str:
    source = page.write(path).read_text(encoding="utf-8")
    body = re.sub(r"<(style|svg).*?</\1>", " ", source, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_each_operator_has_its_predicted_time(path):
    run = read(path)
    first, second = latency.predictions(run)
    assert (first.name, second.name) == ("raspberry_pi_4b", "pixel1")
    for prediction, factor in ((first, 2), (second, 1)):
        expected = [factor * (samples.LATENCY[row["operator"]][1] + k / 1000) for k, row in enumerate(AUDIT)]
        assert latency.predicted_rows(AUDIT, prediction) == pytest.approx(expected)
        assert prediction.total == pytest.approx(sum(expected))


def test_a_layer_that_became_two_operators_is_timed_once():
    audit = [{"layer": "bn", "operator": "MUL"}, {"layer": "bn", "operator": "ADD"}]
    operators = [{"layer": "bn", "operator": "normalization", "milliseconds": 2.0}]
    prediction = latency.Prediction("a", "A", "", "", [], operators)
    assert latency.predicted_rows(audit, prediction) == [2.0, None]


def test_predictions_are_called_a_model_with_sources_and_errors(path):
    text = text_of(path)
    assert "Board pixel1 (core), one thread: model, not a measurement. Untested. Sources: A &lt;paper>." in text or (
        "Board pixel1 (core), one thread: model, not a measurement. Untested. Sources: A &lt;paper&gt;." in text
    )
    assert "Predicted latency by layer" in text and "Nothing has been measured yet" in text
    assert "python -m tfbnas.device benchmark" in text and "python -m tfbnas.report" in text
    assert "a model, not measured" in text
    table = latency.by_kind(read(path))
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["Binary convolutions"][1] == "3 %, up to 12 %"
    assert rows["Dense layers"][1] == "not known"
    assert "Measured" not in [name for name, _ in table.heads]


def test_errors_that_only_some_operators_have():
    rows = [{"operator": "a", "milliseconds": 1.0, "mean_error": 0.1, "largest_error": 0.2}, {"milliseconds": 1.0}]
    assert latency._error(rows) == "10 %, up to 20 %; in part not known"


def test_the_measurement_stands_beside_the_predictions(path):
    measured = measure(path)
    text = text_of(path)
    for told in ("3.21 ms", "0.045 ms (1.4%)", "3.14 ms", "12.9 MB", "measured on Board &lt;9&gt;", "with performance"):
        assert told in text, told
    assert "Nothing has been measured yet" not in text
    run = read(path)
    times = [row["milliseconds"] for row in measured["operators"]]
    assert latency.measured_rows(run, AUDIT) == times
    table = latency.by_kind(run)
    assert table.rows[-1][-1] == latency.rough(sum(times))
    binary = sum(row["milliseconds"] for row in measured["operators"] if row["type"] == "LceBconv2d")
    assert table.rows[0][0] == "Binary convolutions" and table.rows[0][-1] == latency.rough(binary)


@pytest.mark.parametrize("narrow", [False, True])
def test_latency_by_layer(path, narrow):
    measured = measure(path)
    run = read(path)
    figure = style.draw(lambda small: latency.by_layer(run, small), narrow=narrow)
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "Board raspberry_pi_4b, predicted",
        "Board pixel1, predicted",
        "Measured",
    ]
    totals = [*(prediction.total for prediction in latency.predictions(run))]
    totals.append(sum(row["milliseconds"] for row in measured["operators"]))
    for axis, total in zip(figure.axes, totals, strict=True):
        assert sum(bar.get_width() for bar in axis.patches) == pytest.approx(total)
    (bar,) = [bar for bar in figure.axes[0].patches if bar.get_gid() == "binary:conv2_conv"]
    k = next(i for i, row in enumerate(AUDIT) if row["layer"] == "conv2_conv")
    assert bar.get_width() == pytest.approx(2 * (0.2 + k / 1000))


def test_operators_in_xnnpack_are_told_as_one(path):
    result = samples.benchmark(samples.export(samples.TINY))
    kept = [row for row in result["operators"] if row["type"].startswith("Lce")]
    result["operators"] = [{"type": "TfLiteXNNPackDelegate", "name": "", "milliseconds": 0.7}, *kept]
    (path / "benchmark.json").write_text(json.dumps(result))
    run = read(path)
    rows = {row[0]: row[-1] for row in latency.by_kind(run).rows}
    assert rows["Float operators in XNNPACK, together"] == "0.700" and rows["Float convolutions"] == ""
    times = latency.measured_rows(run, AUDIT)
    assert [time is None for time in times] == [not row["operator"].startswith("Lce") for row in AUDIT]
    text_of(path)


def test_a_measurement_of_another_file_is_not_shown_as_this_one(path):
    (path / "model.tflite").write_bytes(b"the model")
    measure(path, sha256=hashlib.sha256(b"an older model").hexdigest())
    text = text_of(path)
    assert "measured another file" in text and "measured on Board" not in text
    assert latency.measured_rows(read(path), AUDIT) == [None] * len(AUDIT)
    measure(path, sha256=hashlib.sha256(b"the model").hexdigest())
    assert "measured another file" not in text_of(path)


def test_x86_times_are_no_headline(path):
    measure(path, machine="x86_64")
    assert latency.headline(read(path))[0] == "Predicted latency"


@pytest.mark.parametrize(
    "content",
    [
        {"predictions": 3},
        {"predictions": [{"operators": [{"layer": 4, "operator": None, "milliseconds": "x"}]}, 7]},
        [],
    ],
)
def test_damaged_files_cost_nothing_else(path, content, monkeypatch):
    monkeypatch.setattr(style, "svg", lambda drawing, narrow=False: style.draw(drawing, narrow=narrow) and BLANK)
    (path / "latency.json").write_text(json.dumps(content))
    (path / "benchmark.json").write_text(json.dumps({"mean": 2.0, "operators": 5, "warnings": 1, "device": None}))
    text = text_of(path)
    assert "could not be drawn" not in text and "2.00 ms" in text


def test_a_latency_budget(path):
    samples.latency_budget(path, limit=2.5, cost=2.4)
    text = text_of(path)
    assert (
        "in 0.119 MiB and 2.400 ms on Board pixel1, as a model of the device predicts, 96 % of its budget of 2.500 ms"
        in text
    )
    assert "Predicted latency 2.400 ms budget 2.500 ms, 96 % used" in text
    assert "Expected latency against the budget" in text and "Accuracy against cost" in text
    assert latency.predictions(read(path))[0].name == "pixel1"


def test_a_search_that_runs(path, monkeypatch):
    monkeypatch.setattr(style, "svg", lambda drawing, narrow=False: style.draw(drawing, narrow=narrow) and BLANK)
    samples.run(path, samples.TINY, "vgg11", rounds=5, without_bei=False)
    done = samples.unfinished_search(path)
    (path / "latency.json").unlink()
    damaged = path / f"checkpoints/search/step-{done + 1:06d}"
    damaged.mkdir()
    (damaged / "state.json").write_text('{"history": [')
    text = text_of(path)
    assert f"Search {done} rounds of 5 so far" in text and "The search goes on." in text
    assert "Channels per layer" in text and "Expected memory" in text and "could not be drawn" not in text
    run = read(path)
    assert len(run.history) == done and choices(run.history[0]).keys() == samples.TINY.keys()
    assert len(expected(run, run.costs[0])[1]) == done


def test_a_training_that_runs(path):
    history = [{"epoch": epoch, "loss": 2.0, "accuracy": 0.3} for epoch in (1, 2, 3)]
    for key, label in (("searched", "DMS"), ("uniform-9.00", "BNN 9x")):
        about = samples.training(key, label, "baseline", 9, {}, memory=1.0, level=0.5, epochs=9)
        samples.checkpoint(path, f"train-{key}", replace(about, done=False), history)
    (going,) = read(path).in_training
    assert (going.key, going.history) == ("uniform-9.00", history)
    text = text_of(path)
    assert "4 networks, BNN 9x after 3 epochs" in text and "still in training" in text


def test_files_of_plots_have_paper_a_margin_and_a_title():
    document = style.standalone(DRAWINGS(lambda narrow: style.canvas(narrow, 100)[0]), title="A < B & C")
    root = ElementTree.fromstring(document)
    title, paper = list(root)[:2]
    assert title.text == "A < B & C" and paper.get("style") == "fill: #ffffff"
    x, y, width, height = (float(number) for number in root.get("viewBox").split())
    assert x < 0 and y < 0 and (float(root.get("width")), float(root.get("height"))) == (width, height)
    assert width == pytest.approx(style.PAGE_WIDTH - 2 * x) and height == pytest.approx(100 - 2 * y)
    assert [float(paper.get(key)) for key in ("x", "y", "width", "height")] == [x, y, width, height]


def test_many_layers_keep_their_sum():
    layers = {f"layer{i}": [{"a": float(i)}, {"a": 1.0, "b": 2.0}] for i in range(40)}
    shown = bars.largest(layers, 10)
    assert len(shown) == 11 and list(shown)[-1] == "30 others"
    for panel, total in ((0, sum(range(40))), (1, 120.0)):
        assert sum(sum(parts[panel].values()) for parts in shown.values()) == total


def test_the_command_line(tmp_path, capsys):
    (tmp_path / "settings.yaml").write_text("seed: 0\n")
    assert __main__.main([str(tmp_path)]) == 0
    assert Path(capsys.readouterr().out.strip()) == tmp_path / "report.html"
    command = [sys.executable, "-m", "tfbnas.report", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "run_directory" in done.stderr
