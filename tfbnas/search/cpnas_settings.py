"""Hyperparameters of the child-parent search. TensorFlow is not imported here."""

from __future__ import annotations

from dataclasses import dataclass

from tfbnas.search import dcpnas_settings


@dataclass
class Settings(dcpnas_settings.Settings):
    """Child-parent search (CP-NAS): the child's architecture by its agreement with the parent alone.

    The attributes are those of DCP-NAS; what that adds is off by default.
    """

    distance_weight: float = 0.0
    reconstruction_weight: float = 0.0
    decoupled: bool = False
