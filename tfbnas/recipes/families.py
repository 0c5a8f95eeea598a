"""Settings of the network families that the recipes search: one class for the group `network` each.

TensorFlow is not imported here.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from tfbnas.errors import UserError, require_positive
from tfbnas.recipes.baselines import CellBaselines, GraphBaselines, ModuleBaselines, WidthBaselines

Binarisation = Literal["zero_alpha", "sign", "float"]
AnyBinarisation = Literal["zero_alpha", "sign", "rectified", "float"]
Shortcuts = Literal["block", "convolution"]
Thresholds = Literal["edge", "tensor"]


@dataclass
class NetworkSettings:
    """The network that is searched.

    Attributes:
      family: Name of a network family, or package.module:function for a builder of your own.
      options: Further arguments of the builder; for another family than the recipe's, all of them.
    """

    family: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    segmentation: ClassVar[bool] = False
    width_option: ClassVar[str] = "base"
    """The builder's argument with which all widths grow, for a family whose widths are no choices."""
    width_multiple: ClassVar[int] = 1
    baselines: ClassVar[type] = WidthBaselines
    RENAMED: ClassVar[dict[str, str]] = {"binary": "binarisation (zero_alpha for true, float for false)"}

    @property
    def is_own(self) -> bool:
        """Whether the family is the one that the recipe's further settings belong to."""
        own = {one.name: one for one in fields(self)}["family"].default
        return self.family == own

    def builder_options(self) -> dict[str, Any]:
        """Arguments of the network's builder."""
        if not self.is_own:
            return dict(self.options)
        named = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("family", "options")}
        return {**{name: value for name, value in named.items() if value is not None}, **self.options}

    def unused(self) -> list[str]:
        """Settings of the recipe's own family that differ from their defaults while another family is searched."""
        if self.is_own:
            return []
        others = [one for one in fields(self) if one.name not in ("family", "options") and one.default is not MISSING]
        return [one.name for one in others if getattr(self, one.name) != one.default]

    def references(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """By the name of its setting in `baselines`: label and builder's arguments of a network to compare with."""
        return {"whole": (f"whole {self.family}", self.builder_options())}

    def check(self) -> None:
        counts = {one.name: getattr(self, one.name) for one in fields(self) if one.type in ("int", "int | None")}
        require_positive("network", **{name: value for name, value in counts.items() if value is not None})


@dataclass
class ResNet18Settings(NetworkSettings):
    """The network that is searched: ResNet-18.

    Attributes:
      base: Channels of the first stage; null for 16, above 64 pixels 64.
      stages: Channels of each of the four stages, for instance [64, 64, 128, 256]; null for base, doubled from stage to
        stage.
      binarisation: zero_alpha ({0, alpha} activations, standardised kernels), sign (both -1 and +1), rectified (sign
        with a learned scale for each convolution), or float.
      shortcuts: Around what a shortcut leads: block (of two convolutions, as published) or convolution (each, as in
        Bi-Real Net; a stage then has one width). null is block.
    """

    family: str = "resnet18"
    base: int | None = None
    stages: list[int] | None = None
    binarisation: AnyBinarisation = "zero_alpha"
    shortcuts: Shortcuts | None = None


@dataclass
class KerasModelSettings(NetworkSettings):
    """The network: a Keras model of your own, with its weights.

    Attributes:
      model: A .keras or .h5 file of Keras's, Larq's and tfbnas's layers.
    """

    family: str = "keras_model"
    model: str | None = None

    def builder_options(self) -> dict[str, Any]:
        if not self.is_own or self.model is None:
            return dict(self.options)
        return {"file": os.path.abspath(self.model), **self.options}

    def absolute(self) -> KerasModelSettings:
        """With the path of the file from the root."""
        return self if self.model is None else replace(self, model=os.path.abspath(self.model))

    def check(self) -> None:
        if self.is_own and self.model is None:
            raise UserError("Expected `network.model` to be a Keras file. Received: none; add --network.model FILE.")


@dataclass
class Vgg11Settings(NetworkSettings):
    """The network that is searched: VGG-11.

    Attributes:
      base: Channels of the first convolution.
      binarisation: zero_alpha ({0, alpha} activations, standardised kernels), sign (both -1 and +1), rectified (sign
        with a learned scale for each convolution), or float.
    """

    family: str = "vgg11"
    base: int = 16
    binarisation: AnyBinarisation = "zero_alpha"


@dataclass
class InteractionSettings(NetworkSettings):
    """The network that is searched, with channel interactions.

    Attributes:
      base: Channels of the first stage.
      binarisation: sign (activations and kernels -1 and +1), or float, which has no interactions.
      levels: K0; the influence of an edge is +-3 to +-(2 K0 + 1). Paper: 2.
      influence_unit: U0, the share of a bitcount's range by which one step corrects. Paper: 0.01.
      interval_reach: Up to which bitcount the intervals of a teacher divide, in units of sqrt(N0), by which N0
        independent bits deviate; null for the whole range (paper).
    """

    base: int = 128
    binarisation: Literal["sign", "float"] = "sign"
    levels: int = 2
    influence_unit: float = 0.01
    interval_reach: float | None = None

    baselines: ClassVar[type] = GraphBaselines

    def references(self) -> dict[str, tuple[str, dict[str, Any]]]:
        return {"plain": (f"{self.family} without interactions", self.builder_options())}


@dataclass
class ResNet20Settings(InteractionSettings):
    """The network that is searched: ResNet-20 with channel interactions.

    Attributes:
      n: Pairs of convolutions in each of the three stages; the depth is 6 n + 2.
      shortcuts: Around what a shortcut leads: convolution (each) or block (of two). null is convolution.
    """

    family: str = "resnet20"
    base: int = 16
    n: int = 3
    shortcuts: Shortcuts | None = None

    def references(self) -> dict[str, tuple[str, dict[str, Any]]]:
        found = super().references()
        if self.is_own:
            own = {**self.builder_options(), "thresholds": True}
            found["thresholds"] = (f"{self.family} with learned thresholds", own)
        return found


@dataclass
class ResNet18InteractionSettings(InteractionSettings):
    """The network that is searched: ResNet-18 in its ImageNet form, with channel interactions.

    Attributes:
      n: Pairs of convolutions in each of the four stages.
      shortcuts: Around what a shortcut leads: block (of two convolutions) or convolution (each: Bi-Real Net).
    """

    family: str = "resnet18_interactions"
    base: int = 64
    n: int = 2
    shortcuts: Shortcuts = "block"


@dataclass
class VggSmallSettings(InteractionSettings):
    """The network that is searched: VGG-small with channel interactions, or another VGG network.

    Attributes:
      stages: Channels of the convolutions of each stage, which ends with a max pool, in units of base. null is
        VGG-small: [[1, 1], [2, 2], [4, 4]].
    """

    family: str = "vgg_small"
    stages: list[list[int]] | None = None


def _without_default_thresholds(settings: NetworkSettings, options: dict[str, Any]) -> dict[str, Any]:
    """An architecture of a version that had no such argument keeps its identity."""
    if not settings.is_own:
        return options
    return {name: value for name, value in options.items() if (name, value) != ("thresholds", "edge")}


@dataclass
class FabricSettings(NetworkSettings):
    """The network that is searched: a ResNet Fabric.

    Attributes:
      n: Blocks of each of the three groups: 3, 5, 7, 9, 18 hold ResNet-20, -32, -44, -56, -110.
      base: Channels of the first group.
      binarisation: zero_alpha or sign, for Larq Compute Engine; float for the network of the paper.
      thresholds: edge: every convolution quantises what it reads at a threshold of its own. tensor: each tensor is
        quantised once for all that read it, which is faster when deployed.
    """

    family: str = "resnet_fabric"
    n: int = 3
    base: int = 16
    binarisation: Binarisation = "zero_alpha"
    thresholds: Thresholds = "edge"

    baselines: ClassVar[type] = ModuleBaselines

    def builder_options(self) -> dict[str, Any]:
        return _without_default_thresholds(self, super().builder_options())

    def references(self) -> dict[str, tuple[str, dict[str, Any]]]:
        if not self.is_own:
            return super().references()
        whole = self.builder_options()
        return {"plain": (f"ResNet-{6 * self.n + 2}", {**whole, "links": False}), "whole": ("whole fabric", whole)}


@dataclass
class CnfSettings(NetworkSettings):
    """The network that is searched: a convolutional neural fabric.

    Attributes:
      columns: W of the paper.
      scales: H of the paper; the sides of the images must be multiples of 2^(scales - 1).
      filters: Channels of every node.
      binarisation: zero_alpha or sign, for Larq Compute Engine; float for the network of the paper.
      thresholds: edge: every convolution quantises what it reads at a threshold of its own. tensor: each tensor is
        quantised once for all that read it, which is faster when deployed.
    """

    family: str = "cnf"
    columns: int = 8
    scales: int = 6
    filters: int = 128
    binarisation: Binarisation = "zero_alpha"
    thresholds: Thresholds = "edge"

    baselines: ClassVar[type] = ModuleBaselines
    width_option: ClassVar[str] = "filters"

    def builder_options(self) -> dict[str, Any]:
        own = _without_default_thresholds(self, super().builder_options())
        return {**own, "segmentation": True} if self.segmentation and self.is_own else own

    def references(self) -> dict[str, tuple[str, dict[str, Any]]]:
        if not self.is_own:
            return super().references()
        # With a single column a network for segmentation is nothing but its stem.
        whole, half = self.builder_options(), max(2 if self.segmentation else 1, self.columns // 2)
        return {"plain": (f"CNF W={half}", {**whole, "columns": half}), "whole": (f"CNF W={self.columns}", whole)}


@dataclass
class SegmentationSettings(CnfSettings):
    """The network that is searched: a convolutional neural fabric that classifies every pixel."""

    scales: int = 9
    filters: int = 64

    segmentation: ClassVar[bool] = True


@dataclass
class CellsSettings(NetworkSettings):
    """The network that is searched: normal and reduction cells.

    Attributes:
      depth: Number of cells.
      channels: Of a node in the first cells, a multiple of 16; doubled by each of the two reduction cells.
      nodes: Of a cell, each with an edge from both inputs and every node in front of it.
      operations: deployable (what Larq Compute Engine runs in binary), or paper (with depthwise convolutions).
      binarisation: zero_alpha ({0, alpha} activations, standardised kernels) or sign (both -1 and +1).
    """

    family: str = "cells"
    depth: int = 8
    channels: int = 16
    nodes: int = 4
    operations: Literal["deployable", "paper"] = "deployable"
    binarisation: Binarisation = "zero_alpha"

    baselines: ClassVar[type] = CellBaselines
    width_option: ClassVar[str] = "channels"
    width_multiple: ClassVar[int] = 16

    def references(self) -> dict[str, tuple[str, dict[str, Any]]]:
        if not self.is_own:
            return super().references()
        return {"plain": ("cells of 3x3 convolutions", self.builder_options())}


@dataclass
class QuickNetSettings(NetworkSettings):
    """The network that is searched: QuickNet, by its widths.

    Attributes:
      blocks: Residual blocks of each section.
      filters: Channels of each section, as published.
      binarisation: sign (activations and kernels -1 and +1), or float.
    """

    family: str = "quicknet"
    blocks: list[int] = field(default_factory=lambda: [4, 4, 4, 4])
    filters: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    binarisation: Literal["sign", "float"] = "sign"

    width_option: ClassVar[str] = "filters"

    def check(self) -> None:
        for blocks, filters in itertools.zip_longest(self.blocks, self.filters, fillvalue=0):
            require_positive("network", blocks=blocks, filters=filters)
        super().check()


@dataclass
class QuickNetBlocksSettings(QuickNetSettings):
    """The network that is searched: QuickNet, by its blocks.

    Attributes:
      blocks: Residual blocks of each section, of which a search leaves some out.
    """

    family: str = "quicknet_blocks"

    baselines: ClassVar[type] = ModuleBaselines

    def references(self) -> dict[str, tuple[str, dict[str, Any]]]:
        if not self.is_own:
            return super().references()
        whole = self.builder_options()
        half = {**whole, "blocks": [max(1, count // 2) for count in self.blocks]}
        return {"plain": ("QuickNet, half the blocks", half), "whole": ("whole QuickNet", whole)}


FAMILIES: dict[str, type[NetworkSettings]] = {
    "resnet18": ResNet18Settings,
    "vgg11": Vgg11Settings,
    "resnet_fabric": FabricSettings,
    "cnf": CnfSettings,
    "cnf_segmentation": SegmentationSettings,
    "cifar10": CellsSettings,
    "resnet18_interactions": ResNet18InteractionSettings,
    "resnet20": ResNet20Settings,
    "vgg_small": VggSmallSettings,
    "quicknet": QuickNetSettings,
    "quicknet_blocks": QuickNetBlocksSettings,
    "keras_model": KerasModelSettings,
}
"""By the name that a recipe has behind its method's."""
