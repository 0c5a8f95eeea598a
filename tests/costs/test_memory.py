"""Memory in bytes: against the paper's table, Larq's summary, and a count by hand."""

import itertools

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import MIB, Memory, Operation, trace
from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, BinaryConv2D, Dense, FloatConv2D, LearnedStep, OpenGate, OpenWidth

# DMS table 1, in MiB with two digits: what a uniform ratio of all channels takes, binary and in full precision.
PAPER = [
    ("resnet18", 1, True, 0.09),
    ("resnet18", 1, False, 2.67),
    ("vgg11", 1, True, 0.08),
    ("vgg11", 2, True, 0.29),
    ("vgg11", 1, False, 2.20),
]


@pytest.mark.parametrize(("network", "ratio", "binary", "expected"), PAPER)
def test_table_of_the_paper(network, ratio, binary, expected):
    architecture = Architecture(
        "test", network, {}, options={"base": 16 * ratio, "binarisation": "zero_alpha" if binary else "float"}
    )
    assert round(Memory().of(architecture) / MIB, 2) == expected


def test_resnet18_counted_by_hand():
    """dms.md's count: 697 344 binary weights; stem and dense layer of 432 and 1290 floats."""
    assert Memory().of(Architecture("test", "resnet18", {})) == 697_344 / 8 + (432 + 1290) * 4


@pytest.mark.parametrize("network", ["resnet18", "vgg11", "test-small"])
def test_deployed_counting_is_what_larq_counts(network):
    """Larq adds the learned steps, four bytes each, which the deployed network does not hold."""
    architecture = Architecture("test", network, {})
    model = networks.build(architecture)
    lines = []
    lq.models.summary(model, print_fn=lines.append)
    profile = lq.models.ModelProfile(model)
    steps = sum(isinstance(layer, LearnedStep) for layer in model.layers)
    found = Memory("deployed").of(architecture)
    assert found == profile.memory / 8 - 4 * steps
    assert f"{(found + 4 * steps) / 1024:.2f} KiB" in "\n".join(lines)


@pytest.mark.parametrize("counting", ["paper", "deployed"])
@pytest.mark.parametrize("channels", [{"stream": 4, "inner": 6, "out": 8}, {"stream": 1, "inner": 37, "out": 3}])
def test_count_by_hand(counting, channels, memory_of_small):
    found = Memory(counting).of(Architecture("test", "test-small", channels, (8, 8, 3), 4))
    assert found == memory_of_small(channels, deployed=counting == "deployed")


CANDIDATES = {"stream": [2, 4, 7], "inner": [3, 6, 9], "out": [5, 8, 13]}


def open_operations():
    widths = {}

    def choose(name, base):
        return widths.setdefault(name, OpenWidth(name, base))

    return trace(networks.construct("test-small", choose, input_shape=(8, 8, 3), classes=4, options={}))


@pytest.mark.parametrize("counting", ["paper", "deployed"])
def test_expectation_is_the_mean_over_all_combinations(counting, memory_of_small):
    chance = np.random.default_rng(0)
    weights = {name: chance.dirichlet(np.ones(3)) for name in CANDIDATES}
    expected = 0.0
    for picks in itertools.product(range(3), repeat=3):
        chosen = dict(zip(CANDIDATES, picks, strict=True))
        probability = np.prod([weights[name][i] for name, i in chosen.items()])
        channels = {name: CANDIDATES[name][i] for name, i in chosen.items()}
        expected += probability * memory_of_small(channels, deployed=counting == "deployed")
    distributions = {
        name: (tf.constant(values, tf.float32), tf.constant(weights[name], tf.float32))
        for name, values in CANDIDATES.items()
    }
    found = Memory(counting).expected(open_operations(), distributions)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_width_on_both_sides_of_a_layer_is_squared_before_the_mean():
    width = OpenWidth("w", 4)
    inputs = tf.keras.Input((8, 8, 3))
    x = LearnedStep()(BatchNormalization()(FloatConv2D(width, 3)(inputs)))
    operations = trace(tf.keras.Model(inputs, BatchNormalization()(BinaryConv2D(width, 3)(x))))
    values, probabilities = np.array([2.0, 10.0]), np.array([0.5, 0.5])
    found = Memory().expected(
        operations, {"w": (tf.constant(values, tf.float32), tf.constant(probabilities, tf.float32))}
    )
    assert float(found) == pytest.approx(9 * 3 * 6 * 4 + 9 * (4 + 100) / 2 / 8)


def test_grouped_and_biased_layers_of_keras_are_counted():
    inputs = tf.keras.Input((8, 8, 4))
    x = tf.keras.layers.Conv2D(6, 3, groups=2)(inputs)
    model = tf.keras.Model(inputs, Dense(5)(tf.keras.layers.GlobalAveragePooling2D()(x)))
    networks.register("test-grouped", lambda choose, *, input_shape, classes: model)
    assert Memory().of(Architecture("test", "test-grouped", {})) == 4 * model.count_params()


def test_unknown_counting_is_refused():
    with pytest.raises(UserError, match="Received: counting='mib'"):
        Memory("mib")


def test_binary_and_float_bits_are_had_apart():
    architecture = Architecture(
        "test", "resnet_fabric", {"group1/block0/body": False}, (8, 8, 3), 2, {"n": 1, "base": 4}
    )
    for counting in ("paper", "deployed"):
        parts = Memory(counting).parts(architecture)
        assert parts["binary"] + parts["float"] == pytest.approx(Memory(counting).of(architecture))
    # By hand: group 2 has an input of 4 channels and 8 of its own, group 3 has 8 and 16 and a link from the 4.
    bodies = 9 * (4 * 8 + 8 * 8) + 9 * (8 * 16 + 16 * 16)
    links = 9 * (4 * 8 + 8 * 8) + 4 * 8 + 9 * (4 * 16 + 16 * 16) + 4 * 16
    shortcuts = 4 * 8 + 8 * 16
    assert Memory().parts(architecture) == {
        "binary": (bodies + links + shortcuts) / 8,
        "float": 4.0 * (9 * 3 * 4 + 16 * 2 + 2),
    }
    graph = networks.graph(architecture)
    kept = graph.prune(graph.gates(architecture.choices)).modules[0]
    for part, expected in Memory().parts(architecture).items():
        assert Memory(part=part).over(architecture)(kept) == expected
    with pytest.raises(UserError, match="part='bits'"):
        Memory(part="bits")


def test_the_file_holds_words_of_32_channels_thresholds_and_float_constants():
    def operation(inputs, outputs, **options):
        return Operation("layer", "convolution", True, (3, 3), inputs, outputs, False, 8, 8, reads_bits=True, **options)

    memory, empty = Memory("file"), Memory("file").of_operation(operation(32, 0))
    for inputs, words in ((1, 1), (32, 1), (33, 2), (96, 3)):
        assert memory.of_operation(operation(inputs, 10)) - empty == 10 * (4 * 9 * words + 8)
        assert memory.of_operation(operation(inputs, 10, writes_bits=True)) - empty == 10 * (4 * 9 * words + 4)
    parts = [Memory("file", part=part).of_operation(operation(33, 10)) for part in ("binary", "float")]
    assert parts == [10 * 4 * 9 * 2, empty + 80]


def test_the_file_has_no_expectation_over_modules():
    graph = networks.construct(
        "resnet_fabric", lambda name, _: OpenGate(name), input_shape=(8, 8, 3), classes=4, options={"n": 1, "base": 4}
    )
    with pytest.raises(UserError, match="only widths are open.*counting `paper`"):
        Memory("file").expected(trace(graph), {})
