"""CP-NAS: a binary child searched by its agreement with its real-valued parent.

Paper: Zhuo et al., "CP-NAS: Child-Parent Neural Architecture Search for 1-bit CNNs", IJCAI 2020. It is DCP-NAS without
the tangent's distance, the reconstruction error and the decoupled update.
"""

from __future__ import annotations

from tfbnas.search.cpnas_settings import Settings
from tfbnas.search.dcpnas import DCPNAS


class CPNAS(DCPNAS):
    """Searches the operations of a network's edges for a binary child that agrees with its parent; see `DCPNAS`."""

    method = "cpnas"
    settings_class = Settings
