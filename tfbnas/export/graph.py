"""A functional Keras model as a flat list of layer calls, and a model rebuilt from such a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError

Key = tuple[str, int]


@dataclass(eq=False)
class Call:
    """One call of one layer.

    Attributes:
      layer: The layer of the source model.
      name: Unique in the graph; the layer's name where that is unique.
      inputs: Keys of the tensors read, in order.
      outputs: Keys of the tensors written.
      arguments: Positional and keyword arguments of the call, with keys in place of the tensors.
    """

    layer: tf.keras.layers.Layer
    name: str
    inputs: list[Key]
    outputs: list[Key]
    arguments: tuple[tuple, dict] = field(repr=False, default=((), {}))


@dataclass(eq=False)
class Graph:
    """The calls of a model in an order in which every tensor is written before it is read."""

    name: str
    calls: list[Call]
    inputs: list[Key]
    outputs: list[Key]
    input_layers: list[tf.keras.layers.Layer]
    structure: Any = field(repr=False, default=None)

    def readers(self) -> dict[Key, list[Call]]:
        """The calls that read each tensor (once for every time they read it)."""
        readers: dict[Key, list[Call]] = {}
        for call in self.calls:
            for key in call.inputs:
                readers.setdefault(key, []).append(call)
        return readers

    def writers(self) -> dict[Key, Call]:
        """The call that writes each tensor; inputs of the model are missing."""
        return {key: call for call in self.calls for key in call.outputs}

    def new_name(self, name: str) -> str:
        """`name`, changed where a call or an input has it."""
        taken = {call.name for call in self.calls} | {layer.name for layer in self.input_layers}
        while name in taken:
            name += "_"
        return name


class _Reference:
    """Stands in a call's arguments for the tensor of that key (opaque to `tf.nest`, unlike the key itself)."""

    def __init__(self, key: Key):
        self.key = key


def is_functional(model: Any) -> bool:
    """Whether a model is a graph of layers that can be walked (functional, or sequential and built)."""
    return isinstance(model, tf.keras.Model) and bool(getattr(model, "_is_graph_network", False))


def flatten(model: tf.keras.Model) -> Graph:
    """Lists the layer calls of a functional model; nested functional models are taken apart.

    Raises:
      UserError: The model is not functional.
    """
    if not is_functional(model):
        raise UserError(
            f"Expected a functional or a built sequential Keras model. Received: {model.name!r} of type "
            f"{type(model).__name__}; wrap it: tf.keras.Model(inputs, model(inputs))."
        )
    calls: list[Call] = []
    known = {id(tensor): ("", id(tensor)) for tensor in model.inputs}
    inputs = list(known.values())
    outputs = _walk(model, "", known, calls)
    repeated = Counter(call.name for call in calls)
    seen: Counter = Counter()
    for call in calls:
        seen[call.name] += 1
        if repeated[call.name] > 1 and seen[call.name] > 1:
            call.name = f"{call.name}_call{seen[call.name]}"
    layers = [layer for layer in model._input_layers]
    structure = tf.nest.map_structure(lambda tensor: _Reference(outputs[id(tensor)]), model._nested_outputs)
    return Graph(model.name, calls, inputs, [outputs[id(t)] for t in model.outputs], layers, structure)


def _walk(model: tf.keras.Model, scope: str, known: dict[int, Key], calls: list[Call]) -> dict[int, Key]:
    """Appends the calls of `model`; to `known`, the keys of its inputs, come those of all its tensors."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            layer = node.layer
            sources = [known[id(tensor)] for tensor in node.keras_inputs]
            targets = tf.nest.flatten(node.outputs)
            if is_functional(layer):
                inner = {id(tensor): key for tensor, key in zip(layer.inputs, sources, strict=True)}
                inner = _walk(layer, f"{scope}{layer.name}:{len(calls)}/", inner, calls)
                known.update({id(t): inner[id(i)] for t, i in zip(targets, layer.outputs, strict=True)})
                continue
            keys = [(scope, id(tensor)) for tensor in targets]
            known.update(zip(map(id, targets), keys, strict=True))

            def refer(value, known=known):
                return _Reference(known[id(value)]) if hasattr(value, "_keras_history") else value

            arguments = tf.nest.map_structure(refer, (node.call_args, node.call_kwargs))
            calls.append(Call(layer, layer.name, sources, keys, arguments))
    return known


def redirect(call: Call, old: Key, new: Key) -> None:
    """Makes a call read the tensor `new` where it read `old`."""
    call.inputs = [new if key == old else key for key in call.inputs]

    def replace(value):
        return _Reference(new) if isinstance(value, _Reference) and value.key == old else value

    call.arguments = tf.nest.map_structure(replace, call.arguments)


Emit = Callable[[Call, dict[Key, Any]], Any]


def rebuild(graph: Graph, emit: Emit, finish: Callable[[Key, dict[Key, Any]], Any]) -> tf.keras.Model:
    """Builds a model from a graph.

    Args:
      graph: Result of `flatten`; changed ones must keep the order of the calls.
      emit: Called for every call with the tensors that exist so far; returns the output tensor(s) of that call.
      finish: Returns the tensor that the model gives out in place of the one with this key.
    """
    inputs = [
        tf.keras.Input(layer.input_shape[0][1:], batch_size=None, dtype=layer.dtype, name=layer.name)
        for layer in graph.input_layers
    ]
    tensors: dict[Key, Any] = dict(zip(graph.inputs, inputs, strict=True))
    for call in graph.calls:
        tensors.update(zip(call.outputs, tf.nest.flatten(emit(call, tensors)), strict=True))
    outputs = tf.nest.map_structure(lambda reference: finish(reference.key, tensors), graph.structure)
    return tf.keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=graph.name)


def call_copy(call: Call, layer: tf.keras.layers.Layer, tensors: dict[Key, Any]) -> Any:
    """Calls `layer` with the arguments of `call`, its tensors taken from `tensors`."""

    def resolve(value):
        return tensors[value.key] if isinstance(value, _Reference) else value

    args, kwargs = tf.nest.map_structure(resolve, call.arguments)
    return layer(*args, **kwargs)
