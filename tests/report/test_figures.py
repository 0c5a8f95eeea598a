"""The plots show the numbers of the run: the artists of each figure against the files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import report_samples as samples

from tfbnas.report import choices, dms, exported, history, style, trained, values, widths
from tfbnas.report.choices import ordered
from tfbnas.report.methods import method_named
from tfbnas.report.reading import read
from tfbnas.report.values import MIB
from tfbnas.results import Limited

METHOD = dms.METHOD


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return read(samples.run(tmp_path_factory.mktemp("figures"), samples.RESNET, "resnet18", rounds=7, uniform=(1, 3)))


def artist(figure, gid):
    found = figure.findobj(lambda a: a.get_gid() == gid)
    assert len(found) == 1, f"{gid}: {len(found)}"
    return found[0]


@pytest.fixture(params=[False, True], ids=["wide", "narrow"])
def narrow(request):
    return request.param


def drawn(function, run, narrow):
    figure = style.draw(lambda small: function(run, small), narrow=narrow)
    for axes in figure.axes:
        if axes.get_visible():
            assert axes.get_xlabel() or axes.get_shared_x_axes().get_siblings(axes), "an axis without a name"
    return figure


def test_channels(run, narrow):
    figure = drawn(lambda run, small: widths.draw(run, method_named("dms"), small), run, narrow)
    for name, choice in run.history[-1]["choices"].items():
        assert artist(figure, f"searched:{name}").get_width() == choice["closed"]
        assert artist(figure, f"base:{name}").get_width() == choice["base"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(samples.RESNET)
    equal = next(one for one in run.trainings if one.key == "equal-memory").architecture["choices"]
    np.testing.assert_array_equal(artist(figure, "baseline").get_xdata(), [equal[name] for name in samples.RESNET])
    assert [text.get_text() for text in figure.legends[0].texts] == ["DMS", "Base, 1×", "uniform, equal memory"]
    low, high = figure.axes[0].get_ylim()
    assert low > high, "the first layer is on top"


def test_choices_with_bands(run, narrow):
    (shown,) = choices.figures(run, METHOD)
    assert shown.title == "Expansion ratio during the search"
    figure = drawn(lambda run, small: shown.draw(small), run, narrow)
    for name in samples.RESNET:
        own = [row["choices"][name] for row in run.history]
        line = artist(figure, f"value:{name}")
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 8))
        np.testing.assert_allclose(line.get_ydata(), [choice["value"] for choice in own])
        corners = artist(figure, f"band:{name}").get_paths()[0].vertices
        for r in range(7):
            edge = corners[corners[:, 0] == r + 1, 1]
            np.testing.assert_allclose([edge.min(), edge.max()], [own[r]["low"], own[r]["high"]])


def test_training_error(run, narrow):
    figure = drawn(dms.training_error, run, narrow)
    for stage in ("search", "search-no-bei"):
        expected = [100 - 100 * e["accuracy"] for row in run.searches[stage].history for e in row["epochs"]]
        line = artist(figure, f"error:{stage}")
        np.testing.assert_allclose(line.get_ydata(), expected)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, len(expected) + 1))


def test_training_error_without_epochs_takes_the_rounds():
    x, y, ends = dms.errors([{"accuracy": 0.25}, {"accuracy": None}, {"accuracy": 0.75}])
    assert (x, y, ends) == ([1, 3], [75, 25], [1, 2, 3])


def memory(run, narrow):
    return history.cost_over_epochs(run, METHOD, run.costs[0], narrow)


def test_memory_against_the_budget(run, narrow):
    figure = drawn(memory, run, narrow)
    expected = [row["cost"] / MIB for row in run.history]
    np.testing.assert_allclose(artist(figure, "cost").get_ydata(), expected)
    np.testing.assert_allclose(artist(figure, "budget").get_ydata(), run.costs[0].limit / MIB)
    np.testing.assert_allclose(artist(figure, "found").get_ydata(), run.searched.memory["paper"] / MIB)
    low, high = figure.axes[0].get_ylim()
    assert low < min(expected) and high > max(expected)
    assert figure.axes[0].get_ylabel() == "Memory (MiB)"


def test_latency_against_the_budget(tmp_path, narrow):
    path = samples.run(tmp_path, samples.TINY, "vgg11", rounds=5)
    samples.latency_budget(path, limit=2.5, cost=2.4)
    run = read(path)
    figure = drawn(memory, run, narrow)
    expected = [row["cost"] for row in run.history]
    np.testing.assert_allclose(artist(figure, "cost").get_ydata(), expected)
    np.testing.assert_allclose(artist(figure, "budget").get_ydata(), 2.5)
    np.testing.assert_allclose(artist(figure, "found").get_ydata(), 2.4)
    assert figure.axes[0].get_ylabel() == "Latency (ms)"
    assert not any(panel.limit for panel in trained.memory_panels(run)), "the budget is no memory"


@pytest.mark.parametrize("away", [0.001, 0.05])
def test_a_cost_close_to_its_budget_does_not_look_far_from_it(run, away):
    budget = run.costs[0].limit
    rows = [{**row, "cost": budget * (1 - away)} for row in run.history]
    costs = (samples.memory_limit(found=budget * (1 - away)),)
    close = replace(run, searches={"search": replace(run.search, history=rows, costs=costs)})
    low, high = style.draw(lambda small: memory(close, small)).axes[0].get_ylim()
    assert low <= 0.9 * budget / MIB and high >= 1.1 * budget / MIB


def test_every_limited_cost_has_a_figure(run, narrow):
    rows = [{**row, "cost_2": 3e6 + row["epoch"]} for row in run.history]
    costs = (*run.costs, Limited("multiply_adds", "million multiply-adds", 1e6, 4e6))
    several = replace(run, searches={"search": replace(run.search, history=rows, costs=costs)})
    first, second = history.costs(several, METHOD)
    assert (first.name, second.name) == ("cost", "cost-multiply-adds")
    assert second.title == "Expected multiply-adds against the budget"
    figure = drawn(lambda run, small: second.draw(small), several, narrow)
    np.testing.assert_allclose(artist(figure, "cost").get_ydata(), [3 + row["epoch"] / 1e6 for row in run.history])
    np.testing.assert_allclose(artist(figure, "budget").get_ydata(), 4)


def test_numbers_of_the_history(run, narrow):
    (shown,) = history.numbers(run, METHOD)
    figure = drawn(lambda run, small: shown.draw(small), run, narrow)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles == ["Loss (nats)", "Accuracy (%)", "Sigma"]
    for key, scale in (
        ("loss", 1),
        ("validation_loss", 1),
        ("accuracy", 100),
        ("validation_accuracy", 100),
        ("sigma", 1),
    ):
        np.testing.assert_allclose(artist(figure, key).get_ydata(), [scale * row[key] for row in run.history])
        np.testing.assert_array_equal(artist(figure, key).get_xdata(), np.arange(1, 8))


def test_candidates(run, narrow):
    (shown,) = choices.candidates(run, METHOD)
    figure = drawn(lambda run, small: shown.draw(small), run, narrow)
    name = choices.most_moved(run)
    ends = run.history[0]["choices"], run.history[-1]["choices"]
    moved = {k: abs(ends[1][k]["value"] - ends[0][k]["value"]) for k in samples.RESNET}
    assert moved[name] == max(moved.values()) and name in shown.caption
    for axes, row in zip(figure.axes, ends, strict=True):
        bars = [patch for patch in axes.patches if str(patch.get_gid()).startswith("candidate")]
        centers = [bar.get_x() + bar.get_width() / 2 for bar in bars]
        np.testing.assert_allclose(centers, row[name]["candidates"])
        assert [bar.get_height() for bar in bars] == row[name]["probabilities"]
        weighed = zip([0.32, 0.36, 0.32], row[name]["candidate_channels"], strict=True)
        expected = [f"{p:.2f}\n{channels} ch." for p, channels in weighed]
        assert [text.get_text() for text in axes.texts] == expected


def test_candidates_that_are_names(run):
    kept = {"edge": {"value": 0.7, "candidates": ["conv", "skip"], "probabilities": [0.7, 0.3]}}
    rows = [{"epoch": 1, "choices": kept}]
    other = replace(run, searches={"search": replace(run.search, history=rows)})
    (shown,) = choices.candidates(other, METHOD)
    axes = style.draw(shown.draw).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["conv", "skip"]
    assert [bar.get_height() for bar in axes.patches] == [0.7, 0.3]


def test_choices_of_a_random_search_over_modules(tmp_path, narrow):
    run = read(samples.drawn_at_random(tmp_path, dict.fromkeys(samples.FABRIC, True), "resnet_fabric"))
    (shown,) = choices.figures(run, method_named("random"))
    figure = drawn(lambda run, small: shown.draw(small), run, narrow)
    for name in samples.FABRIC:
        on = [row["epoch"] for row in run.history if row["choices"][name]["value"]]
        cells = artist(figure, f"value:{name}").get_paths()
        assert [cell.vertices[:, 0].mean().round() for cell in cells if len(on)] == pytest.approx(on, abs=0.6)


def test_accuracy_against_memory(run, narrow):
    published = dms.published(run)
    panels = trained.memory_panels(run)
    figure = style.draw(lambda small: trained.accuracy_against(run, panels, published, small), narrow=narrow)
    paper, deployed = figure.axes
    for axes, way in ((paper, "paper"), (deployed, "deployed")):
        lines = {line.get_gid(): line for line in axes.lines}
        for training in run.trainings:
            line = lines[f"network:{training.key}"]
            np.testing.assert_allclose(line.get_xdata(), training.memory[way] / MIB)
            np.testing.assert_allclose(line.get_ydata(), 100 * training.test["accuracy"])
        low, high = axes.get_xlim()
        assert all(low < line.get_xdata()[0] < high for gid, line in lines.items() if gid.startswith("network:"))
    assert artist(figure, "budget").axes is paper
    for label, (accuracy, memory) in dms.TABLE["resnet18"].items():
        line = artist(figure, f"published:{label}")
        assert line.axes is paper
        assert (line.get_xdata()[0], line.get_ydata()[0]) == (memory, accuracy)


def test_training_curves(run, narrow):
    figure = style.draw(lambda small: trained.training_curves(run, small), narrow=narrow)
    for training in run.trainings:
        line = artist(figure, f"test_accuracy:{training.key}")
        tested = [(row["epoch"], 100 * row["test_accuracy"]) for row in training.history if "test_accuracy" in row]
        np.testing.assert_allclose(np.transpose(line.get_data()), tested)
        np.testing.assert_allclose(
            artist(figure, f"loss:{training.key}").get_ydata(), [row["loss"] for row in training.history]
        )
    legend = [text.get_text() for text in figure.legends[0].texts]
    assert legend == [training.label for training in run.trainings]


def test_size_by_layer(run, narrow):
    shown = exported.layers(run)
    figure = style.draw(lambda small: exported.size_by_layer(shown, small), narrow=narrow)
    for row in run.export["audit"]:
        if row["layer"]:
            part = "packed" if row["bit_packed"] else "plain"
            kernel = artist(figure, f"{part}:{row['layer']}")
            constants = artist(figure, f"constants:{row['layer']}")
            assert kernel.get_width() == row["weight_bytes"] / 1024
            assert constants.get_width() == pytest.approx(row["constant_bytes"] / 1024)
            assert constants.get_x() == pytest.approx(kernel.get_width())


def test_size_by_layer_keeps_the_total_of_many_layers():
    shown = {f"layer{i}": {"packed": 1024.0 * (i + 1), "constants": 100.0} for i in range(60)}
    figure = style.draw(lambda small: exported.size_by_layer(shown, small))
    bars = figure.axes[0].patches
    assert sum(bar.get_width() for bar in bars) * 1024 == pytest.approx(
        sum(sum(parts.values()) for parts in shown.values())
    )
    assert len(bars) <= 50 and figure.axes[0].get_yticklabels()[-1].get_text() == "36 others"


def test_the_paper_table():
    assert {network: len(rows) for network, rows in dms.TABLE.items()} == {"vgg11": 7, "resnet18": 7}
    assert dms.TABLE["resnet18"]["DMS-A"] == (89.32, 0.10) and dms.TABLE["vgg11"]["BNN 2×"] == (85.37, 0.29)


@pytest.mark.parametrize("budget, row", [(0.12, "DMS-A"), (0.05, "DMS-A"), (1.0, "DMS-B"), (40.0, "DMS-B")])
def test_the_search_stands_beside_the_row_of_its_budget(run, budget, row):
    limited = replace(run, searches={"search": replace(run.search, costs=(samples.memory_limit(budget * MIB),))})
    assert [p.label for p in dms.published(limited) if p.key == "searched"] == [row]


@pytest.mark.parametrize("data, shown", [("cifar10", True), ("cifar100", False), ("mnist", False), ("null", False)])
def test_the_paper_is_shown_beside_its_own_data_only(tmp_path, data, shown):
    run = read(samples.run(tmp_path, samples.VGG, "vgg11", rounds=1, data=data))
    assert bool(dms.published(run)) is shown


def test_order_of_layers():
    assert ordered(sorted(samples.RESNET)) == list(samples.RESNET)
    assert ordered(sorted(f"conv{i}" for i in range(1, 12))) == [f"conv{i}" for i in range(1, 12)]
    assert ordered(["tail", "body", "head"]) == ["tail", "body", "head"]  # not sorted: the file has an order of its own


@pytest.mark.parametrize(
    "seconds, text", [(0.42, "0.4 s"), (59.4, "59 s"), (425, "7 min 05 s"), (7800, "2 h 10 min"), (None, "")]
)
def test_duration(seconds, text):
    assert values.duration(seconds) == text


def test_labels_stay_apart():
    names = [f"a_very_long_common_beginning/{i}/and_a_very_long_common_end" for i in range(12)]
    for longest in (20, 34):
        short = style.labels(names, longest=longest)
        assert len(set(short)) == 12 and all(len(label) <= longest for label in short)
    assert style.clean("a\nb\x00c") == "a b c"
