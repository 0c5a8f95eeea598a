"""What is special about networks of cells; what every family must do is in tests/contract."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, BinaryConv2D, LearnedStep
from tfbnas.layers.fan_out import FanOut
from tfbnas.layers.width import aligned_activations
from tfbnas.networks.cells import NONE, OPERATIONS, Edge, cells
from tfbnas.networks.mixed import Mixed

SMALL = {"input_shape": (8, 8, 3), "classes": 4, "depth": 3, "channels": 4, "nodes": 2}
TINY = SMALL | {"nodes": 1}


def closed(choices=None):
    """Gives what is asked for, else the default."""
    return lambda name, kind: (choices or {}).get(name, kind.default)


def asked_for(**options):
    asked = {}
    cells(lambda name, kind: asked.setdefault(name, kind).default, **options)
    return asked


def drawn(seed, **options):
    chance = np.random.default_rng(seed)
    return {name: kind.draw(chance) for name, kind in asked_for(**options).items()}


def weighted(layers):
    """The layers that have weights, by name, those inside of open operations too."""
    found = {}
    for layer in layers:
        if isinstance(layer, Mixed):
            for module in layer.modules:
                found |= weighted(module.layers)
        elif layer.weights:
            found[layer.name] = layer
    return found


def shaken(model, seed=0):
    chance = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(
            chance.uniform(0.3, 1.3, weight.shape) * (1 if "variance" in weight.name else chance.choice([-1, 1]))
        )
    return model


def test_a_cell_has_fourteen_edges_with_eight_operations_of_the_paper():
    asked = asked_for(input_shape=(8, 8, 3), channels=2, operations="paper", depth=3)
    for kind in ("normal", "reduction"):
        edges = {name for name in asked if name.startswith(kind)}
        assert edges == {f"{kind}/node{node}/from{source}" for node in (2, 3, 4, 5) for source in range(node)}
        assert len(edges) == 14
    assert {edge.candidates for edge in asked.values()} == {OPERATIONS["paper"]} and len(OPERATIONS["paper"]) == 8


def test_reduction_cells_stand_at_a_third_and_two_thirds():
    model = cells(closed(), input_shape=(32, 32, 3), channels=4, depth=6, nodes=1)
    sizes = [model.get_layer(f"cell{index}_node2").output_shape[1:] for index in range(6)]
    assert sizes == [(32, 32, 4)] * 2 + [(16, 16, 8)] * 2 + [(8, 8, 16)] * 2
    assert model.output_shape == (None, 10) and model.output.dtype == tf.float32


def test_imagenet_form_halves_the_images_three_times():
    model = cells(closed(), input_shape=(96, 96, 3), channels=4, depth=3, nodes=1)
    assert model.get_layer("cell0_node2").output_shape[1:] == (12, 12, 4)


@pytest.mark.parametrize("operations", OPERATIONS)
def test_parent_and_child_are_one_network_in_two_forms(operations):
    child, parent = (
        cells(closed(), **SMALL, operations=operations, binarisation=form) for form in ("zero_alpha", "float")
    )
    assert [layer.name for layer in child.layers[1:]] == [layer.name for layer in parent.layers[1:]]
    assert any(isinstance(layer, BinaryConv2D) for layer in child.layers)
    assert not any(isinstance(layer, BinaryConv2D | LearnedStep) for layer in parent.layers)


@pytest.mark.parametrize(
    ("operations", "seeds"),
    [("deployable", (0,)), pytest.param("deployable", (1, 2), marks=pytest.mark.slow),
     pytest.param("paper", (0,), marks=pytest.mark.slow)],
)  # fmt: skip
def test_closed_network_is_the_open_one_on_the_same_weights(operations, seeds):
    options = (SMALL if operations == "deployable" else TINY) | {"operations": operations}
    opened = {}
    model = shaken(cells(lambda name, kind: opened.setdefault(name, kind.open(name)), **options))
    images = tf.constant(np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype(np.float32))
    theirs = weighted(model.layers)
    for seed in seeds:
        choices = drawn(seed, **options)
        # A node without edges is zero in the open network, and missing in the closed one.
        choices |= {name: "identity" for name in choices if name.endswith("from0") and choices[name] == NONE}
        for name, choice in opened.items():
            place = choice.candidates.index(choices[name])
            choice.weights = functools.partial(tf.one_hot, place, len(choice.candidates))
        plain = cells(closed(choices), **options)
        for name, layer in weighted(plain.layers).items():
            layer.set_weights(theirs[name].get_weights())
        expected = plain(images).numpy()
        np.testing.assert_allclose(model(images), expected, rtol=1e-5, atol=1e-5)
        assert np.abs(expected).max() > 0.1


def test_open_network_gives_every_operation_a_gradient():
    """Of the weights of the operations, by which the architecture's parameters act, none is cut off."""
    opened, weights = {}, {}
    model = shaken(cells(lambda name, kind: opened.setdefault(name, kind.open(name)), **TINY))
    for name, choice in opened.items():
        weights[name] = tf.Variable(tf.fill([len(choice.candidates)], 1 / len(choice.candidates)))
        choice.weights = weights[name].read_value
    images = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(images, training=True)))
    for name, gradient in tape.gradient(loss, weights).items():
        by_operation = dict(zip(opened[name].candidates, gradient.numpy(), strict=True))
        assert by_operation.pop(NONE) == 0 and all(value != 0 for value in by_operation.values()), name


def test_a_node_without_edges_is_left_out():
    choices = dict.fromkeys(asked_for(**SMALL), NONE)
    choices |= {"normal/node2/from0": "conv_3x3", "normal/node3/from2": "identity", "reduction/node3/from1": "conv_1x1"}
    model = cells(closed(choices), **SMALL)
    names = {layer.name for layer in model.layers}
    assert "cell0_node2_from0_conv_3x3_conv" in names and "cell1_node3_from1_conv_1x1_conv" in names
    assert not any(name.startswith("cell1_node2") for name in names)
    # What reads a node that is left out is left out as well.
    choices["reduction/node3/from2"] = "conv_5x5"
    assert not any("conv_5x5" in layer.name for layer in cells(closed(choices), **SMALL).layers)


def test_a_drawn_cell_has_two_edges_at_a_node_in_the_mean():
    chance = np.random.default_rng(0)
    for sources in (2, 3, 5):
        kind = Edge(OPERATIONS["deployable"], NONE, sources)
        found = [kind.draw(chance) for _ in range(3000)]
        kept = [name for name in found if name != NONE]
        assert len(kept) / 3000 == pytest.approx(2 / sources, abs=0.04)
        counts = [kept.count(name) / len(kept) for name in kind.candidates if name != NONE]
        assert counts == pytest.approx([1 / 6] * 6, abs=0.05)


def fans(model):
    return {layer.name: layer.readers for layer in model.layers if isinstance(layer, FanOut)}


def test_tensors_with_many_readers_have_fan_outs_in_what_is_trained():
    """Else the gradients of three readers are summed in an order that changes from run to run."""
    small = SMALL | {"depth": 2}
    opened = fans(cells(lambda name, kind: kind.open(name), **small))
    assert opened["cell0_node2_out"] == 3 and "cell0_node3_out" not in opened
    choices = dict.fromkeys(asked_for(**small), "identity")
    with aligned_activations():
        assert fans(cells(closed(choices), **(small | {"channels": 16})))["cell0_node2_out"] == 3
        with pytest.raises(UserError, match="multiple of 16.*channels=4"):
            cells(closed(), **small)
    assert not fans(cells(closed(choices), **small))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth=0"),
        ({"nodes": -1}, "nodes=-1"),
        ({"operations": "papr"}, "deployable, paper.*Received: 'papr'. Did you mean 'paper'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        cells(closed(), **(SMALL | options))


def test_a_cell_of_nothing_is_refused():
    with pytest.raises(UserError, match="reduction cell .*edge that is not none"):
        cells(closed(dict.fromkeys(asked_for(**SMALL), NONE) | {"normal/node2/from0": "identity"}), **SMALL)


def test_normalisations_stand_in_front_of_what_is_pooled():
    """In the deployable set a pool reads a normalised tensor, or a sum of such; in the paper's it is normalised."""
    names = dict.fromkeys(asked_for(**SMALL), "max_pool_3x3")
    deployable, paper = (cells(closed(names), **SMALL, operations=operations) for operations in ("deployable", "paper"))
    assert isinstance(deployable.get_layer("cell0_input0_sum_bn"), BatchNormalization)
    assert not any("max_pool_3x3_bn" in layer.name for layer in deployable.layers)
    assert any("max_pool_3x3_bn" in layer.name for layer in paper.layers)
