"""The plots show the numbers of the run: the artists of each figure against the files."""

from __future__ import annotations

import numpy as np
import pytest
import report_samples as samples

from tfbnas.report import dms, dms_figures, exported, results, style
from tfbnas.report.reading import MIB, ordered, read


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
    figure = drawn(dms_figures.channels, run, narrow)
    choices = run.search["history"][-1]["choices"]
    for name, choice in choices.items():
        assert artist(figure, f"searched:{name}").get_width() == choice["channels"]
        assert artist(figure, f"uniform:{name}").get_width() == choice["base"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(samples.RESNET)
    equal = run.training("equal-memory").architecture["choices"]
    np.testing.assert_array_equal(artist(figure, "equal-memory").get_xdata(), [equal[name] for name in samples.RESNET])
    low, high = figure.axes[0].get_ylim()
    assert low > high, "the first layer is on top"


def test_ratios(run, narrow):
    figure = drawn(dms_figures.ratios, run, narrow)
    for name in samples.RESNET:
        mu = np.array([row["choices"][name]["mu"] for row in run.search["history"]])
        sigma = np.array([row["choices"][name]["sigma"] for row in run.search["history"]])
        line = artist(figure, f"mu:{name}")
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 8))
        np.testing.assert_allclose(line.get_ydata(), mu)
        corners = artist(figure, f"band:{name}").get_paths()[0].vertices
        for r in range(7):
            edge = corners[corners[:, 0] == r + 1, 1]
            np.testing.assert_allclose([edge.min(), edge.max()], [mu[r] - sigma[r], mu[r] + sigma[r]])


def test_training_error(run, narrow):
    figure = drawn(dms_figures.training_error, run, narrow)
    for stage in ("search", "search-no-bei"):
        expected = [100 - 100 * e["accuracy"] for row in run.searches[stage]["history"] for e in row["epochs"]]
        line = artist(figure, f"error:{stage}")
        np.testing.assert_allclose(line.get_ydata(), expected)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, len(expected) + 1))


def test_training_error_without_epochs_takes_the_rounds():
    x, y, ends = dms_figures.errors([{"accuracy": 0.25}, {"accuracy": None}, {"accuracy": 0.75}])
    assert (x, y, ends) == ([1, 3], [75, 25], [1, 2, 3])


def test_memory_against_the_budget(run, narrow):
    figure = drawn(dms_figures.cost, run, narrow)
    expected = [row["memory"] / MIB for row in run.search["history"]]
    np.testing.assert_allclose(artist(figure, "cost").get_ydata(), expected)
    np.testing.assert_allclose(artist(figure, "budget").get_ydata(), run.search["budget"] / MIB)
    np.testing.assert_allclose(artist(figure, "found").get_ydata(), run.training("searched").memory / MIB)
    low, high = figure.axes[0].get_ylim()
    assert low < min(expected) and high > max(expected)
    assert figure.axes[0].get_ylabel() == "Memory (MiB)"


def test_latency_against_the_budget(tmp_path, narrow):
    path = samples.run(tmp_path, samples.TINY, "vgg11", rounds=5)
    samples.latency_budget(path, limit=2.5, cost=2.4)
    run = read(path)
    figure = drawn(dms_figures.cost, run, narrow)
    expected = [row["latency"] for row in run.search["history"]]
    np.testing.assert_allclose(artist(figure, "cost").get_ydata(), expected)
    np.testing.assert_allclose(artist(figure, "budget").get_ydata(), 2.5)
    np.testing.assert_allclose(artist(figure, "found").get_ydata(), 2.4)
    assert figure.axes[0].get_ylabel() == "Latency (ms)"
    assert run.budget is None, "the budget is no memory"


@pytest.mark.parametrize("away", [0.001, 0.05])
def test_a_cost_close_to_its_budget_does_not_look_far_from_it(run, away):
    kept = run.searches["search"]
    budget = kept["budget"]
    rows = [{**row, "memory": budget * (1 - away)} for row in kept["history"]]
    run.searches["search"] = kept | {"history": rows, "cost": budget * (1 - away)}
    try:
        low, high = style.draw(lambda small: dms_figures.cost(run, small)).axes[0].get_ylim()
    finally:
        run.searches["search"] = kept
    assert low <= 0.9 * budget / MIB and high >= 1.1 * budget / MIB


@pytest.mark.parametrize("mu, sigma", [(1.5, 1.0), (2.0, 0.3), (0.4, 0.3)])
def test_candidates_against_numpy(mu, sigma):
    r = np.maximum(0.3, mu + sigma * np.array([-0.8, 0, 0.8]))

    def cdf(x):
        return 1 / (1 + np.exp(-(x - mu) / sigma))

    p = cdf(r + 0.4 * sigma) - cdf(r - 0.4 * sigma)
    found = np.array(dms_figures.distribution(mu, sigma, 0.3))
    np.testing.assert_allclose(found, np.stack([r, p, p / p.sum()], axis=1), rtol=1e-12)
    at = np.linspace(mu - 3, mu + 3, 7)
    slope = (cdf(at + 1e-6) - cdf(at - 1e-6)) / 2e-6
    np.testing.assert_allclose([dms_figures.logistic_density(x, mu, sigma) for x in at], slope, rtol=1e-6)
    assert dms_figures.logistic_density(-1e4, mu, sigma) == 0  # no overflow


def test_candidates(run, narrow):
    figure = drawn(dms_figures.candidates, run, narrow)
    name = dms_figures.most_moved(run)
    history = run.search["history"]
    moved = {k: abs(history[-1]["choices"][k]["mu"] - history[0]["choices"][k]["mu"]) for k in samples.RESNET}
    assert moved[name] == max(moved.values())
    for axes, row in zip(figure.axes, (history[0], history[-1]), strict=True):
        mu, sigma = row["choices"][name]["mu"], row["choices"][name]["sigma"]
        bars = sorted(axes.patches, key=lambda bar: bar.get_x())
        centers = [bar.get_x() + bar.get_width() / 2 for bar in bars]
        np.testing.assert_allclose(centers, [mu - 0.8 * sigma, mu, mu + 0.8 * sigma])
        mass = [
            np.tanh(0.2) / (np.cosh(z / 2) ** 2 * (1 + (np.tanh(0.2) * np.tanh(z / 2)) ** 2)) for z in (-0.8, 0, 0.8)
        ]
        areas = [bar.get_width() * bar.get_height() for bar in bars]
        np.testing.assert_allclose(areas[0], areas[2])
        np.testing.assert_allclose(areas[1], mass[1])  # CDF(0.4) - CDF(-0.4) = tanh(0.2)
        shares = [text.get_text().split()[1] for text in axes.texts]
        assert shares == [f"{area / sum(areas):.2f}" for area in areas]


def test_accuracy_against_memory(run, narrow):
    published = dms.published(run)
    figure = style.draw(lambda small: results.accuracy_memory(run, published, small), narrow=narrow)
    paper, deployed = figure.axes
    for axes, way in ((paper, "memory"), (deployed, "deployed")):
        lines = {line.get_gid(): line for line in axes.lines}
        for training in run.trainings:
            line = lines[f"network:{training.key}"]
            np.testing.assert_allclose(line.get_xdata(), getattr(training, way) / MIB)
            np.testing.assert_allclose(line.get_ydata(), 100 * training.accuracy)
        low, high = axes.get_xlim()
        assert all(low < line.get_xdata()[0] < high for gid, line in lines.items() if gid.startswith("network:"))
    assert artist(figure, "budget").axes is paper
    for label, (accuracy, memory) in dms.TABLE["resnet18"].items():
        line = artist(figure, f"published:{label}")
        assert line.axes is paper
        assert (line.get_xdata()[0], line.get_ydata()[0]) == (memory, accuracy)


def test_training_curves(run, narrow):
    figure = style.draw(lambda small: results.training_curves(run, small), narrow=narrow)
    for training in run.trainings:
        line = artist(figure, f"test_accuracy:{training.key}")
        tested = [(row["epoch"] + 1, 100 * row["test_accuracy"]) for row in training.history if "test_accuracy" in row]
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
    shown = [exported.Layer(f"layer{i}", packed=1024.0 * (i + 1), constants=100.0) for i in range(60)]
    figure = style.draw(lambda small: exported.size_by_layer(shown, small))
    bars = figure.axes[0].patches
    assert sum(bar.get_width() for bar in bars) * 1024 == pytest.approx(sum(layer.total for layer in shown))
    assert len(bars) <= 50 and figure.axes[0].get_yticklabels()[-1].get_text() == "36 others"


def test_the_paper_table():
    assert {network: len(rows) for network, rows in dms.TABLE.items()} == {"vgg11": 7, "resnet18": 7}
    assert dms.TABLE["resnet18"]["DMS-A"] == (89.32, 0.10) and dms.TABLE["vgg11"]["BNN 2×"] == (85.37, 0.29)


@pytest.mark.parametrize("budget, row", [(0.12, "DMS-A"), (0.05, "DMS-A"), (1.0, "DMS-B"), (40.0, "DMS-B")])
def test_the_search_stands_beside_the_row_of_its_budget(run, budget, row):
    run.searches["search"]["budget"], kept = budget * MIB, run.searches["search"]["budget"]
    try:
        assert [p.label for p in dms.published(run) if p.key == "searched"] == [row]
    finally:
        run.searches["search"]["budget"] = kept


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
    assert results.duration(seconds) == text


def test_labels_stay_apart():
    names = [f"a_very_long_common_beginning/{i}/and_a_very_long_common_end" for i in range(12)]
    for longest in (20, 34):
        short = style.labels(names, longest=longest)
        assert len(set(short)) == 12 and all(len(label) <= longest for label in short)
    assert style.clean("a\nb\x00c") == "a b c"
