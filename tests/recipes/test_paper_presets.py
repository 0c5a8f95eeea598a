"""The presets with a paper's settings, value by value: each with the place in the paper that gives it.

DMS: "Differentiable Dimension Search for Binary Neural Networks". BSN: Veniat & Denoyer, CVPR 2018, supplement.
DCP-NAS: Li et al., IJCV 2023; what it does not publish is as in DARTS (Liu et al., ICLR 2019), whose cells it searches.
CI-BCNN: Wang et al., CVPR 2019, and the code that its authors released. RBCN: Liu et al., IJCAI 2019.
"""

from __future__ import annotations

import math
import runpy
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tfbnas.recipes.settings import preset_files


@dataclass(frozen=True)
class Paper:
    """What the paper gives, and where."""

    value: Any
    source: str


@dataclass(frozen=True)
class Ours:
    """A value that the paper does not give."""

    value: Any
    reason: str


@dataclass(frozen=True)
class Deviation:
    """A value that differs from the paper's, which we know."""

    value: Any
    paper: Any
    reason: str


def decoupled(l2_penalty: float, momentum: float = 0.9) -> float:
    """Weight decay that shrinks weights as fast as an L2 penalty whose gradient goes through the momentum."""
    return l2_penalty / (1 - momentum)


def dms(network: str, kind: str) -> dict[str, Any]:
    """DMS, appendix B.2; `kind` is "a" or "b"."""
    search, evaluation, a = "B.2.1", "B.2.2", kind == "a"
    return {
        "precision": Ours("float32", "the number format of the authors' framework"),
        "data.name": Paper("cifar10", "3.1"),
        "data.padding": Ours(None, "the paper names no augmentation"),
        "budget.memory": Paper(0.12 if a else 1.0, search),
        "budget.penalty_weight": Paper(0.01, f"{search}: lambda"),
        "budget.penalty_unit": Ours("KiB", "Eq. 7 does not say in what unit memory enters"),
        "search.rounds": Paper(250 // 5, f"{search}: 250 epochs, mu is updated after every 5"),
        "search.weight_epochs": Paper(5, search),
        "search.architecture_steps": Paper(None, "algorithm 1: the validation set once"),
        "search.batch_size": Paper(64, search),
        "search.initial_ratio": Paper(1.5 if a else 2.5, search),
        "search.initial_sigma": Paper(1.0, search),
        "search.final_sigma": Paper(0.3, search),
        "search.minimal_ratio": Paper(0.3, search),
        "search.minimal_edge": Paper(0.25, search),
        "search.temperature": Paper(1.0, search),
        "search.learning_rate": Paper(0.05, search),
        "search.final_learning_rate": Paper(0.01, search),
        "search.momentum": Paper(0.9, search),
        "search.weight_decay": Paper(decoupled(1e-4), search),
        "search.architecture_learning_rate": Paper(2e-3 if network == "vgg11" else 1e-3, search),
        "search.architecture_momentum": Ours(0.9, "the paper names Adam; its usual beta_1"),
        "search.best_effort": Paper(True, "Eq. 9-10"),
        "search.fill_budget": Paper(False, f"{evaluation}: mu as it is found"),
        "search.fast_on": Paper(None, f"{evaluation}: mu as it is found"),
        "export.fast_on": Ours(None, "the paper's networks have no further channels"),
        "train.epochs": Paper(300, evaluation),
        "train.batch_size": Ours(64, "the paper gives the search's only"),
        "train.learning_rate": Paper(0.1, evaluation),
        "train.schedule": Paper("steps", evaluation),
        "train.drops": Paper([140 / 300, 220 / 300, 260 / 300], evaluation),
        "train.momentum": Paper(0.9, evaluation),
        "train.weight_decay": Paper(decoupled(1e-4 if a else 2e-4), evaluation),
        "train.full_precision_epochs": Paper(0 if network == "vgg11" else 200, evaluation),
        "baselines.ratios": Paper([1.0, 2.0, 3.0, 4.0], "table 1"),
        "baselines.equal_memory": Ours(True, "the fairest comparison"),
    }


def imagenet(kind: str) -> dict[str, Any]:
    """DMS, appendix B.2.2, which applies the ratios that were found on CIFAR-10; here ImageNet itself is searched."""
    longer, he = "ten passes over ImageNet take days", "as the original ResNet-18 (He et al., 2016)"
    cifar = dms("resnet18", kind)
    same = ("initial_ratio", "initial_sigma", "final_sigma", "minimal_ratio", "minimal_edge", "temperature", "momentum")
    same += ("architecture_learning_rate", "architecture_momentum", "best_effort", "fill_budget", "weight_decay")
    same += ("fast_on",)
    return {
        **{f"search.{name}": cifar[f"search.{name}"] for name in same},
        "export.fast_on": cifar["export.fast_on"],
        "data.name": Paper("imagenet2012", "3.2"),
        "data.image_size": Paper(224, he),
        "budget.memory": Ours(4.4 if kind == "a" else 23.0, "1.3 times table 1's BNN 1x and 3x, as B.2.1 on CIFAR-10"),
        "budget.penalty_weight": cifar["budget.penalty_weight"],
        "budget.penalty_unit": cifar["budget.penalty_unit"],
        "search.rounds": Deviation(10, 50, longer),
        "search.weight_epochs": Deviation(1, 5, longer),
        "search.architecture_steps": Deviation(500, None, longer),
        "search.batch_size": Deviation(256, 64, "the same as in training"),
        "search.learning_rate": cifar["search.learning_rate"],
        "search.final_learning_rate": cifar["search.final_learning_rate"],
        "train.epochs": Paper(100, "B.2.2"),
        "train.batch_size": Paper(256, he),
        "train.learning_rate": Ours(0.1, "B.2.2 leaves the number out; " + he),
        "train.schedule": Paper("cosine", "B.2.2"),
        "train.momentum": Paper(0.9, he),
        "train.weight_decay": Paper(decoupled(1e-4), he),
        "train.full_precision_epochs": Paper(100, "B.2.2: a network in full precision first, with the same epochs"),
        "baselines.ratios": Deviation([1.0], [1.0, 2.0, 3.0, 4.0], "each takes days"),
    }


def bsn(network: dict[str, Any], *, cost: str, limit: float, epochs: int, drops: list[int], data: dict[str, Any]):
    """BSN, "Additional Learning Details"."""
    details, text = "learning procedure", "the paper's text does not give it"
    again = "the paper evaluates the super-network's weights; here what is found is trained again, as it was searched"
    schedule = [drop / epochs for drop in drops]
    return {
        **data,
        **network,
        "precision": Ours("float32", "the number format of the authors' framework"),
        "network.binarisation": Paper("float", "architecture details: full precision"),
        "budget.cost": Paper(cost, "the three costs of the experiments"),
        "budget.limit": Ours(limit, "one of many; the paper's fronts come from many budgets"),
        "budget.machines": Paper(2, "tables 5-9: n = 1, 2, 4"),
        # The paper prints lambda between 10^(m-1) and 10^(m+1), without the minus of m; its middle is 10^-m.
        "budget.penalty_weight": Paper(limit * 10.0 ** -math.floor(math.log10(limit)), f"{details}: lambda"),
        "search.epochs": Paper(epochs, details),
        "search.warm_up_epochs": Paper(50, details),
        "search.batch_size": Ours(64, text),
        "search.groups": Paper(None, "algorithm 1: an architecture for each example"),
        "search.baseline": Paper("batch", "the mean over the batch"),
        "search.initial_logit": Paper(3.0, details),
        "search.learning_rate": Paper(0.1, details),
        "search.schedule": Paper("steps", details),
        "search.drops": Paper(schedule, details),
        "search.momentum": Ours(0.9, text),
        "search.weight_decay": Ours(decoupled(1e-4), text),
        "search.architecture_optimizer": Ours("sgd", text),
        "search.architecture_learning_rate": Ours(64 * 1e-3, "the authors' 1e-3 is for the sum over 64 examples"),
        "search.fill_budget": Ours(False, "the authors keep what is probable, and no more"),
        "train.epochs": Ours(epochs, again),
        "train.batch_size": Ours(64, again),
        "train.learning_rate": Ours(0.1, again),
        "train.schedule": Ours("steps", again),
        "train.drops": Ours(schedule, again),
        "train.momentum": Ours(0.9, again),
        "train.weight_decay": Ours(decoupled(1e-4), again),
        "baselines.plain": Paper(True, "tables 5-9"),
        "baselines.whole": Paper(True, "tables 5-9"),
    }


def bsn_cifar(network: dict[str, Any], cost: str, limit: float) -> dict[str, Any]:
    data = {"data.name": Paper("cifar10", "datasets"), "data.held_out": Paper(5000, "datasets: 45k/5k")}
    data["data.padding"] = Paper(2, "datasets: padded to 36x36, cropped to 32x32")
    return bsn(network, cost=cost, limit=limit, epochs=300, drops=[150, 225], data=data)


def _cnf(scales: int, filters: int) -> dict[str, Any]:
    values = {"columns": 8, "scales": scales, "filters": filters}
    return {f"network.{name}": Paper(value, "architecture details: W, H") for name, value in values.items()}


def cells(*, tangent: bool, imagenet: str = "") -> dict[str, Any]:
    """DCP-NAS, or without its tangent CP-NAS; `imagenet` is the size, "s", "m" or "l"."""
    own, darts, longer = "experiments", "as DARTS", "ten times as many take weeks"
    channels, memory = {"": (16, 4.0), "s": (32, 3.0), "m": (48, 5.0), "l": (64, 7.0)}[imagenet]
    plain = "CP-NAS has neither distance nor reconstruction error nor back-tracking"
    names = {"distance_weight": 5e-3, "reconstruction_weight": 0.2, "decoupled": True}
    added = {f"search.{name}": Paper(value, own) for name, value in names.items()}
    if not tangent:
        added = {name: Paper(type(one.value)(0), plain) for name, one in added.items()}
    shared = {
        "network.depth": Ours(8, darts),
        "network.nodes": Paper(4, "the search space"),
        "network.channels": Ours(channels, "as DARTS" if not imagenet else "the paper's sizes S, M, L are not told"),
        "budget.memory": Ours(memory, "the paper has no budget: one that hardly binds"),
        "search.epochs": Ours(50, darts),
        "search.warm_up_epochs": Ours(0, darts),
        "search.batch_size": Ours(256, "a GPU's memory"),
        "search.distance": Paper("frobenius", "table 4.4"),
        "search.curvature": Deviation("per_sample", "rank one", "the mean gradient's form only rescales"),
        "search.edges_per_node": Paper(2, "the search space"),
        "search.momentum": Ours(0.9, darts),
        "search.architecture_learning_rate": Ours(6e-4, "3e-4 in DARTS, twice that in its successors"),
        "search.architecture_weight_decay": Ours(1e-3, darts),
        "train.momentum": Ours(0.9, darts),
        "baselines.plain": Ours(True, "the paper compares with published networks"),
        **added,
    }
    if imagenet:
        rates = {"learning_rate": Ours(0.1, "as the other ImageNet presets"), "weight_decay": Ours(1e-4, "the default")}
        each = {f"{part}.{name}": value for part in ("search", "train") for name, value in rates.items()}
        return shared | each | {
            "data.name": Paper("imagenet2012", own),
            "data.image_size": Paper(224, own),
            "network.operations": Deviation("deployable", "paper", "depthwise convolutions are not binary on a device"),
            "train.epochs": Ours(100, longer),
            "train.batch_size": Ours(256, "the same as in the search"),
        }  # fmt: skip
    each = {"learning_rate": Ours(0.025, darts), "weight_decay": Ours(decoupled(3e-4), darts)}
    return shared | {f"{part}.{name}": value for part in ("search", "train") for name, value in each.items()} | {
        "data.name": Paper("cifar10", own),
        "network.operations": Paper("paper", "the search space"),
        "export.float_operators": Ours(True, "its depthwise convolutions have no binary operator"),
        "train.epochs": Ours(600, darts),
        "train.batch_size": Ours(96, darts),
    }  # fmt: skip


def cibcnn(network: dict[str, Any], edges: int, thresholds: dict[str, Any]) -> dict[str, Any]:
    """CI-BCNN on CIFAR-10, "implementation details"."""
    details, code, text = "implementation details", "the authors' code", "the paper does not give it"
    control = "a control that the paper lacks, trained as the search trains its weights"
    adam = {
        "recipe": Paper("adam", details),
        "learning_rate": Paper(1e-3, details),
        "schedule": Paper("steps", f"{details}: divided by 10"),
        "drops": Paper([0.5, 0.9], f"{details}: at epochs 50 and 90"),
    }
    return {
        **network,
        "precision": Ours("float32", "the number format of the authors' framework"),
        "data.name": Paper("cifar10", "datasets"),
        "network.levels": Paper(2, f"{details}: K0"),
        "network.influence_unit": Paper(0.01, f"{details}: U0"),
        "budget.cost": Ours("edges", "the paper limits the density only"),
        "budget.limit": Ours(edges, "all edges that the density allows"),
        "search.epochs": Paper(100, details),
        "search.batch_size": Paper(128, details),
        "search.discount": Paper(0.99, code),
        "search.loss_threshold": Paper(0.003, code),
        "search.density_limit": Paper(0.1, f"{details}: rho_max"),
        "search.hierarchical": Paper(False, "3.2: an edge is drawn from the whole layer"),
        "search.normalization_epochs": Paper(1, details),
        "search.architecture_learning_rate": Ours(1e-3, text),
        **{f"search.{name}": value for name, value in adam.items()},
        "train.epochs": Ours(100, control),
        "train.batch_size": Ours(128, control),
        **{f"train.{name}": Ours(value.value, control) for name, value in adam.items()},
        "baselines.plain": Paper(True, "table 2: the network without interactions"),
        "baselines.random": Ours(True, control),
        **thresholds,
    }


def rbcn(stages: list[int]) -> dict[str, Any]:
    """RBCN's trainings on CIFAR-100; the text that we have gives the method, the widths and the accuracy."""
    text = "the text that we have does not give it"
    ours = {"epochs": 200, "batch_size": 128, "recipe": "adam_sgd", "learning_rate": 0.05}
    ours |= {"kernel_learning_rate": 1e-2, "teacher_weight": 0.1, "normalization_epochs": 1}
    return {
        "precision": Ours("float32", "the number format of the authors' framework"),
        "data.name": Paper("cifar100", "the table of widths"),
        "network.binarisation": Paper("rectified", "the method"),
        "network.shortcuts": Paper("convolution", "Bi-Real's topology"),
        "network.stages": Paper(stages, "the table of widths"),
        "train.teacher": Paper("full_precision", "the method"),
        "train.follows": Paper("discriminators", "the method"),
        **{f"train.{name}": Ours(value, text) for name, value in ours.items()},
    }


CNF = _cnf(6, 128)
FABRIC = {"network.n": Paper(3, "architecture details: one of 3, 5, 7, 9, 18"), "network.base": Paper(16, "ResNet")}
PARTS = {
    "data.name": Paper("part_labels", "datasets"),
    "data.validation_split": Paper("validation", "datasets: 500"),
    "data.padding": Deviation(None, 0, "the paper mirrors only; null moves the crop by an eighth of the side"),
}

RESNET20 = {
    "network.n": Paper(3, "ResNet-20"),
    "network.base": Deviation(16, 80, "the release is five times as wide; the paper's text says ResNet-20"),
}
VGG16 = {
    "network.base": Paper(64, "appendix B: VGG16; Simonyan & Zisserman, ICLR 2015, table 1, D"),
    "network.stages": Paper([[1, 1], [2, 2], [4, 4, 4], [8, 8, 8], [8, 8, 8]], "the same"),
}
RESNET18 = {
    "network.base": Paper(64, "He et al., 2016, table 1"),
    "network.n": Paper(2, "He et al., 2016, table 1"),
    "network.shortcuts": Paper("block", "ImageNet; with Bi-Real Net's shortcuts it is another row of the table"),
}
PRESETS = {
    ("dms_vgg11", "paper_a"): dms("vgg11", "a"),
    ("dms_vgg11", "paper_b"): dms("vgg11", "b"),
    ("dms_resnet18", "paper_a"): dms("resnet18", "a"),
    ("dms_resnet18", "paper_b"): dms("resnet18", "b"),
    ("dms_resnet18", "imagenet_a"): imagenet("a"),
    ("dms_resnet18", "imagenet_b"): imagenet("b"),
    ("bsn_resnet_fabric", "paper_steps"): bsn_cifar(FABRIC, "steps", 20),
    ("bsn_resnet_fabric", "paper_multiply_adds"): bsn_cifar(FABRIC, "multiply_adds", 40),
    ("bsn_resnet_fabric", "paper_memory"): bsn_cifar(FABRIC, "memory", 1),
    ("bsn_cnf", "paper_steps"): bsn_cifar(CNF, "steps", 48),
    ("bsn_cnf", "paper_multiply_adds"): bsn_cifar(CNF, "multiply_adds", 1000),
    ("bsn_cnf", "paper_memory"): bsn_cifar(CNF, "memory", 20),
    ("bsn_cnf_segmentation", "paper"): bsn(
        _cnf(9, 64), cost="multiply_adds", limit=15000, epochs=200, drops=[130], data=PARTS
    ),
    **{
        (f"{method}_cifar10", f"imagenet_{size}" if size else "paper"): cells(tangent=tangent, imagenet=size)
        for method, tangent in (("dcpnas", True), ("cpnas", False))
        for size in ("", "s", "m", "l")
    },
    ("cibcnn_resnet20", "paper"): cibcnn(
        RESNET20, 1008, {"baselines.thresholds": Ours(True, "what so many parameters do without a search")}
    ),
    ("cibcnn_vgg_small", "paper"): cibcnn({"network.base": Paper(128, "VGG-small")}, 2496, {}),
    ("rbcn_resnet18", "paper_32"): rbcn([32, 32, 64, 128]),
    ("rbcn_resnet18", "paper_64"): rbcn([64, 64, 128, 256]),
    ("cibcnn_vgg_small", "paper_vgg16"): cibcnn(VGG16, 6240, {}),
    ("cibcnn_resnet18", "imagenet"): {
        **cibcnn(RESNET18, 5760, {}),
        "data.name": Paper("imagenet2012", "datasets"),
        "data.image_size": Paper(224, "as the original ResNet-18 (He et al., 2016)"),
        **{f"{part}.batch_size": Ours(256, "the material lacks it for ImageNet") for part in ("search", "train")},
        **{f"{part}.epochs": Ours(100, "the same: as on CIFAR-10") for part in ("search", "train")},
    },
}


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in settings.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def approximately(value: Any) -> Any:
    # Epochs of the drops are written with four digits: 0.4667 of 300 is 140.01.
    nested = isinstance(value, list) and any(isinstance(one, list) for one in value)
    return pytest.approx(value, rel=1e-4) if isinstance(value, (float, list)) and not nested else value


@pytest.mark.parametrize(("recipe", "preset"), PRESETS)
def test_every_value_is_the_papers_or_known_to_be_ours(recipe, preset, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [recipe, "--preset", preset, "--print_config"])
    with pytest.raises(SystemExit):
        runpy.run_module(f"tfbnas.recipes.{recipe}", run_name="__main__")
    complete = flat(yaml.safe_load(capsys.readouterr().out))
    expected = PRESETS[recipe, preset]
    assert {name: complete[name] for name in expected} == {
        name: approximately(one.value) for name, one in expected.items()
    }
    for name, one in expected.items():
        if isinstance(one, Deviation):
            assert complete[name] != approximately(one.paper), f"{name} is the paper's now: no deviation"
    written = flat(yaml.safe_load(preset_files(recipe)[preset].read_text(encoding="utf-8")))
    assert set(written) - {"recipe", "preset"} <= set(expected), "values of which nobody said where they come from"


def test_no_preset_of_a_paper_is_left_out():
    recipes = {recipe for recipe, _ in PRESETS}
    ours = ("quick", "cpu", "long")
    found = {(recipe, name) for recipe in recipes for name in preset_files(recipe) if name not in ours}
    assert found == set(PRESETS)
