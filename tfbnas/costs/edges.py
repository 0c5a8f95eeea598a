"""How many edges a network has."""

from __future__ import annotations

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.networks.choices import Edges
from tfbnas.units import UNITS


class EdgeCount:
    """Number of edges between channels, over all choices that are sets of edges."""

    name, unit, shown = "edges", "edges", UNITS["edges"]

    def of(self, architecture: Architecture) -> float:
        """Edges of a closed network."""
        kinds = networks.choices(architecture)
        return float(sum(len(architecture.choices.get(n, [])) for n, kind in kinds.items() if isinstance(kind, Edges)))
