"""Costs that are a function of the user's own."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from tfbnas.architecture import Architecture
from tfbnas.errors import UserError
from tfbnas.units import Unit


class FunctionCost:
    """A cost of one's own: any function of the closed architecture. `Budget` makes one of a plain function.

    In a search over modules, what is closed are the choices of a sampled network as far as they are part of it: a
    choice is true where its modules lead from input to output. `tfbnas.build(architecture)` is that network.

    Args:
      function: From an Architecture to a number, at least 0.
      unit: What it counts, for messages and reports. Default: "units".
      stochastic: Whether it may give another number for the same architecture; if not, it is asked once for each.
        Default: False.
    """

    def __init__(self, function: Callable[[Architecture], float], *, unit: str = "units", stochastic: bool = False):
        if not callable(function):
            raise UserError(f"Expected a function of an Architecture. Received: {function!r}.")
        self.function = function
        self.unit, self.shown = unit, Unit(unit)
        self.stochastic = stochastic
        self.name = getattr(function, "__name__", type(function).__name__)

    def of(self, architecture: Architecture) -> float:
        """What the function says.

        Raises:
          UserError: It fails; its own error is the cause.
        """
        try:
            return self.function(architecture)
        except UserError:
            raise
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise UserError(
                f"Expected the cost {self.name} to give a number. Received: {type(error).__name__}: {error} "
                f"({last.filename}, line {last.lineno})."
            ) from error
