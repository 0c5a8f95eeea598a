"""Random search: the control that every search needs.

Source: Li & Talwalkar, "Random Search and Reproducibility for Neural Architecture Search", UAI 2019, without its weight
sharing. Candidates are drawn uniformly, within the budgets and above a share of the first one. Each is trained briefly
on one half of the training images. The best one on the other half is the result.

Ours: where all choices are widths, what is drawn are their proportions. They are closed to the budgets, with widths
that kernels like (see `closing_widths`): few networks of random widths are near a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas import networks, training
from tfbnas.architecture import Architecture
from tfbnas.costs import DifferentiableCost
from tfbnas.costs.closed import opened, price
from tfbnas.errors import UserError
from tfbnas.networks.choices import LARGEST_RATIO, Width, as_number
from tfbnas.search import width_times
from tfbnas.search.base import Search
from tfbnas.search.batches import epochs_of, steps_of
from tfbnas.search.closing_widths import channels_of, close
from tfbnas.search.random_settings import Settings

_SIGMA = 0.1
"""Scale of the distribution around what was drawn: small, so that rounding alone decides who gets what is left."""

_CLOSED_DRAWS = 20
"""Draws for each candidate where widths are closed, which takes milliseconds and nearly always succeeds."""


class Random(Search):
    """Draws, trains and compares architectures; arguments as of `Search`. A candidate is one epoch to Keras."""

    method = "random"
    settings_class = Settings
    halves = True
    choice_label = "Choice of the best candidate so far"
    epoch_label = "candidate"

    def __init__(self, network: str, **arguments: Any):
        super().__init__(network, **arguments)
        self.candidates = tuple(self._drawn())
        self._precision = "bfloat16" if "bfloat16" in tf.keras.mixed_precision.global_policy().name else "float32"
        self.accuracies = tf.Variable(tf.fill([self.epochs], -1.0), name="accuracies", trainable=False)
        self.network = training.trainable(self.candidates[0], precision=self._precision, seed=self.seed)

    def _drawn(self) -> Iterator[Architecture]:
        own, chance, found, costs = self.settings, np.random.default_rng(self.seed), set[str](), []
        closing = self._closing()
        prices = [] if closing else [price(budget.cost, self.template) for budget in self.budgets]
        draws = min(own.draws, _CLOSED_DRAWS * own.candidates) if closing else own.draws
        for drawn in filter(None, (networks.draw(self.template, chance) for _ in range(draws))):
            candidate, cost = closing(drawn) if closing else (drawn, [of(drawn.choices) for of in prices])
            costs.append(cost)
            within = all(one <= budget.limit for one, budget in zip(cost, self.budgets, strict=True))
            if within and cost[0] >= own.least_share * self.budget.limit and candidate.id not in found:
                found.add(candidate.id)
                yield candidate
                if len(found) == own.candidates:
                    return
        unit, first = self.budget.cost.unit, [cost[0] for cost in costs] or [0.0]
        raise UserError(
            f"Expected budgets that {own.candidates} different random {self.template.network} meet, with at least "
            f"{own.least_share:g} of {self.budget.limit:g} {unit}. Received: {len(found)} of {len(costs)} drawn, which "
            f"take {min(first):.4g} to {max(first):.4g} {unit}; change the budget, `least_share` or `draws`."
        )

    def _closing(self) -> Callable[[Architecture], tuple[Architecture, list[float]]] | None:
        """From a network that was drawn to one of its proportions within the budgets, and its costs.

        None where not all choices are widths.
        """
        kinds = networks.choices(self.template)
        bases = {name: kind.base for name, kind in kinds.items() if isinstance(kind, Width)}
        costs_are_known = all(isinstance(budget.cost, DifferentiableCost) for budget in self.budgets)
        if not costs_are_known or len(bases) < len(kinds):
            return None
        operations, names = opened(self.template)
        table = width_times.table(self.budgets, self.settings.fast_on)
        prices, times = width_times.prices_and_times(self.budgets, table, operations, names)
        base = np.array([bases[name] for name in names])
        limits = np.array([budget.limit for budget in self.budgets])

        def of(drawn: Architecture) -> tuple[Architecture, list[float]]:
            ratios = np.array([drawn.choices[name] for name in names]) / base
            widest = channels_of(ratios * LARGEST_RATIO / np.max(ratios), base)
            found = close(ratios, _SIGMA, base=base, widest=widest, prices=prices, limits=limits, times=times)
            closed = replace(drawn, choices=dict(zip(names, found.channels.tolist(), strict=True)))
            return closed, prices(found.channels[None])[0].tolist()

        return of

    @property
    def epochs(self) -> int:
        return self.settings.candidates

    @property
    def state(self) -> list[tf.Variable]:
        return [self.accuracies]

    def tracked(self) -> dict[str, Any]:
        return {"variables": self.state}  # a candidate is done when its epoch ends: nothing goes on from its weights

    def architecture(self) -> Architecture:
        """The candidate with the best accuracy so far; the first one where none is trained."""
        return self.candidates[int(np.argmax(self.accuracies.numpy()))]

    def costs(self) -> list[float]:
        """Cost of the best candidate so far."""
        return [float(budget.cost.of(self.architecture())) for budget in self.budgets]

    def choices(self) -> dict[str, dict[str, Any]]:
        kinds, best = networks.choices(self.template), self.architecture().choices
        bases = {name: {"base": kind.base} for name, kind in kinds.items() if isinstance(kind, Width)}
        values = {name: {"value": as_number(kinds[name], closed), "closed": closed} for name, closed in best.items()}
        return {name: value | bases.get(name, {}) for name, value in values.items()}

    def optimizers(self, train: Any) -> dict[str, Any]:
        """That of the weights with a cosine to zero over the epochs of a candidate."""
        own, epoch_steps = self.settings, steps_of(train, self.settings.batch_size)
        rates = tf.keras.optimizers.schedules.CosineDecay(own.learning_rate, own.epochs * epoch_steps)
        optimizer = training.weight_optimizer(own, rates, self.network, epoch_steps=epoch_steps)
        return {"weight_optimizer": optimizer}

    def feed(self, train: Any, validation_data: Any, initial_epoch: int) -> dict[str, Any]:
        own = self.settings
        batches = tf.data.Dataset.range(initial_epoch, self.epochs).flat_map(
            lambda candidate: epochs_of(train, own.batch_size, self.seed, candidate * own.epochs, own.epochs)
        )
        if hasattr(validation_data, "epoch"):
            validation_data = validation_data.epoch(0, min(500, validation_data.size), shuffle=False)
        steps = own.epochs * steps_of(train, own.batch_size)
        keras = {"x": batches.prefetch(4), "steps_per_epoch": steps, "callbacks": [_Candidates()]}
        return {**keras, "validation_data": validation_data}


class _Candidates(tf.keras.callbacks.Callback):
    """Begins each candidate with fresh weights and a fresh optimiser; keeps its accuracy on the other half."""

    def on_epoch_begin(self, epoch, logs=None):
        search = self.model
        with search.distribute_strategy.scope():
            candidate = search.candidates[epoch]
            search.network = training.trainable(candidate, precision=search._precision, seed=search.seed)
            search.compile(training.fresh_optimizer(search.optimizer, search.network), loss=search.loss)
        search.make_train_function(force=True)
        search.make_test_function(force=True)

    def on_epoch_end(self, epoch, logs=None):
        costs = (float(budget.cost.of(self.model.candidates[epoch])) for budget in self.model.budgets)
        logs.update(zip(self.model.cost_names, costs, strict=True))
        self.model.accuracies[epoch].assign(logs["validation_accuracy"])
