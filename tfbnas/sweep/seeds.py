"""What the seeds of each point came to together: means, deviations, and differences paired by seed."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfbnas.paired import Difference, over_seeds
from tfbnas.report.trained import paired
from tfbnas.results import TrainingResult
from tfbnas.sweep.grid import Point


@dataclass(frozen=True)
class Outcome:
    """What one trained network came to; None where nothing tells it.

    Attributes:
      cost: In the unit of the budget.
      accuracy: On the test images, 0 to 1.
      validation_accuracy: On the held-out training images, 0 to 1.
      memory: Bytes as the paper counts, and `deployed` with batch normalisation.
      file: Bytes that its .tflite file takes, or is predicted to take.
      milliseconds: Predicted time of one inference on the recipe's device.
      seconds: Search and training of this network.
    """

    cost: float | None = None
    accuracy: float | None = None
    validation_accuracy: float | None = None
    memory: float | None = None
    deployed: float | None = None
    file: float | None = None
    milliseconds: float | None = None
    seconds: float | None = None


MEASURES = tuple(field.name for field in dataclasses.fields(Outcome))


@dataclass(frozen=True)
class Network:
    """A network that a trial trained: its result, what it came to, and the run directory."""

    training: TrainingResult
    outcome: Outcome
    run_dir: str


Networks = Mapping[str, Mapping[int | None, Sequence[Network]]]
"""For each point's name and seed the networks that were trained."""


def points(grid: Sequence[Point], networks: Networks) -> list[dict[str, Any]]:
    """For each point what it is, and every network trained in it over the seeds, as JSON values.

    A network has `seeds`, the `run_dirs` of each, each of `MEASURES` as a `spread`, and a `difference`. For one that is
    compared with it is found - baseline in test accuracy; for the one that was found it is that to the network found at
    the first point of the same budget, whose name is `to`.
    """
    found, first = [], dict[Any, tuple[str, Mapping[Any, Network]]]()
    for point in grid:
        own = _by_key(networks.get(point.name, {}))
        searched = next((runs for runs in own.values() if _any(runs).training.role == "searched"), {})
        to, reference = first.setdefault((point.budget, point.penalty_weight), (point.name, searched))
        rows = []
        for runs in own.values():
            against = difference(searched, reference if runs is searched else runs) if runs is not reference else None
            rows.append(_row(runs, against and {**against, "to": to if runs is searched else None}))
        found.append({**dataclasses.asdict(point), "networks": rows})
    return found


def _by_key(trials: Mapping[int | None, Sequence[Network]]) -> dict[str, dict[int | None, Network]]:
    """The networks of each key by their seeds, in the order of tables."""
    found: dict[str, dict[int | None, Network]] = {}
    for seed, networks in trials.items():
        for network in networks:
            found.setdefault(network.training.key, {})[seed] = network
    return dict(sorted(found.items(), key=lambda item: (_any(item[1]).training.order, item[0])))


def _any(runs: Mapping[int | None, Network]) -> Network:
    return next(iter(runs.values()))


def _row(runs: Mapping[int | None, Network], difference: dict[str, Any] | None) -> dict[str, Any]:
    training = _any(runs).training
    return {
        **{name: getattr(training, name) for name in ("key", "label", "role", "form")},
        "seeds": list(runs),
        "run_dirs": [network.run_dir for network in runs.values()],
        **{name: spread(getattr(network.outcome, name) for network in runs.values()) for name in MEASURES},
        "difference": difference,
    }


def spread(values: Iterable[float | None]) -> dict[str, Any] | None:
    """Mean and sample standard deviation of values, and the values; None where one of them is not known.

    Of a single value the deviation is None.
    """
    known = list(values)
    if not known or any(value is None for value in known):
        return None
    numbers = [float(value) for value in known if value is not None]
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
    return {"mean": statistics.fmean(numbers), "deviation": deviation, "values": numbers}


def difference(one: Mapping[int | None, Network], other: Mapping[int | None, Network]) -> dict[str, Any] | None:
    """The difference in test accuracy, one - other, of the seeds that both have; None where it has no interval.

    Of one seed the interval is that of the test images.
    """
    both = [(one[seed], other[seed]) for seed in one if seed in other]
    pairs = [(a.outcome.accuracy, b.outcome.accuracy) for a, b in both]
    if not pairs or any(value is None for pair in pairs for value in pair):
        return None
    found: Difference | None
    if len(pairs) == 1:
        found = paired(both[0][0].training, both[0][1].training)
    else:
        found = over_seeds(*zip(*pairs, strict=True))  # type: ignore[arg-type]
    return {**dataclasses.asdict(found), "verdict": found.verdict, "seeds": len(pairs)} if found else None
