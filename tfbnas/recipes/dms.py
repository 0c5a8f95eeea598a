"""Differentiable dimension search as a recipe: search, retraining, baselines, export, report."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import tensorflow as tf

from tfbnas import data, precision, training
from tfbnas.architecture import Architecture
from tfbnas.costs import MIB, Budget, Latency, Memory, largest_within
from tfbnas.errors import UserError
from tfbnas.recipes import devices, stages
from tfbnas.recipes.dms_settings import BudgetSettings, Settings
from tfbnas.recipes.settings import Command
from tfbnas.run import RunDirectory
from tfbnas.search.dms import DMS


def run(command: Command[Settings], network: str) -> None:
    """Runs all stages of a DMS recipe that the run directory does not hold yet.

    Args:
      command: What the command line asks for.
      network: Name of the network family.
    """
    with devices.together(command.settings):
        _run(command, network)


def _run(command: Command[Settings], network: str) -> None:
    settings = command.settings
    settings = replace(settings, precision=precision.resolve(settings.precision))  # type: ignore[arg-type]
    images = stages.load_data(settings.data)
    check_feasible(network, images, settings)
    with stages.open_run(replace(command, settings=settings)) as directory:
        found = search_stage(directory, "search", network, images, settings)
        if settings.search.compare_best_effort:
            other = replace(settings, search=replace(settings.search, best_effort=False))
            search_stage(directory, "search-no-bei", network, images, other)
        architecture = Architecture.from_dict(found["architecture"])
        if devices.is_chief():
            architecture.save(directory.path / "architecture.json")

        def train(key: str, label: str, what: Callable[[], Architecture]) -> None:
            stages.train_stage(
                directory, key, label, what, images, settings.train, precision=settings.precision, seed=settings.seed
            )

        train("searched", "DMS", lambda: architecture)
        stages.export_stage(
            directory,
            "searched",
            images,
            settings.train,
            settings.export,
            precision=settings.precision,
            tables=[settings.budget.device] if settings.budget.cost == "latency" else [],
        )
        stages.write_report(directory)
        if settings.baselines.equal_memory:
            train("equal-memory", "uniform, equal memory", lambda: equal_memory(architecture, found, settings))
        for ratio in settings.baselines.ratios:
            what = functools.partial(uniform, architecture, found, ratio)
            train(f"uniform-{ratio:.2f}", f"BNN {ratio:g}x", what)
        stages.finish(directory)


def make_budget(settings: BudgetSettings) -> Budget:
    """The budget of the settings; its weight is made relative to the limit."""
    if settings.cost == "latency":
        return Budget(Latency(settings.device), settings.limit, settings.penalty_weight)
    per_budget = settings.penalty_weight * (settings.memory * 1024 if settings.penalty_unit == "KiB" else 1.0)
    return Budget(Memory(settings.counting), settings.memory * MIB, per_budget)


def check_feasible(network: str, images: data.ImageData, settings: Settings) -> None:
    """Refuses what can be known to fail before anything is written or trained.

    Raises:
      UserError: A batch is larger than its data, the network does not take such images, or the budget is below the
        smallest network that the search can reach.
    """
    images.train.steps(settings.train.batch_size)
    for half in images.train.halves(seed=settings.seed):
        half.steps(settings.search.batch_size)
    budget = make_budget(settings.budget)
    # Without a limit here, so that the refusal below can speak of the setting and in its unit.
    search = make_search(network, images, settings, replace(budget, limit=math.inf))
    smallest, asked = search.smallest_cost(), settings.budget
    if smallest > budget.limit:
        least = f"{smallest / budget.limit * asked.limit:.4g} {asked.unit}"
        raise UserError(
            f"Expected `budget.{asked.cost}` to be at least {least}, the cost of the smallest {network} the search "
            f"can reach: every width at {search.least_ratio:.2f} times its base. "
            f"Received: budget.{asked.cost}={asked.limit}."
        )


def make_search(network: str, images: data.ImageData, settings: Settings, budget: Budget) -> DMS:
    """The search model of the settings under a budget, compiled."""
    own = settings.search
    tf.keras.utils.set_random_seed(settings.seed)
    with devices.scope(), precision.precision(settings.precision):
        search = DMS(
            network,
            budget=budget,
            input_shape=images.input_shape,
            classes=images.classes,
            initial_ratio=own.initial_ratio,
            initial_sigma=own.initial_sigma,
            final_sigma=own.final_sigma,
            minimal_ratio=own.minimal_ratio,
            minimal_edge=own.minimal_edge,
            temperature=own.temperature,
            best_effort=own.best_effort,
            width_multiple=own.width_multiple,
            seed=settings.seed,
        )
    steps = own.weight_epochs * images.train.halves(seed=settings.seed)[0].steps(own.batch_size)
    with devices.scope():
        search.compile(
            tf.keras.optimizers.SGD(
                tf.keras.optimizers.schedules.CosineDecayRestarts(
                    own.learning_rate, steps, t_mul=1.0, m_mul=1.0, alpha=own.final_learning_rate / own.learning_rate
                ),
                momentum=own.momentum,
                weight_decay=own.weight_decay or None,
            ),
            tf.keras.optimizers.Adam(own.architecture_learning_rate),
        )
    return search


def search_stage(
    directory: RunDirectory, name: str, network: str, images: data.ImageData, settings: Settings
) -> dict[str, Any]:
    """Searches the widths; a killed search goes on with its first unfinished round."""

    def work() -> dict[str, Any]:
        own = settings.search
        search = make_search(network, images, settings, make_budget(settings.budget))

        def scalars() -> dict[str, float]:
            rows = search.choices().items()
            return {f"{key}/{choice}": value for choice, row in rows for key, value in row.items()}

        def describe(logs: Mapping[str, float]) -> dict[str, str | None]:
            shown: dict[str, str | None] = {"cost": None, "seconds": None, "sigma": None}
            if "cost" in logs:
                budget = settings.budget
                now = logs["cost"] / search.budget.limit * budget.limit
                shown[budget.cost] = f"{now:.3f} of {budget.limit:.3f} {budget.unit}"
            if not logs.get("validation_loss"):  # before the round's first update of the ratios
                shown |= {"validation_loss": None, "validation_accuracy": None}
            return shown

        def fit(done: int, callbacks: list[tf.keras.callbacks.Callback]) -> None:
            weights, architecture = images.train.halves(seed=settings.seed)
            search.fit(
                weights,
                architecture,
                rounds=own.rounds,
                weight_epochs=own.weight_epochs,
                batch_size=own.batch_size,
                architecture_steps=own.architecture_steps,
                initial_round=done,
                callbacks=callbacks,
                verbose=False,
            )

        entries = stages.search_history(
            directory,
            name,
            search,
            own.rounds,
            fit,
            records={"choices": search.choices, "epochs": lambda: search.epochs_of_round},
            describe=describe,
            scalars=scalars,
        )
        history = [{**entry, "round": entry["epoch"] - 1, settings.budget.cost: entry["cost"]} for entry in entries]
        return {
            "seconds": sum(entry["seconds"] for entry in history),
            "architecture": search.architecture().to_dict(),
            "budget": search.budget.limit,
            "cost": search.budget.cost.of(search.architecture()),
            "cost_name": settings.budget.cost,
            "unit": search.budget.cost.unit,
            "history": history,
        }

    return stages.stage(directory, name, work)


def uniform(architecture: Architecture, found: Mapping[str, Any], ratio: float) -> Architecture:
    """The network with every width at `ratio` times its base."""
    bases = {name: row["base"] for name, row in found["history"][-1]["choices"].items()}
    return training.uniform(architecture, bases, ratio)


def equal_memory(architecture: Architecture, found: Mapping[str, Any], settings: Settings) -> Architecture:
    """The largest uniform network that takes no more memory than the searched one."""
    cost = Memory(settings.budget.counting)
    limit = cost.of(architecture)
    upper = 1.0
    while cost.of(uniform(architecture, found, upper)) <= limit:
        upper *= 2
    ratio = largest_within(limit, lambda r: cost.of(uniform(architecture, found, r)), upper=upper, steps=12)
    return uniform(architecture, found, ratio)
