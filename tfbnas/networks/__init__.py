"""One builder per network family; the plain network and the one with open choices come out of the same function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.errors import UserError, nearest
from tfbnas.networks.cnf import cnf, cnf_graph
from tfbnas.networks.graph import NetworkGraph
from tfbnas.networks.resnet import resnet18
from tfbnas.networks.resnet_fabric import resnet_fabric, resnet_fabric_graph
from tfbnas.networks.vgg import vgg11

Choose = Callable[[str, Any], Any]
Builder = Callable[..., tf.keras.Model]

_BUILDERS: dict[str, Builder] = {"resnet18": resnet18, "vgg11": vgg11, "resnet_fabric": resnet_fabric, "cnf": cnf}
_GRAPHS: dict[str, Callable[..., NetworkGraph]] = {"resnet_fabric": resnet_fabric_graph, "cnf": cnf_graph}


def register(name: str, builder: Builder, *, graph: Callable[..., NetworkGraph] | None = None) -> Builder:
    """Adds a network family, so that an Architecture can name it.

    Args:
      name: Key of the family.
      builder: `builder(choose, *, input_shape, classes, **options)` returns a functional Keras model. It calls
        `choose(name, default)` once for every choice and gives what comes back to its layers.
      graph: `graph(*, input_shape, classes, **options)` returns the graph that the builder builds, for families whose
        choices are the modules of a graph. Default: none.

    Raises:
      UserError: The name belongs to another builder.
    """
    if _BUILDERS.setdefault(name, builder) is not builder:
        raise UserError(f"Expected a new name for the network family. Received: {name!r}, which is taken.")
    if graph is not None:
        _GRAPHS[name] = graph
    return builder


def builder(name: str) -> Builder:
    """The builder of a network family.

    Raises:
      UserError: No family has that name.
    """
    if name not in _BUILDERS:
        known = sorted(_BUILDERS)
        raise UserError(f"Expected a network family out of {known}. Received: {name!r}.{nearest(name, known)}")
    return _BUILDERS[name]


def construct(
    network: str, choose: Choose, *, input_shape: tuple[int, int, int], classes: int, options: Mapping[str, Any]
) -> tf.keras.Model:
    """A network of a family, with what `choose` gives for each choice: closed values or open ones.

    Raises:
      UserError: The family is unknown, or does not have one of the options.
    """
    family = builder(network)
    return _called(network, family, choose, input_shape=input_shape, classes=classes, options=options)


def is_graph(network: str) -> bool:
    """Whether the choices of a family are the modules of a graph.

    Raises:
      UserError: No family has that name.
    """
    builder(network)
    return network in _GRAPHS


def graph(architecture: Architecture) -> NetworkGraph:
    """The whole graph of an architecture's family, whatever its choices are.

    Raises:
      UserError: The family is unknown, is no graph of modules, or does not have one of the options.
    """
    name = architecture.network
    if not is_graph(name):
        raise UserError(
            f"Expected a network whose choices are the modules of a graph: {', '.join(sorted(_GRAPHS))}. "
            f"Received: {name!r}."
        )
    return _called(
        name,
        _GRAPHS[name],
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


def build(architecture: Architecture) -> tf.keras.Model:
    """The plain network of an architecture, with fresh weights.

    Raises:
      UserError: The family is unknown, or the architecture has a choice or an option that the family does not ask for.
    """
    asked = set()

    def choose(name: str, default: Any) -> Any:
        asked.add(name)
        return architecture.choices.get(name, default)

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
