"""Convolutional neural fabric's own shape; what every family must do is in tests/contract."""

import pytest
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers import BinaryConv2D, LearnedStep
from tfbnas.networks.cnf import cnf, cnf_graph


def keep(name, default):
    return default


def test_connections_of_a_grid():
    """Three for every node between the columns where they exist, and a chain in the first and in the last column."""
    choices = cnf_graph(columns=3, scales=3).choices
    first, last = [name for name in choices if name.startswith("l0")], [name for name in choices if "from_l2" in name]
    assert first == ["l0_s1/from_l0_s0", "l0_s2/from_l0_s1"]
    assert last == ["l2_s1/from_l2_s0", "l2_s2/from_l2_s1"]
    assert len(choices) == 2 + 2 * (2 + 3 + 2) + 2
    assert {name for name in choices if name.startswith("l1_s1")} == {f"l1_s1/from_l0_s{k}" for k in (0, 1, 2)}


def test_segmentation_ends_upward_at_the_finest_scale():
    graph = cnf_graph(columns=3, scales=3, segmentation=True)
    assert [name for name in graph.choices if "from_l2" in name] == ["l2_s0/from_l2_s1", "l2_s1/from_l2_s2"]
    model = cnf(keep, input_shape=(8, 16, 3), classes=3, columns=2, scales=2, filters=4, segmentation=True)
    assert model.output_shape == (None, 8, 16, 3) and model.output.dtype == tf.float32


def test_segmentation_needs_a_way_back():
    with pytest.raises(UserError, match="columns=1"):
        cnf_graph(columns=1, scales=4, segmentation=True)


def test_a_column_alone_is_a_chain():
    graph = cnf_graph(columns=1, scales=4)
    assert graph.choices == ("l0_s1/from_l0_s0", "l0_s2/from_l0_s1", "l0_s3/from_l0_s2")


@pytest.mark.parametrize("binarisation", ["zero_alpha", "float"])
def test_sizes_of_the_scales(binarisation):
    model = cnf(keep, input_shape=(16, 16, 3), columns=2, scales=3, filters=4, binarisation=binarisation)
    sizes = {scale: model.get_layer(f"l1_s{scale}_add").output_shape[1:] for scale in (0, 1, 2)}
    assert sizes == {0: (16, 16, 4), 1: (8, 8, 4), 2: (4, 4, 4)}
    up = model.get_layer("l1_s0_from_l0_s1_up")
    assert up.interpolation == "nearest" and up.input_shape[1:3] == (8, 8)
    down = model.get_layer("l1_s1_from_l0_s0_conv")
    assert down.strides == (2, 2) and isinstance(down, BinaryConv2D) is (binarisation != "float")
    quantisers = [layer for layer in model.layers if isinstance(layer, LearnedStep)]
    assert len(quantisers) == (len(cnf_graph(columns=2, scales=3).choices) if binarisation != "float" else 0)


def test_one_threshold_for_each_sum_that_is_read_as_it_is():
    model = cnf(keep, input_shape=(16, 16, 3), columns=2, scales=3, filters=4, thresholds="tensor")
    quantised = [layer.input.name for layer in model.layers if isinstance(layer, LearnedStep)]
    # The last of the 6 nodes is read by the classifier alone; 2 connections upsample, each with a threshold of its own.
    assert len(quantised) == len(set(quantised)) == 5 + 2
    readers = [layer for layer in model.layers if isinstance(layer, BinaryConv2D)]
    assert all(isinstance(layer.input._keras_history.layer, LearnedStep) for layer in readers)


def test_images_that_do_not_fit_the_scales_are_refused():
    with pytest.raises(UserError, match="multiples of 32.*Received: 28x28"):
        cnf(keep, input_shape=(28, 28, 1))
    with pytest.raises(UserError, match="columns=0"):
        cnf(keep, columns=0)
