"""Closing widths: the numbers of channels that use a budget and keep the proportions that a search found.

A search that has found mean ratios mu ends a little below its budget, or above it. First all mu are scaled by one
factor, up or down, to the largest with which no budget is exceeded: what the search knows are proportions. What is then
left is less than one channel of every width. It goes, channel by channel, where it helps most. What helps is read off
the search itself. At an optimum of the loss under a budget, the channel at mu gains the same for each unit of cost in
every width, else the search would have moved one towards the other. So a channel is worth what a channel of its width
costs on average, times the probability that its width has it: the logistic distribution's mass above its ratio. The
channel with the most worth for its own cost comes first. Where cost rises evenly these are the widths that rounding
took the most from; where it rises in stairs, a channel that makes the next stair cheap comes before one that climbs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tfbnas.units import SPENT

Prices = Callable[[np.ndarray], np.ndarray]
"""From numbers of channels `[networks, widths]` to costs `[networks, budgets]`, each in its own unit."""

_FACTORS = 256
_STRIDE = 32
"""Channels up to which a step may go: a word of bits, behind which the stairs of a latency begin anew."""
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

    def __init__(self, prices: Prices, limits: np.ndarray, *, base: np.ndarray, multiple: int = 1, fill: bool = True):
        self._prices, self._limits = prices, limits
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
    """
    own = channels_of(mu, base, multiple=multiple)
    most = np.maximum(own, channels_of(widest / base, base, multiple=multiple)) if fill else own
    factor, channels = _scaled(mu, base, most, multiple, prices, limits)
    if fill:
        channels = _filled(channels, factor * mu, sigma, base, most, multiple, prices, limits)
    share = float(np.max(prices(channels[None])[0] / limits))
    return ClosedWidths(channels, share, bool(np.all(channels >= most)))


def fits(costs: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Whether costs `[networks, budgets]` are within all limits, whatever rounding did to them: `[networks]`.

    A cost that is its limit to the last bit is within it: bytes and their like are exact.
    """
    return np.all((costs <= limits * (1 - _ROUNDING)) | (costs == limits), axis=1)


def _scaled(mu, base, most, multiple, prices, limits) -> tuple[float, np.ndarray]:
    """The largest common factor of all mu within the limits, and the channels that it gives.

    Costs may fall where channels rise, so no bisection: of many factors the largest is taken, and of those behind it.
    """

    def channels(factors: np.ndarray) -> np.ndarray:
        return np.minimum(channels_of(factors[:, None] * mu, base, multiple=multiple), most)

    low, high = 0.0, float(np.max((most + multiple) / (mu * base)))
    for _ in range(3):
        factors = np.linspace(low, high, _FACTORS + 1)
        within = np.flatnonzero(fits(prices(channels(factors)), limits))
        best = int(within[-1]) if len(within) else 0
        low, high = float(factors[best]), float(factors[min(best + 1, _FACTORS)])
    return low, channels(np.array([low]))[0]


def _filled(channels, mu, sigma, base, most, multiple, prices, limits) -> np.ndarray:
    """The channels with what is left of the budgets, given to the width whose next channels are worth it most."""
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
        rows = np.repeat(channels[None], more.size, axis=0)
        rows[np.arange(more.size), np.repeat(np.arange(count), len(steps))] = more.ravel()
        costs = prices(rows)
        possible = (fits(costs, limits) & (more <= most[:, None]).ravel()).reshape(more.shape)
        if not possible.any():
            return channels
        has = _probability(more[..., None] - np.arange(multiple), mu, sigma, base).sum(axis=-1)
        value = worth[:, None] * np.cumsum(has, axis=1)
        extra = (costs[:, tightest] - here[tightest]).reshape(more.shape)
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
