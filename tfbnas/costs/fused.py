"""Costs that are sums over the operators of the deployed network, where neighbours decide what an operator is.

Whether a module quantises its input, or writes bits, depends on the modules around it, but on little of them. What it
costs is remembered under just that. So most networks of a search are priced without looking at a layer. Where the cost
of a module is not known yet, the whole network is looked at, once for all of its modules. Nothing is built: the layers
of equal modules are made once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs.cost import Kept
from tfbnas.lce import fusing
from tfbnas.lce.graph import Call, all_calls
from tfbnas.lce.operations import Operation, operations_of
from tfbnas.lce.standard import is_addition
from tfbnas.networks.graph import Node

Value = Callable[[Operation], float]


def over_fused(architecture: Architecture, value: Value) -> Callable[[Kept], float]:
    """The sum of `value` over the operators of the kept modules as they are deployed together, without building them.

    Equal to the sum over `trace` of the network that is left. Modules that are no network, because its input or output
    is missing, are priced as if each stood alone.

    Args:
      architecture: Names the graph; its choices do not matter.
      value: Of one operation.

    Returns:
      Function from the modules that are kept, `[modules]`, to the sum.
    """
    return _Fabric(architecture, value).price


@dataclass(frozen=True, eq=False)
class _Kind:
    """The layers of equal modules with inputs of equal shapes.

    Attributes:
      layers: Each with what it reads: the number of a layer, or -1 - s for input s of the module.
      output: What gives the module's output, counted in the same way.
      shape: Of the output, without the batch.
      heads: For each input, how the layers that read it behave: "own" quantises it at a threshold of its own, "sign" at
        zero, "carries" lets neighbours see what is behind it, "wall" does not.
      quantizes: For each input, "own" and "sign" as far as the module quantises it so, "own lifted" and "sign lifted"
        where it does that with the upsampled input.
      tail: As what the readers of the module see its last layer.
      reach: The input that is seen through the module from behind; None where there is a wall.
      lifts: Whether the module is an upsampling and nothing else.
    """

    layers: list[tuple[tf.keras.layers.Layer, list[int]]]
    output: int
    shape: tuple[int | None, ...]
    heads: list[tuple[str, ...]]
    quantizes: list[frozenset[str]]
    tail: Hashable
    reach: int | None
    lifts: bool


@dataclass(eq=False, slots=True)
class _Module:
    """A kept module that does something, or the images (`kind` is None).

    Attributes:
      kind: Its layers.
      sources: The modules whose outputs it reads; those that only pass a tensor on are left out.
      readers: The modules that read its output, with the input at which they do.
      is_output: Whether its output is the network's.
      quantized: How the modules in front of which no other upsampling stands quantise its output, in order, with the
        module whose output, upsampled or not, they read.
      readings: See `_reading`; None as long as nobody has asked.
    """

    kind: _Kind | None
    shape: tuple[int | None, ...]
    sources: list[_Module] = field(default_factory=list)
    readers: list[tuple[_Module, int]] = field(default_factory=list)
    is_output: bool = False
    quantized: list[tuple[_Module, frozenset[str], _Module]] = field(default_factory=list)
    readings: Hashable = None

    @property
    def origin(self) -> _Module:
        """The module whose output this one gives out, upsampled or as it is."""
        return self.sources[0].origin if self.kind is not None and self.kind.lifts else self

    def attach(self) -> None:
        """Makes it known to the modules that it reads."""
        assert self.kind is not None
        for slot, source in enumerate(self.sources):
            source.readers.append((self, slot))
            if self.kind.quantizes[slot]:
                source.origin.quantized.append((self, self.kind.quantizes[slot], source))


class _Fabric:
    """A graph whose kept modules are priced."""

    def __init__(self, architecture: Architecture, value: Value):
        self._graph = networks.graph(architecture)
        self._value = value
        self._images = tuple(architecture.input_shape)
        self._kinds: dict[Hashable, _Kind] = {}
        self._known: dict[Hashable, float] = {}
        everything = [True] * len(self._graph.nodes)
        shapes: dict[int, tuple[int | None, ...]] = {}
        self._price(self._modules(everything, shapes))  # refuses at once what `value` refuses
        self._alone: list[float] = []
        for index, node in enumerate(self._graph.nodes):
            first = shapes[self._graph.predecessors[index][0]] if self._graph.predecessors[index] else self._images
            images = _Module(None, first)
            self._alone.append(self._price(_finished([self._module(node, [images])])))

    def price(self, kept: Kept) -> float:
        """The sum over the kept modules."""
        order = self._graph.order
        chosen = kept.tolist()
        if not (chosen[order[0]] and chosen[order[-1]]):
            return sum(self._alone[module] for module, is_kept in enumerate(chosen) if is_kept)
        return self._price(self._modules(chosen))

    def _modules(self, kept: list[bool], shapes: dict[int, tuple[int | None, ...]] | None = None) -> list[_Module]:
        """The kept modules with their neighbours, each before those that read it."""
        found: list[_Module] = []
        outputs: dict[int, _Module] = {}  # of each module of the graph, the one that made what it gives out
        images = _Module(None, self._images)
        for index in self._graph.order:
            if not kept[index]:
                continue
            sources = [outputs[source] for source in self._graph.predecessors[index] if kept[source]] or [images]
            module = self._module(self._graph.nodes[index], sources)
            assert module.kind is not None
            if module.kind.output < 0:
                outputs[index] = sources[-1 - module.kind.output]
            else:
                outputs[index] = module
                found.append(module)
                module.attach()
            if shapes is not None:
                shapes[index] = outputs[index].shape
        outputs[self._graph.order[-1]].is_output = True
        return found

    def _module(self, node: Node, sources: list[_Module]) -> _Module:
        key = (node.make, node.arguments, tuple([source.shape for source in sources]))
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _kind(node.alone([source.shape for source in sources]))
        return _Module(kind, kind.shape, sources)

    def _price(self, modules: list[_Module]) -> float:
        keys = [_key(module) for module in modules]
        known = self._known
        try:
            return sum([known[key] for key in keys])
        except KeyError:
            for key, share in zip(keys, self._shares(modules), strict=True):
                known[key] = share
            return sum([known[key] for key in keys])

    def _shares(self, modules: list[_Module]) -> list[float]:
        """What each module adds to the sum, from all the layers."""
        outputs: dict[int, Call] = {}
        calls: list[list[Call]] = []
        for module in modules:
            assert module.kind is not None
            for source in module.sources:
                if source.kind is None:
                    outputs.setdefault(id(source), Call(tf.keras.layers.InputLayer(source.shape)))
            inner: list[Call] = []
            for layer, reads in module.kind.layers:
                call = Call(layer)
                for place in reads:
                    call.read(inner[place] if place >= 0 else outputs[id(module.sources[-1 - place])])
                inner.append(call)
            outputs[id(module)] = inner[module.kind.output]
            inner[module.kind.output].is_output = module.is_output
            calls.append(inner)
        quantized: set[Hashable] = set()
        value = self._value
        return [
            sum(float(value(operation)) for call in inner for operation in operations_of(call, quantized))
            for inner in calls
        ]


def _finished(modules: list[_Module]) -> list[_Module]:
    """A single module as a network."""
    modules = [module for module in modules if module.kind is not None and module.kind.output >= 0]
    for module in modules:
        module.is_output = True
        module.attach()
    return modules


def _kind(model: tf.keras.Model) -> _Kind:
    calls = all_calls(model)
    places = {id(tensor._keras_history.layer): -1 - slot for slot, tensor in enumerate(model.inputs)}
    inner = [call for call in calls if id(call.layer) not in places]
    places |= {id(call.layer): place for place, call in enumerate(inner)}
    heads, quantizes = [], []
    for tensor in model.inputs:
        entry = next(call for call in calls if call.layer is tensor._keras_history.layer)
        heads.append(tuple(_behaviour(reader) for reader in entry.readers))
        quantizes.append(_quantizes(entry))
    output = next(call for call in calls if call.is_output)
    last = output
    while fusing.carries(last.layer) and places[id(last.layer)] >= 0:
        last = last.writers[0]
    lifted = places[id(output.layer)] >= 0 and places[id(fusing.origin(output).layer)] < 0
    return _Kind(
        layers=[(call.layer, [places[id(writer.layer)] for writer in call.writers]) for call in inner],
        output=places[id(output.layer)],
        shape=tuple(model.output_shape[1:]),
        heads=heads,
        quantizes=quantizes,
        lifts=lifted,
        tail=object() if fusing.merges(output.layer) else is_addition(output.layer),
        reach=-1 - places[id(last.layer)] if places[id(last.layer)] < 0 else None,
    )


def _behaviour(call: Call) -> str:
    if fusing.is_quantized(call):
        return "own" if fusing.is_quantizer(call.layer) else "sign"
    return "carries" if fusing.carries(call.layer) else "wall"


def _quantizes(call: Call, suffix: str = "") -> frozenset[str]:
    found = {_behaviour(reader) + suffix for reader in call.readers if fusing.is_quantized(reader)}
    for reader in call.readers:
        if fusing.origin(reader) is not reader:
            found |= _quantizes(reader, " lifted")
    return frozenset(found)


# What a module's share depends on. A module is seen by its neighbours up to the nearest wall.


def _key(module: _Module) -> Hashable:
    kind = module.kind
    assert kind is not None
    in_front = []
    for slot, head in enumerate(kind.heads):
        if any(behaviour != "wall" for behaviour in head):
            source = module.sources[slot]
            done = _done_before(module, source) if kind.quantizes[slot] else None
            in_front.append((slot, _writing(source), _reading(source), done))
    return (kind, tuple(in_front), _reading(module))


def _writing(module: _Module) -> Hashable:
    """As what the readers of a module see its output."""
    kind = module.kind
    if kind is None or kind.reach is None:
        return kind and kind.tail
    source = module.sources[kind.reach]
    return (kind, _writing(source), _reading(source))


def _reading(module: _Module) -> Hashable:
    """As what a module sees the readers of its output."""
    if module.readings is None:
        count, learned = int(module.is_output), 0
        behaviours: set[Any] = set()
        for reader, slot in module.readers:
            kind = reader.kind
            assert kind is not None
            head = kind.heads[slot]
            count += len(head)
            learned += head.count("own")
            behaviours.update(head)
            if "carries" in head:
                behaviours.add((kind, slot, _reading(reader) if kind.reach == slot else None))
        module.readings = (frozenset(behaviours), count == 1, learned > 1, module.is_output)
    return module.readings


def _done_before(module: _Module, source: _Module) -> Hashable:
    """How the tensor that a module quantises is quantised before, and whether it is anywhere as it is written."""
    origin = source.origin
    before = itertools.takewhile(lambda entry: entry[0] is not module, origin.quantized)
    ways = frozenset((way, read is origin, read is source) for _, ways, read in before for way in ways)
    return ways, any(read is origin and not ways.isdisjoint(("own", "sign")) for _, ways, read in origin.quantized)
