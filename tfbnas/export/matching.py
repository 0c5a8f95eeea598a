"""Finds the kernels of Keras layers in the operators of a converted model, by their content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tfbnas.export.declared import Declared
from tfbnas.export.flatbuffer import Operator, unpack_kernel


def match(found: Sequence[Operator], kernels: Iterable[Declared]) -> dict[int, Declared]:
    """The kernel that each operator holds, up to the sign and scale per filter that conversion folds into it.

    Args:
      found: Operators of the flatbuffer.
      kernels: Kernels of the Keras model, in its order.

    Returns:
      By the operator's place in `found`; operators without a kernel of the model, and kernels that are in no operator,
      are missing.
    """
    matched: dict[int, Declared] = {}
    for declared in kernels:
        index = next((i for i, op in enumerate(found) if i not in matched and _holds(op, declared)), None)
        if index is not None:
            matched[index] = declared
    return matched


def _holds(operator: Operator, declared: Declared) -> bool:
    data = None if operator.weights is None else operator.weights.data
    kernel = declared.matrix
    if data is None:
        return False
    if operator.is_bit_packed and kernel.ndim == 4:
        if data.shape != (*kernel.shape[:3], -(-kernel.shape[3] // 32)):
            return False
        data = unpack_kernel(data, kernel.shape[3])
    return data.shape == kernel.shape and _same_up_to_scale(kernel, data, declared)


def _same_up_to_scale(kernel: np.ndarray, data: np.ndarray, declared: Declared) -> bool:
    if data.dtype == np.int8:
        return True  # quantised: shape and order have to do
    depthwise = "Depthwise" in type(declared.layer).__name__
    a, b = (np.moveaxis(x, -1, 0) if depthwise else x for x in (kernel, data))
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return bool(np.all(np.abs(np.abs((a * b).sum(axis=1)) - norms) <= 1e-4 * norms + 1e-30))
