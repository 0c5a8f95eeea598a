"""A functional Keras model as a list of layer calls with their neighbours, and a model rebuilt from such a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.layers.gate import all_layers

Key = tuple[str, int]


When = tuple[tuple[str, int], ...]
"""The choices under which something exists, each with the number of the candidate; empty: always."""


@dataclass(eq=False)
class Call:
    """One call of one layer, with its neighbours.

    Attributes:
      layer: The layer of the source model.
      name: Unique in the graph; the layer's name where that is unique.
      inputs: Keys of the tensors read, in order.
      outputs: Keys of the tensors written.
      arguments: Positional and keyword arguments of the call, with keys in place of the tensors.
      when: The choices under which the layer exists in an open network.
      writers: The calls whose outputs it reads, in order; inputs of the model are calls of their InputLayer.
      readers: The calls that read its output, each once.
      is_output: Whether the network gives its output out.
    """

    layer: tf.keras.layers.Layer
    name: str = ""
    inputs: list[Key] = field(default_factory=list)
    outputs: list[Key] = field(default_factory=list)
    arguments: tuple[tuple, dict] = field(repr=False, default=((), {}))
    when: When = ()
    writers: list[Call] = field(repr=False, default_factory=list)
    readers: list[Call] = field(repr=False, default_factory=list)
    is_output: bool = False

    def read(self, writer: Call) -> None:
        """Lets this call read `writer`, behind what it already reads."""
        if writer not in self.writers:
            writer.readers.append(self)
        self.writers.append(writer)

    @property
    def is_only_reader(self) -> bool:
        """Whether the tensor that it reads is there for nothing else."""
        writer = self.writers[0]
        return len(writer.readers) == 1 and not writer.is_output


@dataclass(eq=False)
class Graph:
    """The calls of a model in an order in which every tensor is written before it is read.

    Attributes:
      name: Of the model.
      calls: Of all layers but the InputLayers.
      inputs: Keys of the model's inputs.
      outputs: Keys of its outputs.
      input_layers: Its InputLayers.
      entries: Calls of these that write `inputs`; only `Call.writers` leads there.
      structure: Of its outputs, with references in place of the tensors.
    """

    name: str
    calls: list[Call]
    inputs: list[Key]
    outputs: list[Key]
    input_layers: list[tf.keras.layers.Layer]
    entries: list[Call]
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

    A layer that holds alternatives of which a search decides (its attribute `alternatives`) comes behind the calls of
    these, and reads their outputs.

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
    outputs = _walk(model, "", known, calls, ())
    repeated = Counter(call.name for call in calls)
    seen: Counter = Counter()
    for call in calls:
        seen[call.name] += 1
        if repeated[call.name] > 1 and seen[call.name] > 1:
            call.name = f"{call.name}_call{seen[call.name]}"
    layers = [layer for layer in model._input_layers]
    structure = tf.nest.map_structure(lambda tensor: _Reference(outputs[id(tensor)]), model._nested_outputs)
    entries = [
        Call(tensor._keras_history.layer, outputs=[key]) for key, tensor in zip(inputs, model.inputs, strict=True)
    ]
    graph = Graph(model.name, calls, inputs, [outputs[id(t)] for t in model.outputs], layers, entries, structure)
    writers = {key: call for call in (*entries, *calls) for key in call.outputs}
    for call in calls:
        for key in call.inputs:
            call.read(writers[key])
    for key in graph.outputs:
        writers[key].is_output = True
    return graph


def all_calls(model: tf.keras.Model) -> list[Call]:
    """The layers of a functional model with their neighbours, in the order of the model's layers.

    Raises:
      UserError: The model is not functional, or a layer of it is called several times.
    """
    graph = flatten(model)
    check_called_once(graph.calls)
    places = {id(layer): place for place, layer in enumerate(all_layers(model))}
    return sorted((*graph.entries, *graph.calls), key=lambda call: places.get(id(call.layer), len(places)))


def check_called_once(calls: Iterable[Call]) -> None:
    """Refuses shared layers.

    Raises:
      UserError: Two of the calls are of one layer.
    """
    counts = Counter(id(call.layer) for call in calls)
    for call in calls:
        if counts[id(call.layer)] > 1:
            raise UserError(
                f"Expected each layer to be called once. Received: layer {call.layer.name!r}, called "
                f"{counts[id(call.layer)]} times; make a layer for each call."
            )


def _walk(model: tf.keras.Model, scope: str, known: dict[int, Key], calls: list[Call], when: When) -> dict[int, Key]:
    """Appends the calls of `model`; to `known`, the keys of its inputs, come those of all its tensors."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            layer = node.layer
            sources = [known[id(tensor)] for tensor in node.keras_inputs]
            targets = tf.nest.flatten(node.outputs)

            def inside(module, when, sources=sources, layer=layer):
                inner = {id(tensor): key for tensor, key in zip(module.inputs, sources, strict=True)}
                inner = _walk(module, f"{scope}{layer.name}:{len(calls)}/", inner, calls, when)
                return [inner[id(tensor)] for tensor in module.outputs]

            if is_functional(layer):
                known.update(zip(map(id, targets), inside(layer, when), strict=True))
                continue
            alternatives: Any = getattr(layer, "alternatives", ())
            if alternatives:
                sources = [key for module, *choice in alternatives for key in inside(module, _under(when, *choice))]
            keys = [(scope, id(tensor)) for tensor in targets]
            known.update(zip(map(id, targets), keys, strict=True))

            def refer(value, known=known):
                return _Reference(known[id(value)]) if hasattr(value, "_keras_history") else value

            arguments = tf.nest.map_structure(refer, (node.call_args, node.call_kwargs))
            # One alternative is there or not, and its output with it; of several, one is there.
            own = _under(when, *alternatives[0][1:]) if len(alternatives) == 1 else when
            calls.append(Call(layer, layer.name, sources, keys, arguments, own))
    return known


def _under(when: When, name: str, candidate: int) -> When:
    return (*when, (name, candidate))


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
