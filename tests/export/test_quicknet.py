"""A small QuickNet through Larq Compute Engine: an operator for each binary convolution, and those that are priced."""

from collections import Counter

import numpy as np
from small_networks import randomise

from tfbnas.costs import Latency, trace
from tfbnas.export import audit, check, convert_model, deploy, parity
from tfbnas.networks.quicknet import quicknet


def test_every_binary_convolution_is_an_operator_and_outputs_agree():
    shape = {"input_shape": (16, 16, 3), "classes": 5}
    model = randomise(quicknet(lambda name, base: base, **shape, blocks=(2, 2), filters=(8, 40)))
    deployed = deploy(model)
    flatbuffer = convert_model(deployed)
    rows = audit(flatbuffer, deployed)
    check(rows)
    found = Counter(row.operator for row in rows)
    assert found["LceBconv2d"] == found["LceQuantize"] == found["ADD"] == 4 and found["DEPTHWISE_CONV_2D"] == 2
    assert found["CONV_2D"] == 3 and found["MAX_POOL_2D"] == 1 and not {"MUL", "SUB", "RELU"} & set(found)
    assert all(row.bit_packed for row in rows if row.operator == "LceBconv2d")
    priced = Counter(row.operator for row in Latency("raspberry_pi_4b").operators(trace(model)))
    assert (priced["binary_convolution"], priced["quantize"], priced["add"]) == (4, 4, 4)
    assert (priced["convolution"], priced["depthwise"], priced["max_pool"]) == (3, 2, 1)
    assert not {"normalization", "activation"} & set(priced)
    parity(flatbuffer, deployed, model, images=np.random.default_rng(0).normal(size=(8, 16, 16, 3)), random_inputs=4)
