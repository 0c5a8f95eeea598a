"""Optimisers of the weights: both parts do by hand what they say, and as one optimiser they are saved and grow."""

from dataclasses import replace

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas import training
from tfbnas.architecture import Architecture
from tfbnas.checkpoints import Checkpoints
from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, BinaryConv2D, BinaryDense, FloatConv2D, LearnedStep, OpenWidth
from tfbnas.layers.resizing import make_growable, resize
from tfbnas.networks import construct
from tfbnas.recipes.options import TrainSettings
from tfbnas.training import optimizers

SMALL = Architecture("test", "test-small", {"stream": 5, "inner": 16, "out": 19}, (8, 8, 3), 4)
SETTINGS = TrainSettings(
    recipe="adam_sgd", epochs=2, learning_rate=0.2, kernel_learning_rate=0.05, momentum=0.8, warm_up=0.5
)
EPOCH = 8
BINARY = {"conv1", "conv2", "conv3", "shortcut"}


def optimizer_of(model, settings=SETTINGS):
    rates = training.learning_rates(settings, EPOCH * settings.epochs)
    return training.weight_optimizer(settings, rates, model, epoch_steps=EPOCH)


def compiled(seed=0, settings=SETTINGS):
    model = training.trainable(SMALL, seed=seed)
    training.compile_with(model, optimizer_of(model, settings))
    return model


def steps(model, batches):
    """Trains by `apply_gradients`."""
    for images, labels in batches:
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
        model.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))


def cosine(step, total=EPOCH * 2, warm_up=EPOCH // 2):
    return 0.5 * (1 + np.cos(np.pi * step / total)) * min(1.0, (step + 1) / warm_up)


def adam(value, gradients, rate, bound=None):
    """Kingma & Ba, the formula at the end of section 2, in which epsilon stands beside the uncorrected moment."""
    m = v = np.zeros_like(value)
    for step, gradient in enumerate(gradients):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        alpha = rate * cosine(step) * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        value = value - alpha * m / (np.sqrt(v) + 1e-7)
        value = value if bound is None else np.clip(value, -bound, bound)
    return value


def nesterov(value, gradients, rate, momentum):
    velocity = np.zeros_like(value)
    for step, gradient in enumerate(gradients):
        velocity = momentum * velocity - rate * cosine(step) * gradient
        value = value + momentum * velocity - rate * cosine(step) * gradient
    return value


@pytest.mark.parametrize("bound", [None, 0.2])
def test_both_parts_by_hand(bound):
    """Over the warm-up and beyond it; each step of both depends on all steps before."""
    model = compiled(settings=replace(SETTINGS, kernel_bound=bound))
    variables = model.trainable_variables
    binary = {kernel.ref() for kernel in training.binary_kernels(model)}
    assert {variable.name.split("/")[0] for variable in variables if variable.ref() in binary} == BINARY
    before = [variable.numpy().astype(np.float64) for variable in variables]
    chance = np.random.default_rng(0)
    gradients = [[chance.normal(size=value.shape) for value in before] for _ in range(6)]
    for step in gradients:
        model.optimizer.apply_gradients(zip(map(tf.constant, map(np.float32, step)), variables, strict=True))
    for index, variable in enumerate(variables):
        own = [step[index] for step in gradients]
        if variable.ref() in binary:
            expected = adam(before[index], own, 0.05, bound)
            assert bound is None or np.max(np.abs(expected)) == bound
        else:
            expected = nesterov(before[index], own, 0.2, 0.8)
            if variable.constraint is not None:  # that of a step size
                continue
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-4, atol=2e-5, err_msg=variable.name)


def test_fit_and_apply_gradients_do_the_same(image_batches):
    models = [compiled(), compiled()]
    data = image_batches(48, batch=8)
    steps(models[0], data)
    models[1].fit(data, epochs=1, shuffle=False, verbose=0)
    assert int(models[1].optimizer.iterations) == 6
    for left, right in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-3)


def test_rates_rise_for_half_an_epoch_and_fall_together(image_batches):
    model = compiled()
    rates = []
    for batch in image_batches(16 * 4, batch=4):
        steps(model, [batch])
        rates.append([float(member.learning_rate) for member in model.optimizer.members])
    expected = np.array([cosine(step) for step in range(16)])
    np.testing.assert_allclose(np.array(rates), expected[:, None] * [0.05, 0.2], rtol=1e-5)
    np.testing.assert_allclose(expected[:4], [0.25, 0.495, 0.722, 0.916], atol=1e-3)
    assert float(model.optimizer.learning_rate) == rates[-1][1]


def test_no_warm_up_is_the_schedule_itself():
    schedule = training.piecewise_schedule(0.1, steps=10, drops=[0.5])
    found = optimizers.WarmUp(schedule, 0, factor=3.0)
    np.testing.assert_allclose([float(found(step)) for step in (0, 4, 6)], [0.3, 0.3, 0.03], rtol=1e-6)


def test_schedules_are_serialised():
    schedule = optimizers.WarmUp(tf.keras.optimizers.schedules.CosineDecay(0.1, 20), 4, factor=0.5)
    again = tf.keras.optimizers.schedules.deserialize(tf.keras.optimizers.schedules.serialize(schedule))
    assert [float(again(step)) for step in range(20)] == [float(schedule(step)) for step in range(20)]


def test_layers_say_which_kernels_are_binary():
    inputs = tf.keras.Input((8, 8, 4))
    x = FloatConv2D(4, 3, name="binary_by_name_only")(inputs)
    x = BatchNormalization()(BinaryConv2D(4, 3, name="first")(LearnedStep()(x)))
    x = lq.layers.QuantConv2D(4, 3, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", name="second")(x)
    x = lq.layers.QuantConv2D(4, 3, input_quantizer="ste_sign", name="float_kernel")(x)
    x = lq.layers.QuantDepthwiseConv2D(2, depthwise_quantizer="ste_sign", name="third")(x)
    inner_input = tf.keras.Input((x.shape[-1],))
    inner = tf.keras.Model(inner_input, BinaryDense(3, name="fourth")(LearnedStep()(inner_input)), name="inner")
    model = tf.keras.Model(inputs, inner(tf.keras.layers.GlobalAveragePooling2D()(x)))
    names = [kernel.name.split("/")[0] for kernel in training.binary_kernels(model)]
    assert sorted(names) == ["first", "fourth", "second", "third"]
    optimizer = optimizer_of(model)
    optimizer.build(model.trainable_variables)
    kernels = {model.get_layer("second").kernel._unique_id, inner.get_layer("fourth").kernel._unique_id}
    assert kernels < set(optimizer.members[0]._index_dict)
    assert len(optimizer.members[0]._index_dict) == 4


def test_a_network_without_binary_kernels_is_trained_by_sgd(image_batches):
    model = training.trainable(replace(SMALL, options={"binarisation": "float"}))
    training.compile_with(model, optimizer_of(model))
    steps(model, image_batches(16, batch=8))
    assert not model.optimizer.members[0]._index_dict
    assert len(model.optimizer.variables) == 1 + len(model.trainable_variables)


def state(model):
    return [variable.numpy() for variable in [*model.weights, *model.optimizer.variables]]


def test_a_resumed_training_takes_the_same_steps_bit_for_bit(image_batches, tmp_path):
    data = list(image_batches(64, batch=8))
    whole = compiled()
    steps(whole, data)
    first = compiled()
    steps(first, data[:5])
    held = lambda model: {"layers": model.layers, "optimizer": model.optimizer}  # noqa: E731
    Checkpoints(tmp_path, **held(first)).save(5)
    second = compiled(seed=7)
    assert Checkpoints(tmp_path, **held(second)).restore()[0] == 5
    assert int(second.optimizer.iterations) == 5
    assert [float(member.learning_rate) for member in second.optimizer.members] == [
        float(member.learning_rate) for member in first.optimizer.members
    ]
    steps(second, data[5:])
    slots = 2 * len(BINARY) + (len(second.trainable_variables) - len(BINARY))
    assert len(second.optimizer.variables) == 1 + slots
    for left, right in zip(state(whole), state(second), strict=True):
        assert left.tobytes() == right.tobytes()


def test_slots_of_both_parts_follow_the_widths(image_batches):
    widths = {}

    def choose(name, base):
        return widths.setdefault(name, OpenWidth(name, base, size=6))

    tf.keras.utils.set_random_seed(0)
    model = construct("test-small", choose, input_shape=(8, 8, 3), classes=4, options={})
    model.compile(make_growable(optimizer_of(model)))
    model.optimizer.build(model.trainable_variables)
    data = list(image_batches(16, batch=8))
    steps(model, data)
    slots = model.optimizer.variables[1:]
    before = [slot.numpy() for slot in slots]
    resize(model, {widths["stream"]: 4, widths["inner"]: 21}, seed=1, optimizer=model.optimizer)
    for old, slot in zip(before, slots, strict=True):
        new = slot.numpy()
        common = tuple(slice(min(sizes)) for sizes in zip(old.shape, new.shape, strict=True))
        assert new[common].tobytes() == old[common].tobytes() if old.ndim else new == old
    adam_part, sgd_part = model.optimizer.members
    owned = {kernel.ref(): kernel for kernel in training.binary_kernels(model)}.values()
    for own in (adam_part._momentums, adam_part._velocities):
        assert [slot.numpy().shape for slot in own] == [
            kernel.numpy().shape for kernel in model.trainable_variables if any(kernel is k for k in owned)
        ]
    assert any(slot.numpy().shape == (3, 3, 3, 4) for slot in sgd_part.momentums)
    moved = model.get_layer("conv1").kernel.numpy()
    assert moved.shape == (3, 3, 4, 21)
    steps(model, data)
    assert not np.any(model.get_layer("conv1").kernel.numpy() == moved)


def test_weight_decay_of_a_part_is_its_own():
    """Decoupled, as Keras decays; the bound comes last."""
    left, right = tf.Variable([2.0]), tf.Variable([2.0])
    decaying = tf.keras.optimizers.SGD(0.5, weight_decay=0.1)
    bounded = optimizers.BoundedAdam(0.25, bound=1.5)
    both = optimizers.CaseOptimizer(([right], bounded), default=decaying)
    both.apply_gradients([(tf.constant([1.0]), left), (tf.constant([1.0]), right)])
    np.testing.assert_allclose(left.numpy(), [2 * 0.95 - 0.5])
    np.testing.assert_allclose(right.numpy(), [1.5])


def test_sgd_is_the_recipe_of_the_papers():
    model = compiled(settings=TrainSettings())
    assert type(model.optimizer) is tf.keras.optimizers.SGD
    found = model.optimizer
    assert (found.momentum, found.nesterov, found.weight_decay) == (0.9, False, 1e-4)
    assert compiled(settings=TrainSettings(weight_decay=0.0)).optimizer.weight_decay is None


def test_what_cannot_be_is_refused():
    model = training.trainable(SMALL)
    with pytest.raises(UserError, match="Received: recipe='adamw'"):
        optimizer_of(model, replace(SETTINGS, recipe="adamw"))
    with pytest.raises(UserError, match="include_optimizer=False"):
        optimizer_of(model).get_config()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kernel_learning_rate": 0.0}, "train.kernel_learning_rate. to be positive"),
        ({"recipe": "adam_sgd", "kernel_bound": -1.0}, "train.kernel_bound. to be positive"),
        ({"kernel_bound": 1.0}, "adam_sgd with a .train.kernel_bound.. Received: recipe=sgd, kernel_bound=1.0"),
        ({"warm_up": -0.5}, "train.warm_up. to be at least 0 and below .train.epochs.. Received: -0.5 of 16"),
        ({"warm_up": 16}, "Received: 16 of 16"),
    ],
)
def test_settings_are_checked(changes, text):
    with pytest.raises(UserError, match=text):
        TrainSettings(**changes).check()
    TrainSettings(recipe="adam_sgd", kernel_bound=1.0, warm_up=0.0).check()
