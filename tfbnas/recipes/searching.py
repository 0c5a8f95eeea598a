"""The stage that searches, whatever the method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tensorflow as tf

from tfbnas import networks, precision, training
from tfbnas.architecture import Architecture
from tfbnas.checkpoints import Checkpoints
from tfbnas.costs import Budget
from tfbnas.costs.measured import Prepare
from tfbnas.data import ImageData, check_network
from tfbnas.errors import UserError
from tfbnas.recipes.context import Context, say
from tfbnas.recipes.pricing import budgets, measuring
from tfbnas.recipes.stages import fitted, stage
from tfbnas.recipes.training import Training, Weights, batches_of
from tfbnas.results import Limited, SearchResult
from tfbnas.search.base import Search
from tfbnas.search.doubt import doubt
from tfbnas.search.registry import Method
from tfbnas.units import UNITS


def parts(method: Method, images: ImageData, seed: int) -> tuple[Any, Any]:
    """The training images of the weights, and those of the architecture; None where both have the same."""
    return images.train.halves(seed=seed) if method.search.halves else (images.train, None)


def check_feasible(method: Method, template: Architecture, images: ImageData, settings: Any) -> None:
    """Refuses what can be known to fail before anything is written or trained.

    Raises:
      UserError: A batch is larger than its data, the network does not take such images or ends in a softmax, the
        method cannot search under a cost, or a budget is below the least cost that the search can reach. A search that
        does not know its least cost, or has several budgets to keep together, is made once to see.
    """
    method.search.check_costs(list(budgets(settings.budget, lambda model: float).values()))
    check_network(networks.build(template), images)
    batches_of(images, settings.train, seed=settings.seed)
    for part in parts(method, images, settings.seed):
        if part is not None:
            part.steps(settings.search.batch_size)
    limited = budgets(settings.budget)
    least_costs = method.search.least_costs(template, list(limited.values()), settings.search)
    for (name, budget), least in zip(limited.items(), least_costs, strict=True):
        if least is not None and least > budget.limit:
            unit, setting, received = UNITS[name], settings.budget.setting(name), settings.budget.limits[name]
            raise UserError(
                f"Expected `{setting}` to be at least {_above(least / unit.scale):.4g} {unit.name}, the cost of "
                f"{method.search.least_text(template, settings.search)}. Received: {setting}={received:g}."
            )
    if None in least_costs or len(limited) > 1:
        _made(method, template, limited, settings)  # says itself what it cannot reach


def _above(value: float) -> float:
    """The value rounded up to four digits, so that what a message names is enough."""
    step = 10.0 ** (math.floor(math.log10(value)) - 3) if value > 0 else 1.0
    return math.ceil(value / step - 1e-9) * step


def make_search(context: Context, limited: Mapping[str, Budget]) -> Search:
    """The search model of the settings under budgets, compiled."""
    settings = context.settings
    tf.keras.utils.set_random_seed(settings.seed)
    with context.devices.scope(), precision.precision(settings.precision):
        search = _made(context.method, context.template, limited, settings)
    with context.devices.scope():
        search.compile(**search.optimizers(parts(context.method, context.images, settings.seed)[0]))
    return search


def _made(method: Method, template: Architecture, limited: Mapping[str, Budget], settings: Any) -> Search:
    return method.search(
        template.network,
        budget=list(limited.values()),
        input_shape=template.input_shape,
        classes=template.classes,
        options=dict(template.options),
        seed=settings.seed,
        settings=settings.search,
    )


def search_stage(context: Context, name: str = "search") -> SearchResult:
    """Searches; a killed search goes on with its first unfinished epoch."""

    def work(prepare: Prepare | None) -> Mapping[str, Any]:
        limited = budgets(context.settings.budget, prepare)
        search = make_search(context, limited)
        about = SearchResult(
            context.method.name,
            context.template.network,
            search.choice_label,
            tuple(Limited(key, UNITS[key].name, UNITS[key].scale, budget.limit) for key, budget in limited.items()),
        )
        checkpoints = Checkpoints(context.run.checkpoints(name), **search.tracked())
        weights, architecture = parts(context.method, context.images, context.settings.seed)

        def fit(done: int, callbacks: list[tf.keras.callbacks.Callback]) -> None:
            search.fit(weights, architecture, initial_epoch=done, callbacks=callbacks, verbose=False)

        history = fitted(
            context,
            name,
            about,
            checkpoints,
            search.epochs,
            fit,
            record=search.record,
            scalars=search.scalars,
            describe=search.shown,
            label=search.epoch_label,
        )
        found = search.architecture()
        costs = [
            replace(one, found=float(budget.cost.of(found)), expected=float(expected))
            for one, budget, expected in zip(about.costs, limited.values(), search.costs(), strict=True)
        ]
        if unspent := search.unspent():
            say(f"{name}: {unspent}")
        return replace(
            about,
            costs=tuple(costs),
            architecture=found.to_dict(),
            unspent=unspent,
            seconds=sum(row["seconds"] for row in history),
            history=history,
        ).to_dict()

    def on_machine() -> Mapping[str, Any]:
        with measuring(context.settings.budget) as prepare:
            return work(prepare)

    result = SearchResult.from_dict(stage(context, name, on_machine), place=f"stage {name}")
    warn(context, result)
    return result


def warn(context: Context, result: SearchResult) -> None:
    """Says where a search has weighed nothing."""
    if found := doubt(result.history, getattr(context.settings.search, "architecture_learning_rate", None)):
        say(f"Warning: {found.replace('`', '`search.', 1)}")


def searched_task(context: Context, found: Architecture) -> Training:
    """The training of the network that was found, on which all else that is trained is measured.

    It starts from scratch; of a method whose settings have `fine_tune`, from the weights that the search leaves; of one
    whose settings have `normalization_epochs`, likewise, and it trains those of batch normalisation alone, for so many
    epochs.
    """
    own = getattr(context.settings.search, "label", None)
    label = own or (context.template.network if context.settings.search is None else context.method.label)
    task = Training("searched", label, "searched", 0, lambda: found)
    if getattr(context.settings.search, "fine_tune", False):
        settings = replace(context.settings.train, full_precision_epochs=0)
        return replace(task, settings=settings, start=lambda: _searched_weights(context))
    epochs = getattr(context.settings.search, "normalization_epochs", 0)
    if not epochs:
        return task
    settings = replace(context.settings.train, epochs=epochs, warm_up=0.0, full_precision_epochs=0)
    return replace(task, settings=settings, start=lambda: _searched_weights(context), only=training.is_normalization)


def _searched_weights(context: Context) -> Weights:
    """The weights that the search leaves, by layer."""
    with measuring(context.settings.budget) as prepare:
        search = make_search(context, budgets(context.settings.budget, prepare))
    Checkpoints(context.run.checkpoints(SearchResult.stage), **search.tracked()).restore()
    return search.weights()
