"""Checks of what a search is given, where it enters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import tensorflow as tf

from tfbnas.architecture import Architecture
from tfbnas.costs import Budget
from tfbnas.errors import UserError, nearest
from tfbnas.hints import has_type, require_types

_CONSTRUCTOR = ("budget", "input_shape", "classes", "images", "options", "seed", "settings")
_FIT = ("train", "validation_data", "initial_epoch", "callbacks", "verbose")


def configured(search: Any, settings: Any, hyperparameters: Mapping[str, Any]) -> Any:
    """The settings of a search, with the hyperparameters that differ.

    Args:
      search: Its class.
      settings: An instance of its `settings_class`, or None for the defaults.
      hyperparameters: By their names.

    Raises:
      UserError: There is no such hyperparameter, or a value is of another type or out of range.
    """
    settings = search.settings_class() if settings is None else settings
    if not isinstance(settings, search.settings_class):
        raise UserError(f"Expected `settings` of {search.__name__} to be its Settings. Received: {settings!r}.")
    known = [field.name for field in fields(settings)]
    for name in hyperparameters:
        if name not in known:
            raise UserError(
                f"Expected hyperparameters of {search.__name__}: {', '.join(known)}. "
                f"Received: {name!r}.{nearest(name, [*known, *_CONSTRUCTOR])}"
            )
    settings = replace(settings, **hyperparameters)
    require_types("", settings)
    settings.check("")
    return settings


def budgets(budget: Any) -> tuple[Budget, ...]:
    """One Budget or several, as a tuple. Raises UserError for anything else."""
    found = budget if isinstance(budget, (list, tuple)) else (budget,)
    if not found or not all(isinstance(one, Budget) for one in found):
        raise UserError(
            "Expected `budget` to be a Budget or a list of them, for instance "
            f'tfbnas.Budget(tfbnas.Memory(), limit="0.1 MiB"). Received: budget={budget!r}.'
        )
    return tuple(found)


def require_whole(name: str, value: Any, most: int | None = None) -> None:
    """Raises UserError for anything but an integer from 0 to `most`."""
    if not has_type(value, int) or value < 0 or (most is not None and value > most):
        limits = "of at least 0" if most is None else f"in 0..{most}"
        raise UserError(f"Expected `{name}` to be an integer {limits}. Received: {name}={value!r}.")


def require_classes(network: tf.keras.Model, template: Architecture) -> None:
    """Raises UserError where a builder gives another number of outputs than there are classes."""
    ends = [output.shape[-1] for output in network.outputs]
    if ends != [template.classes]:
        raise UserError(
            f"Expected the builder of {template.network!r} to give one output of {template.classes} numbers, its "
            f"argument `classes`. Received: {' and '.join(map(str, ends))}."
        )


def optimizers(weights: Any, architecture: Any, *, needed: bool) -> tuple[Any, Any]:
    """Keras optimisers of the weights and of the architecture, from optimisers or their names.

    Args:
      weights: Of the weights.
      architecture: Of the architecture, or None.
      needed: Whether the search has variables for the second one.

    Raises:
      UserError: One is missing, or is no optimiser.
    """
    if architecture is None and needed:
        raise UserError(
            "Expected `architecture_optimizer` to be a Keras optimiser or its name. Received: None; write "
            "search.compile(**search.optimizers(train)) for those of the settings."
        )
    found = []
    for name, value in (("weight_optimizer", weights), ("architecture_optimizer", architecture)):
        try:
            found.append(None if name != "weight_optimizer" and value is None else tf.keras.optimizers.get(value))
        except ValueError as error:
            raise UserError(f"Expected `{name}` to be a Keras optimiser or its name. Received: {value!r}.") from error
    return found[0], found[1]


def refuse_in_fit(search: Any, hyperparameters: Mapping[str, Any]) -> None:
    """Raises UserError where `fit` is given what it does not take."""
    label = type(search).__name__
    for name, value in hyperparameters.items():
        if name in {field.name for field in fields(search.settings)}:
            raise UserError(
                f"Expected the hyperparameters of {label} in its constructor. "
                f"Received: fit({name}={value!r}); write {label}(..., {name}={value!r})."
            )
        raise UserError(
            f"Expected arguments of `fit` out of {', '.join(_FIT)}. Received: {name!r}.{nearest(name, _FIT)}"
        )
