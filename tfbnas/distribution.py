"""Several devices that train on one batch together (`tf.distribute`): what they must add up, and what each keeps.

Every replica has a part of the batch and its own copy of all variables. Statistics and gradients are averaged over the
replicas, random draws depend on seed and step only; so all copies take the same steps and stay equal, and these are the
steps of one device with the whole batch. Nothing waits for the other replicas except these sums, which therefore may
stand inside a `tf.cond` on which all agree.

On one device all functions here return what they are given.
"""

from __future__ import annotations

import collections
import itertools
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError

_SIZES = 32 * 34
# Sums are recognised by their number, which every replica counts by itself as it builds its part of the graph.
_numbers: dict[tuple[int, int], Iterator[int]] = collections.defaultdict(lambda: itertools.count(1))


def replicas() -> int:
    """Among how many devices the batch is divided that is being computed with here."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def _index() -> int:
    return int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group))


def gather(part: tf.Tensor) -> tf.Tensor:
    """The replicas' parts of equal shape, one behind the other along the first axis; differentiable."""
    count = replicas()
    if count == 1:
        return part
    place = tf.one_hot(_index(), count, dtype=part.dtype)
    placed = _sum_over_replicas(tf.reshape(place, [count] + [1] * part.shape.rank) * part)
    return tf.reshape(placed, tf.concat([[-1], tf.shape(part)[1:]], axis=0))


def own_part(whole: tf.Tensor) -> tf.Tensor:
    """Of a tensor about the whole batch, examples first, what this replica's examples have."""
    count = replicas()
    if count == 1:
        return whole
    size = tf.shape(whole)[0] // count
    return whole[_index() * size : (_index() + 1) * size]


def means(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The means over the replicas of tensors that have the same shapes everywhere; taken in one exchange."""
    count = replicas()
    if count == 1:
        return list(values)
    shapes = [tf.shape(value) for value in values]
    flat = tf.concat([tf.reshape(value, [-1]) for value in values], axis=0)
    parts = tf.split(_sum_over_replicas(flat) / count, tf.stack([tf.reduce_prod(shape) for shape in shapes]))
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def _sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """Bit for bit the same on all replicas. TensorFlow's own `all_reduce` cannot stand inside a `tf.cond`."""
    if tf.executing_eagerly():
        raise UserError(
            "Expected a compiled step with several replicas, which else wait for each other forever. Received: "
            "run_eagerly=True; leave it out."
        )
    context = tf.distribute.get_replica_context()
    devices = [tf.DeviceSpec.from_string(name) for name in context.strategy.extended.worker_devices]
    names = [f"{device.device_type}:{device.device_index}" for device in devices]
    count, index = replicas(), _index()
    group = zlib.crc32(f"{count} {names}".encode()) >> 1
    device = context.strategy.extended.worker_devices[index % len(devices)]
    order = [_order_of_sums(device)]

    def total(part: tf.Tensor, number: int) -> tf.Tensor:
        with tf.device(device):
            padded, size_number = _padded(tf.reshape(part, [-1]))
            result = tf.raw_ops.CollectiveReduceV2(
                input=padded,
                group_size=count,
                group_key=group,
                instance_key=number * _SIZES + size_number,
                ordering_token=order,
                merge_op="Add",
                final_op="Id",
            )
            return tf.reshape(result[: tf.size(part)], tf.shape(part))

    forward, backward = (next(_numbers[group, index]) for _ in range(2))

    @tf.custom_gradient
    def summed(part: tf.Tensor):
        return total(part, forward), lambda upstream: total(upstream, backward)

    return summed(value)


def _order_of_sums(device: str) -> tf.Tensor:
    """What all sums of a device take: TensorFlow then begins them in the order in which they are written."""
    with tf.init_scope(), tf.device(device):
        token = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name=f"tfbnas_sums_{device}", container="")
    graph = tf.compat.v1.get_default_graph()
    while graph.is_control_flow_graph:
        graph = graph.outer_graph
    return graph.capture(token)  # by the function itself: the gradient of a `tf.cond` knows no tensors of eager mode


def _padded(flat: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A vector with zeros behind it, at most a sixteenth more, and a number below `_SIZES` for its new length.

    TensorFlow keeps the shape of each sum that it has seen once; a width that is resized needs another sum.
    """
    size = tf.size(flat)
    exponent = tf.cast(tf.math.log(tf.cast(tf.maximum(size, 1), tf.float64)) / math.log(2.0), tf.int32)
    unit = tf.bitwise.left_shift(1, tf.maximum(exponent - 4, 0))
    units = -(-size // unit)
    return tf.pad(flat, [[0, units * unit - size]]), exponent * 33 + units


def update_locally(optimizer: tf.keras.optimizers.Optimizer) -> tf.keras.optimizers.Optimizer:
    """Lets an optimiser update each replica's copies by themselves, with the mean of their gradients.

    Keras' own way, from outside of all replicas, cannot stand inside a `tf.cond`. Does nothing outside of a strategy of
    several replicas. Returns the optimiser.

    Raises:
      UserError: The optimiser was not made inside the strategy.
    """
    strategy = tf.distribute.get_strategy()
    if optimizer._distribution_strategy is not strategy:
        raise UserError(
            "Expected optimisers that are made where the search is made, inside `strategy.scope()`. Received: "
            f"{type(optimizer).__name__}, made outside."
        )
    if strategy.num_replicas_in_sync > 1:
        alone: Any = super(tf.keras.optimizers.Optimizer, optimizer)
        optimizer._apply_weight_decay = alone._apply_weight_decay
        optimizer._internal_apply_gradients = alone._internal_apply_gradients
        optimizer.aggregate_gradients = _averaged
        optimizer.jit_compile = False
    return optimizer


def _averaged(pairs: Sequence[tuple[tf.Tensor, tf.Variable]]) -> list[tuple[tf.Tensor, tf.Variable]]:
    gradients, variables = zip(*(pair for pair in pairs if pair[0] is not None), strict=True)
    return list(zip(means(gradients), variables, strict=True))


def divided(batches: tf.data.Dataset, strategy: tf.distribute.Strategy | None = None) -> Any:
    """Batches for the `fit` of a strategy: every replica gets an equal part of each batch, in the order of replicas.

    Keras divides batches by itself, too, but none that holds scalars, and among workers in another order. Here every
    worker reads all batches and takes its part. Scalars go to all replicas.

    Args:
      batches: Batches of the size that one device would have.
      strategy: Default: the present one.

    Raises:
      UserError: The replicas do not divide the batches.
    """
    strategy = strategy or tf.distribute.get_strategy()
    count = strategy.num_replicas_in_sync
    if count == 1:
        return batches
    for spec in tf.nest.flatten(batches.element_spec):
        if spec.shape.rank and spec.shape[0] is not None and spec.shape[0] % count:
            raise UserError(
                f"Expected batches that can be divided among {count} devices. Received: batches of {spec.shape[0]} "
                "examples; choose a multiple as batch_size."
            )

    def part(index: tf.Tensor, tensor: tf.Tensor) -> tf.Tensor:
        if not tensor.shape.rank:
            return tensor
        size, rest = tf.shape(tensor)[0] // count, tf.shape(tensor)[0] % count
        with tf.control_dependencies([tf.debugging.assert_equal(rest, 0, f"Expected batches for {count} devices.")]):
            own = tensor[index * size : (index + 1) * size]
        return tf.ensure_shape(own, [tensor.shape[0] and tensor.shape[0] // count, *tensor.shape[1:]])

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        here = count // context.num_input_pipelines
        first = context.input_pipeline_id * here

        def parts(*batch):
            return tf.data.Dataset.range(first, first + here, output_type=tf.int32).map(
                lambda index: tf.nest.map_structure(lambda tensor: part(index, tensor), batch)
            )

        # Endless is not true of all, but `fit` knows how many it takes; else each step would begin with the question
        # whether any worker has none left.
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return batches.flat_map(parts).prefetch(here).apply(endless)

    return strategy.distribute_datasets_from_function(of_worker)
