"""Budgeted super networks as a recipe: search, retraining, baselines, export, report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import tensorflow as tf

from tfbnas import data, precision
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Cost, Distributed, Latency, MeasuredLatency, Memory, MultiplyAdds
from tfbnas.costs.measured import Prepare
from tfbnas.device import DeviceError, Session, measured, open_target
from tfbnas.errors import UserError
from tfbnas.recipes import devices, stages
from tfbnas.recipes.bsn_settings import UNITS, BudgetSettings, Settings
from tfbnas.recipes.settings import Command
from tfbnas.run import STAGES, RunDirectory
from tfbnas.search.bsn import BSN
from tfbnas.search.sampling import PricedGraph

S = TypeVar("S", bound=Settings)


def run(command: Command[S]) -> None:
    """Runs all stages of a BSN recipe that the run directory does not hold yet.

    Args:
      command: What the command line asks for.
    """
    with devices.together(command.settings):
        _run(command)


def _run(command: Command[S]) -> None:
    settings = command.settings
    settings = replace(settings, precision=precision.resolve(settings.precision))  # type: ignore[arg-type]
    images = stages.load_data(settings.data, segmentation=settings.network.segmentation)
    check_feasible(images, settings)
    if not (command.run_dir / STAGES / "search.json").exists():
        with measuring(settings.budget):
            pass  # a machine that cannot measure is told before anything is written
    with stages.open_run(replace(command, settings=settings)) as directory:
        found = search_stage(directory, images, settings)
        architecture = Architecture.from_dict(found["architecture"])
        if devices.is_chief():
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
        stages.write_report(directory)
        for key, (label, reference) in references(images, settings).items():
            if getattr(settings.baselines, key):
                train(key, label, reference)
        stages.finish(directory)


@contextlib.contextmanager
def measuring(settings: BudgetSettings) -> Iterator[Prepare | None]:
    """The way to measure networks on the machine of the settings; None where no budget asks for that.

    Raises:
      UserError: The machine cannot be reached, or there is no benchmark program for it.
    """
    if "measured_latency" not in settings.limits:
        yield None
    elif settings.target == "host" and settings.binary is None:
        yield measured.on_host()
    else:
        with contextlib.ExitStack() as stack:
            try:
                session = stack.enter_context(Session(open_target(settings.target or ""), settings.binary))
            except DeviceError as error:
                # The device's own command line, for which these messages are written, has no groups of settings.
                raise UserError(str(error).replace("--binary", "--budget.binary")) from error
            yield measured.on_target(session)


def make_cost(name: str, settings: BudgetSettings, prepare: Prepare | None = None) -> Cost:
    """A cost of the settings by its name; the one that is measured needs `prepare`."""
    if name == "measured_latency":
        assert prepare is not None
        return MeasuredLatency(prepare)
    if name == "steps":
        return Distributed(settings.machines, allocation=settings.allocation)
    if name == "latency":
        return Latency(settings.device)
    if name == "multiply_adds":
        return MultiplyAdds()
    parts = {"memory": "all", "binary_memory": "binary", "float_memory": "float"}
    return Memory(settings.counting, part=parts[name])


def make_budgets(limits: Mapping[str, float], settings: BudgetSettings, prepare: Prepare | None = None) -> list[Budget]:
    """Budgets of these limits by cost; one that is measured needs `prepare`."""
    return [
        Budget(make_cost(name, settings, prepare), limit * UNITS[name][1], settings.penalty_weight)
        for name, limit in limits.items()
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
    limits = {name: limit for name, limit in settings.budget.limits.items() if name != "measured_latency"}
    priced = PricedGraph(whole(images, settings), make_budgets(limits, settings.budget))
    for least, (name, limit) in zip(priced.least(), limits.items(), strict=True):
        unit, scale = UNITS[name]
        if least is not None and least > limit * scale:
            setting = "budget.limit" if name == settings.budget.cost else f"budget.also.{name}"
            raise UserError(
                f"Expected `{setting}` to be at least {least / scale:.4g} {unit}, the cost of the cheapest path "
                f"through {settings.network.family}. Received: {limit:g}."
            )


def make_search(images: data.ImageData, settings: Settings, prepare: Prepare | None = None) -> BSN:
    """The search model of the settings, compiled; `prepare` as `measuring` gives it."""
    own = settings.search
    with devices.scope(), precision.precision(settings.precision):
        search = BSN(
            settings.network.family,
            budget=make_budgets(settings.budget.limits, settings.budget, prepare),
            input_shape=images.input_shape,
            classes=images.classes,
            options=settings.network.options(),
            groups=own.groups,
            baseline=own.baseline,
            initial_logit=own.initial_logit,
            seed=settings.seed,
        )
    optimizers = {"sgd": tf.keras.optimizers.SGD, "adam": tf.keras.optimizers.Adam}
    with devices.scope():
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

    def work(prepare: Prepare | None) -> dict[str, Any]:
        own, budget = settings.search, settings.budget
        search = make_search(images, settings, prepare)

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

    def on_machine() -> dict[str, Any]:
        with measuring(settings.budget) as prepare:
            return work(prepare)

    return stages.stage(directory, "search", on_machine)
