"""Costs and budgets, made from the settings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Cost, Distributed, EdgeCount, Latency, MeasuredLatency, Memory, MultiplyAdds
from tfbnas.costs.measured import Prepare
from tfbnas.device import DeviceError, Session, measured, open_target
from tfbnas.errors import UserError
from tfbnas.recipes.budget import BudgetSettings
from tfbnas.units import UNITS

MAKERS: dict[str, Callable[[BudgetSettings], Cost]] = {
    "memory": lambda own: Memory(own.counting),
    "binary_memory": lambda own: Memory(own.counting, part="binary"),
    "float_memory": lambda own: Memory(own.counting, part="float"),
    "latency": lambda own: Latency(own.device),
    "multiply_adds": lambda own: MultiplyAdds(),
    "edges": lambda own: EdgeCount(),
    "steps": lambda own: Distributed(own.machines, allocation=own.allocation),
}
"""A cost of the settings by its name; measured_latency needs a machine as well, see `budgets`."""


def budgets(settings: BudgetSettings, prepare: Prepare | None = None) -> dict[str, Budget]:
    """The budgets of the settings by the names of their costs, that of `budget.cost` first.

    Args:
      settings: The group `budget`.
      prepare: Measures networks, as `measuring` gives it. Default: none; then measured_latency is left out.
    """
    found = {}
    for name, limit in settings.limits.items():
        if name == "measured_latency":
            if prepare is None:
                continue
            cost: Cost = MeasuredLatency(prepare)
        else:
            cost = MAKERS[name](settings)
        found[name] = Budget(cost, limit * UNITS[name].scale, settings.weight(name))
    return found


def prices(architecture: Architecture, limited: dict[str, Budget]) -> dict[str, float]:
    """What a closed network costs, by the names of the budgets, each in the cost's own unit."""
    return {name: float(budget.cost.of(architecture)) for name, budget in limited.items()}


def milliseconds(architecture: Architecture, device: str, *, int8: bool = False) -> float:
    """Predicted time of one inference of a closed network; 0 where the table says nothing of one of its operators."""
    try:
        return Latency(device, int8=int8).of(architecture)
    except UserError:
        return 0.0


@contextlib.contextmanager
def measuring(settings: BudgetSettings) -> Iterator[Prepare | None]:
    """The way to measure networks on the machine of the settings; None where no budget asks for that.

    Raises:
      UserError: The machine cannot be reached, or there is no benchmark program for it.
    """
    if "measured_latency" not in settings.limits:
        yield None
    elif settings.target == "host" and settings.binary is None:
        yield measured.on_host()
    else:
        with contextlib.ExitStack() as stack:
            try:
                session = stack.enter_context(Session(open_target(settings.target or ""), settings.binary))
            except DeviceError as error:
                # The device's own command line, for which these messages are written, has no groups of settings.
                raise UserError(str(error).replace("--binary", "--budget.binary")) from error
            yield measured.on_target(session)
