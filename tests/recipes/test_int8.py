"""Which int8 networks are trained beside the one that was found; how such a run goes is in test_bsn_run."""

from dataclasses import replace

import numpy as np
import pytest

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Latency
from tfbnas.errors import UserError
from tfbnas.recipes.baselines import WidthBaselines
from tfbnas.recipes.families import FAMILIES, NetworkSettings
from tfbnas.recipes.int8 import Widened, equal_memory, file_bytes, twin

DEVICE = "raspberry_pi_4b"


@pytest.fixture(scope="module")
def widened():
    """Of the small network that all tests share, with widths of 4, 6 and 8 channels."""
    return Widened(Architecture("test", "test-small", {"stream": 9}, (8, 8, 3), 4), NetworkSettings("test-small"))


def test_the_twin_has_the_same_choices_in_full_precision():
    found = Architecture("test", "resnet18", {"stem": 9}, options={"base": 8, "binarisation": "sign"})
    assert twin(found) == replace(found, options={"base": 8, "binarisation": "float"})
    with pytest.raises(UserError, match="option `binarisation`.*'test-without'"):
        twin(replace(found, network="test-without"))


networks.register("test-without", lambda choose, *, input_shape, classes: None)


def test_widths_grow_from_those_of_the_family(widened):
    assert widened.at(0.5).choices == {"stream": 2, "inner": 3, "out": 4}
    assert widened.at(1e-9).choices == {"stream": 1, "inner": 1, "out": 1}
    assert widened.at(1.0).options == {"binarisation": "float"}


@pytest.mark.parametrize(
    ("family", "small", "option", "half"),
    [
        ("resnet_fabric", {"n": 1}, "base", 8),
        ("cnf", {"columns": 2, "scales": 2}, "filters", 64),
        ("cifar10", {"depth": 2, "nodes": 1}, "channels", 16),
    ],
)
def test_families_without_widths_grow_by_an_option(family, small, option, half):
    settings = FAMILIES[family](**small)
    found = Architecture("test", settings.family, {}, options=settings.builder_options())
    assert Widened(found, settings).at(0.5).options == {**found.options, "binarisation": "float", option: half}


def test_a_family_whose_widths_cannot_grow_is_refused():
    found = Architecture("test", "resnet_fabric", {}, options={"n": 1})
    with pytest.raises(UserError, match="option `base`, for baselines.int8. Received: 'resnet_fabric' with .*'n': 1"):
        Widened(found, FAMILIES["resnet_fabric"]())


def test_equal_time_is_the_widest_network_in_that_time(widened):
    cost = Latency(DEVICE, int8=True)
    limit = 1.001 * cost.of(widened.at(2.0))
    found = widened.largest(limit, widened.price(cost))
    assert cost.of(found) <= limit and found.choices["stream"] >= 8
    assert cost.of(widened.at(2 * found.choices["stream"] / 4)) > limit
    # Nothing within the limit is the narrowest network.
    assert set(widened.largest(1e-6, widened.price(cost)).choices.values()) == {1}


def test_equal_size_is_a_file_just_within_the_bytes(widened):
    images = np.zeros((1, 8, 8, 3), np.float32)
    limit = 40_000
    assert 0.93 * limit < file_bytes(equal_memory(widened, limit, images), images) <= limit


def test_ways_are_one_or_several():
    assert WidthBaselines("equal_memory").int8_ways == ("equal_memory",)
    assert WidthBaselines(["same_widths", "same_widths", "equal_latency"]).int8_ways == ("same_widths", "equal_latency")
    assert WidthBaselines().int8_ways == () and WidthBaselines("same_widths").without_common().int8_ways
