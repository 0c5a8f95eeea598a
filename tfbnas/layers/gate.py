"""Modules of which a search decides whether they are there."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfbnas import distribution


class OpenGate:
    """A choice between a module and nothing, for each group of a batch.

    Args:
      name: Name of the choice; the key under which an Architecture stores whether the module stays.

    Attributes:
      kept: Function without arguments that returns a float32 tensor `[groups]` of ones and zeros: for which groups of
        consecutive examples, of equal size, the module is there. `None` keeps it for all. A search method sets it.
        Where several devices divide a batch, the groups are those of the whole batch.
    """

    def __init__(self, name: str):
        self.name = name
        self.kept: Callable[[], tf.Tensor] | None = None

    def __repr__(self) -> str:
        return f"OpenGate({self.name!r})"


class Gated(tf.keras.layers.Layer):
    """A module behind an OpenGate: its output where it is there, else zeros.

    Where no example of the batch uses the module it is not run at all: no computation, no change of its statistics, and
    gradients that are zero.

    Args:
      module: Keras model with one output.
      gate: The choice.
    """

    def __init__(self, module: tf.keras.Model, gate: OpenGate, **kwargs):
        super().__init__(**kwargs)
        self.module = module
        self.gate = gate

    def call(self, inputs, training=None):
        inputs = tf.nest.flatten(inputs)
        if self.gate.kept is None:
            return self.module(inputs, training=training)
        kept = self.gate.kept()
        batch = tf.shape(inputs[0])[0]
        each = batch * distribution.replicas() // tf.shape(kept)[0]
        shape = self.module.output_shape[1:]
        dtype = self.module.output.dtype

        def masked(output: tf.Tensor) -> tf.Tensor:
            mask = distribution.own_part(tf.repeat(tf.cast(kept, dtype), each))
            return output * tf.reshape(mask, [batch] + [1] * len(shape))

        def run() -> tf.Tensor:
            output = self.module(inputs, training=training)
            # In a single group it is there for all: a product with ones would cost a pass over the activations.
            return output if kept.shape[0] == 1 else masked(output)

        return tf.cond(tf.reduce_any(kept > 0), run, lambda: tf.zeros([batch, *shape], dtype))

    @property
    def alternatives(self) -> list[tuple[tf.keras.Model, str, int]]:
        """The modules in it, each with the name of its choice and its number among the candidates (0: absent)."""
        return [(self.module, self.gate.name, 1)]

    def compute_output_shape(self, input_shape):
        return tf.TensorShape(self.module.output_shape)


def all_layers(model: tf.keras.Model) -> list[tf.keras.layers.Layer]:
    """The layers of a model in its order; models in it, and modules of which a search decides, are taken apart."""
    layers: list[tf.keras.layers.Layer] = []
    for layer in model.layers:
        modules = [layer] if isinstance(layer, tf.keras.Model) else [m for m, *_ in getattr(layer, "alternatives", ())]
        layers += [inner for module in modules for inner in all_layers(module)] if modules else [layer]
    return layers
