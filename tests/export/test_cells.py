"""Cells of deployable operations, exported: every binary convolution is one of Larq Compute Engine's."""

from dataclasses import replace

import numpy as np
import pytest
from small_networks import randomise

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.export import audit, check, convert_model, deploy, parity
from tfbnas.export.convert import ExportError
from tfbnas.export.flatbuffer import operators
from tfbnas.layers import BinaryConv2D

TEMPLATE = Architecture("random", "cells", {}, (8, 8, 3), 4, {"depth": 3, "nodes": 2, "channels": 8})


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))])
def test_drawn_cells_are_binary_as_they_declare(seed):
    model = randomise(networks.build(networks.draw(TEMPLATE, np.random.default_rng(seed))), seed)
    binary = [layer for layer in model.layers if isinstance(layer, BinaryConv2D)]
    deployed = deploy(model)
    flatbuffer = convert_model(deployed)
    check(audit(flatbuffer, deployed))
    names = [operator.name for operator in operators(flatbuffer)]
    assert names.count("LceBconv2d") == len(binary) >= 6
    if seed == 0:
        parity(flatbuffer, deployed, model, images=np.random.default_rng(0).normal(size=(4, 8, 8, 3)))


def test_depthwise_cells_are_exported_only_where_float_operators_are_allowed():
    """Of the paper's operations Larq Compute Engine runs the depthwise convolutions in float."""
    options = {"depth": 1, "nodes": 1, "channels": 8, "operations": "paper"}
    choices = {"reduction/node2/from0": "sep_conv_3x3", "reduction/node2/from1": "dil_conv_3x3"}
    model = randomise(networks.build(replace(TEMPLATE, choices=choices, options=options)), 0)
    deployed = deploy(model)
    flatbuffer = convert_model(deployed)
    with pytest.raises(ExportError, match="depthwise"):
        check(audit(flatbuffer, deployed))
    check(audit(flatbuffer, deployed, allow=[layer.name for layer in model.layers]))
    parity(flatbuffer, deployed, model, images=np.random.default_rng(0).normal(size=(4, 8, 8, 3)))
