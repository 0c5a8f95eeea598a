"""Multiply-adds, parameters and bytes: what the authors report, and sums over modules against whole networks."""

import numpy as np
import pytest

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Memory, MultiplyAdds, Parameters, trace
from tfbnas.costs.additive import over_modules
from tfbnas.errors import UserError


@pytest.mark.parametrize(
    ("network", "options", "multiply_adds", "parameters"),
    [
        ("resnet_fabric", {"n": 3, "links": False}, 40.90, 0.273),
        ("resnet_fabric", {"n": 18, "links": False}, 253.67, 1.735),
        ("resnet_fabric", {"n": 3}, 91.1, 0.761),
        ("resnet_fabric", {"n": 18}, 635.3, 5.487),
        ("cnf", {}, 3274.5, 18.04),
    ],
)
def test_whole_networks(network, options, multiply_adds, parameters):
    """Millions, as BSN's baselines count them; every digit that is reported."""
    whole = Architecture("test", network, {}, options={**options, "binarisation": "float"})

    def digits(value, like):
        return round(value / 1e6, len(str(like).partition(".")[2]))

    assert digits(MultiplyAdds().of(whole), multiply_adds) == multiply_adds
    assert digits(Parameters(biases=True).of(whole), parameters) == parameters


SMALL = {
    "resnet_fabric": ({"n": 1, "base": 4}, (8, 8, 3)),
    "cnf": ({"columns": 2, "scales": 2, "filters": 4}, (8, 8, 3)),
}


def some_choices(graph, chance):
    """Random closed choices that leave a path."""
    while True:
        gates = chance.random((1, len(graph.choices))) < 0.7
        if graph.prune(gates).modules.any():
            return dict(zip(graph.choices, gates[0].tolist(), strict=True))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("network", SMALL)
def test_sums_over_modules_are_those_of_the_built_network(network, binary):
    options, shape = SMALL[network]
    open_choices = Architecture(
        "test", network, {}, shape, 5, {**options, "binarisation": "zero_alpha" if binary else "float"}
    )
    graph = networks.graph(open_choices)
    costs = (MultiplyAdds(binary_weight=1 / 64), Parameters(), Memory("paper"), Memory("deployed"))
    overs = [cost.over(open_choices) for cost in costs]
    choices = some_choices(graph, np.random.default_rng(0))
    closed = Architecture("test", network, choices, shape, 5, open_choices.options)
    model = networks.build(closed)
    operations = trace(model)
    kept = graph.prune(graph.gates(choices)).modules[0]
    for cost, over in zip(costs, overs, strict=True):
        whole = sum(map(cost.of_operation, operations))
        assert over(kept) == pytest.approx(whole) == pytest.approx(cost.of(closed))
    steps = sum(weight.shape.num_elements() for weight in model.trainable_weights if "step" in weight.name)
    fixed = sum(weight.shape.num_elements() for weight in model.non_trainable_weights)
    assert Parameters().of(closed) == model.count_params() - steps - fixed


def test_additions_count_as_many_as_are_needed():
    """Three tensors of 8x8x4 summed need two additions for each element; two need one, one needs none."""
    whole = Architecture(
        "test", "cnf", {}, (8, 8, 3), 5, {"columns": 2, "scales": 2, "filters": 4, "binarisation": "float"}
    )
    over = over_modules(
        whole, lambda operation: MultiplyAdds().of_operation(operation) if operation.kind == "add" else 0.0
    )
    graph = networks.graph(whole)
    choices = dict.fromkeys(graph.choices, True)
    assert over(graph.prune(graph.gates(choices)).modules[0]) == 64 * 4 + 2 * 16 * 4
    choices["l1_s1/from_l0_s0"] = False
    assert over(graph.prune(graph.gates(choices)).modules[0]) == 64 * 4 + 16 * 4


def test_multiply_adds_of_other_networks():
    """The eight convolutions and the dense layer of VGG-11 by hand."""
    channels, places = [3, 2, 4, 8, 8, 16, 16, 16, 16], [32, 16, 8, 8, 4, 4, 2, 2]
    expected = sum(9 * i * o * side**2 for i, o, side in zip(channels[:-1], channels[1:], places, strict=True))
    choices = {f"conv{k}": channels[k] for k in range(1, 9)}
    assert MultiplyAdds().of(Architecture("test", "vgg11", choices, classes=10)) == expected + 16 * 10


def test_bits_may_count_less():
    whole = Architecture("test", "resnet_fabric", {}, (8, 8, 3), 5, {"n": 1, "base": 4})
    stem, dense = 27 * 4 * 64, 16 * 5
    assert MultiplyAdds(binary_weight=0.0).of(whole) < stem + dense + 4 * 64 * 20
    with pytest.raises(UserError, match="binary_weight=-1"):
        MultiplyAdds(binary_weight=-1)
