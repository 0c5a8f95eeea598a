"""Means, deviations and paired differences over seeds, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tfbnas.paired import packed
from tfbnas.results import TrainingResult
from tfbnas.sweep import rows
from tfbnas.sweep.grid import Point
from tfbnas.sweep.seeds import Network, Outcome, points, spread

FIRST = Point("bonus-0", "bonus 0", 20.0, 2.0, {"bonus": 0})
SECOND = Point("bonus-1", "bonus 1", 20.0, 2.0, {"bonus": 1})
OTHER_BUDGET = Point("budget-10", "10 steps", 10.0, 2.0, {"bonus": 0})
POINTS = [FIRST, SECOND, OTHER_BUDGET]
ACCURACIES = {"bonus-0": (0.60, 0.64, 0.65), "bonus-1": (0.63, 0.66, 0.70), "budget-10": (0.5, 0.5, 0.5)}
PLAIN = (0.61, 0.60, 0.64)


def network(key, accuracy, seed, *, correct="", cost=18.0):
    training = TrainingResult(
        key, key.upper(), "searched" if key == "found" else "reference", int(key != "found"), {}, test_images=8
    )
    object.__setattr__(training, "correct", correct)
    return Network(training, Outcome(cost=cost + seed, accuracy=accuracy), f"trials/{key}-{seed}")


def all_seeds(point):
    rows = enumerate(zip(ACCURACIES[point.name], PLAIN, strict=True))
    return {seed: [network("plain", plain, seed), network("found", own, seed)] for seed, (own, plain) in rows}


def test_means_and_paired_differences():
    found = points(POINTS, {point.name: all_seeds(point) for point in POINTS})
    for one, accuracies in zip(found, ACCURACIES.values(), strict=True):
        own, plain = one["networks"]  # what was found comes first
        assert (own["key"], plain["key"], own["seeds"]) == ("found", "plain", [0, 1, 2])
        assert own["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
        assert own["accuracy"]["deviation"] == pytest.approx(np.std(accuracies, ddof=1))
        assert own["cost"] == {"mean": 19.0, "deviation": 1.0, "values": [18.0, 19.0, 20.0]}
        assert own["memory"] is None
        assert plain["difference"]["value"] == pytest.approx(np.mean(np.subtract(accuracies, PLAIN)))
    own = [one["networks"][0]["difference"] for one in found]
    assert own[0] is None and own[2] is None  # the first of each budget
    differences = np.subtract(ACCURACIES["bonus-1"], ACCURACIES["bonus-0"])
    reach = 4.303 * np.std(differences, ddof=1) / np.sqrt(3)
    assert own[1]["value"] == pytest.approx(np.mean(differences)) and own[1]["seeds"] == 3
    assert own[1]["high"] == pytest.approx(np.mean(differences) + reach)
    assert (own[1]["verdict"], found[2]["networks"][1]["difference"]["verdict"]) == ("not distinguishable", "worse")


def test_only_seeds_that_both_have_are_paired_and_one_alone_has_the_images_interval():
    missing = all_seeds(SECOND)
    del missing[1]
    one, other = points([FIRST, SECOND], {FIRST.name: all_seeds(FIRST), SECOND.name: missing})
    assert other["networks"][0]["seeds"] == [0, 2] and other["networks"][0]["difference"]["seeds"] == 2
    assert other["networks"][0]["difference"]["value"] == pytest.approx(((0.63 - 0.60) + (0.70 - 0.65)) / 2)
    right, wrong = packed([True] * 8), packed([False] * 8)
    single = {0: [network("found", 1.0, 0, correct=right), network("plain", 0.0, 0, correct=wrong)]}
    (point,) = points([FIRST], {FIRST.name: single})
    found = point["networks"][1]["difference"]
    assert (found["value"], found["verdict"], found["seeds"]) == (1.0, "better", 1)
    assert point["networks"][0]["accuracy"] == {"mean": 1.0, "deviation": None, "values": [1.0]}
    unknown = {0: [network("found", 1.0, 0), network("plain", 0.0, 0)]}
    assert points([FIRST], {FIRST.name: unknown})[0]["networks"][1]["difference"] is None
    assert points([FIRST, SECOND], {})[1]["networks"] == []


def test_a_spread_of_something_unknown_is_unknown():
    assert spread([]) is None and spread([1.0, None]) is None


def test_rows_have_a_column_for_what_is_known():
    content = {
        "unit": "steps",
        "cost": "steps",
        "front_by": "accuracy",
        "front": [SECOND.name],
        "seeds": [0, 1, 2],
        "points": points([FIRST, SECOND], {point.name: all_seeds(point) for point in (FIRST, SECOND)}),
    }
    found = rows.networks(content)
    heads = ["Point", "Network", "Seeds", "Steps", "Accuracy", "Front"]
    assert [column.head for column in found.columns] == heads
    mean, deviation = 100 * np.mean(ACCURACIES["bonus-1"]), 100 * np.std(ACCURACIES["bonus-1"], ddof=1)
    assert found.rows[2].cells == ("bonus 1", "FOUND", "3", "19 ± 1", f"{mean:.2f} ± {deviation:.2f}", "on it")
    assert [row.marked for row in found.rows] == [False, False, True, False]
    compared = {row.cells[:2]: row.cells[2:] for row in rows.differences(content).rows}
    assert compared["bonus 1", "bonus 0"] == ("+3.3", "\N{MINUS SIGN}0.5 to +7.1", "not distinguishable", "3")
    assert list(compared) == [("bonus 0", "PLAIN"), ("bonus 1", "bonus 0"), ("bonus 1", "PLAIN")]
    assert "standard deviation" in rows.notes(content)[0] and "the same seed" in rows.notes(content)[1]
