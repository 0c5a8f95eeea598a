"""tools/build_latency_table.py against a device whose times are known, and what its models really convert to."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfbnas.costs.latency_features import FEATURES, OPERATORS, Shape
from tfbnas.device import DeviceError, Facts, Measurement, OperatorTime
from tfbnas.errors import UserError

PATH = Path(__file__).resolve().parents[2] / "tools" / "build_latency_table.py"


@pytest.fixture(scope="module")
def tool():
    specification = importlib.util.spec_from_file_location("build_latency_table", PATH)
    module = importlib.util.module_from_spec(specification)
    sys.modules["build_latency_table"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["build_latency_table"]


def true_time(operator, shape):
    """Milliseconds on the device that the test makes up: every feature counts, 1 ns to 1 ms each."""
    weights = {"calls": 0.02, "bit_products": 9e-9, "pixels": 3e-5, "ragged_rests": 1e-4, "taps": 1e-6}
    return sum(weights.get(name, 2e-7) * FEATURES[name](shape) for name in OPERATORS[operator])


class Device:
    """A session whose measurements follow from the name of the model; it may break off."""

    facts = Facts("aarch64", 64, model="Board of the test")

    def __init__(self, tool, breaks_after=None, spread=0.01):
        self.tool, self.left, self.spread, self.measured = tool, breaks_after, spread, []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def measure(self, model, *, profile, **options):
        if self.left is not None and len(self.measured) >= self.left:
            raise DeviceError("The connection to board broke.")
        operator, *sizes = model.stem.split("-")
        point = self.tool.Point(operator, *map(int, sizes))
        self.measured.append(point)
        binary = operator in ("binary_convolution", "packed_convolution", "packed_max_pool")
        name = {"packed_max_pool": "LceBMaxPool2d"}.get(operator, "LceBconv2d") if binary else "TfLiteXNNPackDelegate"
        times = [OperatorTime(name, "", true_time(operator, point.shape))]
        if binary:
            area = Shape(point.inputs, point.inputs, point.height, point.height)
            times.insert(0, OperatorTime("LceQuantize", "", true_time("quantize", area)))
        measurement = Measurement(50, 1.0, self.spread)
        return argparse.Namespace(measurement=measurement, profile=Measurement(50, 1.0, operators=tuple(times)))


def options(tool, out, **changes):
    return tool._parser().parse_args(["--target", "ssh:board", "--out", str(out)] + [
        text for name, value in changes.items() for text in (f"--{name}", str(value))
    ])  # fmt: skip


@pytest.fixture
def attach(tool, monkeypatch):
    def use(device):
        monkeypatch.setattr(tool, "Session", lambda *arguments: device)
        monkeypatch.setattr(tool, "open_target", lambda *arguments, **more: None)
        monkeypatch.setattr(tool, "flatbuffer", lambda point: b"model")
        return device

    return use


def test_the_table_predicts_the_device_that_was_measured(tool, attach, tmp_path):
    from tfbnas.costs.latency import Latency
    from tfbnas.files import write_json

    attach(Device(tool))
    table = tool.build(options(tool, tmp_path / "mine.json"))
    assert set(table["operators"]) == set(OPERATORS) and table["label"].startswith("fitted to measurements")
    assert all(entry["largest_error"] < 0.02 for entry in table["operators"].values())
    write_json(tmp_path / "mine.json", table)
    assert Latency(tmp_path / "mine.json").table["name"] == "mine"
    unseen = Shape(80, 72, 20, 20, (3, 3))
    for operator in ("binary_convolution", "quantize", "packed_convolution"):
        terms = table["operators"][operator]["terms"]
        predicted = sum(coefficient * FEATURES[name](unseen) for name, coefficient in terms.items())
        assert predicted == pytest.approx(true_time(operator, unseen), rel=0.02)


def test_an_interrupted_run_goes_on_where_it_stopped(tool, attach, tmp_path):
    out, points = tmp_path / "mine.json", tool.plan()[:6]
    attach(Device(tool, breaks_after=3))
    with pytest.raises(DeviceError):
        tool.build(options(tool, out), points)
    rows = tmp_path / "mine.json.rows.jsonl"
    assert len(rows.read_text().splitlines()) == 4  # settings and three points
    rows.write_text(rows.read_text()[:-20])  # the last line was cut off
    device = attach(Device(tool))
    tool.build(options(tool, out), points)
    assert device.measured == points[2:]
    assert all(json.loads(line) for line in rows.read_text().splitlines()[:3])
    again = attach(Device(tool))
    tool.build(options(tool, out), points)
    assert again.measured == []
    with pytest.raises(UserError, match="measured with"):
        tool.build(options(tool, out, threads=4), points)


def test_unsteady_measurements_are_repeated_and_counted(tool, attach, tmp_path):
    device = attach(Device(tool, spread=0.3))
    table = tool.build(options(tool, tmp_path / "mine.json"), tool.plan()[:2])
    assert len(device.measured) == 2 * tool.ATTEMPTS and "2 of 2 measurements spread" in table["error"]


def test_x86_is_refused(tmp_path):
    if os.uname().machine in ("aarch64", "arm64"):
        pytest.skip("this machine is ARM")
    program = tmp_path / "lce_benchmark_model"
    program.write_text("#!/bin/sh\nexit 1\n")
    command = [sys.executable, PATH, "--target", "host", "--binary", program, "--out", tmp_path / "x.json"]
    environment = {**os.environ, "PYTHONPATH": str(PATH.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "no stand-in" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("x.json*"))


def test_a_profile_without_the_operator_is_refused(tool):
    point = tool.Point("binary_convolution", 8, 32, 32, 3)
    wrong = argparse.Namespace(profile=Measurement(1, 1.0, operators=(OperatorTime("CONV_2D", "", 1.0),)))
    with pytest.raises(UserError, match="no operator LceBconv2d, but .'CONV_2D'"):
        tool.rows(point, wrong)


def test_every_model_converts_to_the_operator_that_is_measured(tool):
    pytest.importorskip("larq_compute_engine")
    from tfbnas.export.flatbuffer import operators

    expected = {
        "binary_convolution": ["LceQuantize", "LceBconv2d float32"],
        "packed_convolution": ["LceQuantize", "LceBconv2d int32", "LceBconv2d float32"],
        "packed_max_pool": ["LceQuantize", "LceBconv2d int32", "LceBMaxPool2d", "LceBconv2d float32"],
        "convolution": ["CONV_2D"], "depthwise": ["DEPTHWISE_CONV_2D"], "dense": ["FULLY_CONNECTED"], "add": ["ADD"],
        "normalization": ["MUL", "ADD"], "activation": ["RELU"], "max_pool": ["MAX_POOL_2D"], "concatenate":
        ["CONCATENATION"], "average_pool": ["AVERAGE_POOL_2D"], "global_pool": ["MEAN"],
        "upsampling": ["RESIZE_NEAREST_NEIGHBOR"],
    }  # fmt: skip
    points = {point.operator: point for point in tool.plan()}
    assert set(points) | {"quantize"} == set(OPERATORS)
    for name, point in points.items():
        emitted = [
            f"{o.name} {o.outputs[0].dtype}" if o.name == "LceBconv2d" else o.name
            for o in operators(tool.flatbuffer(point))
            if o.name != "RESHAPE"
        ]
        assert emitted == expected[name.removeprefix("int8_")], name
