"""Latency as it is measured, a cost that is not the same each time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.errors import UserError
from tfbnas.lce import rules_of
from tfbnas.precision import precision
from tfbnas.units import UNITS

Measure = Callable[[], float]
Prepare = Callable[[tf.keras.Model], Measure]
"""Converts a network, whose weights are random, and returns a function that measures its milliseconds anew."""


class MeasuredLatency:
    """Milliseconds of one inference, measured on the network that was sampled.

    Each distinct network is built and converted once, as long as it is remembered, and measured anew at every question;
    BSN takes such a cost as it is. Conversion takes seconds, so this suits small networks, short searches, and the last
    epochs of a search, where few networks are drawn; `Latency` is the fast stand-in.

    Args:
      prepare: Where to measure: `tfbnas.device.measured.on_host()`, `on_target(session)`, or a function of one's own.
        On an x86 host float convolutions beat binary ones, other than on ARM: such times are for trying out, or for
        networks that are deployed on x86.
      remembered: Converted networks that are kept; the one not asked for the longest goes first. Default: 256.

    Attributes:
      conversions: Networks that were converted so far.
    """

    name, unit, shown = "measured_latency", "ms", UNITS["measured_latency"]
    stochastic = True

    def __init__(self, prepare: Prepare, *, remembered: int = 256):
        if not callable(prepare):
            raise UserError(
                f"Expected a function that prepares a measurement, as tfbnas.device.measured.on_host() gives. "
                f"Received: {prepare!r}."
            )
        if remembered < 1:
            raise UserError(f"Expected `remembered` to be at least 1. Received: remembered={remembered}.")
        self.conversions = 0
        self._prepare = prepare
        self._remembered = remembered
        self._measures: OrderedDict[str, Measure] = OrderedDict()

    def of(self, architecture: Architecture) -> float:
        """Milliseconds of a closed network, measured now."""
        key = architecture.id
        if key not in self._measures:
            # Exported networks are float32, whatever the search computes in.
            with precision("float32"):
                self._measures[key] = self._prepare(_as_trained(networks.build(architecture)))
            self.conversions += 1
            while len(self._measures) > self._remembered:
                self._measures.popitem(last=False)
        self._measures.move_to_end(key)
        return self._measures[key]()


def _as_trained(model: tf.keras.Model) -> tf.keras.Model:
    """Gives every threshold and normalisation numbers of its own: the converter would merge equal ones."""
    chance = np.random.default_rng(0)
    for layer in model.layers:
        if rules_of(layer).varies:
            layer.set_weights([chance.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return model
