"""Networks whose choices are operations of edges, with all of them open: how they are built, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.errors import UserError
from tfbnas.layers.gate import all_layers
from tfbnas.layers.width import initial_value
from tfbnas.networks import construct
from tfbnas.networks.choices import OpenOperation, Operation, kind_of
from tfbnas.networks.mixed import Mixed
from tfbnas.search.darts import NONE
from tfbnas.training import binary_kernels


def opened_network(template: Architecture) -> tuple[tf.keras.Model, dict[str, OpenOperation]]:
    """A network with all choices open, and those choices in the order in which the builder asks.

    Raises:
      UserError: A choice is no operation with "none", or two choices have other operations.
    """
    opened: dict[str, OpenOperation] = {}

    def choose(name: str, default: Any) -> OpenOperation:
        if name not in opened:
            kind = kind_of(default)
            others = {one.candidates for one in opened.values()}
            fits = isinstance(kind, Operation) and NONE in kind.candidates and others <= {kind.candidates}
            if not fits:
                raise UserError(
                    'Expected a network whose choices are operations of edges, "none" among them, the same on each. '
                    f"Received: {template.network!r} with the choice {name!r}."
                )
            opened[name] = kind.open(name)
        return opened[name]

    model = construct(
        template.network,
        choose,
        input_shape=template.input_shape,
        classes=template.classes,
        options=template.options,
    )
    return model, opened


def in_full_precision(template: Architecture) -> Architecture:
    """The parent of a binary network."""
    return replace(template, options={**template.options, "binarisation": "float"})


def initialise(model: tf.keras.Model, seed: int) -> None:
    """Initial weights that depend on the seed and the layers' names only."""
    for layer in all_layers(model):
        for kind in ("kernel", "depthwise_kernel", "bias"):
            short = kind.replace("_kernel", "")
            initializer, weight = getattr(layer, f"{short}_initializer", None), getattr(layer, kind, None)
            if initializer is not None and weight is not None:
                weight.assign(initial_value(initializer, weight.shape, seed, f"{layer.name}/{kind}"))


def kernels_of_operations(model: tf.keras.Model, edges: Sequence[str]) -> Iterator[tuple[int, int, list[tf.Variable]]]:
    """Edge, place, and the binary kernels in all cells, of each operation that has some."""
    found: dict[tuple[int, int], list[tf.Variable]] = {}
    for layer in model.layers:
        if isinstance(layer, Mixed):
            for place, module in enumerate(layer.modules):
                found.setdefault((edges.index(layer.choice.name), place), []).extend(binary_kernels(module))
    return ((*key, kernels) for key, kernels in found.items() if kernels)
