"""The binary dense layer and the normalisation of vectors behind it, against numpy and their Keras and Larq twins."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, BinaryDense, Dense, FloatConv2D, LearnedStep, OpenWidth, StandardizedSign
from tfbnas.layers.resizing import make_growable, open_weights, resize
from tfbnas.layers.width import aligned_activations, channels_of

layers = tf.keras.layers
SIZES = {"image": 5, "hidden": 20, "out": 7}


def bits(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 2, shape).astype(np.float32)


def network(choose):
    """Images of 6x6, pooled, two binary dense layers, four classes.

    Few pixels are pooled: the average of many is the same for all images, and the normalisation of bits that never
    change would make rounding visible.
    """
    inputs = tf.keras.Input((6, 6, 3))
    x = BatchNormalization(name="bn0")(FloatConv2D(choose("image"), 3, 3, name="conv")(inputs))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    for name in ("hidden", "out"):
        x = LearnedStep(0.5, name=f"step_{name}")(x)
        x = BatchNormalization(name=f"bn_{name}")(BinaryDense(choose(name), name=name)(x))
    return tf.keras.Model(inputs, Dense(4, name="logits")(x))


def opened(sizes=SIZES):
    widths = {name: OpenWidth(name, size) for name, size in sizes.items()}
    return network(widths.__getitem__), widths


def images(count=16):
    chance = np.random.default_rng(5)
    return chance.normal(size=(count, 6, 6, 3)).astype(np.float32), chance.integers(0, 4, count)


def loss_and_gradients(model, x, labels):
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        loss = tf.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    return [loss, logits, *tape.gradient(loss, model.trainable_variables)]


def test_forward_pass_against_numpy():
    inputs = bits((3, 11))
    layer = BinaryDense(4)
    layer.build(inputs.shape)
    latent = np.random.default_rng(1).normal(0.3, 1.0, (11, 4))
    layer.set_weights([latent])
    expected = inputs @ np.where(latent - latent.mean(axis=0) >= 0, 1.0, -1.0)
    found = layer(inputs)
    np.testing.assert_array_equal(found, expected)
    assert tuple(found.shape) == tuple(layer.compute_output_shape(inputs.shape)) == (3, 4)


def test_outputs_and_gradients_are_those_of_larq():
    inputs = tf.constant(bits((8, 11)))
    twin = lq.layers.QuantDense(4, use_bias=False, kernel_quantizer=StandardizedSign(), kernel_constraint="weight_clip")
    results = []
    for layer in (BinaryDense(4), twin):
        layer.build(inputs.shape)
        layer.set_weights([np.random.default_rng(3).normal(size=(11, 4))])
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = layer(inputs)
            loss = tf.reduce_sum(output**2)
        results.append([output, *tape.gradient(loss, [inputs, *layer.trainable_weights])])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_sums_are_exact_in_mixed_precision():
    inputs = bits((2, 200))
    dense = [BinaryDense(4, dtype=policy) for policy in ("float32", "mixed_bfloat16")]
    for layer in dense:
        layer.build(inputs.shape)
        layer.set_weights([np.random.default_rng(5).normal(size=(200, 4))])
    exact, mixed = (layer(inputs) for layer in dense)
    assert dense[1].kernel.dtype == tf.float32 and mixed.dtype == tf.bfloat16
    np.testing.assert_array_equal(tf.cast(mixed, tf.float32), exact)


def test_normalisation_of_vectors_is_that_of_keras():
    ours, twin = BatchNormalization(), layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    chance = np.random.default_rng(9)
    values = [chance.normal(size=5), chance.normal(size=5), chance.normal(size=5), chance.uniform(1, 2, 5)]
    x = tf.constant(chance.normal(1.0, 2.0, (16, 5)), tf.float32)
    results = []
    for layer in (ours, twin):
        layer.build((None, 5))
        layer.set_weights(values)
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x, training=True)
            loss = tf.reduce_sum(tf.sin(output))
        results.append([output, *tape.gradient(loss, [x, *layer.trainable_weights]), layer.moving_mean])
    for left, right in zip(*results, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        # as for images, and unlike Keras for vectors: the unbiased variance
        ours.moving_variance,
        0.9 * values[3] + 0.1 * np.var(x, axis=0, ddof=1),
        rtol=1e-5,
    )
    np.testing.assert_allclose(ours(x), (x - ours.moving_mean) / np.sqrt(ours.moving_variance + 1e-5) * ours.gamma
                               + ours.beta, rtol=1e-4, atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("sizes", [SIZES, {"image": 16, "hidden": 1, "out": 33}])
def test_open_network_computes_what_the_plain_one_does(sizes, randomised):
    plain, (open_, _) = randomised(network(sizes.__getitem__)), opened(sizes)
    open_.set_weights(plain.get_weights())
    x, labels = images()
    np.testing.assert_allclose(open_(x), plain(x), rtol=1e-5, atol=1e-5)
    for left, right in zip(*(loss_and_gradients(m, x, labels) for m in (open_, plain)), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
    for left, right in zip(open_.weights, plain.weights, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


def test_aligned_network_computes_what_the_plain_one_does(randomised):
    plain = randomised(network(SIZES.__getitem__))
    with aligned_activations():
        aligned = network(SIZES.__getitem__)
    assert isinstance(aligned.get_layer("hidden").units, OpenWidth)
    aligned.set_weights(plain.get_weights())
    x, _ = images()
    np.testing.assert_allclose(aligned(x), plain(x), rtol=1e-5, atol=1e-5)


def test_mask_multiplies_normalised_vectors_and_gets_a_gradient(randomised):
    model, widths = opened()
    randomised(model)
    x, _ = images()
    before = tf.keras.Model(model.input, model.get_layer("bn_hidden").output)(x).numpy()
    mask = tf.Variable(np.linspace(1, 0, SIZES["hidden"]), dtype=tf.float32)
    widths["hidden"].mask = lambda: mask
    with tf.GradientTape() as tape:
        masked = tf.keras.Model(model.input, model.get_layer("bn_hidden").output)(x)
        loss = tf.reduce_sum(masked)
    assert masked.shape == (16, 32)
    np.testing.assert_allclose(masked[:, :20], before[:, :20] * mask.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(masked[:, 20:], 0)
    np.testing.assert_allclose(tape.gradient(loss, mask), before[:, :20].sum(0), rtol=1e-3, atol=1e-3)


def test_resizing_keeps_the_common_part():
    model, widths = opened()
    optimizer = make_growable(tf.keras.optimizers.Adam(1e-2))
    optimizer.build(model.trainable_variables)

    def train():
        x, labels = images()
        optimizer.apply_gradients(zip(loss_and_gradients(model, x, labels)[2:], model.trainable_variables, strict=True))

    train()
    for seed, sizes in enumerate([{"image": 3, "hidden": 40, "out": 7}, {"image": 9, "hidden": 6, "out": 18}]):
        variables = [*model.weights, *optimizer.variables]
        old = [variable.numpy() for variable in variables]
        resize(model, {widths[name]: size for name, size in sizes.items()}, seed=seed, optimizer=optimizer)
        expected = [tuple(weight.shape) for weight in network(sizes.__getitem__).weights]
        assert [value.shape for value in model.get_weights()] == expected
        for variable, before in zip(variables, old, strict=True):
            after = variable.numpy()
            part = tuple(slice(min(pair)) for pair in zip(before.shape, after.shape, strict=True))
            assert before[part].tobytes() == after[part].tobytes()
        train()
    assert {weight.key for weight in open_weights(model)} >= {"hidden/kernel", "out/kernel", "bn_out/gamma"}
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)


def test_flattened_image_of_given_width():
    inputs = tf.keras.Input((2, 3, 4))
    model = tf.keras.Model(inputs, BinaryDense(OpenWidth("w", 5), name="d")(LearnedStep()(layers.Flatten()(inputs))))
    assert model.get_layer("d").kernel.shape.as_list() == [24, None]
    x = np.random.default_rng(0).normal(1.0, 1.0, (2, 2, 3, 4)).astype(np.float32)
    kernel = model.get_layer("d").kernel.numpy()
    expected = (x.reshape(2, 24) > 1.0) @ np.where(kernel >= kernel.mean(axis=0), 1.0, -1.0)
    np.testing.assert_array_equal(model(x)[:, :5], expected)


def test_flattened_image_of_open_width_must_have_one_pixel():
    width = OpenWidth("w", 5)

    def flat(size):
        return layers.Flatten(name="flat")(FloatConv2D(width, 3)(tf.keras.Input((size, size, 3))))

    assert channels_of(flat(1)) is width
    for layer in (LearnedStep(), BatchNormalization(), Dense(3)):
        with pytest.raises(
            UserError, match="given width.*Flatten 'flat'.*open.*GlobalAveragePooling2D.*multiple of 16"
        ):
            layer(flat(2))


@pytest.mark.parametrize("shape", [(2, 3, 3, 4), (2, 3, 4)])
def test_images_are_refused(shape):
    with pytest.raises(UserError, match=r"BinaryDense 'd' to have the shape \[batch, features\].*Flatten"):
        BinaryDense(4, name="d")(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    "options",
    [
        {"use_bias": True},
        {"activation": "relu"},
        {"input_quantizer": "ste_sign"},
        {"kernel_constraint": "weight_clip"},
        {"kernel_regularizer": "l2"},
    ],
)
def test_arguments_that_would_be_ignored_are_refused(options):
    with pytest.raises(UserError, match="of BinaryDense to be"):
        BinaryDense(4, **options)


@pytest.mark.parametrize("units", [0, -3, 2.5, "16", None, True])
def test_units_that_are_no_number_are_refused(units):
    with pytest.raises(UserError, match="channels of layer 'd' to be a positive integer.* Received: "):
        BinaryDense(units, name="d")


def test_configuration_round_trip():
    layer = BinaryDense(4, kernel_quantizer=StandardizedSign(1.25), name="d")
    again = tf.keras.layers.deserialize(tf.keras.layers.serialize(layer))
    assert type(again) is BinaryDense and again.get_config() == layer.get_config()


def test_no_warning_of_starved_weights(caplog):
    BinaryDense(4)
    assert "starved" not in caplog.text


def test_saved_network_gives_the_same_outputs(tmp_path, randomised):
    model = randomised(network(SIZES.__getitem__))
    model.save(tmp_path / "m.keras")
    x, _ = images()
    np.testing.assert_array_equal(tf.keras.models.load_model(tmp_path / "m.keras")(x), model(x))
