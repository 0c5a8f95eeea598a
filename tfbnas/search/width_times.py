"""What networks of given widths cost, and how long they take by a latency table: what closing widths asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfbnas.costs import Budget, Latency, Operation
from tfbnas.costs.closed import prices_of_widths
from tfbnas.costs.operators import operator
from tfbnas.search.closing_widths import Prices


def table(budgets: Sequence[Budget], fast_on: str | None) -> Latency | None:
    """The latency table by which widths are delivered: that of the first latency budget, else the settings'.

    Args:
      budgets: Of the search.
      fast_on: A table's name or file; None for no table at all.
    """
    if fast_on is None:
        return None
    own = next((budget.cost for budget in budgets if isinstance(budget.cost, Latency)), None)
    return own or Latency(fast_on)


def prices_and_times(
    budgets: Sequence[Budget], found: Latency | None, operations: Sequence[Operation], names: Sequence[str]
) -> tuple[Prices, Prices | None]:
    """What `closing_widths` takes as prices and as times, out of one function; it is made when it is first asked.

    There are no times without a table, or where it does not know all of the layers.
    """
    costs: list[Any] = [budget.cost for budget in budgets]
    keys = {operator(operation) for operation in operations} - {None}
    if found is None or not keys <= set(found.table["operators"]):
        return prices_of_widths(costs, operations, names), None
    if costs == [found]:
        own = prices_of_widths(costs, operations, names)
        return own, own
    both = prices_of_widths([*costs, found], operations, names)
    return lambda rows: both(rows)[:, :-1], lambda rows: both(rows)[:, -1:]
