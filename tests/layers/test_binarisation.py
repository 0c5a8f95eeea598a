import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D, OpenWidth, SignConv2D, blocks, register_blocks

layers = tf.keras.layers


def network(binarisation, strides=1):
    activation, convolution = blocks(binarisation)
    inputs = tf.keras.Input((8, 8, 3))
    x = BatchNormalization(name="stem_bn")(FloatConv2D(8, 3, name="stem")(inputs))
    y = convolution(8, 3, strides, name="conv1")(activation(name="step1")(x))
    y = BatchNormalization(name="bn1")(y)
    y = convolution(8, 3, name="conv2")(activation(name="step2")(y))
    y = BatchNormalization(name="bn2")(y)
    x = layers.Add()([x, y]) if strides == 1 else y
    return tf.keras.Model(inputs, Dense(4)(layers.GlobalAveragePooling2D()(x)))


def test_unknown_ways_are_refused_with_the_nearest():
    with pytest.raises(UserError, match="'sign', 'rectified', 'float'.*'zero-alpha'. Did you mean 'zero_alpha'"):
        blocks("zero-alpha")


def test_a_way_of_ones_own_has_a_name_of_its_own():
    register_blocks("test-tanh", layers.ReLU, FloatConv2D)
    assert blocks("test-tanh") == (layers.ReLU, FloatConv2D)
    with pytest.raises(UserError, match="'sign', which is taken"):
        register_blocks("sign", layers.ReLU, FloatConv2D)


@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("size", [7, 8])
def test_sign_convolution_is_larqs_with_one_padding(strides, dilation, size):
    inputs = np.random.default_rng(0).normal(size=(2, size, size, 5)).astype(np.float32)
    own = SignConv2D(6, 3, strides, dilation_rate=dilation)
    bits = lq.quantizers.SteSign()(inputs)
    twin = lq.layers.QuantConv2D(
        6, 3, strides, padding="same", pad_values=1.0, kernel_quantizer="ste_sign", kernel_constraint="weight_clip",
        use_bias=False, dilation_rate=dilation,
    )  # fmt: skip
    own(bits), twin(bits)
    twin.set_weights(own.get_weights())
    np.testing.assert_array_equal(own(bits), twin(bits))
    assert own(bits).shape == own.compute_output_shape(bits.shape)


def test_sign_blocks_learn_and_keep_their_kernels_in_bounds():
    chance = np.random.default_rng(0)
    images = chance.normal(size=(64, 8, 8, 3)).astype(np.float32)
    labels = (images[:, :4].mean((1, 2, 3)) > images[:, 4:].mean((1, 2, 3))).astype(int)
    tf.keras.utils.set_random_seed(0)
    model = network("sign")
    model.compile(tf.keras.optimizers.Adam(0.01), tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.get_layer("conv2").kernel.numpy()
    losses = model.fit(images, labels, batch_size=16, epochs=15, verbose=0).history["loss"]
    after = model.get_layer("conv2").kernel.numpy()
    assert losses[-1] < 0.6 * losses[0]
    assert np.abs(after - before).max() > 0 and np.abs(after).max() <= 1.0


def test_a_masked_channel_adds_nothing_and_neither_does_its_padding():
    width = OpenWidth("width", 5)
    inputs = tf.keras.Input((4, 4, 3))
    conv = SignConv2D(6, 3, name="conv")
    bits = lq.quantizers.SteSign()(BatchNormalization()(FloatConv2D(width, 1, name="open")(inputs)))
    model = tf.keras.Model(inputs, conv(bits))
    mask = tf.Variable([1.0, 1.0, 0.0, 1.0, 0.5])
    width.mask = lambda: mask
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 3)).astype(np.float32)
    given = tf.keras.Model(inputs, bits)(x)[..., :5]
    kernel = tf.where(tf.convert_to_tensor(conv.kernel) >= 0, 1.0, -1.0) * mask[:, None]
    padded = tf.pad(given, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.0)
    np.testing.assert_allclose(model(x), tf.nn.conv2d(padded, kernel, 1, "VALID"), atol=1e-5)


def test_survives_its_configuration():
    layer = SignConv2D(4, 3, 2, name="conv")
    copy = SignConv2D.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config() and copy.pad_values == 1.0


@pytest.mark.parametrize("strides", [1, 2])
def test_sign_blocks_are_exported_as_they_are(strides, randomised, tmp_path):
    pytest.importorskip("larq_compute_engine")
    from tfbnas.costs import Latency, trace
    from tfbnas.export import export

    model = randomised(network("sign", strides))
    model.save(tmp_path / "trained.keras")
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    result = export(model, tmp_path / "exported", images=images, input=None)
    middle = ["LceQuantize", "LceBconv2d", "LceBconv2d"]
    middle += ["ADD"] if strides == 1 else []
    assert [row.operator for row in result.rows] == ["CONV_2D", *middle, "MEAN", "FULLY_CONNECTED"]
    assert not result.conversions and result.parity.error < 1e-4
    charged = [row.operator for row in Latency("pixel1").operators(trace(model))]
    assert charged.count("quantize") == 1 and charged.count("packed_convolution") == 1


def test_sign_convolution_of_real_numbers_is_refused():
    from tfbnas.export import deploy

    inputs = tf.keras.Input((4, 4, 3))
    with pytest.raises(UserError, match="SignConv2D 'conv' to be -1 and \\+1.*'stem'.*SteSign"):
        deploy(tf.keras.Model(inputs, SignConv2D(4, 3, name="conv")(FloatConv2D(4, 3, name="stem")(inputs))))
