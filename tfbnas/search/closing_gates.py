"""Closing gates: the modules that are kept when a search over a graph ends, within all budgets and using them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tfbnas.networks.graph import NetworkGraph
from tfbnas.networks.pruning import Bits
from tfbnas.search.priced_graph import PricedGraph
from tfbnas.units import SPENT

_EXCHANGES = 100
"""How many exchanges are priced at most before none is made."""
_ROUNDS, _PATHS, _PAIRED = 4, 20, 60

Way = frozenset[int]
"""Gates that are closed and, opened together, lead from what is kept to what is kept."""


class ClosingGates:
    """Closes the gates of a search; what was asked last is remembered.

    Args:
      priced: The graph, its costs and their limits.
      fill: Whether gates that are more probably closed are opened where the budgets have room for them.
    """

    def __init__(self, priced: PricedGraph, *, fill: bool):
        self.priced, self.fill = priced, fill
        self._last: tuple[bytes, Bits] = (b"", np.zeros(0, bool))

    def probable(self, probabilities: np.ndarray) -> Bits:
        """The gates `[gates]` that are more probably open, as far as the budgets allow; see `within`."""
        return within(self.priced, most_probable(self.priced.graph, probabilities), probabilities)

    def __call__(self, probabilities: np.ndarray) -> Bits:
        """The gates `[gates]` of the network that comes out.

        Args:
          probabilities: Of each gate to be open, `[gates]`.
        """
        key = np.asarray(probabilities).tobytes()
        if key != self._last[0]:
            gates = self.probable(probabilities)
            self._last = key, filled(self.priced, gates, probabilities) if self.fill else gates
        return self._last[1]

    def unspent(self, probabilities: np.ndarray) -> str:
        """Why the network uses less than `SPENT` of every budget, in a sentence; "" where it does not."""
        gates = self(probabilities)
        share = self.priced.shares(gates).max()
        if share >= SPENT:
            return ""
        text = f"The network uses {100 * share:.1f} % of its budget"
        if gates.all():
            return f"{text}: every module is kept."
        if not self.fill:
            return f"{text}: `fill_budget` is false."
        return f"{text}: no module that was left out fits into the rest."


def most_probable(graph: NetworkGraph, probabilities: np.ndarray) -> Bits:
    """What is left where each gate takes its more probable side; where that is nothing, the most probable path."""
    pruned = graph.prune((probabilities > 0.5)[None])
    if pruned.modules.any():
        return pruned.gates[0]
    return graph.cheapest_path(_doubts(graph, probabilities))


def within(priced: PricedGraph, gates: Bits, probabilities: np.ndarray) -> Bits:
    """What the budgets allow of gates: the least probable that no path depends on are closed one after another.

    Where that does not lead within all budgets, the most probable of the paths that do is taken.
    """
    while not priced.affordable(priced.kept(gates)):
        for gate in sorted(np.flatnonzero(gates), key=lambda gate: probabilities[gate]):
            fewer = gates.copy()
            fewer[gate] = False
            pruned = priced.graph.prune(fewer[None])
            if pruned.modules.any():
                gates = pruned.gates[0]
                break
        else:
            return priced.best_path(_doubts(priced.graph, probabilities))
    return gates


def filled(priced: PricedGraph, gates: Bits, probabilities: np.ndarray) -> Bits:
    """Gates with those besides that the budgets have room for.

    What is opened is a way: a gate, or several that lead from what is kept to what is kept only together. Its value is
    the probability that all of them are open, its price the share that it takes of what is left of the tightest budget.
    The way with the most value for its price comes first, one that costs nothing before all others. Of the ways through
    a gate the most probable one is looked at, and where none of these fits, the one with the fewest gates. Where too
    much is left then, gates are exchanged. A cost that is dear to ask is asked as seldom as possible: there the most
    probable way that fits comes first, and nothing is exchanged.

    Args:
      priced: The graph, its costs and their limits.
      gates: What is kept, within the budgets, `[gates]`.
      probabilities: Of each gate to be open, `[gates]`.
    """
    gates = _grown(priced, gates, probabilities)
    if priced.is_dear:
        return gates
    for _ in range(_ROUNDS):
        exchanged = _exchanged(priced, gates, probabilities)
        if exchanged is gates:
            break
        gates = _grown(priced, exchanged, probabilities)
    return _begun_anew(priced, gates, probabilities)


def _begun_anew(priced: PricedGraph, gates: Bits, probabilities: np.ndarray) -> Bits:
    """The gates, or where they use no budget, the most probable network that does and grows from a single path."""
    graph, doubts = priced.graph, _doubts(priced.graph, probabilities)
    if priced.shares(gates).max() >= SPENT:
        return gates
    nothing = np.zeros_like(gates)
    paths = sorted(ways(graph, nothing, doubts), key=lambda path: (-np.prod(probabilities[list(path)]), sorted(path)))
    starts = [_switched(nothing, path, True) for path in paths[:_PATHS]]
    grown = [_grown(priced, start, probabilities) for start in starts if priced.shares(start).max() <= 1.0]
    odds = _odds(probabilities)
    return max(
        (one for one in grown if priced.shares(one).max() >= SPENT), key=lambda one: odds[one].sum(), default=gates
    )


def _grown(priced: PricedGraph, gates: Bits, probabilities: np.ndarray) -> Bits:
    """Gates with all ways that fit, one after another."""
    graph, refused = priced.graph, set[Way]()
    while True:
        fewest = [float(gate >= 0) for gate in graph.guard]
        for lengths in (_doubts(graph, probabilities), fewest):
            found = ways(graph, gates, lengths) - refused
            values = {way: float(np.prod(probabilities[list(way)])) for way in found}
            if (way := _best(priced, gates, values, refused)) is not None:
                break
        else:
            return gates
        gates = graph.prune(_switched(gates, way, True)[None]).gates[0]


def _best(priced: PricedGraph, gates: Bits, values: Mapping[Way, float], refused: set[Way]) -> Way | None:
    """The way with the most value for its price that all budgets allow; those that they do not are `refused` hence."""
    limits = priced.limits
    here = np.zeros(len(limits)) if priced.is_dear else np.array(priced.price(priced.kept(gates)))
    ranks: dict[Way, tuple[float, float]] = {}
    for way, value in sorted(values.items(), key=lambda item: (-item[1], sorted(item[0]))):
        prices = np.array(priced.price(priced.kept(_switched(gates, way, True))))
        if np.any(prices > limits):
            refused.add(way)
            continue
        if priced.is_dear:
            return way
        share = float(np.max((prices - here) / np.maximum(limits - here, 1e-12 * limits)))
        ranks[way] = (math.inf, value) if share <= 0.0 else (value / share, value)
    return max(ranks, key=ranks.__getitem__, default=None)


def _exchanged(priced: PricedGraph, gates: Bits, probabilities: np.ndarray) -> Bits:
    """Gates of which one or two were closed so that others fit, and a budget is used; the same ones where none helps.

    Modules are coarse: with none to add, a tenth of a budget may be left. So one or two ways are opened in exchange for
    one or two gates, with what depends on these. Of the exchanges that use `SPENT` of a budget the most probable
    network is taken; where none does, of those that use more than now the one that uses most. Prices are added up to
    find the exchanges worth a look, and then asked for.
    """
    graph, odds = priced.graph, _odds(probabilities)
    here = priced.shares(gates)
    if here.max() >= SPENT:
        return gates
    singles: list[tuple[Way, np.ndarray]] = []
    for gate in np.flatnonzero(gates):
        fewer = graph.prune(_switched(gates, {gate}, False)[None])
        if fewer.modules.any():
            closed = frozenset(np.flatnonzero(gates & ~fewer.gates[0]).tolist())
            singles.append((closed, priced.shares(fewer.gates[0]) - here))
    found = ways(graph, gates, _doubts(graph, probabilities)) | ways(graph, gates, [1.0] * len(graph.guard))
    closings = _with_pairs(singles)
    openings = _with_pairs(
        [(way, priced.shares(_switched(gates, way, True)) - here) for way in sorted(found, key=sorted)]
    )
    if not closings or not openings:
        return gates
    less, more = (np.array([extra for _, extra in each]) for each in (closings, openings))
    uses = np.max(here + less[:, None] + more[None], axis=2)
    worth = [
        np.array([sign * odds[list(way)].sum() for way, _ in each]) for sign, each in ((-1, closings), (1, openings))
    ]
    possible = np.flatnonzero((uses > here.max() + 1e-9) & (uses <= 1.0))
    order = np.lexsort(((worth[0][:, None] + worth[1]).flat[possible], np.minimum(uses.flat[possible], SPENT)))
    for place in possible[order[::-1][:_EXCHANGES]]:
        first, second = np.unravel_index(place, uses.shape)
        other = _switched(_switched(gates, closings[first][0], False), openings[second][0], True)
        other = graph.prune(other[None]).gates[0]
        if here.max() + 1e-9 < priced.shares(other).max() <= 1.0:
            return other
    return gates


def _with_pairs(ones: list[tuple[Way, np.ndarray]]) -> list[tuple[Way, np.ndarray]]:
    """Each alone, and every two of not too many together, with the sum of what they change."""
    return (
        ones
        if len(ones) > _PAIRED
        else ones + [(a | b, extra + other) for (a, extra), (b, other) in itertools.combinations(ones, 2)]
    )


def _switched(gates: Bits, some: Iterable[int], to: bool) -> Bits:
    changed = gates.copy()
    changed[list(some)] = to
    return changed


def ways(graph: NetworkGraph, gates: Bits, lengths: Sequence[float]) -> set[Way]:
    """For each closed gate the shortest way through it.

    Args:
      graph: The modules.
      gates: What is kept: gates that lead from input to output, `[gates]`, or none. Then ways are whole paths.
      lengths: Of each module, at least 0; for instance its doubt, minus the logarithm of its probability.
    """
    kept = graph.prune(gates[None]).modules[0]
    before = _nearest(graph.order, graph.predecessors, kept, lengths)
    after = _nearest(graph.order[::-1], graph.successors, kept, lengths)  # begins at the output
    best: dict[int, tuple[float, Way]] = {}
    for module, gate in enumerate(graph.guard):
        if gate < 0 or gates[gate] or module not in before or module not in after:
            continue
        length = before[module][0] + after[module][0] - lengths[module]
        if gate not in best or length < best[gate][0]:
            on_way = (graph.guard[one] for one in (*before[module][1], *after[module][1]))
            best[gate] = length, frozenset(one for one in on_way if one >= 0)
    return {way for _, way in best.values()}


def _nearest(
    order: Iterable[int], neighbours: Sequence[Sequence[int]], kept: np.ndarray, lengths: Sequence[float]
) -> dict[int, tuple[float, tuple[int, ...]]]:
    """For each module that is not kept, the shortest path to it from a kept one: its length, and its modules.

    Where the first module of the order is not kept, paths begin there, too. A module without neighbours elsewhere is a
    dead end.
    """
    found: dict[int, tuple[float, tuple[int, ...]]] = {}
    for place, module in enumerate(order):
        if kept[module]:
            continue
        origins = [(0.0, ()) if kept[one] else found[one] for one in neighbours[module] if kept[one] or one in found]
        origins = [(0.0, ())] if place == 0 else origins
        if origins:
            length, path = min(origins)
            found[module] = length + lengths[module], (*path, module)
    return found


def _odds(probabilities: np.ndarray) -> np.ndarray:
    """Logarithm of the odds that each gate is open: their sum is largest for the most probable network."""
    bounded = np.clip(np.asarray(probabilities, np.float64), 1e-12, 1 - 1e-12)
    return np.log(bounded / (1 - bounded))


def _doubts(graph: NetworkGraph, probabilities: np.ndarray) -> list[float]:
    """-log of the probability that each module's gate is open; 0 where it has none."""
    with np.errstate(divide="ignore"):
        each = np.append(-np.log(np.asarray(probabilities, np.float64)), 0.0)  # -1 is the guard of no gate
    return np.minimum(each, 1e3)[graph.guard].tolist()
