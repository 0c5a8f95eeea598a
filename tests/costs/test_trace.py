"""What is read off a network."""

from tfbnas import networks
from tfbnas.costs import trace
from tfbnas.layers import OpenWidth


def weighted(model):
    return [o for o in trace(model) if o.kind in ("convolution", "dense", "normalization")]


def test_layers_of_the_small_network():
    widths = {}

    def choose(name, base):
        return widths.setdefault(name, OpenWidth(name, base))

    model = networks.construct("test-small", choose, input_shape=(8, 8, 3), classes=4, options={})
    stream, inner, out = widths["stream"], widths["inner"], widths["out"]
    found = {
        o.layer: (o.kind, o.binary, o.kernel_size, o.inputs, o.outputs, o.bias, o.height, o.width)
        for o in weighted(model)
    }
    assert found == {
        "stem": ("convolution", False, (3, 3), 3, stream, False, 8, 8),
        "stem_bn": ("normalization", False, (1, 1), stream, stream, False, 4, 4),
        "conv1": ("convolution", True, (3, 3), stream, inner, False, 4, 4),
        "bn1": ("normalization", False, (1, 1), inner, inner, False, 4, 4),
        "conv2": ("convolution", True, (3, 3), inner, stream, False, 4, 4),
        "bn2": ("normalization", False, (1, 1), stream, stream, False, 4, 4),
        "shortcut": ("convolution", True, (1, 1), stream, out, False, 2, 2),
        "shortcut_bn": ("normalization", False, (1, 1), out, out, False, 2, 2),
        "conv3": ("convolution", True, (3, 3), stream, out, False, 2, 2),
        "bn3": ("normalization", False, (1, 1), out, out, False, 2, 2),
        "logits": ("dense", False, (1, 1), out, 4, True, 1, 1),
    }


def test_plain_network_has_the_same_operations_with_numbers():
    model = networks.construct("test-small", lambda name, base: base, input_shape=(8, 8, 3), classes=4, options={})
    by_name = {o.layer: (o.inputs, o.outputs, o.binary) for o in weighted(model)}
    assert by_name["conv2"] == (6, 4, True) and by_name["logits"] == (8, 4, False)


def test_full_precision_network_has_no_binary_weights():
    options = {"binarisation": "float"}
    model = networks.construct("test-small", lambda name, base: base, input_shape=(8, 8, 3), classes=4, options=options)
    assert not any(o.binary for o in trace(model))
