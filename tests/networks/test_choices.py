"""Kinds of choices, what is drawn of them, and builders of a user's own; each family's are in tests/contract."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.errors import UserError
from tfbnas.layers import FloatConv2D
from tfbnas.networks.choices import Edges, Module, Operation, Width, kind_of
from tfbnas.networks.mixed import operation

MAKERS = {
    "three": lambda name, x: FloatConv2D(4, 3, name=f"{name}_conv")(x),
    "one": lambda name, x: FloatConv2D(4, 1, name=f"{name}_conv")(x),
    "identity": lambda name, x: x,
}


def draws(kind, count=2000):
    random = np.random.default_rng(0)
    return [kind.draw(random) for _ in range(count)]


def test_draws_are_even():
    widths = draws(Width(16))
    assert min(widths) == 4 and max(widths) == 40 and np.mean(widths) == pytest.approx(22, abs=0.8)
    assert set(draws(Width(1), 50)) == {1, 2}
    assert np.mean(draws(Module())) == pytest.approx(0.5, abs=0.04)
    operations = draws(Operation(("a", "b", "c")))
    assert all(operations.count(name) == pytest.approx(2000 / 3, abs=90) for name in "abc")
    edges = draws(Edges(3, 2, 4))
    assert [np.mean([len(found) == n for found in edges]) for n in range(5)] == pytest.approx([0.2] * 5, abs=0.03)
    assert np.mean([[2, 1] in found for found in edges]) == pytest.approx(2 / 6, abs=0.04)


def test_defaults():
    assert (Width(8).default, Module().default, Module(False).default, Edges(2, 2).default) == (8, True, False, [])
    assert Operation(("a", "b")).default == "a" and Operation(("a", "b"), "b").default == "b"
    with pytest.raises(UserError, match="one of its candidates.*Received: 'c'"):
        Operation(("a", "b"), "c")


def test_kinds_of_defaults():
    assert [kind_of(default) for default in (8, True, False)] == [Width(8), Module(), Module(False)]
    assert kind_of(Edges(2, 3)) == Edges(2, 3)
    for default in (0, "wide", None, 2.5):
        with pytest.raises(UserError, match="Expected the default of a choice.* Received: "):
            kind_of(default)


def test_edges_are_rising_pairs():
    kind = Edges(3, 2, 2)
    assert kind.check("e", [[2, 0], [0, 1]]) == [[0, 1], [2, 0]]
    for value in ([[0, 2]], [[3, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 1], [1, 0]], [[0]], [[True, 0]], [0, 1], {}):
        with pytest.raises(UserError, match="'e' to be at most 2 different edges .*Received: "):
            kind.check("e", value)


def test_an_unknown_operation_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="one of three, one, identity. Received: 'thre'. Did you mean 'three'"):
        Operation(tuple(MAKERS)).check("op", "thre")


@pytest.fixture
def mixed():
    """An open operation, the network that it is in, and images."""
    opened = Operation(tuple(MAKERS)).open("op")
    inputs = tf.keras.Input((6, 6, 4))
    images = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype(np.float32)
    return opened, tf.keras.Model(inputs, operation(opened, "edge", inputs, MAKERS)), images


def test_an_open_operation_weighs_its_candidates(mixed):
    opened, model, images = mixed
    each = {}
    for index, name in enumerate(MAKERS):
        opened.weights = lambda index=index: tf.one_hot(index, 3)
        each[name] = model(images).numpy()
        inputs = tf.keras.Input((6, 6, 4))
        closed = tf.keras.Model(inputs, operation(name, "edge", inputs, MAKERS))
        weights = {weight.name: weight for weight in model.weights}
        for weight in closed.weights:
            weight.assign(weights[weight.name])
        np.testing.assert_allclose(each[name], closed(images), atol=1e-6)
        assert len(closed.weights) == (name != "identity")  # the others are not built
    opened.weights = None
    np.testing.assert_allclose(model(images), sum(each.values()) / 3, atol=1e-6)


def test_an_open_operation_has_gradients_by_its_weights(mixed):
    opened, model, images = mixed
    variable = tf.Variable([0.2, 0.5, 0.3])
    opened.weights = variable.value
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(images)))
    found = tape.gradient(loss, variable).numpy()
    for index in range(3):
        ends = []
        for sign in (1, -1):
            opened.weights = lambda sign=sign, index=index: variable + 1e-2 * sign * tf.one_hot(index, 3)
            ends.append(float(tf.reduce_sum(tf.square(model(images)))))
        assert found[index] == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=1e-2)


OWN = """
import tensorflow as tf
from tfbnas import networks
from tfbnas.layers import Dense
from tfbnas.networks.resnet_fabric import resnet_fabric, resnet_fabric_graph

def small(choose, *, input_shape, classes, scale=1):
    inputs = tf.keras.Input(input_shape)
    x = tf.keras.layers.Conv2D(scale * choose("width", 4), 3)(inputs)
    return tf.keras.Model(inputs, Dense(classes, name="logits")(tf.keras.layers.GlobalAveragePooling2D()(x)))

def fabric(choose, **options):
    return resnet_fabric(choose, **options)

networks.register("own-fabric", fabric, graph=resnet_fabric_graph)
number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of a user's own."""
    (tmp_path / "own_networks.py").write_text(OWN)
    (tmp_path / "broken_networks.py").write_text("import nothing_like_this")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_builder_of_the_users_own_by_its_dotted_name(own, tmp_path):
    architecture = Architecture("test", "own_networks:small", {"width": 5}, (8, 8, 3), 3, {"scale": 2})
    assert networks.choices(architecture) == {"width": Width(4)}
    architecture.save(tmp_path / "architecture.json")
    model = networks.build(Architecture.load(tmp_path / "architecture.json"))
    assert model.output_shape == (None, 3) and model.layers[1].filters == 10
    drawn = networks.draw(architecture, np.random.default_rng(0))
    assert drawn.network == "own_networks:small" and 1 <= drawn.choices["width"] <= 10


def test_a_graph_of_the_users_own(own):
    architecture = Architecture("test", "own_networks:fabric", {}, (8, 8, 3), 3, {"n": 1, "base": 4})
    assert networks.is_graph("own_networks:fabric") and not networks.is_graph("own_networks:small")
    assert set(networks.choices(architecture)) == set(networks.graph(architecture).choices)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere:small", "No module named 'nowhere'"),
        ("broken_networks:small", "No module named 'nothing_like_this'"),
        ("own_networks:smal", "own_networks has no function 'smal'"),
        ("own_networks:number", "own_networks has no function 'number'"),
        (":small", "Empty module name"),
    ],
)
def test_builders_that_cannot_be_imported_are_refused(own, name, reason):
    with pytest.raises(UserError, match=f"that can be imported. Received: {name!r}.*{reason}"):
        networks.builder(name)


def test_draws_of_modules_lead_from_input_to_output():
    template = Architecture("test", "cnf", {}, (8, 8, 3), 4, {"columns": 2, "scales": 2, "filters": 4})
    graph, random = networks.graph(template), np.random.default_rng(0)
    drawn = [networks.draw(template, random) for _ in range(200)]
    assert 0 < drawn.count(None) < 150
    for found in filter(None, drawn):
        gates = graph.gates(found.choices)
        pruned = graph.prune(gates)
        assert np.array_equal(pruned.gates, gates) and pruned.modules.any()
    assert len(set(drawn)) > 8
