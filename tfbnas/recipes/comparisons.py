"""The networks that a recipe trains beside the one it searched, as the settings ask."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np

from tfbnas import networks, training
from tfbnas.architecture import Architecture
from tfbnas.costs import Memory, largest_within
from tfbnas.networks.choices import Width
from tfbnas.networks.interacted import Interactions
from tfbnas.recipes.baselines import WidthBaselines
from tfbnas.recipes.context import Context
from tfbnas.recipes.int8 import int8_networks
from tfbnas.recipes.options import TrainSettings
from tfbnas.recipes.training import Training
from tfbnas.weight_settings import WeightSettings


def comparisons(context: Context, found: Architecture) -> Iterator[Training]:
    """What is trained beside the architecture that was found, in this order."""
    own = context.settings.baselines
    train = from_scratch(context)
    context = replace(context, settings=replace(context.settings, train=train))
    if isinstance(own, WidthBaselines):
        binary = itertools.chain(_given(context), _uniform(context, found, own))
    else:
        binary = itertools.chain(_random_graphs(context, found), _references(context))
    tasks = itertools.chain(binary, int8_networks(context, found))
    return (replace(task, settings=task.settings or train) for task in tasks)


def from_scratch(context: Context) -> TrainSettings:
    """The schedule of networks that are compared with the searched one: its own.

    Where that one is fine-tuned from the weights of the search, they learn from scratch as the search did, for as many
    epochs as search and fine-tuning have together.
    """
    search, train = context.settings.search, context.settings.train
    if not getattr(search, "fine_tune", False):
        return train
    updates = {field.name: getattr(search, field.name) for field in fields(WeightSettings)}
    return replace(train, epochs=search.epochs + train.epochs, **updates)


def _given(context: Context) -> Iterator[Training]:
    """The network that was searched as it was given, if it came with weights: not trained any more."""
    if weights := networks.given_weights(context.template):
        untrained = replace(context.settings.train, epochs=0, full_precision_epochs=0, teacher=None)
        architecture = replace(context.template, method="given")
        choose, start = functools.partial(_same, architecture), lambda: weights
        yield Training("given", "as given", "reference", 1, choose, settings=untrained, start=start)


def _random_graphs(context: Context, found: Architecture) -> Iterator[Training]:
    """A network with random edges in place of those that were found: as many, with the same influences."""
    if not getattr(context.settings.baselines, "random", False):
        return
    random = np.random.default_rng(context.settings.seed)
    choices = dict(found.choices)
    for name, kind in networks.choices(found).items():
        if isinstance(kind, Interactions):
            choices[name] = kind.placed([influence for _, _, influence in choices[name]], random)
    architecture = replace(found, method="random", choices=choices)
    yield Training("random-graph", "random graph", "control", 1, functools.partial(_same, architecture))


def _references(context: Context) -> Iterator[Training]:
    references = context.settings.network.references()
    for order, (key, (label, options)) in enumerate(references.items(), start=2):
        if getattr(context.settings.baselines, key, False):
            architecture = replace(context.template, method=key, options=options)
            yield Training(key, label, "reference", order, functools.partial(_same, architecture))


def _same(architecture: Architecture) -> Architecture:
    return architecture


def _uniform(context: Context, found: Architecture, settings: WidthBaselines) -> Iterator[Training]:
    if not settings.equal_memory and not settings.ratios:
        return
    bases = {name: kind.base for name, kind in networks.choices(found).items() if isinstance(kind, Width)}
    if settings.equal_memory:
        cost = Memory(context.settings.budget.counting)
        choose = functools.partial(equal_memory, found, bases, cost)
        yield Training("equal-memory", "uniform, equal memory", "baseline", 1, choose)
    for order, ratio in enumerate(settings.ratios, start=2):
        choose = functools.partial(training.uniform, found, bases, ratio)
        yield Training(f"uniform-{ratio:.2f}", f"BNN {ratio:g}x", "baseline", order, choose)


def equal_memory(found: Architecture, bases: dict[str, int], cost: Memory) -> Architecture:
    """The largest uniform network that takes no more memory than the one found.

    Args:
      found: The network to compare with.
      bases: Channels of each choice at ratio 1.
      cost: Counts the memory.
    """
    limit = cost.of(found)
    upper = 1.0
    while cost.of(training.uniform(found, bases, upper)) <= limit:
        upper *= 2
    ratio = largest_within(limit, lambda r: cost.of(training.uniform(found, bases, r)), upper=upper, steps=12)
    return training.uniform(found, bases, ratio)
