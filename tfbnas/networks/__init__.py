"""One builder per network family; the plain network and the one with open choices come out of the same function."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.architecture import Architecture, require_architecture
from tfbnas.errors import UserError, nearest
from tfbnas.networks.cells import cells
from tfbnas.networks.choices import Kind, Module, kind_of
from tfbnas.networks.cnf import cnf, cnf_graph
from tfbnas.networks.graph import NetworkGraph
from tfbnas.networks.interacted import resnet18_interactions, resnet20, vgg_small
from tfbnas.networks.keras_model import file_weights, keras_model
from tfbnas.networks.quicknet import quicknet, quicknet_blocks, quicknet_graph
from tfbnas.networks.resnet import resnet18
from tfbnas.networks.resnet_fabric import resnet_fabric, resnet_fabric_graph
from tfbnas.networks.vgg import vgg11

Choose = Callable[[str, Any], Any]
Builder = Callable[..., tf.keras.Model]

_BUILDERS: dict[str, Builder] = {
    "resnet18": resnet18,
    "vgg11": vgg11,
    "resnet_fabric": resnet_fabric,
    "cnf": cnf,
    "cells": cells,
    "resnet18_interactions": resnet18_interactions,
    "resnet20": resnet20,
    "vgg_small": vgg_small,
    "quicknet": quicknet,
    "quicknet_blocks": quicknet_blocks,
    "keras_model": keras_model,
}
_WEIGHTS: dict[Builder, Callable[..., dict[str, list[np.ndarray]]]] = {keras_model: file_weights}
_GRAPHS: dict[Builder, Callable[..., NetworkGraph]] = {
    resnet_fabric: resnet_fabric_graph,
    cnf: cnf_graph,
    quicknet_blocks: quicknet_graph,
}


def register(name: str, builder: Builder, *, graph: Callable[..., NetworkGraph] | None = None) -> Builder:
    """Adds a network family, so that an Architecture can name it.

    Args:
      name: Key of the family.
      builder: `builder(choose, *, input_shape, classes, **options)` returns a functional Keras model. It calls
        `choose(name, default)` once for every choice and gives what comes back to its layers. The default says of
        which kind the choice is, see `tfbnas.networks.choices`.
      graph: `graph(*, input_shape, classes, **options)` returns the graph that the builder builds, for families whose
        choices are the modules of a graph. Default: none.

    Raises:
      UserError: The name belongs to another builder, has a colon in it, or `builder` is no function.
    """
    if not isinstance(name, str) or not name or ":" in name:
        raise UserError(f"Expected `name` to be a text without a colon, which stands for a module. Received: {name!r}.")
    if not callable(builder):
        raise UserError(f"Expected `builder` to be a function that builds the network. Received: {builder!r}.")
    if _BUILDERS.setdefault(name, builder) is not builder:
        raise UserError(f"Expected a new name for the network family. Received: {name!r}, which is taken.")
    if graph is not None:
        _GRAPHS[builder] = graph
    return builder


def builder(name: str) -> Builder:
    """The builder of a network family, or one of the user's own.

    Args:
      name: Of the family; or "package.module:function", which is imported.

    Raises:
      UserError: No family has that name, or it cannot be imported.
    """
    if not isinstance(name, str):
        hint = f'; register it: tfbnas.register("{name.__name__}", {name.__name__})' if inspect.isfunction(name) else ""
        raise UserError(f"Expected `network` to be the name of a network family. Received: {name!r}{hint}.")
    if ":" in name:
        return _imported(name)
    if name not in _BUILDERS:
        known = sorted(_BUILDERS)
        raise UserError(
            f'Expected a network family out of {known}, or "package.module:function". '
            f"Received: {name!r}.{nearest(name, known)}"
        )
    return _BUILDERS[name]


def _imported(name: str) -> Builder:
    module, _, attribute = name.partition(":")
    expected = 'Expected a builder "package.module:function" that can be imported.'
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, ValueError) as error:
        raise UserError(f"{expected} Received: {name!r} ({error}).") from error
    if not callable(found):
        raise UserError(f"{expected} Received: {name!r}; {module} has no function {attribute!r}.")
    return found


def construct(
    network: str, choose: Choose, *, input_shape: tuple[int, int, int], classes: int, options: Mapping[str, Any]
) -> tf.keras.Model:
    """A network of a family, with what `choose` gives for each choice: closed values or open ones.

    Raises:
      UserError: The family is unknown, does not have one of the options, or gives no functional model.
    """
    family = builder(network)
    # Layers without a name of their own are counted anew, so that every form of a network has the same names.
    tf.keras.backend.reset_uids()
    model = _called(network, family, choose, input_shape=input_shape, classes=classes, options=options)
    if not (isinstance(model, tf.keras.Model) and getattr(model, "_is_graph_network", False)):
        raise UserError(
            f"Expected the builder of {network!r} to return a functional Keras model, tf.keras.Model(inputs, outputs). "
            f"Received: {type(model).__name__}."
        )
    return model


def is_graph(network: str) -> bool:
    """Whether the choices of a family are the modules of a graph.

    Raises:
      UserError: No family has that name.
    """
    return builder(network) in _GRAPHS


def graph(architecture: Architecture) -> NetworkGraph:
    """The whole graph of an architecture's family, whatever its choices are.

    Raises:
      UserError: The family is unknown, is no graph of modules, or does not have one of the options.
    """
    name = architecture.network
    if not is_graph(name):
        raise UserError(
            "Expected a network whose choices are the modules of a graph: "
            f"{', '.join(family for family, known in sorted(_BUILDERS.items()) if known in _GRAPHS)}. "
            f"Received: {name!r}."
        )
    return _called(
        name,
        _GRAPHS[builder(name)],
        input_shape=architecture.input_shape,
        classes=architecture.classes,
        options=architecture.options,
    )


def _called(network: str, function: Callable, *arguments: Any, options: Mapping[str, Any], **keywords: Any) -> Any:
    try:
        call = inspect.signature(function).bind(*arguments, **keywords, **options)
    except TypeError as error:
        raise UserError(
            f"Expected options of the network {network!r}. Received: options={dict(options)} ({error})."
        ) from error
    return function(*call.args, **call.kwargs)


def given_weights(template: Architecture) -> dict[str, list[np.ndarray]]:
    """The weights that a network comes with, by layer, with its default choices; empty for a family without any."""
    given = _WEIGHTS.get(builder(template.network))
    return {} if given is None else _called(template.network, given, options=template.options)


def choices(template: Architecture) -> dict[str, Kind]:
    """What a network asks for: the kind of each choice, by its name, in the order in which the builder asks.

    Args:
      template: Names the network; its choices do not matter.

    Raises:
      UserError: There is no such network, or it cannot be built so.
    """
    return dict(_choices(replace(template, method="", choices={})))


@functools.lru_cache(maxsize=16)
def _choices(template: Architecture) -> dict[str, Kind]:
    if is_graph(template.network):
        return dict.fromkeys(graph(template).choices, Module())
    asked: dict[str, Kind] = {}

    def choose(name: str, default: Any) -> Any:
        asked[name] = kind_of(default)
        return asked[name].default

    construct(
        template.network,
        choose,
        input_shape=template.input_shape,
        classes=template.classes,
        options=template.options,
    )
    return asked


def draw(template: Architecture, random: np.random.Generator) -> Architecture | None:
    """An architecture whose choices are all drawn, each evenly and apart from the others.

    Of a graph of modules, what does not lead from input to output is left out.

    Args:
      template: Names the network; its choices do not matter.
      random: Where chance comes from.

    Returns:
      The architecture; None where modules were drawn that leave no path.
    """
    drawn = {name: kind.draw(random) for name, kind in choices(template).items()}
    if not is_graph(template.network):
        return replace(template, choices=drawn)
    whole = graph(template)
    pruned = whole.prune(whole.gates(drawn))
    if not pruned.modules.any():
        return None
    return replace(template, choices=dict(zip(whole.choices, pruned.gates[0].tolist(), strict=True)))


def build(architecture: Architecture) -> tf.keras.Model:
    """The plain network of an architecture, with fresh weights.

    Raises:
      UserError: The family is unknown, the architecture has a choice or an option that the family does not ask for, or
        a choice has a value that its kind does not allow.
    """
    require_architecture(architecture)
    asked = set()

    def choose(name: str, default: Any) -> Any:
        asked.add(name)
        kind = kind_of(default)
        return kind.check(name, architecture.choices[name]) if name in architecture.choices else kind.default

    model = construct(
        architecture.network,
        choose,
        input_shape=architecture.input_shape,
        classes=architecture.classes,
        options=architecture.options,
    )
    for name in architecture.choices:
        if name not in asked:
            raise UserError(
                f"Expected choices of the network {architecture.network!r}. Received: {name!r}.{nearest(name, asked)}"
            )
    return model
