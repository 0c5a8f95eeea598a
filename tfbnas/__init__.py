"""Search binary neural networks under a hardware budget and deliver them as verified TFLite models.

The names below are loaded when they are first used: `import tfbnas` alone imports neither TensorFlow nor Larq, but must
come before them (see `tfbnas._keras_guard`).
"""

import importlib
from typing import TYPE_CHECKING, Any

from tfbnas import _keras_guard  # noqa: F401  (must run before anything imports TensorFlow)
from tfbnas.search.registry import METHODS

if TYPE_CHECKING:
    from tfbnas.architecture import Architecture
    from tfbnas.costs import Budget, Memory
    from tfbnas.errors import UserError
    from tfbnas.networks import build, register

__version__ = "0.2.0"

_HOMES = {
    "Architecture": "tfbnas.architecture",
    "Budget": "tfbnas.costs",
    "Memory": "tfbnas.costs",
    "UserError": "tfbnas.errors",
    "build": "tfbnas.networks",
    "register": "tfbnas.networks",
} | {method.label: f"tfbnas.search.{method.name}" for method in METHODS.values()}

__all__ = ["Architecture", "Budget", "Memory", "UserError", "build", "register"]
__all__ += [method.label for method in METHODS.values()]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tfbnas' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
