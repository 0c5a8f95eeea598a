"""Settings of the networks to compare with, which depend on what a family lets a search choose: widths, modules, edges.

TensorFlow is not imported here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tfbnas.errors import UserError, require_positive

Int8 = Literal["equal_latency", "equal_memory", "same_widths"]


@dataclass
class Baselines:
    """Networks that are trained beside the searched one, for comparison.

    Attributes:
      int8: Networks of the family in full precision that are deployed as int8: with the predicted time of the one that
        was found (equal_latency), with the bytes of its file (equal_memory), with its widths (same_widths); one of
        these, or several: [equal_latency, equal_memory].
    """

    int8: Int8 | list[Int8] = field(default_factory=list)

    @property
    def int8_ways(self) -> tuple[Int8, ...]:
        """The networks deployed as int8, each once."""
        given = [self.int8] if isinstance(self.int8, str) else self.int8
        return tuple(dict.fromkeys(given))


@dataclass
class WidthBaselines(Baselines):
    """Networks that are trained beside the searched one, for comparison.

    Attributes:
      ratios: Uniform expansion ratios, for instance [1.0, 2.0].
      equal_memory: Whether the uniform network with the memory of the searched one is trained, too.
    """

    ratios: list[float] = field(default_factory=lambda: [1.0])
    equal_memory: bool = False

    def without_common(self) -> WidthBaselines:
        """Without the networks that are the same whatever the budget: a sweep trains them once."""
        return WidthBaselines(self.int8, ratios=[], equal_memory=self.equal_memory)

    def check(self) -> None:
        for ratio in self.ratios:
            require_positive("baselines", ratios=ratio)
        if len({f"{ratio:.2f}" for ratio in self.ratios}) < len(self.ratios):
            raise UserError(
                f"Expected `baselines.ratios` to differ by at least a hundredth. Received: ratios={self.ratios}."
            )


@dataclass
class ModuleBaselines(Baselines):
    """Networks that are trained beside the searched one, for comparison.

    Attributes:
      plain: Whether the ordinary network is: the ResNet inside a ResNet Fabric, a CNF of half the columns.
      whole: Whether the whole fabric is.
    """

    plain: bool = True
    whole: bool = False

    def without_common(self) -> ModuleBaselines:
        """Without the networks that are the same whatever the budget: a sweep trains them once."""
        return ModuleBaselines(self.int8, plain=False, whole=False)


@dataclass
class CellBaselines(Baselines):
    """Networks that are trained beside the searched one, for comparison.

    Attributes:
      plain: Whether the cells are in which every node reads both inputs through 3x3 convolutions.
    """

    plain: bool = True

    def without_common(self) -> CellBaselines:
        """Without the networks that are the same whatever the budget: a sweep trains them once."""
        return CellBaselines(self.int8, plain=False)


@dataclass
class GraphBaselines(Baselines):
    """Networks that are trained beside the searched one, for comparison, all from scratch as `train` says.

    Attributes:
      plain: Whether the network without interactions is.
      random: Whether one with a random graph is, with as many edges and the same influences in each layer.
      thresholds: Whether the network without interactions is whose convolutions have a learned threshold for each input
        channel. (In VGG-small batch normalisation is that already: there is no such network.)
    """

    plain: bool = True
    random: bool = False
    thresholds: bool = False

    def without_common(self) -> GraphBaselines:
        """Without the networks that are the same whatever the budget: a sweep trains them once."""
        return GraphBaselines(self.int8, plain=False, random=self.random)
