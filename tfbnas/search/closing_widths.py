"""Closing widths: the numbers of channels that use a budget and keep the proportions that a search found.

A search that has found mean ratios mu ends a little below its budget, or above it. First all mu are scaled by one
factor, up or down, to the largest with which no budget is exceeded: what the search knows are proportions. What is then
left is less than one channel of every width. It goes, channel by channel, where it helps most. What helps is read off
the search itself. At an optimum of the loss under a budget, the channel at mu gains the same for each unit of cost in
every width, else the search would have moved one towards the other. So a channel is worth what a channel of its width
costs on average, times the probability that its width has it: the logistic distribution's mass above its ratio. The
channel with the most worth for its own cost comes first. Where cost rises evenly these are the widths that rounding
took the most from; where it rises in stairs, a channel that makes the next stair cheap comes before one that climbs it.

A width may be slower than a wider one: kernels work on eights of outputs, and quantise whole words of 32 channels many
times faster than others. Where the closing knows times, each width becomes the fastest of the number found and the next
multiples of 8 and of 32, or the multiple just below, where the few channels above it take a larger share of the time
than of the budget. The common factor is the largest with which that is within the budgets. What is left goes where it
makes no width one for which a wider one is faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfbnas.units import SPENT

Prices = Callable[[np.ndarray], np.ndarray]
"""From numbers of channels `[networks, widths]` to costs `[networks, budgets]`, each in its own unit."""

_FACTORS = 256
_FEWER = 64
"""Common factors of which each is widened; that takes many prices."""
_STRIDE = 32
"""Channels up to which a step may go: a word of bits, behind which the stairs of a latency begin anew."""
_LIKED = (8, 32)
"""Kernels are made for multiples of these: outputs in eights, words of 32 channels."""
_LEAST = 0.85
"""Of the common factor without wider widths, the least share for which all widths become faster ones."""
_NEAR = 8
"""A width gives up at most one of so many channels for the liked number below it,"""
_GAIN = 0.004
"""and only for this share of the time."""
_CLIFF = 0.006
"""Share of the time that a step may take though it takes little of the budget: an eight of outputs, but no word."""
_FAIR = 1.5
"""Share of the time that channels may take for each share of the budget."""
_ROUNDING = 1e-6
"""Relative error of a price that was summed in float32."""


@dataclass(frozen=True)
class ClosedWidths:
    """What widths were closed to.

    Attributes:
      channels: Of each width, `[widths]`.
      share: The largest share of a budget that the network uses.
      is_widest: Whether no width may have more channels.
    """

    channels: np.ndarray
    share: float
    is_widest: bool


def channels_of(ratios: np.ndarray, base: np.ndarray, *, multiple: int = 1) -> np.ndarray:
    """The nearest numbers of channels, at least one: max(1, round(ratio * base)), or the nearest multiple.

    Args:
      ratios: `[widths, ..]`.
      base: Channels at ratio 1, integers of a shape that broadcasts to that of `ratios`.
      multiple: What the channels are multiples of. Default: 1.
    """
    return np.maximum(1, np.round(ratios * base / multiple)).astype(int) * multiple


class ClosingWidths:
    """Closes the widths of a search; what was asked last is remembered. For the arguments see `close`."""

    def __init__(
        self,
        prices: Prices,
        limits: np.ndarray,
        *,
        base: np.ndarray,
        multiple: int = 1,
        fill: bool = True,
        times: Prices | None = None,
    ):
        self._prices, self._limits, self._times = prices, limits, times
        self._base, self._multiple, self._fill = base, multiple, fill
        self._last: tuple[tuple[bytes, float, bytes], ClosedWidths] | None = None

    def __call__(self, mu: np.ndarray, sigma: float, widest: np.ndarray) -> ClosedWidths:
        key = (mu.tobytes(), sigma, widest.tobytes())
        if self._last is None or self._last[0] != key:
            found = close(
                mu,
                sigma,
                base=self._base,
                widest=widest,
                prices=self._prices,
                limits=self._limits,
                multiple=self._multiple,
                fill=self._fill,
                times=self._times,
            )
            self._last = key, found
        return self._last[1]

    def unspent(self, closed: ClosedWidths) -> str:
        """Why a network uses less than `SPENT` of every budget, in a sentence or two; "" where it does not."""
        if closed.share >= SPENT:
            return ""
        text = f"The network uses {100 * closed.share:.1f} % of its budget"
        if not self._fill:
            return f"{text}: `fill_budget` is false."
        if closed.is_widest:
            return (
                f"{text}: every width is the widest that the search has tried. A larger `initial_ratio`, or more "
                "rounds, let it try wider ones."
            )
        channels = f"{self._multiple} channels" if self._multiple > 1 else "one channel"
        return f"{text}: {channels} more in any width would exceed it."


def close(
    mu: np.ndarray,
    sigma: float,
    *,
    base: np.ndarray,
    widest: np.ndarray,
    prices: Prices,
    limits: np.ndarray,
    multiple: int = 1,
    fill: bool = True,
    times: Prices | None = None,
) -> ClosedWidths:
    """The channels of the network that comes out, within all budgets.

    Args:
      mu: Mean ratios, `[widths]`.
      sigma: Scale of their distribution.
      base: Channels at ratio 1, `[widths]`.
      widest: Most channels that the search has tried, `[widths]`. A width gets no more, but those of its own mu.
      prices: Gives the costs of many networks at once.
      limits: Of the costs, `[budgets]`.
      multiple: What the channels are multiples of. Default: 1.
      fill: Whether what is left of the budgets is used. Otherwise mu is only scaled down where it exceeds one.
        Default: True.
      times: Gives the times of many networks at once, one column: then widths become wider ones that are faster.
        Default: none.
    """
    own = channels_of(mu, base, multiple=multiple)
    most = np.maximum(own, channels_of(widest / base, base, multiple=multiple)) if fill else own
    faster = Faster(times, multiple) if times is not None else None
    factor, channels = _scaled(mu, base, most, multiple, prices, limits, faster)
    if fill:
        channels = _filled(channels, factor * mu, sigma, base, most, multiple, prices, limits, faster)
    share = float(np.max(prices(channels[None])[0] / limits))
    return ClosedWidths(channels, share, bool(np.all(channels >= most)))


def fits(costs: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Whether costs `[networks, budgets]` are within all limits, whatever rounding did to them: `[networks]`.

    A cost that is its limit to the last bit is within it: bytes and their like are exact.
    """
    return np.all((costs <= limits * (1 - _ROUNDING)) | (costs == limits), axis=1)


class Faster:
    """Widths for which no liked wider one is faster.

    Args:
      times: Of many networks.
      multiple: What the channels are multiples of.
    """

    def __init__(self, times: Prices, multiple: int = 1):
        self._times = times
        self._liked = [math.lcm(liked, multiple) for liked in _LIKED]

    def widened(self, rows: np.ndarray, may: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """Networks `[networks, widths]` with each width the fastest of its own number and the next liked ones.

        The widths that save most come first. Where two are equally fast it is the narrower one.

        Args:
          rows: The networks.
          may: Of many networks, which may be. Default: all.
        """
        rows, every = rows.copy(), np.arange(len(rows))
        for _ in range(rows.shape[1]):
            wider, saved = self._saved(rows, may)
            best = np.argmax(saved, axis=1)
            worth = saved[every, best] > 0
            if not worth.any():
                break
            rows[every[worth], best[worth] % rows.shape[1]] = wider.reshape(len(rows), -1)[every[worth], best[worth]]
        return rows

    def widened_one(self, rows: np.ndarray, width: np.ndarray | int) -> np.ndarray:
        """The same for one width of each network, by its number `[networks]`; the others stay as they are."""
        every, best = np.arange(len(rows)), rows
        least = self._times(rows)[:, 0] * (1 - _ROUNDING)
        for liked in self._liked:
            wider = rows.copy()
            wider[every, width] = _up(rows[every, width], liked)
            time = self._times(wider)[:, 0]
            best = np.where((time < least)[:, None], wider, best)
            least = np.minimum(least, time)
        return best

    def narrowed(self, rows: np.ndarray, shares: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Networks without the few channels above a liked number that take much time for what they take of a budget.

        Args:
          rows: Networks `[networks, widths]`.
          shares: Of many networks the shares of their budgets that they take, `[networks]`.
        """
        rows = rows.copy()
        for liked in sorted(self._liked, reverse=True):
            for width in range(rows.shape[1]):
                other = rows.copy()
                other[:, width] = np.maximum(liked, rows[:, width] // liked * liked)
                is_near = (rows[:, width] - other[:, width]) * _NEAR <= rows[:, width]
                here = self._times(rows)[:, 0]
                time, share = 1 - self._times(other)[:, 0] / here, shares(rows) - shares(other)
                better = is_near & (time > np.maximum(_GAIN, _FAIR * share)) & (other[:, width] < rows[:, width])
                rows = np.where(better[:, None], other, rows)
        return rows

    def slowdown(self, channels: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The share of its time by which a network `[widths]` is slower as each of some others `[networks]`."""
        here = self._times(channels[None])[0, 0]
        return self._times(rows)[:, 0] / here - 1

    def _saved(self, rows: np.ndarray, may) -> tuple[np.ndarray, np.ndarray]:
        """Liked numbers `[networks, liked, widths]`, and the times that each saves alone `[networks, liked * widths]`.

        What is no faster, or may not be, saves nothing.
        """
        wider = np.stack([_up(rows, liked) for liked in self._liked], axis=1)
        count, kinds, widths = wider.shape
        single = np.repeat(rows[:, None], kinds * widths, axis=1).reshape(count, kinds, widths, widths)
        place = np.arange(widths)
        single[:, :, place, place] = wider
        here, single = self._times(rows), single.reshape(-1, widths)
        saved = here - self._times(single).reshape(count, -1)
        if may is not None:
            saved = np.where(may(single).reshape(saved.shape), saved, 0.0)
        return wider, np.where(saved > _ROUNDING * here, saved, 0.0)


def _up(channels: np.ndarray, multiple: int) -> np.ndarray:
    return -(-channels // multiple) * multiple


def _scaled(mu, base, most, multiple, prices, limits, faster) -> tuple[float, np.ndarray]:
    """The largest common factor of all mu within the limits, and the channels that it gives."""

    def channels(factors: np.ndarray) -> np.ndarray:
        return np.minimum(channels_of(factors[:, None] * mu, base, multiple=multiple), most)

    def liked(factors: np.ndarray) -> np.ndarray:
        distinct, places = np.unique(channels(factors), axis=0, return_inverse=True)
        near = faster.narrowed(distinct, lambda rows: np.max(prices(rows) / limits, axis=1))
        return faster.widened(near)[places.reshape(-1)]

    highest = float(np.max((most + multiple) / (mu * base)))
    factor, plain = _largest(channels, highest, prices, limits)
    if faster is None:
        return factor, plain
    narrower, found = _largest(liked, factor, prices, limits, count=_FEWER)
    if narrower >= _LEAST * factor and fits(prices(found[None]), limits)[0]:
        return narrower, found
    return factor, faster.widened(plain[None], lambda rows: fits(prices(rows), limits))[0]


def _largest(channels, highest: float, prices, limits, *, count: int = _FACTORS) -> tuple[float, np.ndarray]:
    """The largest factor up to `highest` of which the channels are within the limits, and these; 0 where none are.

    Costs may fall where channels rise, so no bisection: of many factors the largest is taken, and of those behind it.
    """
    low, high = 0.0, highest
    for _ in range(3):
        factors = np.linspace(low, high, count + 1)
        within = np.flatnonzero(fits(prices(channels(factors)), limits))
        best = int(within[-1]) if len(within) else 0
        low, high = float(factors[best]), float(factors[min(best + 1, count)])
    return low, channels(np.array([low]))[0]


def _filled(channels, mu, sigma, base, most, multiple, prices, limits, faster) -> np.ndarray:
    """The channels with what is left of the budgets, given to the width whose next channels are worth it most."""
    most = np.maximum(most, channels)
    count = len(channels)
    steps = multiple * np.arange(1, max(1, _STRIDE // multiple) + 1)
    here = prices(channels[None])[0]
    tightest = int(np.argmax(here / limits))
    around = np.maximum(multiple, channels // (2 * multiple) * multiple)
    wider, narrower = channels + around, np.maximum(multiple, channels - around)
    apart = prices(_with(channels, wider)) - prices(_with(channels, narrower))
    worth = np.maximum(apart[:, tightest] / (wider - narrower), 1e-12)
    while True:
        # Row [width, step]: that width with so many channels more.
        more = channels[:, None] + steps
        rows, moved = np.repeat(channels[None], more.size, axis=0), np.repeat(np.arange(count), len(steps))
        rows[np.arange(more.size), moved] = more.ravel()
        costs = prices(rows)
        possible = (fits(costs, limits) & (more <= most[:, None]).ravel()).reshape(more.shape)
        slower: Any = 0.0
        if faster is not None:
            slower = faster.slowdown(channels, rows).reshape(more.shape)
            cheap = (costs[:, tightest] - here[tightest]).reshape(more.shape) / limits[tightest]
            possible &= np.all(faster.widened_one(rows, moved) == rows, axis=1).reshape(more.shape)
            possible &= (slower <= _CLIFF) | (slower <= _FAIR * cheap)
        if not possible.any():
            return channels
        has = _probability(more[..., None] - np.arange(multiple), mu, sigma, base).sum(axis=-1)
        value = worth[:, None] * np.cumsum(has, axis=1)
        extra = np.maximum((costs[:, tightest] - here[tightest]).reshape(more.shape), slower * limits[tightest])
        free = extra <= 1e-9 * limits[tightest]
        gain = np.where(free, 1e12 * value, value / np.where(free, 1.0, extra))
        width, step = np.unravel_index(np.argmax(np.where(possible, gain, -1.0)), more.shape)
        channels = channels.copy()
        channels[width] = more[width, step]
        here = prices(channels[None])[0]


def _with(channels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`[widths, widths]`: in row i, width i alone has the channels of `others`."""
    rows = np.repeat(channels[None], len(channels), axis=0)
    np.fill_diagonal(rows, others)
    return rows


def _probability(channel: np.ndarray, mu: np.ndarray, sigma: float, base: np.ndarray) -> np.ndarray:
    """That a width has its channel number `channel` (from 1): the mass above the ratio that rounds up to it.

    Args:
      channel: `[widths, steps, channels]`.
      mu: `[widths]`.
      sigma: Scalar.
      base: `[widths]`.
    """
    ratio = (channel - 0.5) / base[:, None, None]
    return 1.0 / (1.0 + np.exp(np.minimum((ratio - mu[:, None, None]) / sigma, 500.0)))
