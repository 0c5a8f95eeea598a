"""Budgeted super networks (BSN) in the report: the search's own figures."""

from __future__ import annotations

from collections.abc import Sequence

from tfbnas.report import bsn_architecture
from tfbnas.report import bsn_figures as draw
from tfbnas.report.parts import Figure, Method
from tfbnas.report.reading import Run, numbers

SOURCE = "the paper (Learning Time/Memory-Efficient Deep Architectures with Budgeted Super Networks)"


def remarks(run: Run) -> list[str]:
    """What the search limited, and what came out of it."""
    limit = draw.limit(run)
    if limit is None or limit.found is None:
        return []
    said = (
        f"The search limited the network to {limit.text(limit.value)}; the one found takes {limit.shown(limit.found)}"
    )
    others = [f"{label} {limit.shown(value)}" for label, value in limit.references.items()]
    more = [
        f"{other.text(other.value)}, of which it takes {other.shown(other.found)}"
        for other in draw.further_limits(run)
        if other.found is not None
    ]
    return [
        said + (f" (for comparison: {', '.join(others)})." if others else "."),
        *([f"At the same time it was limited to {'; and to '.join(more)}."] if more else []),
    ]


def figures(run: Run) -> Sequence[Figure]:
    """The search's figures, as far as its history has their numbers."""
    history = run.rounds
    if not history:
        return []
    found = []
    picture = bsn_architecture.drawing(run)
    if picture is not None:
        found.append(
            Figure(
                "architecture",
                "The network that was found",
                f"{picture.caption} Blue ones stay, each as thick as its final probability; grey ones were left out, "
                "the thicker ones because nothing reaches them or reads them. Mirrors figure 6 of the paper.",
                lambda narrow: bsn_architecture.draw(picture, narrow),
            )
        )
    if draw.probabilities_of(history):
        found.append(
            Figure(
                "probabilities",
                "Probabilities during the search",
                "Each module's probability to be kept, after every epoch. Blue ones are part of the network that was "
                "found. Nothing moves in the warm-up. A module that can no longer be reached, or whose output is no "
                "longer read, stays where it was.",
                lambda narrow: draw.probabilities(run, narrow),
            )
        )
    if numbers(history, "cost")[0]:
        found.append(
            Figure(
                "cost",
                "Cost against the budget",
                "Mean cost of the networks drawn in each epoch. The penalty acts only above the budget.",
                lambda narrow: draw.cost(run, narrow),
            )
        )
    if numbers(history, "entropy")[0]:
        found.append(
            Figure(
                "entropy",
                "How much is decided",
                "Mean entropy of the probabilities: 1 bit where all are one half, 0 where each is 0 or 1, as they are "
                "at the optimum (proposition 1 of the paper).",
                lambda narrow: draw.entropy(run, narrow),
            )
        )
    return found


METHOD = Method(
    name="BSN",
    title="Budgeted super networks",
    source=SOURCE,
    published=lambda run: (),
    remarks=remarks,
    figures=figures,
)
