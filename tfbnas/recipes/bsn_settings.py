"""Settings of the recipes of budgeted super networks. TensorFlow is not imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from tfbnas.errors import UserError, nearest, require_positive, require_range
from tfbnas.recipes.options import (
    DataSettings,
    ExportSettings,
    RecipeSettings,
    TrainSettings,
)


@dataclass
class FabricSettings:
    """The network that is searched: a ResNet Fabric.

    Attributes:
      n: Blocks of each of the three groups: 3, 5, 7, 9, 18 hold ResNet-20, -32, -44, -56, -110.
      base: Channels of the first group.
      binary: Whether convolutions compute on bits, for Larq Compute Engine; false for the float network of the paper.
    """

    family: ClassVar[str] = "resnet_fabric"
    segmentation: ClassVar[bool] = False

    n: int = 3
    base: int = 16
    binary: bool = True

    def options(self) -> dict[str, Any]:
        """Arguments of the network's builder."""
        return {"n": self.n, "base": self.base, "binary": self.binary}

    def references(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """By the name of its setting in `baselines`: label and builder's arguments of a network to compare with."""
        whole = self.options()
        return {"plain": (f"ResNet-{6 * self.n + 2}", {**whole, "links": False}), "whole": ("whole fabric", whole)}

    def check(self) -> None:
        require_positive("network", n=self.n, base=self.base)


@dataclass
class CnfSettings:
    """The network that is searched: a convolutional neural fabric.

    Attributes:
      columns: W of the paper.
      scales: H of the paper; the sides of the images must be multiples of 2^(scales - 1).
      filters: Channels of every node.
      binary: Whether convolutions compute on bits, for Larq Compute Engine; false for the float network of the paper.
    """

    family: ClassVar[str] = "cnf"
    segmentation: ClassVar[bool] = False

    columns: int = 8
    scales: int = 6
    filters: int = 128
    binary: bool = True

    def options(self) -> dict[str, Any]:
        """Arguments of the network's builder."""
        own = {"columns": self.columns, "scales": self.scales, "filters": self.filters, "binary": self.binary}
        return {**own, "segmentation": True} if self.segmentation else own

    def references(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """By the name of its setting in `baselines`: label and builder's arguments of a network to compare with."""
        # With a single column a network for segmentation is nothing but its stem.
        whole, half = self.options(), max(2 if self.segmentation else 1, self.columns // 2)
        return {"plain": (f"CNF W={half}", {**whole, "columns": half}), "whole": (f"CNF W={self.columns}", whole)}

    def check(self) -> None:
        require_positive("network", columns=self.columns, scales=self.scales, filters=self.filters)


@dataclass
class SegmentationSettings(CnfSettings):
    """The network that is searched: a convolutional neural fabric that classifies every pixel."""

    segmentation: ClassVar[bool] = True

    scales: int = 9
    filters: int = 64


CostName = Literal["steps", "multiply_adds", "memory", "binary_memory", "float_memory", "latency", "measured_latency"]
UNITS: dict[str, tuple[str, float]] = {
    "steps": ("steps", 1.0),
    "multiply_adds": ("million multiply-adds", 1e6),
    "memory": ("MiB", 2.0**20),
    "binary_memory": ("MiB", 2.0**20),
    "float_memory": ("MiB", 2.0**20),
    "latency": ("ms", 1.0),
    "measured_latency": ("ms", 1.0),
}
"""For each cost, the unit of its limit, and what that is in the unit of the cost itself."""


@dataclass
class BudgetSettings:
    """What the searched network may cost.

    Attributes:
      cost: steps on machines that work in parallel, multiply_adds, memory of the weights (or of the binary or the other
        ones alone), latency as a table predicts it, or measured_latency of each network that is drawn.
      limit: In steps, millions of multiply-adds, MiB, or milliseconds.
      also: Limits on further costs, for instance {memory: 0.05, multiply_adds: 20}.
      machines: For steps: how many modules run at once.
      allocation: For steps: depth_first (the paper's tables) or critical_path.
      counting: For memory: paper (kernels and the last bias) or deployed (and two floats per normalised channel).
      device: For latency: raspberry_pi_4b, pixel1, or a file that tools/build_latency_table.py wrote.
      target: For measured_latency, where: ssh:user@host, adb, adb:serial or host.
      binary: For measured_latency: lce_benchmark_model, a file here, which is copied, or a path on the target; null for
        the target's own (host: for Larq Compute Engine's interpreter).
      penalty_weight: Loss that twice a budget adds. The paper's lambda is this divided by the limit.
    """

    cost: CostName = "steps"
    limit: float = 20.0
    also: dict[str, float] = field(default_factory=dict)
    machines: int = 2
    allocation: Literal["depth_first", "critical_path"] = "depth_first"
    counting: Literal["paper", "deployed"] = "paper"
    device: str = "raspberry_pi_4b"
    target: str | None = None
    binary: str | None = None
    penalty_weight: float = 2.0

    @property
    def limit_option(self) -> str:
        """Name of the setting that `cost` is limited by: what a sweep varies."""
        return "limit"

    @property
    def unit(self) -> str:
        return UNITS[self.cost][0]

    @property
    def scale(self) -> float:
        """What one unit of `limit` is in the unit of the cost itself."""
        return UNITS[self.cost][1]

    @property
    def limits(self) -> dict[str, float]:
        """All limits by cost, that of `cost` first."""
        return {self.cost: self.limit, **self.also}

    def check(self) -> None:
        require_positive("budget", limit=self.limit, machines=self.machines)
        require_range("budget", 0, None, penalty_weight=self.penalty_weight)
        for name, limit in self.also.items():
            if name not in UNITS or name == self.cost:
                others = sorted(set(UNITS) - {self.cost})
                raise UserError(
                    f"Expected the names in `budget.also` to be out of {others}. Received: {name!r}."
                    f"{nearest(name, others)}"
                )
            require_positive("budget.also", **{name: limit})
        if "measured_latency" in self.limits and not self.target:
            raise UserError(
                "Expected `budget.target` to say where measured_latency is measured: ssh:user@host, adb, adb:serial or "
                f"host. Received: target={self.target!r}."
            )


@dataclass
class SearchSettings:
    """Budgeted super networks (BSN): weights and gates are trained together.

    Attributes:
      epochs: Passes over the training images, those of the warm-up among them.
      warm_up_epochs: Epochs in which the whole network is trained.
      batch_size: Images per step.
      groups: Architectures drawn for a batch, a divisor of batch_size; null draws one for each image (paper).
      baseline: What a sample's loss is compared with: greedy (the more probable network on the same images), batch
        (the mean of the batch's other groups; paper), moving (the mean of the steps before), or none.
      initial_logit: Of every gate; its sigmoid is the probability to keep.
      learning_rate: Of SGD for the weights, at the start.
      schedule: steps (divided by ten at each of `drops`), or cosine (to zero).
      drops: Fractions of the epochs at which the learning rate drops, for `steps`.
      momentum: Of SGD.
      weight_decay: Of SGD.
      architecture_optimizer: Of the gates' logits: sgd (paper, without momentum) or adam.
      architecture_learning_rate: Of that optimiser.
    """

    epochs: int = 300
    warm_up_epochs: int = 50
    batch_size: int = 64
    groups: int | None = 1
    baseline: Literal["greedy", "batch", "moving", "none"] = "greedy"
    initial_logit: float = 3.0
    learning_rate: float = 0.1
    schedule: Literal["cosine", "steps"] = "steps"
    drops: list[float] = field(default_factory=lambda: [0.5, 0.75])
    momentum: float = 0.9
    weight_decay: float = 1e-4
    architecture_optimizer: Literal["sgd", "adam"] = "sgd"
    architecture_learning_rate: float = 1e-3

    def check(self) -> None:
        names = ("epochs", "batch_size", "learning_rate", "architecture_learning_rate")
        require_positive("search", **{name: getattr(self, name) for name in names})
        require_range("search", 0, 1, momentum=self.momentum)
        require_range("search", 0, None, weight_decay=self.weight_decay)
        if not 0 <= self.warm_up_epochs < self.epochs:
            raise UserError(
                "Expected `search.warm_up_epochs` to be at least 0 and below `search.epochs`. "
                f"Received: {self.warm_up_epochs} of {self.epochs}."
            )
        if self.groups is not None and (self.groups < 1 or self.batch_size % self.groups):
            raise UserError(
                "Expected `search.groups` to divide `search.batch_size`. "
                f"Received: groups={self.groups}, batch_size={self.batch_size}."
            )
        if not all(0 < drop < 1 for drop in self.drops) or self.drops != sorted(self.drops):
            raise UserError(f"Expected `search.drops` to be rising fractions in (0, 1). Received: {self.drops}.")


@dataclass
class BaselineSettings:
    """Networks that are trained beside the searched one, for comparison.

    Attributes:
      plain: Whether the ordinary network is: the ResNet inside a ResNet Fabric, a CNF of half the columns.
      whole: Whether the whole fabric is.
    """

    plain: bool = True
    whole: bool = False

    def without_common(self) -> BaselineSettings:
        """Without the networks that are the same whatever the budget: a sweep trains them once."""
        return BaselineSettings(plain=False, whole=False)


class NetworkSettings(Protocol):
    """What every group of network settings offers."""

    family: ClassVar[str]
    segmentation: ClassVar[bool]

    def options(self) -> dict[str, Any]: ...
    def references(self) -> dict[str, tuple[str, dict[str, Any]]]: ...


@dataclass
class Settings(RecipeSettings):
    """Settings of a recipe of budgeted super networks."""

    data: DataSettings = field(default_factory=DataSettings)
    network: NetworkSettings = field(default_factory=FabricSettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    baselines: BaselineSettings = field(default_factory=BaselineSettings)
    export: ExportSettings = field(default_factory=ExportSettings)


@dataclass
class FabricRecipe(Settings):
    """Settings of `bsn_resnet_fabric`."""

    network: FabricSettings = field(default_factory=FabricSettings)


@dataclass
class CnfRecipe(Settings):
    """Settings of `bsn_cnf`."""

    network: CnfSettings = field(default_factory=CnfSettings)


@dataclass
class SegmentationRecipe(Settings):
    """Settings of `bsn_cnf_segmentation`."""

    network: SegmentationSettings = field(default_factory=SegmentationSettings)
