"""Fits a latency table to the times of single operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfbnas.costs.latency_features import FEATURES, OPERATORS, Shape
from tfbnas.errors import UserError


def fit(operator: str, shapes: Sequence[Shape], times: Sequence[float], *, floor: float = 0.0) -> dict[str, Any]:
    """Coefficients that are never negative and make the relative error small.

    Args:
      operator: A key of OPERATORS.
      shapes: Measured sizes.
      times: What they took, positive, in any unit.
      floor: Times below it weigh no more than it does: the resolution of the clock. Default: 0.

    Returns:
      {"terms": {feature: coefficient}, "mean_error", "largest_error": relative, "points": number of sizes}.

    Raises:
      UserError: The operator is unknown, or there are no times, or some are not positive.
    """
    if operator not in OPERATORS:
        raise UserError(f"Expected an operator out of {sorted(OPERATORS)}. Received: {operator!r}.")
    measured = np.asarray(times, float)
    if not len(measured) or len(measured) != len(shapes) or not (measured > 0).all():
        raise UserError(f"Expected positive times of {operator!r}, one for each size. Received: {list(times)}.")
    names = list(OPERATORS[operator])
    values = np.array([[float(FEATURES[name](shape)) for name in names] for shape in shapes])
    weights = 1 / np.maximum(measured, floor)
    coefficients = _non_negative(values * weights[:, None], measured * weights)
    errors = np.abs(values @ coefficients - measured) * weights
    terms = {name: float(c) for name, c in zip(names, coefficients, strict=True) if c > 0}
    return {
        "terms": terms,
        "mean_error": float(errors.mean()),
        "largest_error": float(errors.max()),
        "points": len(measured),
    }


def _non_negative(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least squares without negative coefficients: the most negative one is left out until none is."""
    scale = np.abs(matrix).max(axis=0)
    kept = [i for i in range(matrix.shape[1]) if scale[i] > 0]
    while True:
        solution, *_ = np.linalg.lstsq(matrix[:, kept] / scale[kept], target, rcond=None)
        if (solution >= 0).all() or len(kept) == 1:
            break
        kept.pop(int(np.argmin(solution)))
    result = np.zeros(matrix.shape[1])
    result[kept] = np.maximum(solution, 0) / scale[kept]
    return result


def table(
    operators: Mapping[str, Mapping[str, Any]], *, name: str, device: str, label: str, sources: Sequence[str],
    milliseconds_per_unit: float = 1.0, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """A latency table as JSON: the results of `fit` by operator, and where they come from."""
    return {
        "format": 1,
        "name": name,
        "device": device,
        "label": label,
        "sources": list(sources),
        "milliseconds_per_unit": milliseconds_per_unit,
        "operators": {key: dict(value) for key, value in operators.items()},
        **more,
    }
