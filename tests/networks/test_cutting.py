"""Cut networks compute what the masked ones do, across residual sums; what cannot be cut is named."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks, training
from tfbnas.architecture import Architecture
from tfbnas.errors import UserError
from tfbnas.layers import OpenWidth
from tfbnas.networks.choices import kind_of
from tfbnas.networks.cutting import cut

layers = tf.keras.layers
SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}


def larq_model(extra=lambda x: x, **options):
    """A user's own: two residual blocks, one with a real shortcut; zero padding, as Larq has it by default."""
    options = {"padding": "same", "use_bias": False, **SIGNS, **options}
    inputs = x = tf.keras.Input((8, 8, 3), name="images")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(x)
    x = layers.BatchNormalization(name="first_bn")(x)
    y = lq.layers.QuantConv2D(6, 3, name="inner", **options)(x)
    y = layers.BatchNormalization(name="inner_bn", scale=False)(layers.ReLU(name="relu")(y))
    y = lq.layers.QuantConv2D(8, 3, name="outer", pad_values=1.0, **options)(y)
    x = layers.Add(name="sum1")([x, layers.BatchNormalization(name="outer_bn")(y)])
    y = lq.layers.QuantConv2D(12, 3, strides=2, name="down", **options)(x)
    y = layers.BatchNormalization(name="down_bn")(y)
    x = layers.Conv2D(12, 1, use_bias=False, padding="same", name="shortcut")(layers.MaxPool2D(2, name="pool")(x))
    x = layers.Add(name="sum2")([layers.BatchNormalization(name="shortcut_bn", epsilon=1e-2)(x), y])
    x = layers.GlobalAveragePooling2D(name="mean")(extra(x))
    return tf.keras.Model(inputs, layers.Dense(4, name="logits")(x), name="mine")


def opened(template):
    widths = {}

    def choose(name, default):
        return widths.setdefault(name, OpenWidth(name, kind_of(default).base))

    model = networks.construct(
        template.network, choose, input_shape=template.input_shape, classes=template.classes, options=template.options
    )
    return model, widths


FAMILIES = {
    "resnet18": ({"base": 4}, (16, 16, 3)),
    "resnet18 rectified": ({"base": 8, "binarisation": "rectified", "shortcuts": "convolution"}, (16, 16, 3)),
    "resnet20": ({"base": 8, "n": 1, "widths": True, "binarisation": "rectified"}, (8, 8, 3)),
    "vgg11": ({"base": 2}, (32, 32, 3)),
    "vgg_small": ({"base": 4, "widths": True}, (8, 8, 3)),
    "quicknet": ({"blocks": [1, 1], "filters": [8, 12]}, (16, 16, 3)),
    "keras_model": ({}, (8, 8, 3)),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory, randomised):
    path = tmp_path_factory.mktemp("own") / "mine.keras"
    randomised(larq_model(), seed=3).save(path)
    return str(path)


@pytest.mark.parametrize("case", FAMILIES)
def test_cut_is_the_masked_network(case, file, randomised):
    options, shape = FAMILIES[case]
    family = case.split()[0]
    options = {"file": file} if family == "keras_model" else options
    template = Architecture("test", family, {}, shape, 4, options)
    model, widths = opened(template)
    randomised(model, seed=1)
    chance = np.random.default_rng(2)
    masks = {}
    for name, width in widths.items():
        masks[name] = chance.uniform(0.3, 1.5, width.base) * (chance.random(width.base) < 0.6)
        masks[name][chance.integers(width.base)] = 1.0
        masks[name] = masks[name].astype(np.float32)
        width.mask = lambda name=name: tf.constant(masks[name])
        width.gate = lambda name=name: tf.constant((masks[name] > 0).astype(np.float32))
    left = {name: int((mask > 0).sum()) for name, mask in masks.items()}
    assert sum(left.values()) < sum(width.base for width in widths.values())
    narrow = networks.build(Architecture("test", family, left, shape, 4, options))
    training.set_weights(narrow, cut(model, masks))
    images = chance.normal(size=(4, *shape)).astype(np.float32)
    expected = model(images).numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(narrow(images) / scale, expected / scale, atol=1e-5)
    whole = model(images).numpy()
    for width in widths.values():
        width.mask = width.gate = None
    assert np.abs(model(images).numpy() - whole).max() > 1e-2 * scale  # the masks did something


def test_a_file_becomes_a_network_that_computes_the_same(file):
    template = Architecture("test", "keras_model", {}, (8, 8, 3), 4, {"file": file})
    kinds = networks.choices(template)
    assert {name: kind.base for name, kind in kinds.items()} == {"first": 8, "inner": 6, "shortcut": 12}
    network = networks.build(template)
    training.set_weights(network, networks.given_weights(template))
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    expected = tf.keras.models.load_model(file)(images)
    np.testing.assert_allclose(network(images), expected, rtol=1e-4, atol=1e-4)
    assert networks.given_weights(Architecture("test", "vgg11", {})) == {}


def test_weights_are_of_the_names_and_shapes_that_are_left():
    template = Architecture("test", "test-small", {}, (8, 8, 3), 4)
    model, _ = opened(template)
    masks = {"inner": np.array([1, 0, 2, 0, 0.5, 1], np.float32)}
    found = cut(model, masks)
    layer = {one.name: one for one in model.layers}
    np.testing.assert_array_equal(found["conv1"][0], layer["conv1"].kernel.numpy()[..., [0, 2, 4, 5]])
    np.testing.assert_array_equal(found["conv2"][0], layer["conv2"].kernel.numpy()[:, :, [0, 2, 4, 5]])
    np.testing.assert_allclose(found["bn1"][0], [1.0, 2.0, 0.5, 1.0])
    np.testing.assert_array_equal(found["logits"][0], layer["logits"].kernel)
    for mask in (np.ones(5), np.zeros(6)):
        with pytest.raises(UserError, match="mask of 'inner' to have 6 channels"):
            cut(model, {"inner": mask})


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: larq_model(lambda x: layers.DepthwiseConv2D(3, name="deep")(x)), "'deep', which is of type Depthwise"),
        (lambda: larq_model(lambda x: layers.PReLU(name="slope")(x)), "'slope', which is of type PReLU"),
        (lambda: larq_model(lambda x: layers.Activation("sigmoid", name="half")(x)), "'half', which is of type Activ"),
        (lambda: larq_model(lambda x: layers.Concatenate(name="both")([x, x])), "'both', which is of type Concat"),
        (lambda: larq_model(use_bias=True), "'inner', which has use_bias=True"),
        (lambda: larq_model(kernel_quantizer="magnitude_aware_sign"), "'inner', which has a kernel_quantizer"),
        (
            lambda: larq_model(lambda x: layers.Conv2D(9, 1, use_bias=False, padding="same", name="bare")(x)),
            "behind the convolution 'bare'.*'logits'",
        ),
    ],
    ids=["depthwise", "prelu", "sigmoid", "concatenate", "bias", "scaled kernel", "no normalisation"],
)
def test_a_layer_that_cannot_be_cut_is_refused_by_name(make, text, tmp_path):
    make().save(tmp_path / "mine.keras")
    template = Architecture("test", "keras_model", {}, (8, 8, 3), 4, {"file": str(tmp_path / "mine.keras")})
    with pytest.raises(UserError, match=text):
        networks.choices(template)


def test_other_images_and_missing_files_are_refused(file, tmp_path):
    for shape, path, text in (
        ((16, 16, 3), file, "a model that takes"),
        ((8, 8, 3), str(tmp_path / "none.keras"), "missing"),
    ):
        with pytest.raises(UserError, match=text):
            networks.build(Architecture("test", "keras_model", {}, shape, 4, {"file": path}))
