"""Measured latency: what is converted, remembered and asked; a tiny network in Larq Compute Engine's interpreter."""

from dataclasses import replace

import numpy as np
import pytest

from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, MeasuredLatency
from tfbnas.device import measured
from tfbnas.errors import UserError
from tfbnas.layers import LearnedStep
from tfbnas.search.priced_graph import PricedGraph

WHOLE = Architecture("test", "resnet_fabric", {}, (8, 8, 3), 2, {"n": 1, "base": 4})
FEWER = replace(WHOLE, choices={"group1/block0/body": False})


def counting(prepared, asked):
    def prepare(model):
        prepared.append(model)
        return lambda: asked.append(model) or float(len(asked))

    return prepare


def test_a_network_is_converted_once_and_measured_anew():
    prepared, asked = [], []
    cost = MeasuredLatency(counting(prepared, asked), remembered=1)
    assert [cost.of(WHOLE), cost.of(WHOLE)] == [1.0, 2.0] and cost.conversions == 1
    cost.of(FEWER)
    cost.of(WHOLE)  # was forgotten
    assert cost.conversions == len(prepared) == 3 and len(asked) == 4
    steps = [layer.step.numpy() for layer in prepared[0].layers if isinstance(layer, LearnedStep)]
    assert len(set(steps)) == len(steps) > 1  # equal ones would be merged when converted


def test_a_search_asks_anew_for_every_sample():
    prepared, asked = [], []
    graph = PricedGraph(WHOLE, [Budget(MeasuredLatency(counting(prepared, asked)), 5.0)])
    _, costs = graph.sample(np.ones((3, len(graph.graph.choices)), bool))
    assert len(prepared) == 1 and len(asked) == 3 and np.all(np.diff(costs[:, 0]) == 1)


def test_wrong_arguments_are_refused():
    with pytest.raises(UserError, match="prepares a measurement"):
        MeasuredLatency("host")
    with pytest.raises(UserError, match="remembered=0"):
        MeasuredLatency(lambda model: lambda: 1.0, remembered=0)
    with pytest.raises(UserError, match="runs=0"):
        measured.on_host(runs=0)


def test_the_host_really_runs_the_network(caplog):
    pytest.importorskip("larq_compute_engine")
    cost = MeasuredLatency(measured.on_host(runs=2))
    large = replace(WHOLE, input_shape=(64, 64, 3), options={"n": 1, "base": 32})
    small, slow = cost.of(FEWER), cost.of(large)
    assert 0 < small < slow
    assert cost.conversions == 2 and Budget(cost, 5.0).cost.unit == "ms" and cost.stochastic


def test_a_target_measures_with_its_program():
    pytest.importorskip("larq_compute_engine")
    files = []

    class Session:
        """Stands in for a board: takes a model for as many milliseconds as it has KiB."""

        def measure(self, path, *, repetitions, threads):
            content = path.read_bytes()
            files.append((path, content[4:8], repetitions, threads))
            return type("Result", (), {"measurement": type("Times", (), {"mean": len(content) / 1024})})

    cost = MeasuredLatency(measured.on_target(Session(), repetitions=7, threads=2))
    assert cost.of(FEWER) == cost.of(FEWER) > 1
    assert [entry[1:] for entry in files] == [(b"TFL3", 7, 2)] * 2 and not files[0][0].exists()
