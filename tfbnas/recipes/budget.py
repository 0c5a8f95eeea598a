"""The settings of a budget, the same for every recipe. TensorFlow is not imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfbnas.errors import UserError, nearest, require_positive, require_range
from tfbnas.units import UNITS

CostName = Literal[
    "memory", "latency", "multiply_adds", "steps", "edges", "binary_memory", "float_memory", "measured_latency"
]

OWN_LIMITS = ("memory", "latency")
"""Costs whose limit may be given under their own name, too."""


@dataclass
class BudgetSettings:
    """What the searched network may cost.

    Attributes:
      cost: memory of the weights (binary_memory or float_memory: of one kind alone), latency as a table predicts it,
        multiply_adds, steps on machines that work in parallel, edges between channels, or measured_latency of each
        network that is drawn.
      limit: Limit of that cost, in MiB, milliseconds, millions of multiply-adds, steps, or edges.
      memory: The limit in MiB where the cost is memory; another name of `limit`.
      latency: The limit in milliseconds where the cost is latency; another name of `limit`.
      also: Limits on further costs, for instance {memory: 0.05, multiply_adds: 20}.
      counting: For memory: paper (kernels and the last bias), deployed (and two floats per normalised channel), or file
        (the size of model.tflite, which is known to 2 % before the network is trained: it may be so much larger).
      device: For latency: raspberry_pi_4b, pixel1, or a file that tools/build_latency_table.py wrote.
      machines: For steps: how many modules run at once.
      allocation: For steps: depth_first (the paper's tables) or critical_path.
      target: For measured_latency, where: ssh:user@host, adb, adb:serial or host.
      binary: For measured_latency: lce_benchmark_model, a file here, which is copied, or a path on the target; null for
        the target's own (host: for Larq Compute Engine's interpreter).
      penalty_weight: Loss that twice a budget adds; times penalty_unit's share of the budget.
      penalty_unit: What the weight is per: the budget itself, or a KiB of excess.
    """

    cost: CostName = "memory"
    limit: float | None = None
    memory: float | None = None
    latency: float | None = None
    also: dict[str, float] = field(default_factory=dict)
    counting: Literal["paper", "deployed", "file"] = "paper"
    device: str = "raspberry_pi_4b"
    machines: int = 2
    allocation: Literal["depth_first", "critical_path"] = "depth_first"
    target: str | None = None
    binary: str | None = None
    penalty_weight: float = 0.3
    penalty_unit: Literal["budget", "KiB"] = "budget"

    @property
    def limit_option(self) -> str:
        """Name of the setting that limits `cost`: what a sweep varies."""
        return self.cost if self.cost in OWN_LIMITS and self.limit is None else "limit"

    @property
    def limits(self) -> dict[str, float]:
        """All limits by cost, that of `cost` first."""
        return {self.cost: getattr(self, self.limit_option) or 0.0, **self.also}

    def setting(self, cost: str) -> str:
        """Name of the setting that limits a cost."""
        return f"budget.{self.limit_option}" if cost == self.cost else f"budget.also.{cost}"

    @property
    def unit(self) -> str:
        """In which the limit of `cost` is given."""
        return UNITS[self.cost].name

    def weight(self, cost: str) -> float:
        """Loss that twice the limit of a cost adds."""
        if self.penalty_unit == "KiB":
            return self.penalty_weight * self.limits[cost] * UNITS[cost].scale / 1024
        return self.penalty_weight

    def check(self) -> None:
        self._check_limit()
        require_positive("budget", machines=self.machines)
        require_range("budget", 0, None, penalty_weight=self.penalty_weight)
        for name, limit in self.also.items():
            if name not in UNITS or name == self.cost:
                others = sorted(set(UNITS) - {self.cost})
                raise UserError(
                    f"Expected the names in `budget.also` to be out of {others}. Received: {name!r}."
                    f"{nearest(name, others)}"
                )
            require_positive("budget.also", **{name: limit})
        if self.penalty_unit == "KiB" and any(UNITS[name].name != "MiB" for name in self.limits):
            raise UserError(
                "Expected `budget.penalty_unit` to be budget for a cost that is no memory. Received: penalty_unit=KiB."
            )
        if "measured_latency" in self.limits and not self.target:
            raise UserError(
                "Expected `budget.target` to say where measured_latency is measured: ssh:user@host, adb, adb:serial or "
                f"host. Received: target={self.target!r}."
            )

    def _check_limit(self) -> None:
        own = getattr(self, self.cost) if self.cost in OWN_LIMITS else None
        if own is None and self.limit is None:
            raise UserError(
                f"Expected `budget.{self.limit_option}`, in {self.unit}, with --budget.cost {self.cost}. "
                "Received: none."
            )
        if own is not None and self.limit is not None:
            raise UserError(
                f"Expected one of `budget.limit` and `budget.{self.cost}`, which mean the same. "
                f"Received: limit={self.limit}, {self.cost}={own}."
            )
        option = self.limit_option
        require_positive("budget", **{option: getattr(self, option)})
