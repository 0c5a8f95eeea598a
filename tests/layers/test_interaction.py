"""Interacted bitcounts against tables by hand and a naive loop; what the gradient reaches; what a graph must be."""

import math

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers.interaction import InteractedConv2D, OpenInteractions, reach_of, staircase, unit_of
from tfbnas.layers.width import aligned_activations


@pytest.mark.parametrize(
    ("reach", "intervals", "steps"),
    [
        # Last bitcount of each step; the intervals are open on the left, and bitcounts are integers.
        (288, 3, {-96: -1, 96: 0, 288: 1}),
        (288, 5, {-173: -2, -58: -1, 57: 0, 172: 1, 288: 2}),  # breaks at +-172.8 and +-57.6
        (9, 3, {-3: -1, 3: 0, 9: 1}),
        (10, 5, {-6: -2, -2: -1, 2: 0, 6: 1, 10: 2}),
        (4608, 3, {-1536: -1, 1536: 0, 4608: 1}),
        (4608, 5, {-2765: -2, -922: -1, 921: 0, 2764: 1, 4608: 2}),
        (1, 3, {-1: -1, 0: 0, 1: 1}),
        (51, 3, {-17: -1, 17: 0, 288: 1}),  # three deviations of 288 independent bits, and what lies beyond
        (51, 5, {-31: -2, -11: -1, 10: 0, 30: 1, 288: 2}),
    ],
)
def test_staircase_against_a_table_by_hand(reach, intervals, steps):
    end = max(steps)
    expected, bitcount = [], -end
    for last, value in steps.items():
        expected += [value] * (last + 1 - bitcount)
        bitcount = last + 1
    found = staircase(tf.range(-end, end + 1), float(intervals), reach)
    np.testing.assert_array_equal(found, expected)


def test_staircase_is_the_same_in_a_graph():
    """There products of constants are folded, which moved bitcounts at a break into the next interval."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def run(bitcounts):
        return [staircase(bitcounts, intervals, reach) for intervals, reach in sizes]

    sizes = [(float(intervals), reach) for intervals in (3, 5) for reach in range(3, 160, 3)]
    found = run(tf.range(-480.0, 481.0))
    for (intervals, reach), own in zip(sizes, found, strict=True):
        exact = [-((-(p + reach) * int(intervals)) // (2 * reach)) - 1 for p in range(-480, 481)]
        np.testing.assert_array_equal(own, np.clip(exact, 0, intervals - 1) - (intervals - 1) / 2, err_msg=str(reach))


def test_reach_in_deviations_of_independent_bits():
    assert [reach_of(288, reach) for reach in (None, 3.0, 1.0, 100.0)] == [288, 51, 17, 288]
    assert reach_of(144, 2.0) == 24
    for wrong in (0, -1.0, "3", True):
        with pytest.raises(UserError, match="Expected `interval_reach` to be a positive number"):
            InteractedConv2D(4, 3, interval_reach=wrong)


@pytest.mark.parametrize("terms", [7, 9, 75, 144, 288, 333, 1152, 4608])
def test_staircase_is_the_formula_in_whole_numbers(terms):
    """k = clamp(ceil((p + N0) |K| / (2 N0)) - 1, 0, |K| - 1), without any rounding."""
    for intervals in (3, 5, 7):
        numbers = [-((-(p + terms) * intervals) // (2 * terms)) - 1 for p in range(-terms, terms + 1)]
        expected = np.clip(numbers, 0, intervals - 1) - (intervals - 1) // 2
        np.testing.assert_array_equal(staircase(tf.range(-terms, terms + 1), float(intervals), terms), expected)


def test_unit_is_rounded_up_from_the_exact_share():
    assert [unit_of(terms, 0.01) for terms in (9, 100, 144, 288, 300, 700, 4608)] == [1, 1, 2, 3, 3, 7, 47]


def random_edges(chance, channels, count, levels=2):
    pairs = [(t, s) for t in range(channels) for s in range(channels) if t != s]
    chosen = chance.choice(len(pairs), min(count, len(pairs)), replace=False)
    return [(*pairs[i], int(chance.choice([-1, 1]) * (2 * chance.integers(1, levels + 1) + 1))) for i in chosen]


def naive(bitcounts, edges, reach, unit):
    """One edge after the other, one pixel after the other, as the paper writes it."""
    corrected = bitcounts.astype(int).copy()
    for teacher, student, influence in edges:
        size = abs(influence)
        for place in np.ndindex(bitcounts.shape[:-1]):
            count = int(bitcounts[(*place, teacher)])
            k = min(max(math.ceil((count + reach) * size / (2 * reach)) - 1, 0), size - 1)
            corrected[(*place, student)] += int(math.copysign(1, influence)) * (k - (size - 1) // 2) * unit
    return corrected


def images(chance, channels=5, size=6):
    """Of which large parts are alike, so that bitcounts reach the outer intervals."""
    alike = np.array([-1.0, 1.0]).reshape(2, 1, 1, 1) * np.where(np.arange(channels) % 2, -1.5, 1.5)
    return (alike + chance.normal(size=(2, size, size, channels))).astype(np.float32)


def kernel_like(shape):
    """A kernel that finds those parts."""
    chance = np.random.default_rng(3)
    signs = np.where(np.arange(shape[2]) % 2, -1.5, 1.5)[:, None] * np.where(np.arange(shape[3]) % 2, -1, 1)
    return (signs + chance.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize(
    ("strides", "kernel", "reach"), [(1, 3, None), (2, 3, 1.0), (1, 3, 2.5), (1, 1, None), (2, 5, 2.0)]
)
def test_closed_and_open_graphs_are_the_naive_loop(levels, strides, kernel, reach):
    chance = np.random.default_rng(10 * levels + kernel)
    edges = random_edges(chance, 7, 20, levels)
    options = {"strides": strides, "levels": levels, "influence_unit": 0.1, "interval_reach": reach}
    closed = InteractedConv2D(7, kernel, edges=edges, **options)
    x = images(chance)
    closed(x)
    closed.set_weights([kernel_like(closed.kernel.shape)])
    found = closed(x)
    bitcounts = closed.bitcounts(tf.constant(x)).numpy()
    assert closed.terms == 5 * kernel**2 and np.abs(bitcounts).max() <= closed.terms
    assert (closed.reach < closed.terms) == (reach is not None)
    expected = naive(bitcounts, edges, closed.reach, closed.unit)
    np.testing.assert_array_equal(found, expected)
    assert np.any(expected != bitcounts)
    graph = OpenInteractions("graph", 7, levels)
    opened = InteractedConv2D(7, kernel, edges=graph, **options)
    opened(x)
    opened.set_weights(closed.get_weights())
    for teacher, student, influence in edges:
        graph.influences.scatter_nd_update([[teacher, student]], [influence])
    np.testing.assert_array_equal(opened(x), expected)
    assert opened.edges == closed.edges == sorted(edges)


def test_teachers_are_read_before_they_are_corrected():
    """A chain and a cycle of edges, in every order."""
    edges = [(0, 1, 3), (1, 2, 3), (2, 0, -5), (0, 2, 5)]
    chance = np.random.default_rng(0)
    x, outputs = images(chance), []
    for order in (edges, edges[::-1]):
        layer = InteractedConv2D(4, 3, edges=order, influence_unit=0.4)
        layer(x)
        layer.set_weights([kernel_like((3, 3, 5, 4))])
        outputs.append(layer(x).numpy())
    np.testing.assert_array_equal(*outputs)
    counts = layer.bitcounts(tf.constant(x)).numpy()
    np.testing.assert_array_equal(outputs[0], naive(counts, edges, layer.terms, layer.unit))
    # Corrections in place, one after the other, are something else.
    in_place = counts
    for edge in edges:
        in_place = naive(in_place, [edge], layer.terms, layer.unit)
    assert np.any(in_place != outputs[0])


def test_gradient_reaches_the_student_as_it_is_and_the_teacher_not():
    chance = np.random.default_rng(0)
    x, upstream = tf.constant(images(chance)), chance.normal(size=(2, 6, 6, 4)).astype(np.float32)
    gradients = []
    for edges in ([(0, 1, 3), (2, 1, 5), (3, 0, -3)], []):
        layer = InteractedConv2D(4, 3, edges=edges)
        layer.build(x.shape)
        layer.set_weights([np.random.default_rng(1).normal(size=(3, 3, 5, 4))])
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) * upstream)
        gradients.append([g.numpy() for g in tape.gradient(loss, [x, layer.kernel])])
    for with_edges, without in zip(*gradients, strict=True):
        np.testing.assert_array_equal(with_edges, without)
        assert np.any(without)


@pytest.mark.parametrize("edges", [(), "open"])
def test_without_edges_it_is_the_plain_convolution_bit_for_bit(edges):
    x = images(np.random.default_rng(0))
    for strides in (1, 2):
        layer = InteractedConv2D(6, 3, strides, edges=OpenInteractions("graph", 6) if edges else ())
        layer(x)
        plain = lq.layers.QuantConv2D(
            6,
            3,
            strides,
            padding="same",
            pad_values=1.0,
            use_bias=False,
            input_quantizer="ste_sign",
            kernel_quantizer="ste_sign",
            kernel_constraint="weight_clip",
        )
        plain(x)
        plain.set_weights([layer.kernel_quantizer(layer.kernel)])
        np.testing.assert_array_equal(layer(x), plain(x))


def test_bitcounts_are_whole_numbers_under_bfloat16():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        layer = InteractedConv2D(4, 3, edges=[(0, 1, 3)])
        x = np.random.default_rng(0).normal(size=(1, 4, 4, 64)).astype(np.float32)
        found = layer(x).numpy()
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert found.dtype == np.float32 and np.all(found == np.round(found))
    np.testing.assert_array_equal(
        found, naive(layer.bitcounts(tf.constant(x)).numpy(), [(0, 1, 3)], layer.terms, layer.unit)
    )


@pytest.mark.parametrize("channels", [3, 29, 56, 64])  # N0 = 27; 261, odd; 504, even; 576, too large for bfloat16
def test_bitcounts_are_the_same_under_bfloat16(channels):
    random = np.random.default_rng(channels)
    x = random.normal(size=(4, 5, 5, channels)).astype(np.float32)
    x[0] = 1.0
    x[1, :, :, 0] = -1.0  # next to the largest count
    x[1, :, :, 1:] = 1.0
    kernel = random.normal(size=(3, 3, channels, 8)).astype(np.float32)
    kernel[..., 0] = 1.0 + random.random((3, 3, channels))  # all of one sign, if it is not standardised
    found = []
    for policy in ("float32", "mixed_bfloat16"):
        tf.keras.mixed_precision.set_global_policy(policy)
        try:
            layer = InteractedConv2D(8, 3, kernel_quantizer="ste_sign")
            layer.build(x.shape)
            layer.kernel.assign(kernel)
            found.append(layer(tf.cast(x, layer.input_quantizer.compute_dtype)).numpy())
        finally:
            tf.keras.mixed_precision.set_global_policy("float32")
    assert found[0].max() == 9 * channels
    np.testing.assert_array_equal(*found)


def test_channels_that_no_layout_fits():
    """The same network built for training, where activations have more channels than the layer."""
    x = images(np.random.default_rng(0), channels=3)
    outputs, weights = [], None
    for form in ("plain", "aligned"):
        context = aligned_activations() if form == "aligned" else tf.name_scope("plain")
        with context:
            inputs = tf.keras.Input((6, 6, 3))
            y = InteractedConv2D(6, 3, edges=[(0, 1, 3), (5, 2, -5)], influence_unit=0.2, name="a")(inputs)
            y = InteractedConv2D(7, 3, edges=[(6, 1, 3), (1, 6, -5)], influence_unit=0.2, name="b")(y)
            model = tf.keras.Model(inputs, y)
        weights = weights or [w.numpy() for w in model.trainable_weights]
        for variable, value in zip(model.trainable_weights, weights, strict=True):
            variable.assign(value)
        outputs.append(model(x).numpy())
    assert outputs[1].shape[-1] == 16
    np.testing.assert_array_equal(outputs[1][..., :7], outputs[0])
    np.testing.assert_array_equal(outputs[1][..., 7:], 0)


def test_saves_and_loads(tmp_path):
    x = images(np.random.default_rng(0))
    model = tf.keras.Sequential([tf.keras.Input((6, 6, 5)), InteractedConv2D(7, 3, 2, edges=[(2, 1, -5), (0, 3, 3)])])
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), model(x))
    assert again.layers[0].edges == [(0, 3, 3), (2, 1, -5)]


def test_watch_sees_the_bitcounts_before_they_are_corrected():
    graph, seen = OpenInteractions("graph", 4), []
    layer = InteractedConv2D(4, 3, edges=graph, influence_unit=0.5)
    x = images(np.random.default_rng(0))
    layer(x)
    layer.set_weights([kernel_like((3, 3, 5, 4))])
    graph.watch = seen.append
    graph.present = lambda: tf.constant(3 - 3 * np.eye(4), tf.int32)
    found = layer(x)
    np.testing.assert_array_equal(seen[0], layer.bitcounts(tf.constant(x)))
    assert np.any(found != seen[0])


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        ((0, 8, 3), r"channels from 0 to 7. Received: 8 in \[0, 8, 3\]"),
        ((-1, 2, 3), r"channels from 0 to 7. Received: -1"),
        ((0, 1, 4), r"odd, from 3 to 5 in size. Received: 4 in \[0, 1, 4\]"),
        ((0, 1, 1), r"odd, from 3 to 5 in size. Received: 1"),
        ((0, 1, -7), r"odd, from 3 to 5 in size. Received: -7"),
        ((3, 3, 3), r"each other one. Received: \[3, 3, 3\], which joins a channel to itself"),
        ((0, 1), r"three integers each. Received: \(0, 1\)"),
        ((0, 1, 3.5), r"three integers each. Received: \(0, 1, 3.5\)"),
    ],
)
def test_impossible_edges_are_refused(edge, message):
    with pytest.raises(UserError, match=message):
        InteractedConv2D(8, 3, edges=[edge])


def test_a_pair_that_comes_twice_and_graphs_of_another_size_are_refused():
    with pytest.raises(UserError, match="a pair that comes twice"):
        InteractedConv2D(8, 3, edges=[(0, 1, 3), (0, 1, -3)])
    with pytest.raises(UserError, match="interactions of 8 channels and 2 levels at the layer 'conv'"):
        InteractedConv2D(8, 3, edges=OpenInteractions("graph", 4), name="conv")
    with pytest.raises(UserError, match="Received: 7"):
        InteractedConv2D(8, 3, edges=7)
