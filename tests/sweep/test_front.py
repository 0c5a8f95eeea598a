"""The front against its definition, on random points with many ties."""

from __future__ import annotations

import numpy as np
import pytest

from tfbnas.sweep.front import pareto_front


def brute_force(points):
    """Positions of the points that no other one beats; of equal ones the first."""

    def beaten(i):
        cost, accuracy = points[i]
        for j, (other_cost, other_accuracy) in enumerate(points):
            if (other_cost, other_accuracy) == (cost, accuracy):
                if j < i:
                    return True
            elif other_cost <= cost and other_accuracy >= accuracy:
                return True
        return False

    return {i for i in range(len(points)) if not beaten(i)}


@pytest.mark.parametrize("seed", range(40))
def test_equals_the_definition(seed):
    chance = np.random.default_rng(seed)
    count = int(chance.integers(1, 12))
    points = [(float(c), float(a)) for c, a in chance.integers(0, 5, (count, 2))]
    front = pareto_front(points)
    assert set(front) == brute_force(points) and len(front) == len(set(front))
    costs, accuracies = [points[i][0] for i in front], [points[i][1] for i in front]
    assert costs == sorted(set(costs)) and accuracies == sorted(set(accuracies))


def test_of_nothing_is_nothing():
    assert pareto_front([]) == []
