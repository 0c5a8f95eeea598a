"""A latency budget of DMS is about the widths that are delivered."""

import numpy as np
import pytest

from tfbnas.costs import Budget, Latency, Memory
from tfbnas.costs.closed import prices_of_widths
from tfbnas.errors import UserError
from tfbnas.search import logistic
from tfbnas.search.dms import DMS

SIZES = {"input_shape": (8, 8, 3), "classes": 4}


def test_expected_latency_is_that_of_liked_widths():
    cost = Latency("raspberry_pi_4b")
    search = DMS("test-small", budget=Budget(cost, 1e3), **SIZES)
    names = [width.name for width in search.widths]
    times = prices_of_widths([cost], search.operations, names)
    start = np.maximum(1, np.round(1.5 * search.base)).astype(int)

    def delivered(width, count):
        """The fastest of three, the narrowest of equally fast ones, by hand."""
        rows = np.tile(start, (3, 1))
        rows[:, width] = count, -(-count // 8) * 8, -(-count // 32) * 32
        best = min(range(3), key=lambda i: (round(float(times(rows)[i, 0]), 9), rows[i, width]))
        return rows[best, width]

    ratios = logistic.candidates(search.mu, search.sigma, search.settings.minimal_ratio).numpy()
    channels = np.maximum(1, np.round(ratios * search.base[:, None])).astype(int)
    wider = np.array([[delivered(i, count) for count in row] for i, row in enumerate(channels)])
    assert (wider > channels).any() and (wider >= channels).all()
    chances = np.exp(logistic.log_probabilities(ratios, search.mu, search.sigma).numpy())
    every = np.stack(np.meshgrid(*[range(3)] * len(names), indexing="ij"), axis=-1).reshape(-1, len(names))
    rows = np.take_along_axis(wider, every.T, axis=1).T
    weights = np.prod(np.take_along_axis(chances, every.T, axis=1), axis=0)
    assert search.costs()[0] == pytest.approx(weights @ times(rows)[:, 0], rel=1e-4)
    assert weights.sum() == pytest.approx(1.0, rel=1e-5)


def test_other_budgets_are_about_the_widths_as_they_are():
    for options in ({}, {"fast_on": None}):
        assert DMS("test-small", budget=Budget(Memory(), 1e6), **SIZES, **options)._delivered is None
    cost = Budget(Latency("raspberry_pi_4b"), 1e3)
    assert DMS("test-small", budget=cost, fast_on=None, **SIZES)._delivered is None
    with pytest.raises(UserError, match="`fast_on`.*Did you mean 'pixel1'"):
        DMS("test-small", budget=Budget(Memory(), 1e6), fast_on="pixel", **SIZES)
