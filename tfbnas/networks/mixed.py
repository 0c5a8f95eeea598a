"""A choice of one operation out of several, as layers: all of them while it is open, one when it is closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tfbnas.networks.choices import OpenOperation

Make = Callable[[str, Any], Any]
"""`make(name, tensor)`: the layers of an operation, from one Keras tensor to another; names begin with `name`."""


class Mixed(tf.keras.layers.Layer):
    """The weighted sum of several modules of one input: sum_i weights_i * module_i(x).

    Args:
      modules: Keras models with one input and one output, all of the same shapes.
      choice: Says how they are weighed.
    """

    def __init__(self, modules: list[tf.keras.Model], choice: OpenOperation, **kwargs):
        super().__init__(**kwargs)
        self.modules = modules
        self.choice = choice

    def call(self, inputs, training=None):
        outputs = [module(inputs, training=training) for module in self.modules]
        if self.choice.weights is None:
            weights = [1.0 / len(outputs)] * len(outputs)
        else:
            weights = tf.unstack(tf.cast(self.choice.weights(), outputs[0].dtype), len(outputs))
        return tf.add_n([weight * output for weight, output in zip(weights, outputs, strict=True)])

    @property
    def alternatives(self) -> list[tuple[tf.keras.Model, str, int]]:
        """Of each operation its module, the name of the choice, and its place among the candidates: what costs read."""
        return [(module, self.choice.name, place) for place, module in enumerate(self.modules)]

    def compute_output_shape(self, input_shape):
        return self.modules[0].compute_output_shape(input_shape)


def operation(value: str | OpenOperation, name: str, tensor: Any, makers: Mapping[str, Make]) -> Any:
    """The operation that was chosen, or the weighted sum of those that are open.

    Args:
      value: What `choose(name, Operation(...))` gave.
      name: The layers of the operation `op` are called `name`_`op`, or so and "_" and more.
      tensor: What they read.
      makers: The operations by name.

    Returns:
      A Keras tensor.
    """
    if not isinstance(value, OpenOperation):
        return makers[value](f"{name}_{value}", tensor)
    modules = []
    for candidate in value.candidates:
        copy = tf.keras.Input(tensor.shape[1:], dtype=tensor.dtype)
        full = f"{name}_{candidate}"
        modules.append(tf.keras.Model(copy, makers[candidate](full, copy), name=f"{full}_module"))
    return Mixed(modules, value, name=f"{name}_mixed")(tensor)
