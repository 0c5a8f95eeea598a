"""Number formats of training."""

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import precision
from tfbnas.errors import UserError
from tfbnas.layers import BinaryConv2D


def policy():
    return tf.keras.mixed_precision.global_policy().name


@pytest.mark.parametrize(("name", "expected"), [("float32", "float32"), ("bfloat16", "mixed_bfloat16")])
def test_layers_built_inside_have_the_policy(name, expected):
    with precision.precision(name):
        layer = tf.keras.layers.Dense(2)
    assert layer.dtype_policy.name == expected and policy() == "float32"


def test_the_policy_from_before_comes_back_after_an_error():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        with pytest.raises(KeyError), precision.precision("float32"):
            assert policy() == "float32"
            raise KeyError
        assert policy() == "mixed_bfloat16"
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f avx512_bf16", "bfloat16"), ("fpu amx_bf16", "bfloat16"), ("fpu avx512f avx512_bf16x", "float32")],
)
def test_auto_asks_the_cpu(monkeypatch, flags, expected):
    monkeypatch.setattr(precision.Path, "read_text", lambda *_, **__: f"flags : {flags} sse")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert precision.resolve("auto") == expected
    with precision.precision("auto"):
        assert policy() == precision.PRECISIONS[expected]


def test_auto_is_float32_where_nothing_is_known(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(precision.Path, "read_text", missing)
    assert precision.resolve("auto") == "float32"


@pytest.mark.parametrize("use", [precision.resolve, lambda name: precision.precision(name).__enter__()])
def test_unknown_names_are_refused(use):
    with pytest.raises(UserError, match="`precision` to be one of .* Received: 'bfloat61'. Did you mean 'bfloat16'"):
        use("bfloat61")


def test_a_binary_convolution_in_bfloat16_counts_exactly():
    """Sums of up to 256 bits times signs are integers that bfloat16 holds, whatever adds them up."""
    chance = np.random.default_rng(0)
    bits = chance.integers(0, 2, (4, 8, 8, 28)).astype(np.float32)
    kernel = chance.normal(size=(3, 3, 28, 16)).astype(np.float32)
    found = {}
    for name in ("float32", "bfloat16"):
        with precision.precision(name):
            layer = BinaryConv2D(16, 3)
            layer.build(bits.shape)
        layer.set_weights([kernel])
        found[name] = layer(bits)
    assert found["bfloat16"].dtype == tf.bfloat16
    exact = tf.cast(found["bfloat16"], tf.float32)
    np.testing.assert_array_equal(exact, found["float32"])
    signs = np.sign(kernel - kernel.mean((0, 1, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(bits, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), (1, 2))
    np.testing.assert_array_equal(exact, np.einsum("nyxihw,hwio->nyxo", windows, signs))
