"""Discrepant child-parent search (DCP-NAS) in the report: its words, and whether the cells collapse."""

from __future__ import annotations

from tfbnas.report.choices import choices
from tfbnas.report.methods import Method
from tfbnas.report.reading import Run
from tfbnas.search import darts


def doubts(run: Run) -> list[str]:
    """A sentence where the cells have become identities, with the first epoch of that and what helps."""
    operations = [[str(choice.get("closed")) for choice in choices(row).values()] for row in run.history]
    if not operations or not darts.collapsing(operations[-1]):
        return []
    since = len(operations)
    while since > 1 and darts.collapsing(operations[since - 2]):
        since -= 1
    kept = [operation for operation in operations[-1] if operation != darts.NONE]
    return [
        f"The cells may have collapsed: since epoch {since}, half of the kept edges or more are identities, "
        f"{kept.count(darts.IDENTITY)} of {len(kept)} in the last one. Identities learn nothing and win as long as the "
        "other operations are not trained. What helps: more search.warm_up_epochs, a lower "
        "search.architecture_learning_rate, search.decoupled true, fewer search.epochs, and several seeds."
    ]


METHOD = Method(
    epochs="epochs",
    axes={
        "entropy": "Entropy (bits)",
        "identity_edges": "Identity edges",
        "distance": "Distance of the tangents",
        "cosine": "Cosine of the tangents",
        "gradient_to_noise": "Gradient to noise of alpha",
        "penalty": "Penalty of the budgets",
    },
    curves=("distance", "cosine", "entropy", "identity_edges"),
    captions={
        "choices": "An edge whose lines all stay low has no favourite yet. Nothing moves in the warm-up.",
        "cost": "It is the mean over the operations of the edges that would be kept. The penalty acts only above the "
        "budget.",
        "candidates": "An edge that may be dropped has none as a candidate.",
        "history": "The loss of the child is its divergence from the parent. Entropy is that of the operations of an "
        "edge, the mean over the edges; identity edges are those among the kept ones: many of them are the sign of a "
        "collapse. Distance and cosine are those of the tangents of parent and child. Gradient to noise is how long "
        "the mean gradient of an edge is, by how long noise alone would make it, the median over the edges: near 1, "
        "chance decides.",
    },
    doubts=doubts,
)
