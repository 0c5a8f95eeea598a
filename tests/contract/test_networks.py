"""What every network family must do. A new family adds one row."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks, training
from tfbnas.architecture import Architecture
from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D, RectifiedConv2D, blocks
from tfbnas.networks.cells import OPERATIONS, Edge
from tfbnas.networks.choices import Edges, Module, OpenEdges, Operation, Width, kind_of
from tfbnas.networks.interacted import Interactions
from tfbnas.networks.mixed import operation


def mask_of(edges):
    """Edges between four channels as a matrix."""
    mask = np.zeros((4, 4), np.float32)
    for source, target in edges:
        mask[source, target] = 1.0
    return mask


@tf.keras.utils.register_keras_serializable("tfbnas-tests")
class Linked(tf.keras.layers.Layer):
    """Adds source channels to target channels: what a layer with edges may be."""

    def __init__(self, edges, **kwargs):
        super().__init__(**kwargs)
        self.edges = edges

    def call(self, inputs):
        mask = self.edges.mask() if isinstance(self.edges, OpenEdges) else tf.constant(mask_of(self.edges))
        more = tf.shape(inputs)[-1] - mask.shape[0]  # channels of the layout, which are zero
        linked = tf.matmul(inputs, tf.cast(tf.pad(mask, [[0, more], [0, more]]), inputs.dtype))
        return tf.ensure_shape(inputs + linked, inputs.shape)

    def get_config(self):
        return {**super().get_config(), "edges": self.edges}


def kinds_network(choose, *, input_shape, classes, binarisation="zero_alpha"):
    """One operation out of two, and edges between four channels."""
    quantize, convolution = blocks(binarisation)

    def convolved(name, x):
        x = convolution(4, 3, name=f"{name}_conv")(quantize(name=f"{name}_step")(x))
        return BatchNormalization(name=f"{name}_bn")(x)

    makers = {
        "identity": lambda name, x: x,
        "plain": convolved,
        "twice": lambda n, x: convolved(n, convolved(f"{n}_1", x)),
    }
    inputs = tf.keras.Input(input_shape)
    x = BatchNormalization(name="stem_bn")(FloatConv2D(4, 3, name="stem")(inputs))
    x = operation(choose("edge/operation", Operation(tuple(makers), "plain")), "edge", x, makers)
    x = Linked(choose("edge/links", Edges(4, 4, 3)), name="links")(x)
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(quantize(name="last_step")(x))
    return tf.keras.Model(inputs, Dense(classes, name="logits", dtype="float32")(x))


networks.register("test-kinds", kinds_network)


def _open_edges(kind, name, value):
    opened = kind.open(name)
    opened.mask = lambda: tf.constant(mask_of(value))
    return opened


def _open_interactions(kind, name, value):
    opened = kind.open(name)
    for teacher, student, influence in value:
        opened.influences.scatter_nd_update([[teacher, student]], [influence])
    return opened


@dataclass(frozen=True)
class KindRow:
    """What the tests do with a kind of choice.

    Attributes:
      message: Part of what is said of an impossible value.
      value: An unusual value of the choice with some index among its family's.
      open: `open(kind, name, value)`: the open form with which the network is the one of the value.
    """

    message: str
    value: Callable
    open: Callable


KINDS = {
    Width: KindRow(
        "positive integer", lambda kind, index: 3 + 2 * index, lambda kind, name, value: kind.open(name, size=value)
    ),
    Module: KindRow("true or false", lambda kind, index: True, lambda kind, name, value: value and kind.open(name)),
    Operation: KindRow(
        "one of identity, plain, twice",
        lambda kind, index: kind.candidates[-1],
        lambda kind, name, value: Operation((value,)).open(name),
    ),
    Edge: KindRow(
        "one of none, identity",
        lambda kind, index: kind.candidates[-1],
        lambda kind, name, value: Operation((value,)).open(name),
    ),
    Interactions: KindRow(
        "three integers each", lambda kind, index: [[0, 1, 3], [2, 1, -5], [3, 0, 5]], _open_interactions
    ),
    Edges: KindRow("different edges", lambda kind, index: [[0, 1], [2, 1], [3, 3]], _open_edges),
}


@dataclass(frozen=True)
class Family:
    """A row: what the family asks for, and how to make it small.

    Attributes:
      network: Its name.
      asked: Every choice and its default, as the builder gives it.
      options: Arguments that make it small.
      shapes: Input shapes it takes, the first one small.
      closed: Modules that the tests leave out, for a family of modules.
      asked_with: Options under which it asks for `asked`.
      has_bypass: Whether a network is left where every module is left out.
    """

    network: str
    asked: dict[str, Any]
    options: dict
    shapes: tuple[tuple[int, int, int], ...]
    closed: tuple[str, ...] = ()
    asked_with: dict = field(default_factory=dict)
    has_bypass: bool = False

    @property
    def id(self) -> str:
        return "-".join(
            [self.network, *(str(self.options[name]) for name in ("shortcuts", "binarisation") if name in self.options)]
        )

    @property
    def kinds(self) -> dict[str, Any]:
        return {name: kind_of(default) for name, default in self.asked.items()}

    def only(self, kind: type) -> bool:
        return all(isinstance(one, kind) for one in self.kinds.values())

    def values(self) -> dict[str, Any]:
        """Channels for each choice that no layout fits, some modules, and the like."""
        found = {n: KINDS[type(kind)].value(kind, index) for index, (n, kind) in enumerate(self.kinds.items())}
        return found | dict.fromkeys(self.closed, False)

    def architecture(self, choices=None, **changes) -> Architecture:
        plain = Architecture("test", self.network, self.values() if choices is None else choices, self.shapes[0], 5)
        return replace(plain, **{"options": self.options} | changes)

    def opened(self, architecture: Architecture) -> tf.keras.Model:
        opened = {}

        def choose(name, default):
            kind = kind_of(default)
            return opened.setdefault(name, KINDS[type(kind)].open(kind, name, architecture.choices[name]))

        return networks.construct(
            self.network,
            choose,
            input_shape=architecture.input_shape,
            classes=architecture.classes,
            options=architecture.options,
        )


FAMILIES = [
    Family(
        "resnet18",
        {"stem": 16}
        | {f"stage{s}/stream": 8 * 2**s for s in (2, 3, 4)}
        | {f"stage{s}/block{b}/inner": 8 * 2**s for s in (1, 2, 3, 4) for b in (1, 2)},
        {"base": 4},
        ((16, 16, 3), (32, 32, 3), (64, 64, 1), (224, 224, 3)),
    ),
    Family(
        "vgg11",
        {f"conv{i}": base for i, base in enumerate((16, 32, 64, 64, 128, 128, 128, 128), start=1)},
        {"base": 4},
        ((32, 32, 3), (32, 48, 3), (64, 64, 1), (224, 224, 3)),
    ),
    Family(
        "resnet_fabric",
        {f"group{g}/block0/{module}": True for g in (1, 2, 3) for module in ("body", "skip")}
        | {"group2/block0/from_input": True, "group3/block0/from_input": True},
        {"n": 1, "base": 4},
        ((8, 8, 3), (9, 11, 1)),
        closed=("group1/block0/skip", "group2/block0/body", "group3/block0/from_input"),
        asked_with={"n": 1},
    ),
    Family(
        "cnf",
        {
            "l0_s1/from_l0_s0": True,
            "l1_s0/from_l0_s0": True,
            "l1_s0/from_l0_s1": True,
            "l1_s1/from_l0_s0": True,
            "l1_s1/from_l0_s1": True,
            "l1_s1/from_l1_s0": True,
        },
        {"columns": 2, "scales": 2, "filters": 4},
        ((8, 8, 3), (8, 12, 1)),
        closed=("l1_s1/from_l0_s0",),
        asked_with={"columns": 2, "scales": 2, "filters": 4},
    ),
    Family(
        "cells",
        {f"reduction/node2/from{source}": Edge(OPERATIONS["deployable"], "conv_3x3", 2) for source in (0, 1)},
        {"depth": 2, "nodes": 1, "channels": 16},
        ((8, 8, 3), (9, 11, 1), (72, 72, 3)),
        asked_with={"depth": 2, "nodes": 1},
    ),
    Family(
        "resnet20",
        {f"stage{s}_conv{c}": Interactions(8 * 2**s, 8 * 2**s) for s in (1, 2, 3) for c in range(1, 3)},
        {"base": 4, "n": 1},
        ((8, 8, 3), (9, 11, 1)),
        asked_with={"n": 1},
    ),
    Family(
        "resnet20",
        {"stem": 16}
        | {f"stage{s}/stream": 8 * 2**s for s in (2, 3)}
        | {f"stage{s}/block1/inner": 8 * 2**s for s in (1, 2, 3)},
        {"base": 4, "n": 1, "widths": True, "shortcuts": "block"},
        ((8, 8, 3),),
        asked_with={"n": 1, "widths": True, "shortcuts": "block"},
    ),
    Family(
        "vgg_small",
        {f"conv{i}": Interactions(channels, channels) for i, channels in enumerate((128, 256, 256, 512, 512), start=2)},
        {"base": 4},
        ((8, 8, 3), (16, 9, 1)),
    ),
    Family(
        "resnet18_interactions",
        {f"stage{s}_conv{c}": Interactions(2 * 2**s, 2 * 2**s) for s in (1, 2, 3, 4) for c in (1, 2)},
        {"base": 4, "n": 1},
        ((32, 32, 3),),
        asked_with={"base": 4, "n": 1},
    ),
    Family(
        "quicknet",
        {"stem": 2, "section1": 8, "section2": 12},
        {"blocks": [1, 1], "filters": [8, 12]},
        ((8, 8, 3), (9, 11, 1), (72, 72, 3)),
        asked_with={"blocks": [1, 1], "filters": [8, 12]},
    ),
    Family(
        "quicknet_blocks",
        {"section1/block1": True, "section1/block2": True, "section2/block1": True},
        {"blocks": [2, 1], "filters": [4, 8]},
        ((8, 8, 3), (9, 11, 1)),
        closed=("section1/block2",),
        asked_with={"blocks": [2, 1], "filters": [4, 8]},
        has_bypass=True,
    ),
    Family("test-small", {"stream": 4, "inner": 6, "out": 8}, {}, ((8, 8, 3), (9, 11, 1))),
    Family("test-small", {"stream": 4, "inner": 6, "out": 8}, {"binarisation": "rectified"}, ((8, 8, 3),)),
    Family(
        "test-kinds",
        {"edge/operation": Operation(("identity", "plain", "twice"), "plain"), "edge/links": Edges(4, 4, 3)},
        {},
        ((8, 8, 3), (9, 11, 1)),
    ),
]


@pytest.fixture(params=FAMILIES, ids=lambda family: family.id, scope="module")
def family(request):
    return request.param


@pytest.fixture(scope="module")
def plain(family, randomised):
    """A plain network with uneven widths and weights as training leaves them."""
    return randomised(networks.build(family.architecture()))


@pytest.fixture(scope="module")
def batch(family):
    chance = np.random.default_rng(0)
    return chance.normal(size=(4, *family.shapes[0])).astype(np.float32), chance.integers(0, 5, 4)


def test_asks_for_its_choices_with_their_defaults(family):
    asked = []

    def choose(name, default):
        asked.append((name, default))
        return kind_of(default).default

    networks.construct(family.network, choose, input_shape=(32, 32, 3), classes=10, options=family.asked_with)
    assert sorted(asked, key=str) == sorted(family.asked.items(), key=str)  # each exactly once


def test_input_shapes_and_classes(family):
    for shape in family.shapes:
        model = networks.build(family.architecture({}, input_shape=shape, classes=7))
        assert model.input_shape == (None, *shape) and model.output_shape == (None, 7)
        assert model.output.dtype == tf.float32


def test_choices_says_of_which_kind_they_are(family):
    template = family.architecture({}, options=family.asked_with, input_shape=(32, 32, 3))
    assert networks.choices(template) == family.kinds


def test_draws_networks_that_can_be_built(family):
    template = family.architecture({})
    drawn = [networks.draw(template, np.random.default_rng(seed)) for seed in (0, 0, *range(1, 20))]
    assert drawn[0] == drawn[1] and len(set(drawn)) > 4
    kinds = networks.choices(template)
    for found in filter(None, drawn):
        assert replace(found, choices={}) == template and found.choices.keys() == kinds.keys()
        for name, value in found.choices.items():
            assert kinds[name].check(name, value) == value
    assert networks.build(next(filter(None, drawn))).output_shape == (None, 5)


def test_choices_decide_what_is_built(family):
    """Other values of a choice are another network, and those of each kind are what is built."""
    values, random = family.values(), np.random.default_rng(0)

    def configured(choices):
        return json.dumps(networks.build(family.architecture(choices)).get_config(), default=str)

    unchanged = configured(values)
    for name, kind in list(networks.choices(family.architecture({})).items())[:3]:
        other = next(drawn for drawn in (kind.draw(random) for _ in range(99)) if drawn != values[name])
        assert configured({**values, name: other}) != unchanged


def test_widths_are_those_of_the_layers(family, plain):
    if not family.only(Width):
        pytest.skip("has other choices")
    smallest = networks.build(family.architecture(dict.fromkeys(family.asked, 1)))
    assert all(weight.shape[-1] in (1, 5) for weight in smallest.weights if weight.shape.rank)
    # A depthwise convolution has as many as it reads.
    filters = {getattr(layer, "filters", None) for layer in plain.layers} - {None}
    assert filters == set(family.values().values())


def test_modules_that_are_left_out_are_not_built(family, plain):
    if not family.only(Module):
        pytest.skip("has other choices")
    kernels = {layer.name for layer in networks.build(family.architecture({})).layers if hasattr(layer, "filters")}
    there = {layer.name for layer in plain.layers if hasattr(layer, "filters")}
    prefixes = tuple(name.replace("/", "_") for name in family.closed)
    assert there == {name for name in kernels if not name.startswith(prefixes)} != kernels
    if family.has_bypass:
        assert networks.build(family.architecture(dict.fromkeys(family.asked, False))).output_shape == (None, 5)
        return
    with pytest.raises(UserError, match="leave a path from input to output"):
        networks.build(family.architecture(dict.fromkeys(family.asked, False)))


def test_unknown_choice_is_refused_with_the_nearest_name(family):
    name = next(iter(family.asked))
    with pytest.raises(UserError, match=f"{name + 'x'!r}. Did you mean {name!r}"):
        networks.build(family.architecture({name + "x": 8}))


@pytest.mark.parametrize("value", [0, -1, 2.5, "wide", None])
def test_impossible_values_are_refused(family, value):
    first = {type(kind): (name, kind) for name, kind in reversed(family.kinds.items())}  # little is built before it
    for name, kind in first.values():
        with pytest.raises(UserError, match=f"{name!r} to be .*{KINDS[type(kind)].message}.* Received: "):
            networks.build(family.architecture({name: value}))


def test_unknown_option_is_refused(family):
    with pytest.raises(UserError, match="Received: options=.*depht"):
        networks.build(family.architecture({}, options={"depht": 3}))


def test_rebuilds_from_json(family, plain, batch, tmp_path):
    family.architecture().save(tmp_path / "architecture.json")
    again = networks.build(Architecture.load(tmp_path / "architecture.json"))
    assert [layer.name for layer in again.layers[1:]] == [layer.name for layer in plain.layers[1:]]
    again.set_weights(plain.get_weights())
    np.testing.assert_array_equal(again(batch[0]), plain(batch[0]))


def test_saves_and_loads_as_keras_model(family, plain, batch, tmp_path):
    plain.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(batch[0]), plain(batch[0]))


def step(model, batch):
    """Logits, loss and gradients of one training step, by name."""
    images, labels = batch
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, variables)
    return {"logits": logits, "loss": loss} | by_name(variables, gradients)


def by_name(variables, values=None):
    """Values of variables; two forms of a network may hold the same variables in another order."""
    values = [variable.numpy() for variable in variables] if values is None else values
    found = {short(variable): value for variable, value in zip(variables, values, strict=True)}
    assert len(found) == len(variables)
    return found


def short(variable):
    """Layer and name: those of open width repeat the layer's name."""
    return "/".join(variable.name.split("/")[-2:])


@pytest.mark.parametrize("form", ["opened", "trainable"])
def test_other_forms_are_the_plain_network(family, plain, batch, form):
    """Open choices, and the form that trains fastest: same weights, same values, same gradients."""
    architecture = family.architecture()
    model = family.opened(architecture) if form == "opened" else training.trainable(architecture)
    weights = by_name(plain.weights)
    assert {short(variable) for variable in model.weights} == set(weights)
    for variable in model.weights:
        variable.assign(weights[short(variable)])
    np.testing.assert_allclose(model(batch[0]), plain(batch[0]), rtol=1e-5, atol=1e-5)
    ours, theirs = step(model, batch), step(plain, batch)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        scale = max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-5 * scale, err_msg=name)
    after = by_name(plain.weights)
    for name, value in by_name(model.weights).items():
        np.testing.assert_allclose(value, after[name], rtol=1e-5, atol=1e-5)  # moving statistics moved alike
    for variable in plain.weights:
        variable.assign(weights[short(variable)])


def test_float_twin_has_the_same_weights_beside_steps_and_scales(family, plain):
    """The full-precision network, from whose weights a binary one can start; a scale comes behind its kernel."""
    twin = networks.build(family.architecture(options={**family.options, "binarisation": "float"}))
    shapes = {layer.name: [weight.shape for weight in layer.weights] for layer in plain.layers if layer.weights}
    assert {layer.name: [weight.shape for weight in layer.weights] for layer in twin.layers if layer.weights} == {
        name: found[:1] if isinstance(plain.get_layer(name), RectifiedConv2D) else found
        for name, found in shapes.items()
        if "step" not in name
    }
    assert any(isinstance(layer, tf.keras.layers.ReLU) for layer in twin.layers)


def test_mixed_precision_ends_in_float32(family, batch):
    model = training.trainable(family.architecture(), precision="bfloat16")
    assert model.output.dtype == tf.float32
    assert {weight.dtype for weight in model.weights} == {tf.float32}
    assert model.layers[-3].compute_dtype == "bfloat16"
    assert np.all(np.isfinite(model(batch[0])))
    assert tf.keras.mixed_precision.global_policy().name == "float32"


def test_unknown_family_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="'resnet81'. Did you mean 'resnet18'"):
        networks.build(Architecture("test", "resnet81", {}))


def test_a_name_belongs_to_one_builder():
    builder = networks.builder("vgg11")
    assert networks.register("vgg11", builder) is builder
    with pytest.raises(UserError, match="'vgg11', which is taken"):
        networks.register("vgg11", networks.builder("resnet18"))
