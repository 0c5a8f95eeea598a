"""The Raspberry Pi table against whole networks, counted in millions of instructions on an emulated Cortex-A72."""

import numpy as np
import pytest

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Latency, trace
from tfbnas.costs.closed import prices_of_widths
from tfbnas.errors import UserError
from tfbnas.layers import OpenWidth
from tfbnas.networks import build

FOUND = {
    "stem": 30, "stage1/block1/inner": 26, "stage1/block2/inner": 29, "stage2/stream": 59, "stage2/block1/inner": 25,
    "stage2/block2/inner": 45, "stage3/stream": 76, "stage3/block1/inner": 78, "stage3/block2/inner": 84,
    "stage4/stream": 113, "stage4/block1/inner": 128, "stage4/block2/inner": 110,
}  # fmt: skip
"""A network that a search found."""


def resnet18(choices=None, **options):
    return Architecture("test", "resnet18", choices or {}, (32, 32, 3), 10, options)


def whole(network, **options):
    """Everything that a graph of modules may keep."""
    template = Architecture("test", network, {}, (32, 32, 3), 10, options)
    choices = {name: True for name in networks.choices(template)}
    return Architecture("test", network, choices, (32, 32, 3), 10, options)


def millions(architecture, **options):
    model = Latency("raspberry_pi_4b", **options)
    return model.of(architecture) / model.table["milliseconds_per_unit"] / 1e6


@pytest.mark.parametrize(
    ("architecture", "counted"),
    [
        (resnet18(FOUND), 6.491),
        (resnet18({name: -(-width // 8) * 8 for name, width in FOUND.items()}), 5.61),
        (resnet18({name: max(32, round(width / 32) * 32) for name, width in FOUND.items()}), 5.20),
        (resnet18(base=16), 4.293),
        (resnet18(base=32), 7.001),
        (resnet18(base=64), 19.252),
        (whole("resnet_fabric", n=3), 15.01),
        (whole("cnf", columns=4, filters=64), 18.11),
    ],
    ids=["found", "eights", "nearest words", "16", "32", "64", "fabric", "cnf"],
)
def test_binary_networks_are_within_2_percent(architecture, counted):
    assert millions(architecture) == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize(("base", "counted"), [(16, 13.04), (32, 49.2), (64, 191.3)])
def test_float32_networks_are_within_5_percent(base, counted):
    assert millions(resnet18(base=base, binarisation="float")) == pytest.approx(counted, rel=0.05)


INT8 = [(6, 3.90), (8, 4.66), (10, 8.67), (12, 9.67), (16, 13.10), (18, 20.13), (20, 21.62), (32, 43.7), (64, 157.4)]


def test_int8_networks_are_within_5_percent():
    """All from one network with open widths, closed to each base."""
    opened = {}
    network = networks.construct(
        "resnet18",
        lambda name, base: opened.setdefault(name, OpenWidth(name, base)),
        input_shape=(32, 32, 3),
        classes=10,
        options={"binarisation": "float"},
    )
    model = Latency("raspberry_pi_4b", int8=True)
    rows = np.array([[base * width.base // 16 for width in opened.values()] for base, _ in INT8])
    found = prices_of_widths([model], trace(network), list(opened))(rows)[:, 0]
    counted = [count for _, count in INT8]
    np.testing.assert_allclose(found / model.table["milliseconds_per_unit"] / 1e6, counted, rtol=0.05)


def test_a_binary_network_has_no_int8_form():
    with pytest.raises(UserError, match='full precision.*binarisation="float"'):
        Latency("raspberry_pi_4b", int8=True).of(resnet18(base=4))
    with pytest.raises(UserError, match="'int8_convolution', of which the latency table 'pixel1' says nothing"):
        Latency("pixel1", int8=True).of(resnet18(base=4, binarisation="float"))


def test_the_operators_of_an_int8_network_are_those_of_the_float_one():
    operations = trace(build(resnet18(base=4, binarisation="float")))
    floats = Latency("raspberry_pi_4b").operators(operations)
    int8 = Latency("raspberry_pi_4b", int8=True).operators(operations)
    assert [row.operator for row in int8] == [f"int8_{row.operator}" for row in floats]
