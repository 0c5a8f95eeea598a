"""Constant channels of a converted model: where they come, and that they change no output."""

import numpy as np
import pytest
from small_networks import randomise

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Latency, trace
from tfbnas.export import convert_model, deploy, export
from tfbnas.export.convert import Interpreter
from tfbnas.export.flatbuffer import operators
from tfbnas.export.padding import padded

TABLE = "raspberry_pi_4b"
WIDTHS = {"stem": 30, "stage1/block1/inner": 13, "stage2/stream": 59, "stage3/stream": 64, "stage4/stream": 20}


def built(family, choices=None, size=16, **options):
    return randomise(networks.build(Architecture("t", family, choices or {}, (size, size, 3), 10, options)))


@pytest.fixture(scope="module")
def network():
    return built("resnet18", WIDTHS, base=8)


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    images = np.random.default_rng(0).normal(size=(256, 16, 16, 3)).astype(np.float32)
    return images, export(network, tmp_path_factory.mktemp("padded"), images=images, input=None)


@pytest.fixture(scope="module")
def plain(network):
    return convert_model(deploy(network))


def test_256_images_give_the_same_outputs_to_the_bit(exported, plain):
    images, result = exported
    wanted, got = (Interpreter(one).predict(images)[0] for one in (plain, result.flatbuffer))
    assert wanted.tobytes() == got.tobytes() and np.ptp(wanted) > 0.1


def test_ragged_streams_become_whole_words_and_nothing_else_changes(exported, plain):
    old, new = operators(plain), operators(exported[1].flatbuffer)
    assert [operator.name for operator in old] == [operator.name for operator in new]
    read = [[o.inputs[0].shape[-1] for o in found if o.name == "LceQuantize"] for found in (old, new)]
    assert read[0] == [30, 30, 30, 59, 59, 64, 64, 20] and read[1][:5] == [32, 32, 32, 64, 64]
    for a, b in zip(old, new, strict=True):
        assert a.outputs[0].shape[:-1] == b.outputs[0].shape[:-1]
        for one, other in zip(a.constants, b.constants, strict=True):
            if one.data.dtype != np.int32 or one.data.ndim:
                places = tuple(slice(size) for size in one.shape)
                np.testing.assert_array_equal(one.data, other.data[places])


def test_audit_size_and_predicted_time_are_those_of_the_file(exported, plain):
    result = exported[1]
    assert result.sizes.constant_channels == len(result.flatbuffer) - len(plain) > 0
    assert result.sizes.file == len(result.flatbuffer) and "constant channels" in result.sizes.summary()
    for row, operator in zip(result.rows, operators(result.flatbuffer), strict=True):
        assert row.shape == list(operator.outputs[0].shape)
        assert row.weight_bytes == (operator.weights.bytes if operator.weights else 0)
    assert "32 channels instead of 30" in next(row.note for row in result.rows if row.layer == "stem")
    table = Latency(TABLE)
    before, after = (
        sum(row.milliseconds for row in table.operators(operations))
        for operations in (trace(result.deployed), result.operations())
    )
    assert before - after == pytest.approx(result.padding.milliseconds, rel=1e-6) and after < 0.9 * before
    assert result.to_json()["padding"]["channels"][0] == [30, 32]


def test_what_is_not_faster_or_too_large_is_left(plain):
    found = padded(plain, TABLE, largest=len(plain))
    assert found.flatbuffer == plain and not found.widened and found.to_json()["bytes"] == 0
    some = padded(plain, TABLE, largest=len(plain) + 900)
    assert some.widened and len(some.flatbuffer) <= len(plain) + 900
    streams = [row for row in some.widened.values() if row[0] == 20]
    assert not streams  # 20 channels of 2x2 pixels are not faster as 32


@pytest.mark.parametrize(
    ("family", "choices", "options"),
    [
        ("vgg11", {"conv1": 29, "conv2": 61}, {"base": 4}),  # a float scale and offset for each channel, and pools
        ("cnf", {}, {"columns": 2, "scales": 2, "filters": 31}),  # several thresholds of a tensor, and upsampling
    ],
    ids=["vgg11", "cnf"],
)
def test_other_operators_around_a_stream(family, choices, options):
    flatbuffer = convert_model(deploy(built(family, choices, size=32 if family == "vgg11" else 8, **options)))
    found = padded(flatbuffer, TABLE)
    assert found.widened
    images = np.random.default_rng(1).normal(size=(8, *operators(flatbuffer)[0].inputs[0].shape[1:])).astype(np.float32)
    wanted, got = (Interpreter(one).predict(images)[0] for one in (flatbuffer, found.flatbuffer))
    assert wanted.tobytes() == got.tobytes() and np.ptp(wanted) > 0.1
