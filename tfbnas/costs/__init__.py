"""What a network costs, and budgets."""

from tfbnas.costs.budget import Budget, largest_within
from tfbnas.costs.cost import Cost, DifferentiableCost
from tfbnas.costs.distributed import Distributed
from tfbnas.costs.edges import EdgeCount
from tfbnas.costs.function import FunctionCost
from tfbnas.costs.latency import Latency
from tfbnas.costs.macs import MultiplyAdds, Parameters
from tfbnas.costs.measured import MeasuredLatency
from tfbnas.costs.memory import MIB, Memory
from tfbnas.lce.operations import Operation, trace

__all__ = [
    "MIB",
    "Budget",
    "Cost",
    "DifferentiableCost",
    "Distributed",
    "EdgeCount",
    "FunctionCost",
    "Latency",
    "MeasuredLatency",
    "Memory",
    "MultiplyAdds",
    "Operation",
    "Parameters",
    "largest_within",
    "trace",
]
