"""What a network costs, and budgets."""

from tfbnas.costs.budget import Budget, largest_within
from tfbnas.costs.cost import Cost
from tfbnas.costs.latency import Latency
from tfbnas.costs.memory import MIB, Memory
from tfbnas.costs.trace import Operation, trace

__all__ = ["MIB", "Budget", "Cost", "Latency", "Memory", "Operation", "largest_within", "trace"]
