"""Deploy form, conversion by Larq Compute Engine, audit of the operators, comparison of the outputs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfbnas.export.auditing import Row, audit, check, table
    from tfbnas.export.comparison import Parity, parity
    from tfbnas.export.convert import ExportError, convert_model
    from tfbnas.export.deploy_form import deploy
    from tfbnas.export.file_size import Sizes, sizes
    from tfbnas.export.pipeline import ExportResult, export

__all__ = [
    "ExportError",
    "ExportResult",
    "Parity",
    "Row",
    "Sizes",
    "audit",
    "check",
    "convert_model",
    "deploy",
    "export",
    "parity",
    "sizes",
    "table",
]

_HOME = {
    "auditing": ("Row", "audit", "check", "table"),
    "comparison": ("Parity", "parity"),
    "convert": ("ExportError", "convert_model"),
    "deploy_form": ("deploy",),
    "pipeline": ("ExportResult", "export"),
    "file_size": ("Sizes", "sizes"),
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: the command line answers --help without waiting for TensorFlow.
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"tfbnas.export.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
