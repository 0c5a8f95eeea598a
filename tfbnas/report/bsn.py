"""Budgeted super networks (BSN) in the report: the words that only this method needs."""

from __future__ import annotations

from tfbnas.report.methods import Method

METHOD = Method(
    epochs="epochs",
    neutral=0.5,
    axes={"entropy": "Entropy (bits)"},
    curves=("entropy",),
    captions={
        "architecture": "Mirrors figure 6 of the paper.",
        "choices": "Nothing moves in the warm-up. A module that can no longer be reached, or whose output is no longer "
        "read, stays where it was.",
        "cost": "It is the mean of the networks drawn in each epoch. The penalty acts only above the budget.",
        "history": "Entropy is the mean over the probabilities: 1 bit where all are one half, 0 where each is 0 or 1, "
        "as they are at the optimum (proposition 1 of the paper).",
    },
)
