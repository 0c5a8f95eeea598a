"""In which number format a network is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from tfbnas.errors import UserError, nearest

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_FAST_FLAGS = {"avx512_bf16", "amx_bf16"}


def resolve(name: str) -> str:
    """ "float32" or "bfloat16" from one of these or "auto": bfloat16 where this CPU computes with it.

    Raises:
      UserError: Another name.
    """
    if name == "auto":
        try:
            flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
        except OSError:
            return "float32"
        return "bfloat16" if flags & _FAST_FLAGS and not tf.config.list_physical_devices("GPU") else "float32"
    if name not in PRECISIONS:
        known = ["auto", *PRECISIONS]
        raise UserError(f"Expected `precision` to be one of {known}. Received: {name!r}.{nearest(name, known)}")
    return name


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Layers that are built inside compute in this format; weights, statistics, logits and loss stay float32.

    +-1 and {0, 1} are exact in bfloat16, so only the real-valued stream between binary convolutions is rounded.

    Args:
      name: "float32", "bfloat16" or "auto".

    Raises:
      UserError: Another name.
    """
    policy = PRECISIONS[resolve(name)]
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
