"""Differentiable dimension search (DMS) in the report: the paper's table and the search's own figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfbnas.report import dms_figures as draw
from tfbnas.report.parts import Figure, Method, Published
from tfbnas.report.reading import MIB, Run

SOURCE = "the paper (DMS: Differentiable Dimension Search for Binary Neural Networks, table 1)"

# Test accuracy on CIFAR-10 in percent and parameters in MiB, as printed in table 1 of the paper.
_WIDTHS = ("uniform-1.00", "uniform-2.00", "uniform-3.00", "uniform-4.00")
TABLE = {
    "vgg11": {
        "Full precision": (88.10, 2.20),
        "BNN 1×": (78.31, 0.08),
        "BNN 2×": (85.37, 0.29),
        "BNN 3×": (88.17, 0.65),
        "BNN 4×": (88.68, 1.14),
        "DMS-A": (84.16, 0.08),
        "DMS-B": (89.10, 0.64),
    },
    "resnet18": {
        "Full precision": (92.75, 2.67),
        "BNN 1×": (85.33, 0.09),
        "BNN 2×": (90.25, 0.40),
        "BNN 3×": (92.25, 0.98),
        "BNN 4×": (93.01, 1.92),
        "DMS-A": (89.32, 0.10),
        "DMS-B": (92.70, 0.84),
    },
}
# Memory_target in MiB, appendix B.2.1 of the paper.
BUDGETS = {"DMS-A": 0.12, "DMS-B": 1.0}


def published(run: Run) -> list[Published]:
    """The paper's rows for the run's network; the run's search stands beside the row of the nearer budget."""
    table = TABLE.get(run.network, {})
    if "cifar10" not in run.dataset.replace("-", "").lower() or "cifar100" in run.dataset.replace("-", "").lower():
        return []
    budget = (run.budget or 0.12 * MIB) / MIB
    nearest = min(BUDGETS, key=lambda name: abs(math.log(max(budget, 1e-9) / BUDGETS[name])))
    keys = {f"BNN {i + 1}×": key for i, key in enumerate(_WIDTHS)} | {nearest: "searched"}
    rows = [Published(label, keys.get(label, ""), *values) for label, values in table.items()]
    return sorted(rows, key=lambda row: (row.key != "searched", row.memory))


def remarks(run: Run) -> list[str]:
    """How to read the paper's numbers beside the run's."""
    if not published(run):
        return []
    said = [
        "The paper trains on all 50 000 images for 300 epochs; where this run trained for less, compare the order "
        "of the networks and the gaps between them, not the level."
    ]
    if run.network == "resnet18":
        said.append(
            "The paper's memory of ResNet-18 at 2×, 3× and 4× (0.40, 0.98, 1.92 MiB) follows from no count of its "
            "weights that we know of; the same count that gives its 0.09 MiB at 1× gives 0.35, 0.77 and 1.36 MiB."
        )
    return said


def figures(run: Run) -> Sequence[Figure]:
    """The search's figures, as far as its history has their numbers."""
    history = run.rounds
    if not history:
        return []
    found = []
    if draw.final_choices(run):
        found.append(
            Figure(
                "channels",
                "Channels per layer",
                "Output channels that the search chose for each group of layers, beside the uniform network at 1×, "
                "with the expansion ratio μ on the right. Layers in the order of the network, from the image to "
                "the classes. Mirrors figure 4 of the paper.",
                lambda narrow: draw.channels(run, narrow),
            )
        )
        found.append(
            Figure(
                "ratios",
                "Expansion ratios during the search",
                "Each choice's μ over the rounds, with a band of ± σ: the distribution narrows as σ is deflated. "
                "The dotted line is the width of the uniform network (1×); the number is the final μ.",
                lambda narrow: draw.ratios(run, narrow),
            )
        )
    if draw.errors(history)[0]:
        compared = "search-no-bei" in run.searches
        found.append(
            Figure(
                "training-error",
                "Training error during the search",
                "Error on the training half, as the mean over each epoch while the weights were trained. "
                + (
                    "Pale vertical lines mark where a new round changes the widths. "
                    if draw.boundaries(history)
                    else ""
                )
                + (
                    "With best-effort initialisation the common channels keep their weights; without it every "
                    "round starts anew. "
                    if compared
                    else "Best-effort initialisation keeps the weights of the common channels from round to round. "
                )
                + "Mirrors figure 3 of the paper.",
                lambda narrow: draw.training_error(run, narrow),
            )
        )
    if any(cost is not None for cost in run.expected_cost):
        goal = run.goal.name
        what = {
            "memory": "Memory that the network is expected to take with widths drawn from the present distributions, ",
            "latency": "Time that one inference is expected to take with widths drawn from the present distributions, "
            "as the device's latency table predicts it (a model, not a measurement), ",
        }
        found.append(
            Figure(
                "cost",
                f"Expected {goal} against the budget",
                what.get(goal, f"Expected {goal}, ") + "after each round. The penalty acts only above the budget. "
                "The axis need not begin at zero. The paper has no such figure.",
                lambda narrow: draw.cost(run, narrow),
            )
        )
    if draw.distributions(run):
        found.append(
            Figure(
                "candidates",
                "The distribution and its candidates",
                f"The expansion ratio of {draw.most_moved(run)}, the choice whose μ moved most, as a logistic "
                "density at the first and the last round. The bars are the three candidates μ − 0.8σ, μ, μ + 0.8σ, "
                "each as wide as the range it stands for (2Δ = 0.8σ) and as large as the probability of that "
                "range; p̂ is its share among the three. Mirrors figure 1 of the paper.",
                lambda narrow: draw.candidates(run, narrow),
            )
        )
    return found


METHOD = Method(
    name="DMS",
    title="Differentiable dimension search",
    source=SOURCE,
    published=published,
    remarks=remarks,
    figures=figures,
)
