"""Deploy form, conversion by Larq Compute Engine, audit of the operators, comparison of the outputs."""

from tfbnas.export.auditing import Row, Sizes, audit, check, sizes, table
from tfbnas.export.comparison import Parity, parity
from tfbnas.export.convert import ExportError, convert_model
from tfbnas.export.deploy_form import deploy
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
