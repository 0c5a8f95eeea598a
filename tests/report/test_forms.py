"""The network that was found beside int8 and float32: tables, sentences and the figure, against the files."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import report_samples as samples

from tfbnas.paired import packed
from tfbnas.report import forms, page, style, summary, trained
from tfbnas.report.methods import method_named
from tfbnas.report.reading import read

IMAGES = 1000
FORMS = [
    {"form": "binary", "bytes": 115_000, "milliseconds": 2.5},
    {"form": "int8", "bytes": 460_000, "milliseconds": 7.5},
    {"form": "float32", "bytes": 1_725_000, "milliseconds": None},
]
WIDTHS = [
    {"channels": 2, "binary": 2.1, "int8": 2.0},
    {"channels": 8, "binary": 2.2, "int8": 2.7},
    {"channels": 16, "binary": 2.5, "int8": 7.5},
    {"channels": 64, "binary": 11.1, "int8": 88.8},
]


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A run with int8 networks of the same size, which is better, and of the same time, which is worse."""
    blank = '<svg viewBox="0 0 9 9" width="9pt" height="9pt" xmlns="http://www.w3.org/2000/svg"></svg>'
    monkeypatch.setattr(style, "svg", lambda drawing, narrow=False: blank)
    samples.run(tmp_path, samples.TINY, "vgg11", rounds=2, uniform=(), without_bei=False)
    (tmp_path / "forms.json").write_text(json.dumps({"device": "board", "forms": FORMS, "widths": WIDTHS}))
    (tmp_path / "model.tflite").write_bytes(bytes(115_000))
    found = samples.take(tmp_path, "train-searched")
    right = np.arange(IMAGES) < 700
    shown = {"correct": packed(right), "test_images": IMAGES, "milliseconds": 2.5}
    samples.put(tmp_path, "train-searched", replace(found, test={"accuracy": 0.7}, **shown))
    for key, label, count, file, time in (
        ("int8-equal-memory", "int8, equal size", 800, 114_000, 3.4),
        ("int8-equal-latency", "int8, equal time", 650, 90_000, 2.45),
    ):
        one = replace(found, key=key, label=label, role="reference", order=50, form="int8", memory={}, costs={})
        test = {"accuracy": count / IMAGES, "float_accuracy": 0.9}
        known = {
            "correct": packed(np.arange(IMAGES) < count),
            "test_images": IMAGES,
            "file": file,
            "milliseconds": time,
        }
        samples.put(tmp_path, f"train-{key}", replace(one, test=test, **known))
    return tmp_path


def test_the_forms_stand_with_how_many_times_more_they_take(path):
    rows = {row.name: row.cells for row in forms.table(read(path))}
    assert rows["Found, binary"] == ["112.3 KiB", "", "2.50", ""]
    assert rows["The same widths, int8"] == ["449.2 KiB", "4.0 ×", "7.50", "3.0 ×"]
    assert rows["The same widths, float32"] == ["1.645 MiB", "15.0 ×", "", ""]


def test_the_first_sentence_names_the_int8_networks_of_the_same_size_and_time(path):
    run = read(path)
    first, second, *_ = re.split(r"(?<=[.])\s", summary.lead(run, method_named(run.method)))
    assert "at the same size an int8 network (111.3 KiB) classifies 80.00 %" in first
    assert "at the same time an int8 network (2.45 ms) classifies 65.00 %" in first
    assert second == "int8 wins here at the same size."


def test_where_int8_wins_the_page_says_so_and_from_which_width_on_binary_is_faster(path):
    text = forms.verdict(read(path))
    assert "At the same size int8 has 10.0 points more (95 % interval +8." in text and "better)" in text
    assert "at the same time int8 has 5.0 points less" in text
    assert "So int8 wins here at the same size." in text
    assert (
        "same widths from 8 channels of the first layer on: with 16 channels 3.0 times, as fast as int8 with 2;" in text
    )
    assert "with 64 channels 8.0 times, as fast as int8 with 16." in text
    assert " ".join(text.split()) in " ".join(re.sub(r"<[^>]+>", " ", page.write(path).read_text()).split())


def test_where_int8_does_not_win_nothing_is_said_of_widths(path):
    # Two images more are no win.
    known = {"test": {"accuracy": 0.702}, "correct": packed(np.arange(IMAGES) < 702)}
    samples.change(path, "train-int8-equal-memory", **known)
    text = forms.verdict(read(path))
    assert text and "wins" not in text and "channels" not in text and not forms.won(read(path))


def test_the_table_and_the_figure_have_bytes_and_times_of_all_that_are_known(path):
    run = read(path)
    table = trained.table(run, ())
    column = [head for head, _ in table.heads].index("File")
    cells = {row.label: row.cells[column : column + 2] for row in table.rows}
    assert cells["int8, equal size"] == ["111.3 KiB", "3.40"] and cells["DMS"] == ["112.3 KiB", "2.50"]
    size, time = forms.panels(run)
    assert size.values == {key: pytest.approx(value / 1024) for key, value in (
        ("searched", 115_000), ("int8-equal-memory", 114_000), ("int8-equal-latency", 90_000))}  # fmt: skip
    assert time.values["int8-equal-latency"] == 2.45
    # An int8 network is not compared as a binary one of the same memory is.
    assert {gain.other.form for gain in trained.gains(run)} == {"binary"}


def test_without_int8_the_page_is_as_ever(path):
    for stage in ("train-int8-equal-memory", "train-int8-equal-latency"):
        (path / f"stages/{stage}.json").unlink()
    run = read(path)
    assert forms.beside(run) == forms.verdict(run) == "" and not forms.figures(run)
    assert "File" not in dict(trained.table(run, ()).heads)
    (path / "forms.json").unlink()
    assert forms.table(read(path)) == []
