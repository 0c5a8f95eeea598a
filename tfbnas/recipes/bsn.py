"""Budgeted super networks as a recipe: search, retraining, baselines, export, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import tensorflow as tf

from tfbnas import data, precision
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Cost, Distributed, Latency, Memory, MultiplyAdds
from tfbnas.errors import UserError
from tfbnas.recipes import stages
from tfbnas.recipes.bsn_settings import UNITS, BudgetSettings, Settings
from tfbnas.recipes.settings import Command
from tfbnas.run import RunDirectory
from tfbnas.search.bsn import BSN
from tfbnas.search.sampling import PricedGraph

S = TypeVar("S", bound=Settings)


def run(command: Command[S]) -> None:
    """Runs all stages of a BSN recipe that the run directory does not hold yet.

    Args:
      command: What the command line asks for.
    """
    settings = command.settings
    settings = replace(settings, precision=precision.resolve(settings.precision))  # type: ignore[arg-type]
    images = stages.load_data(settings.data, segmentation=settings.network.segmentation)
    check_feasible(images, settings)
    with stages.open_run(replace(command, settings=settings)) as directory:
        found = search_stage(directory, images, settings)
        architecture = Architecture.from_dict(found["architecture"])
        architecture.save(directory.path / "architecture.json")

        def train(key: str, label: str, what: Architecture) -> None:
            stages.train_stage(
                directory,
                key,
                label,
                lambda: what,
                images,
                settings.train,
                precision=settings.precision,
                seed=settings.seed,
            )

        train("searched", "BSN", architecture)
        stages.export_stage(
            directory, "searched", images, settings.train, settings.export, precision=settings.precision
        )
        stages.report.write(directory.path)
        for key, (label, reference) in references(images, settings).items():
            if getattr(settings.baselines, key):
                train(key, label, reference)
        stages.finish(directory)


def make_cost(name: str, settings: BudgetSettings) -> Cost:
    """A cost of the settings by its name."""
    if name == "steps":
        return Distributed(settings.machines, allocation=settings.allocation)
    if name == "latency":
        return Latency(settings.device)
    if name == "multiply_adds":
        return MultiplyAdds()
    parts = {"memory": "all", "binary_memory": "binary", "float_memory": "float"}
    return Memory(settings.counting, part=parts[name])


def make_budgets(settings: BudgetSettings) -> list[Budget]:
    """The budgets of the settings, the one of `cost` first."""
    return [
        Budget(make_cost(name, settings), limit * UNITS[name][1], settings.penalty_weight)
        for name, limit in settings.limits.items()
    ]


def whole(images: data.ImageData, settings: Settings) -> Architecture:
    """The network that is searched, with nothing left out."""
    network = settings.network
    return Architecture("whole", network.family, {}, images.input_shape, images.classes, network.options())


def references(images: data.ImageData, settings: Settings) -> dict[str, tuple[str, Architecture]]:
    """Label and architecture of the networks to compare with, by the name of their setting."""
    everything = whole(images, settings)
    return {
        key: (label, replace(everything, method=key, options=options))
        for key, (label, options) in settings.network.references().items()
    }


def check_feasible(images: data.ImageData, settings: Settings) -> None:
    """Refuses what can be known to fail before anything is written or trained.

    Raises:
      UserError: A batch is larger than its data, or a budget is below the cheapest path through the network.
    """
    images.train.steps(settings.train.batch_size)
    images.train.steps(settings.search.batch_size)
    limits = settings.budget.limits
    priced = PricedGraph(whole(images, settings), make_budgets(settings.budget))
    for least, (name, limit) in zip(priced.least(), limits.items(), strict=True):
        unit, scale = UNITS[name]
        if least is not None and least > limit * scale:
            setting = "budget.limit" if name == settings.budget.cost else f"budget.also.{name}"
            raise UserError(
                f"Expected `{setting}` to be at least {least / scale:.4g} {unit}, the cost of the cheapest path "
                f"through {settings.network.family}. Received: {limit:g}."
            )


def make_search(images: data.ImageData, settings: Settings) -> BSN:
    """The search model of the settings, compiled."""
    own = settings.search
    with precision.precision(settings.precision):
        search = BSN(
            settings.network.family,
            budget=make_budgets(settings.budget),
            input_shape=images.input_shape,
            classes=images.classes,
            options=settings.network.options(),
            groups=own.groups,
            baseline=own.baseline,
            initial_logit=own.initial_logit,
            seed=settings.seed,
        )
    optimizers = {"sgd": tf.keras.optimizers.SGD, "adam": tf.keras.optimizers.Adam}
    search.compile(
        tf.keras.optimizers.SGD(
            stages.learning_rates(own, images.train.steps(own.batch_size) * own.epochs),
            momentum=own.momentum,
            weight_decay=own.weight_decay or None,
        ),
        optimizers[own.architecture_optimizer](own.architecture_learning_rate),
    )
    return search


def search_stage(directory: RunDirectory, images: data.ImageData, settings: Settings) -> dict[str, Any]:
    """Searches the modules; a killed search goes on with its first unfinished epoch."""

    def work() -> dict[str, Any]:
        own, budget = settings.search, settings.budget
        search = make_search(images, settings)

        def scalars() -> dict[str, float]:
            return {f"probability/{name}": value for name, value in search.probabilities().items()}

        def describe(logs: Mapping[str, float]) -> dict[str, str | None]:
            shown: dict[str, str | None] = {"seconds": None, "penalty": None}
            if "cost" in logs:
                shown["cost"] = f"{logs['cost'] / budget.scale:.3g} of {budget.limit:g} {budget.unit}"
            return shown

        def fit(done: int, callbacks: list[tf.keras.callbacks.Callback]) -> None:
            search.fit(
                images.train,
                epochs=own.epochs,
                warm_up_epochs=own.warm_up_epochs,
                batch_size=own.batch_size,
                initial_epoch=done,
                callbacks=callbacks,
                verbose=False,
            )

        history = stages.search_history(
            directory,
            "search",
            search,
            own.epochs,
            fit,
            records={"choices": search.probabilities},
            describe=describe,
            scalars=scalars,
        )
        found, cost = search.architecture(), search.budget.cost
        expected = search.costs()
        also = list(zip(budget.also, search.budgets[1:], expected[1:], strict=True))
        return {
            "seconds": sum(entry["seconds"] for entry in history),
            "architecture": found.to_dict(),
            "limit": {
                "cost": budget.cost,
                "unit": budget.unit,
                "scale": budget.scale,
                "limit": search.budget.limit,
                "expected": expected[0],
                "found": cost.of(found),
                "references": {label: cost.of(what) for label, what in references(images, settings).values()},
                "also": {
                    name: {
                        "unit": UNITS[name][0],
                        "scale": UNITS[name][1],
                        "limit": other.limit,
                        "expected": mean,
                        "found": other.cost.of(found),
                    }
                    for name, other, mean in also
                },
            },
            "warm_up_epochs": own.warm_up_epochs,
            "history": history,
        }

    return stages.stage(directory, "search", work)
