"""Child-parent search (CP-NAS) in the report: that of DCP-NAS without its tangent."""

from tfbnas.report.dcpnas import METHOD

__all__ = ["METHOD"]
