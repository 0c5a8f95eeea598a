"""What Larq Compute Engine makes of layers: the graph of a model, what is merged in it, and what each layer becomes.

Read by `costs` and `export`. A layer of one's own is added by `register`.
"""

from tfbnas.lce import own, standard  # noqa: F401  (register the layers that are known)
from tfbnas.lce.graph import Call, Graph, all_layers, flatten
from tfbnas.lce.operations import Operation, trace
from tfbnas.lce.registry import Bits, Rules, bits_of, register, rules_of

__all__ = [
    "Bits",
    "Call",
    "Graph",
    "Operation",
    "Rules",
    "all_layers",
    "bits_of",
    "flatten",
    "register",
    "rules_of",
    "trace",
]
