"""Search binary neural networks under a hardware budget and deliver them as verified TFLite models.

The names below are loaded when they are first used: `import tfbnas` alone imports neither TensorFlow nor Larq, but must
come before them (see `tfbnas._keras_guard`).
"""

import importlib
from typing import TYPE_CHECKING, Any

from tfbnas import _keras_guard  # noqa: F401  (must run before anything imports TensorFlow)

if TYPE_CHECKING:
    from tfbnas.architecture import Architecture
    from tfbnas.costs import Budget, Memory
    from tfbnas.errors import UserError
    from tfbnas.networks import build, register
    from tfbnas.search.bsn import BSN
    from tfbnas.search.dms import DMS

__version__ = "0.2.0"

__all__ = ["BSN", "DMS", "Architecture", "Budget", "Memory", "UserError", "build", "register"]

_HOMES = {
    "BSN": ("tfbnas.search.bsn", "BSN"),
    "DMS": ("tfbnas.search.dms", "DMS"),
    "Architecture": ("tfbnas.architecture", "Architecture"),
    "Budget": ("tfbnas.costs", "Budget"),
    "Memory": ("tfbnas.costs", "Memory"),
    "UserError": ("tfbnas.errors", "UserError"),
    "build": ("tfbnas.networks", "build"),
    "register": ("tfbnas.networks", "register"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tfbnas' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
