"""The search methods by name. TensorFlow is not imported here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Method:
    """A search method.

    Attributes:
      name: As architectures, recipes and modules name it: `tfbnas.search.<name>` and `tfbnas.search.<name>_settings`.
      label: For people; also the name of its class.
      title: What it does, in a few words.
      source: The paper.
    """

    name: str
    label: str
    title: str
    source: str

    @property
    def settings(self) -> Any:
        """The dataclass of its hyperparameters. TensorFlow is not imported."""
        return importlib.import_module(f"tfbnas.search.{self.name}_settings").Settings

    @property
    def search(self) -> Any:
        """Its class, a `tfbnas.search.base.Search`. This imports TensorFlow."""
        return getattr(importlib.import_module(f"tfbnas.search.{self.name}"), self.label)


_DMS = "DMS: Differentiable Dimension Search for Binary Neural Networks"
_BSN = "Veniat & Denoyer, Learning Time/Memory-Efficient Deep Architectures with Budgeted Super Networks, CVPR 2018"
_CIBCNN = "Wang et al., Learning Channel-wise Interactions for Binary Convolutional Neural Networks, CVPR 2019"
_RANDOM = "Li & Talwalkar, Random Search and Reproducibility for Neural Architecture Search, UAI 2019"
_DCP = "Li et al., DCP-NAS: Discrepant Child-Parent Neural Architecture Search for 1-bit CNNs, IJCV 2023"
_RBCN = "Liu et al., RBCN: Rectified Binary Convolutional Networks with Generative Adversarial Learning, IJCV 2021"
_CP = "Zhuo et al., CP-NAS: Child-Parent Neural Architecture Search for 1-bit CNNs, IJCAI 2020"

METHODS: dict[str, Method] = {
    "dms": Method("dms", "DMS", "Differentiable dimension search", _DMS),
    "bsn": Method("bsn", "BSN", "Budgeted super networks", _BSN),
    "cibcnn": Method("cibcnn", "CIBCNN", "Channel-wise interactions", _CIBCNN),
    "random": Method("random", "Random", "Random search", _RANDOM),
    "dcpnas": Method("dcpnas", "DCPNAS", "Discrepant child-parent search", _DCP),
    "rbcn": Method("rbcn", "RBCNPruning", "Adversarial pruning", _RBCN),
    "cpnas": Method("cpnas", "CPNAS", "Child-parent search", _CP),
}
"""All methods. A new one adds one line."""
