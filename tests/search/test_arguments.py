"""Arguments of a search are checked where they enter: one sentence each, with what to write instead."""

import numpy as np
import pytest
import tensorflow as tf

import tfbnas
from tfbnas import UserError, data, layers, training
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Latency, Memory, MultiplyAdds
from tfbnas.networks import build, register

SHAPE = {"input_shape": (8, 8, 3), "classes": 4}
CHANCE = np.random.default_rng(0)
PIXELS = CHANCE.integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)
LABELS = np.arange(24) % 4


def dms(**changes):
    return tfbnas.DMS(**{"network": "test-small", "budget": Budget(Memory(), 1500.0), **SHAPE, **changes})


def random(**changes):
    known = {"network": "test-small", "budget": Budget(Memory(), 1500.0), "least_share": 0.0, "candidates": 2}
    return tfbnas.Random(**{**known, **SHAPE, **changes})


def ends_in_ten(choose, *, input_shape, classes):
    inputs = tf.keras.Input(input_shape)
    x = layers.BatchNormalization()(layers.FloatConv2D(choose("stem", 8), 3)(inputs))
    return tf.keras.Model(inputs, layers.Dense(10)(tf.keras.layers.GlobalAveragePooling2D()(x)))


def ends_in_softmax(choose, *, input_shape, classes):
    inputs = tf.keras.Input(input_shape)
    x = layers.BatchNormalization()(layers.FloatConv2D(choose("stem", 8), 3)(inputs))
    x = layers.Dense(classes)(tf.keras.layers.GlobalAveragePooling2D()(x))
    return tf.keras.Model(inputs, tf.keras.layers.Softmax(name="end")(x))


def gives_nothing(choose, *, input_shape, classes):
    choose("stem", 8)


for function in (ends_in_ten, ends_in_softmax, gives_nothing):
    register(f"test-{function.__name__}", function)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: dms(budget=0.1), r"`budget` to be a Budget or a list of them, for instance .* budget=0.1"),
        (lambda: dms(budget=[]), r"`budget` to be a Budget.*Received: budget=\[\]"),
        (lambda: dms(budget=Memory()), "`budget` to be a Budget"),
        (lambda: dms(network="ok"), "network family out of"),
        (lambda: dms(network=gives_nothing), r"tfbnas.register\(\"gives_nothing\", gives_nothing\)"),
        (lambda: dms(network="test-gives_nothing"), "return a functional Keras model.*Received: NoneType"),
        (lambda: dms(network="test-ends_in_ten").compile("sgd", "adam"), "one output of 4 numbers.*Received: 10"),
        (lambda: dms(rounds="3"), "`rounds` to be an integer. Received: rounds='3'"),
        (lambda: dms(rounds=2.5), "`rounds` to be an integer. Received: rounds=2.5"),
        (lambda: dms(best_effort="no"), "`best_effort` to be true or false"),
        (lambda: dms(input_shap=(8, 8, 3)), "Did you mean 'input_shape'"),
        (lambda: dms(classes=0), "`classes` to be a positive integer"),
        (lambda: dms(seed=1.5), "`seed` to be an integer of at least 0"),
        (lambda: dms(seed=-1), "`seed` to be an integer of at least 0"),
        (lambda: tfbnas.BSN("cnf", budget=Budget(Memory(), 1e6), baseline="mean"), "`baseline` to be one of 'greedy'"),
        (lambda: tfbnas.BSN("cnf", budget=Budget(Memory(), 1e6), drops=0.5), "`drops` to be a list"),
        (lambda: dms(images=PIXELS), "images with their labels"),
        (lambda: dms(images="cifar10", classes=None), "Received: str"),
        (lambda: Budget(Memory(), limit="8k"), "text with a unit.*for instance \"8 MiB\". Received: limit='8k'"),
        (lambda: Budget(Memory(), limit="8 KB"), "Received: limit='8 KB'. Did you mean 'KiB'"),
        (lambda: Budget(Memory(), limit="8 ms"), "number of bytes"),
        (lambda: Budget(Memory(), limit=None), "Received: limit=None"),
        (lambda: Budget(Memory(), limit="-3 KiB"), "positive number of bytes. Received: limit=-3072"),
        (lambda: Budget(Memory(), limit=3.0, penalty_weight="much"), "`penalty_weight`"),
        (lambda: build({"network": "resnet18"}), r"take Architecture.from_dict\(content\)"),
        (lambda: build("architecture.json"), r"Architecture.load\(path\) reads one"),
        (lambda: build(dms()), r"take search.architecture\(\)"),
        (lambda: Latency(5), "`device` to be one of"),
        (lambda: MultiplyAdds(binary_weight="half"), "`binary_weight`"),
    ],
)
def test_refused(make, expected):
    with pytest.raises(UserError, match=expected) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cost", "text", "limit"),
    [
        (Memory(), "8 KiB", 8192),
        (Memory(), "0.12 MiB", 0.12 * 2**20),
        (Memory(), "8192B", 8192),
        (Memory(), "1e-3 GiB", 2**30 / 1000),
        (Memory(), "8 kib", 8192),
        (Latency("pixel1"), "2.5 ms", 2.5),
        (Latency("pixel1"), "0.01 s", 10),
        (MultiplyAdds(), "20 million", 20e6),
        (lambda architecture: 1, "4 units", 4),
    ],
)
def test_texts_with_units_are_limits(cost, text, limit):
    assert Budget(cost, limit=text).limit == pytest.approx(limit)


def test_a_search_under_a_text_is_that_under_the_number():
    assert dms(budget=Budget(Memory(), "2 KiB")).architecture() == dms(budget=Budget(Memory(), 2048)).architecture()


@pytest.mark.parametrize("make", [dms, random])
@pytest.mark.parametrize("images", [(PIXELS, LABELS), data.from_arrays(PIXELS, LABELS)], ids=["arrays", "split"])
def test_shape_and_classes_may_be_left_to_the_data(make, images):
    search = make(images=images, input_shape=None, classes=None)
    assert (search.template.input_shape, search.template.classes) == ((8, 8, 3), 4)
    assert search.network.output_shape == (None, 4)


def test_a_data_set_says_them_too():
    assert data.described(data.load("cifar10-quick")) == ((32, 32, 3), 10)


def test_modules_may_be_left_to_the_data():
    search = tfbnas.BSN(
        "cnf", budget=Budget(Memory(), 1e6), images=(PIXELS, LABELS), options={"columns": 2, "scales": 2}
    )
    assert search.network.output_shape == (None, 4)


@pytest.mark.parametrize("make", [dms, random])
def test_fit_compares(make):
    search = make(classes=10, budget=Budget(Memory(), 4000.0))
    search.compile("sgd", "adam" if make is dms else None)
    with pytest.raises(UserError, match="images of 10 classes.*Received: 4 classes.*classes=4"):
        search.fit(PIXELS, LABELS)


def fitted(train, validation=None):
    search = dms(rounds=1, weight_epochs=1, architecture_steps=1, batch_size=4)
    search.compile("sgd", "adam")
    return search.fit(train, validation, verbose=False)


def test_labels_of_the_second_part_are_of_the_classes_of_the_first():
    few = LABELS[:8].clip(0, 2)  # no image of the last class
    fitted((PIXELS, LABELS), (PIXELS[:8], few))
    with pytest.raises(UserError, match=r"validation images to be in 0\.\.3. Received: 4"):
        fitted((PIXELS, LABELS), (PIXELS[:8], few + 2))


def test_a_split_alone_is_divided():
    history = fitted(data.from_arrays(PIXELS, LABELS)).history
    assert np.isfinite(history["validation_loss"]).all()


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (lambda: data.load("cifar10-quick"), "give its part, images.train"),
        (lambda: "cifar10", "Received: str"),
        (lambda: None, "Received: NoneType"),
        (lambda: tf.data.Dataset.from_tensor_slices((PIXELS, LABELS)).batch(4), "one of the weights and one of the"),
    ],
)
def test_fit_refuses(train, expected):
    with pytest.raises(UserError, match=expected):
        fitted(train())


def test_a_network_that_ends_in_a_softmax_is_refused_before_training():
    search = dms(network="test-ends_in_softmax")
    with pytest.raises(UserError, match="ends in logits.*softmax, by its layer 'end'"):
        search.compile("sgd", "adam")
    search.compile("sgd", "adam", loss=tf.keras.losses.SparseCategoricalCrossentropy())  # a loss of probabilities
    model = build(Architecture("test", "test-ends_in_softmax", {}, (8, 8, 3), 4))
    with pytest.raises(UserError, match="ends in logits.*softmax, by its layer 'end'"):
        training.compile_for_training(model, learning_rate=0.1)
