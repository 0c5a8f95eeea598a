import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from small_networks import randomise, small_resnet
from tensorflow.lite.python import schema_py_generated as schema

from tfbnas.export import convert, deploy
from tfbnas.export.convert import Interpreter, convert_model
from tfbnas.export.flatbuffer import operators
from tfbnas.export.rewriting import compact, with_outputs


@pytest.fixture(scope="module")
def original():
    """A network as the converter writes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "compact", lambda flatbuffer: flatbuffer)
        return convert_model(deploy(randomise(small_resnet())))


@pytest.fixture(scope="module")
def rewritten(original):
    return compact(original)


def test_computes_the_same_bit_by_bit(original, rewritten):
    images = np.random.default_rng(0).uniform(size=(4, 16, 16, 3)).astype(np.float32)
    wanted, got = (Interpreter(flatbuffer).predict(images)[0] for flatbuffer in (original, rewritten))
    np.testing.assert_array_equal(got, wanted)


def test_operators_and_constants_are_the_same(original, rewritten):
    for old, new in zip(operators(original), operators(rewritten), strict=True):
        assert (old.name, old.is_custom) == (new.name, new.is_custom)
        assert [t.index for t in old.inputs + old.outputs] == [t.index for t in new.inputs + new.outputs]
        for a, b in zip(old.inputs + old.outputs, new.inputs + new.outputs, strict=True):
            assert (a.shape, a.dtype, a.content) == (b.shape, b.dtype, b.content)


def test_a_quarter_of_the_structure_is_saved(original, rewritten):
    constants = sum(len(content) for content in {t.content for op in operators(original) for t in op.constants})
    assert len(rewritten) - constants < 0.75 * (len(original) - constants)


def test_layers_keep_their_names_and_signatures_their_tensors(original, rewritten):
    old, new = (schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(f, 0)) for f in (original, rewritten))
    names = [operator.outputs[0].name for operator in operators(rewritten)]
    assert [operator.outputs[0].name.split(";")[0] for operator in operators(original)] == names
    for a, b in zip(old.signatureDefs, new.signatureDefs, strict=True):
        assert [(t.name, t.tensorIndex) for t in a.inputs + a.outputs] == [
            (t.name, t.tensorIndex) for t in b.inputs + b.outputs
        ]
    runtime = [(m.name, bytes(model.buffers[m.buffer].data)) for model in (old, new) for m in model.metadata]
    assert runtime[0] == runtime[1]


def test_constants_are_aligned_as_the_schema_asks(rewritten):
    model = schema.Model.GetRootAsModel(rewritten, 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    assert len(rewritten) % 16 == 0
    starts = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()]
    assert len(starts) > 40 and all(start % 16 == 0 for start in starts)
    assert len(buffers) == len(starts) + 1


def test_quantisation_ranges_stay():
    def quantise(x):
        return tf.quantization.fake_quant_with_min_max_args(x, -6.0, 6.0)

    inputs = tf.keras.Input((4,))
    flatbuffer = convert_model(tf.keras.Model(inputs, quantise(tf.keras.layers.Dense(3)(quantise(inputs)))))
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(flatbuffer, 0))
    assert sum(tensor.quantization is not None for tensor in model.subgraphs[0].tensors) >= 3


def test_inner_tensors_are_shown(rewritten):
    first = next(operator for operator in operators(rewritten) if operator.name == "LceBconv2d")
    shown = Interpreter(with_outputs(rewritten, [first.inputs[0].index, first.outputs[0].index]))
    images = np.zeros((2, 16, 16, 3), np.float32)
    outputs = shown.predict(images)
    assert [tuple(o.shape[1:]) for o in outputs[1:]] == [first.inputs[0].shape[1:], first.outputs[0].shape[1:]]
    np.testing.assert_array_equal(outputs[0], Interpreter(rewritten).predict(images)[0])


def test_models_without_binary_layers_are_rewritten_too():
    inputs = tf.keras.Input((4, 4, 3))
    model = tf.keras.Model(inputs, lq.layers.QuantConv2D(2, 1)(inputs))
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(Interpreter(convert_model(model)).predict(x)[0], model(x), atol=1e-5)
