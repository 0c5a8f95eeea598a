"""Costs of deployed operators over the modules of a graph, against the network that is really built."""

from dataclasses import replace

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Latency, MultiplyAdds, trace
from tfbnas.costs.fused import over_fused
from tfbnas.costs.latency import operator
from tfbnas.layers import BatchNormalization, BinaryConv2D, LearnedStep
from tfbnas.networks.graph import NetworkGraph

keras = tf.keras.layers


# A network in which neighbours matter more than in those of the papers: normalisation and ReLU as modules of their own,
# plain Larq convolutions that share a quantisation, pools of bits, a quantiser apart from its convolution.


def _conv(name, tensors):
    return BinaryConv2D(4, 3, name=f"{name}_conv")(LearnedStep(name=f"{name}_step")(tensors[0]))


def _sign(name, tensors):
    binary = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "padding": "same", "pad_values": 1.0}
    return lq.layers.QuantConv2D(4, 1, use_bias=False, name=name, **binary)(tensors[0])


def _step(name, tensors):
    return LearnedStep(name=name)(tensors[0])


def _bits(name, tensors):
    return BinaryConv2D(4, 1, name=name)(tensors[0])


def _sum(name, tensors):
    return keras.Add(name=name)(tensors) if len(tensors) > 1 else tensors[0]


MAKERS = {
    "conv": _conv,
    "sign": _sign,
    "step": _step,
    "norm": lambda name, tensors: BatchNormalization(name=name)(tensors[0]),
    "relu": lambda name, tensors: keras.ReLU(name=name)(tensors[0]),
    "pool": lambda name, tensors: keras.MaxPool2D(1, name=name)(tensors[0]),
    "same": lambda name, tensors: tensors[0],
    "up": lambda name, tensors: keras.AveragePooling2D(2, name=f"{name}_down")(
        keras.UpSampling2D(name=name)(tensors[0])
    ),
    "up_conv": lambda name, tensors: keras.MaxPool2D(2, name=f"{name}_down")(
        _conv(name, [keras.UpSampling2D(name=name)(tensors[0])])
    ),
}


def mixed_graph(*, input_shape=(4, 4, 4), classes=2, seed=0):
    """Layers of modules, each a maker drawn by lot, behind sums of some of the modules before."""
    chance = np.random.default_rng(seed)
    graph = NetworkGraph()
    before = [graph.add("stem", _conv)]
    for depth in range(4):
        here = []
        for place in range(3):
            sources = chance.choice(before, size=min(len(before), int(chance.integers(1, 3))), replace=False).tolist()
            total = graph.add(f"d{depth}p{place}_sum", _sum, inputs=sources)
            maker = str(chance.choice(list(MAKERS)))
            module = graph.add(f"d{depth}p{place}", MAKERS[maker], inputs=[total], choice=f"{depth}/{place}")
            if maker == "step":  # bits are read by convolutions only
                module = graph.add(f"d{depth}p{place}_bits", _bits, inputs=[module])
            here.append(module)
        before = here
    graph.add(
        "out",
        lambda name, tensors: keras.GlobalAveragePooling2D(name=name)(_sum(f"{name}_sum", tensors)),
        inputs=before,
    )
    return graph


def mixed(choose, *, input_shape=(4, 4, 4), classes=2, seed=0):
    return mixed_graph(seed=seed).build(choose, input_shape=input_shape, name="mixed")


networks.register("test-mixed", mixed, graph=mixed_graph)

NETWORKS = {
    "fabric": ("resnet_fabric", {"n": 1, "base": 4}),
    "fabric, float": ("resnet_fabric", {"n": 1, "base": 4, "binarisation": "float"}),
    "cnf": ("cnf", {"columns": 3, "scales": 2, "filters": 4}),
    "cnf, float": ("cnf", {"columns": 3, "scales": 2, "filters": 4, "binarisation": "float"}),
    "fabric, tensors": ("resnet_fabric", {"n": 1, "base": 4, "thresholds": "tensor"}),
    "cnf, tensors": ("cnf", {"columns": 3, "scales": 2, "filters": 4, "thresholds": "tensor"}),
    **{f"mixed {seed}": ("test-mixed", {"seed": seed}) for seed in range(4)},
}


def samples(architecture, count, seed=0):
    """Distinct choices that leave a network, with the modules that they keep."""
    graph, chance = networks.graph(architecture), np.random.default_rng(seed)
    found = {}
    while len(found) < count:
        gates = chance.random((1, len(graph.choices))) < chance.uniform(0.3, 1.0)
        kept = graph.prune(gates).modules[0]
        if kept.any():
            found[kept.tobytes()] = dict(zip(graph.choices, gates[0].tolist(), strict=True)), kept
    return list(found.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_over_is_the_sum_over_the_operators_of_the_built_network(name):
    family, options = NETWORKS[name]
    shape = (4, 4, 4) if family == "test-mixed" else (8, 8, 3)
    whole = Architecture("test", family, {}, shape, 2, options)

    # A value of its own for each operator and size, so that no two errors cancel.
    def value(operation):
        key = operator(operation)
        weights = {"quantize": 1.0, "binary_convolution": 100.0, "packed_convolution": 1e4, "add": 1e6}
        return 0.0 if key is None else weights.get(key, 1e8 * len(key)) * (operation.height + operation.terms)

    over = over_fused(whole, value)
    seen = set()
    for choices, kept in samples(whole, 6):
        operations = trace(networks.build(replace(whole, choices=choices)))
        assert over(kept) == pytest.approx(sum(map(value, operations)), rel=1e-12)
        seen.update(operator(operation) for operation in operations)
    assert over(np.zeros_like(kept)) == 0
    if family != "test-mixed" and options.get("binarisation") != "float":
        assert {"packed_convolution", "binary_convolution", "quantize"} <= seen


def test_the_mixed_networks_hold_what_is_hard():
    seen = set()
    for seed in range(4):
        for operation in trace(networks.build(Architecture("test", "test-mixed", {}, (4, 4, 4), 2, {"seed": seed}))):
            seen.add((operator(operation), operation.folded))
    keys = {key for key, _ in seen}
    assert {"quantize", "packed_convolution", "binary_convolution", "activation", "normalization", "max_pool"} <= keys
    assert (None, True) in seen


@pytest.mark.parametrize("binary", [True, False])
def test_latency_of_a_graph_is_the_closed_one(binary):
    cost = Latency("pixel1")
    whole = Architecture(
        "test",
        "cnf",
        {},
        (8, 8, 3),
        4,
        {"columns": 2, "scales": 2, "filters": 8, "binarisation": "zero_alpha" if binary else "float"},
    )
    over = cost.over(whole)
    for choices, kept in samples(whole, 3):
        assert over(kept) == pytest.approx(cost.of(replace(whole, choices=choices)), rel=1e-9)


def test_a_share_is_remembered_not_recomputed(monkeypatch):
    whole = Architecture("test", "resnet_fabric", {}, (8, 8, 3), 4, {"n": 1, "base": 4})
    looked = []
    over = over_fused(whole, lambda operation: looked.append(operation) or 1.0)
    (_, kept), *_ = samples(whole, 1)
    first, count = over(kept), len(looked)
    assert over(kept) == first and len(looked) == count


def test_modules_that_are_no_network_cost_what_they_cost_alone():
    whole = Architecture("test", "resnet_fabric", {}, (8, 8, 3), 4, {"n": 1, "base": 4})
    graph = networks.graph(whole)
    over, additive = over_fused(whole, MultiplyAdds().of_operation), MultiplyAdds().over(whole)
    for module in range(len(graph.nodes)):
        alone = np.arange(len(graph.nodes)) == module
        assert over(alone) == pytest.approx(additive(alone))


# Up to here only the fast form is compared with the slow one. What both charge is what the converter emits.

EMITTED = {
    "LceQuantize": "quantize", "CONV_2D": "convolution", "ADD": "add", "MEAN": "global_pool",
    "FULLY_CONNECTED": "dense", "RESIZE_NEAREST_NEIGHBOR": "upsampling",
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "options", "closed"),
    [
        ("cnf", {"columns": 2, "scales": 2, "filters": 4}, ()),
        # What group 1 gives is read by quantisers only, but at several thresholds.
        ("resnet_fabric", {"n": 1, "base": 4}, ("group1/block0/skip", "group2/block0/skip")),
        ("cnf", {"columns": 2, "scales": 2, "filters": 4, "thresholds": "tensor"}, ()),
        ("resnet_fabric", {"n": 1, "base": 4, "thresholds": "tensor"}, ("group1/block0/skip", "group2/block0/skip")),
        # A shortcut alone: a ReLU of a ReLU.
        ("resnet_fabric", {"n": 1, "base": 4, "binarisation": "float"}, ("group1/block0/body", "group2/block0/body")),
    ],
    ids=["cnf", "fabric", "cnf, tensors", "fabric, tensors", "fabric, float"],
)
def test_the_charged_operators_are_those_of_the_converted_network(family, options, closed, randomised):
    pytest.importorskip("larq_compute_engine")
    from tfbnas.export import convert_model, deploy
    from tfbnas.export.flatbuffer import operators

    model = networks.build(Architecture("test", family, dict.fromkeys(closed, False), (8, 8, 3), 2, options))
    charged = [row.operator for row in Latency("pixel1").operators(trace(model))]
    emitted = []
    for found in operators(convert_model(deploy(randomised(model)))):
        if found.name == "LceBconv2d":
            packed = found.outputs[0].dtype == "int32"
            emitted.append("packed_convolution" if packed else "binary_convolution")
        else:
            emitted.append(EMITTED[found.name])
    assert sorted(charged) == sorted(emitted)
