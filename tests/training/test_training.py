"""Training of plain networks: the fast form is the plain network, and its schedule is what it says."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks, training
from tfbnas.architecture import Architecture
from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, BinaryConv2D, Dense, FloatConv2D, LearnedStep

ODD = Architecture("test", "test-small", {"stream": 5, "inner": 16, "out": 19}, (8, 8, 3), 4)


def weights(model):
    return [weight.numpy() for weight in model.weights]


def test_both_forms_start_with_the_same_weights():
    fast = training.trainable(ODD, seed=3)
    tf.keras.utils.set_random_seed(3)
    plain = networks.build(ODD)
    assert any(None in weight.shape for weight in fast.weights) and not any(None in w.shape for w in plain.weights)
    for left, right in zip(weights(fast), weights(plain), strict=True):
        assert left.tobytes() == right.tobytes()


def test_the_seed_decides_the_weights():
    kernels = [
        [value for value in weights(training.trainable(ODD, seed=seed)) if value.ndim == 4] for seed in (0, 0, 1)
    ]
    for first, again, other in zip(*kernels, strict=True):
        assert first.tobytes() == again.tobytes()
        assert not np.any(first == other)


def test_both_forms_train_alike_over_several_steps(image_batches):
    fast = training.trainable(ODD, seed=1)
    plain = networks.build(ODD)
    plain.set_weights(weights(fast))
    histories = []
    for model in (fast, plain):
        training.compile_for_training(model, learning_rate=0.05)
        data = image_batches(64, batch=16)
        histories.append(model.fit(data, epochs=2, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(*histories, rtol=1e-4)
    for left, right in zip(weights(fast), weights(plain), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-3)
    assert histories[0][1] < histories[0][0]


def test_plain_takes_the_weights_over(image_batches, randomised):
    images, _ = next(iter(image_batches(16)))
    for precision in ("float32", "bfloat16"):
        fast = randomised(training.trainable(ODD, precision=precision))
        plain = training.plain(fast, ODD)
        assert {layer.dtype_policy.name for layer in plain.layers} == {"float32"}
        assert not any(None in weight.shape for weight in plain.weights)
        for left, right in zip(weights(fast), weights(plain), strict=True):
            assert left.tobytes() == right.tobytes()
        exact = networks.build(ODD)
        exact.set_weights(weights(fast))
        np.testing.assert_array_equal(plain(images), exact(images))
        if precision == "float32":
            np.testing.assert_allclose(plain(images), fast(images), rtol=1e-5, atol=1e-5)


def test_unknown_precision_is_refused():
    with pytest.raises(UserError, match="Received: 'float61'"):
        training.trainable(ODD, precision="float61")


def test_compiled_optimiser_is_built_and_does_what_it_says():
    model = training.trainable(ODD)
    optimizer = training.compile_for_training(model, learning_rate=0.5, momentum=0.9, weight_decay=0.01)
    assert model.optimizer is optimizer
    assert len(optimizer.variables) == 1 + len(model.trainable_variables)  # the counter and the momenta
    variable = model.get_layer("stem").kernel
    before, gradient = variable.numpy(), np.ones(variable.numpy().shape, np.float32)
    velocity, expected = 0.0, before
    for _ in range(2):
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
        expected = expected * (1 - 0.5 * 0.01)  # decoupled, as Keras decays
        velocity = 0.9 * velocity - 0.5 * gradient
        expected = expected + velocity
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_no_weight_decay_is_none():
    model = training.trainable(ODD)
    assert training.compile_for_training(model, learning_rate=0.1, weight_decay=0.0).weight_decay is None


def test_schedule_of_the_paper():
    """0.1, divided by ten at epochs 140, 220 and 260 of 300; here with 10 steps an epoch."""
    schedule = training.piecewise_schedule(0.1, steps=3000, drops=[140 / 300, 220 / 300, 260 / 300])
    found = [float(schedule(step)) for step in (0, 1399, 1401, 2199, 2201, 2599, 2601, 2999)]
    np.testing.assert_allclose(found, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 1e-4, 1e-4], rtol=1e-5)
    flat = training.piecewise_schedule(0.1, steps=10, drops=[])
    assert [float(flat(step)) for step in (0, 10, 11)] == pytest.approx([0.1] * 3)


def test_uniform_architecture():
    bases = {"stream": 4, "inner": 6, "out": 8}
    found = training.uniform(ODD, bases, 1.25)
    assert found.choices == {"stream": 5, "inner": 8, "out": 10} and found.method == "uniform"
    assert (found.network, found.input_shape, found.classes) == (ODD.network, ODD.input_shape, ODD.classes)
    assert training.uniform(ODD, bases, 0.01).choices == dict.fromkeys(bases, 1)


def test_weights_go_to_the_layers_of_their_names_or_nothing_changes(randomised):
    source, target = randomised(networks.build(ODD)), training.trainable(ODD)
    stem_before = weights(target.get_layer("stem"))
    training.set_weights(target, {"conv1": training.weights(source)["conv1"]})
    np.testing.assert_array_equal(weights(target.get_layer("conv1"))[0], weights(source.get_layer("conv1"))[0])
    np.testing.assert_array_equal(weights(target.get_layer("stem")), stem_before)
    before = weights(target)
    for values, text in (
        ({"stem": [np.zeros((3, 3, 3, 5))], "conv1": [np.zeros((3, 3, 5, 15))]}, r"\(3, 3, 5, 16\).*\(3, 3, 5, 15\)"),
        ({"conv9": [np.zeros(3)]}, "conv9.*no such layer"),
    ):
        with pytest.raises(UserError, match=text):
            training.set_weights(target, values)
    for left, right in zip(before, weights(target), strict=True):
        np.testing.assert_array_equal(left, right)


def test_only_batch_normalisation_is_fitted_where_one_asks_for_that(image_batches):
    model = training.trainable(ODD, only=training.is_normalization)
    training.compile_for_training(model, learning_rate=0.05)
    before = training.weights(model)
    model.fit(image_batches(64, batch=16), epochs=1, verbose=0)
    for name, values in training.weights(model).items():
        moved = [not np.array_equal(old, new) for old, new in zip(before[name], values, strict=True)]
        assert all(moved) if training.is_normalization(model.get_layer(name)) else not any(moved), name


def unnamed(choose, *, input_shape, classes):
    x = inputs = tf.keras.Input(input_shape)
    x = BatchNormalization()(FloatConv2D(choose("stem", 5), 3)(x))
    x = BatchNormalization()(BinaryConv2D(choose("next", 6), 3)(LearnedStep()(x)))
    return tf.keras.Model(inputs, Dense(classes)(tf.keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_layers_need_no_names(image_batches, precision):
    networks.register("test-unnamed", unnamed)
    architecture = Architecture("test", "test-unnamed", {}, (8, 8, 3), 4)
    networks.build(architecture)  # Keras counts on
    model = training.trainable(architecture, precision=precision)
    training.compile_for_training(model, learning_rate=0.05)
    model.fit(image_batches(32, batch=16), epochs=1, verbose=0)
    plain = training.plain(model, architecture)
    for left, right in zip(weights(model), weights(plain), strict=True):
        assert left.tobytes() == right.tobytes()
    assert model.output.dtype == tf.float32
