"""Kinds of choices that a builder may ask for: what is valid, what is usual, what is drawn, and what is open.

A builder calls `choose(name, default)`. As default, a number of channels stands for Width, and True or False for
Module; other kinds are given as they are: `choose("edge1", Operation(("conv3x3", "identity")))`. What comes back is a
closed value (JSON), or what `open` gives, about which a search decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfbnas.errors import UserError, nearest
from tfbnas.layers import OpenGate, OpenWidth

LEAST_RATIO, LARGEST_RATIO = 0.25, 2.5
"""Between which multiples of its base a width is drawn."""


class Kind(Protocol):
    """What every kind of choice offers."""

    @property
    def default(self) -> Any:
        """The closed value of a choice that an architecture leaves out, and of the network as published."""

    def check(self, name: str, value: Any) -> Any:
        """The closed value of the choice `name`. Raises UserError where the kind does not allow it."""

    def open(self, name: str) -> Any:
        """What a search decides about."""

    def draw(self, random: np.random.Generator) -> Any:
        """A closed value, each as probable as the others."""


@dataclass(frozen=True)
class Width:
    """A number of channels; open: an OpenWidth. Its cost is expected over numbers of channels and their probabilities.

    Drawn are the whole numbers from 0.25 to 2.5 times the base.

    Attributes:
      base: Channels of the network as published.
    """

    base: int

    @property
    def default(self) -> int:
        return self.base

    def check(self, name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"Expected the choice {name!r} to be a positive integer. Received: {value!r}.")
        return value

    def open(self, name: str, *, size: int | None = None) -> OpenWidth:
        return OpenWidth(name, self.base, size=size)

    def draw(self, random: np.random.Generator) -> int:
        least = max(1, round(LEAST_RATIO * self.base))
        return int(random.integers(least, max(least, round(LARGEST_RATIO * self.base)), endpoint=True))


@dataclass(frozen=True)
class Module:
    """A module that stays or goes; open: an OpenGate. Its cost is expected over draws of all gates of the graph.

    Attributes:
      default: Whether it stays. Default: True.
    """

    default: bool = True

    def check(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise UserError(f"Expected the choice {name!r} to be true or false. Received: {value!r}.")
        return value

    def open(self, name: str) -> OpenGate:
        return OpenGate(name)

    def draw(self, random: np.random.Generator) -> bool:
        return bool(random.integers(2))


class OpenOperation:
    """A choice of one operation out of several that a search decides about.

    Args:
      name: Name of the choice.
      candidates: Names of the operations.

    Attributes:
      weights: Function without arguments that returns a float32 tensor `[candidates]`, by which the outputs are
        weighed. `None` weighs them alike. A search method sets it.
    """

    def __init__(self, name: str, candidates: Sequence[str]):
        self.name = name
        self.candidates = tuple(candidates)
        self.weights: Callable[[], tf.Tensor] | None = None

    def __repr__(self) -> str:
        return f"OpenOperation({self.name!r}, {self.candidates})"


@dataclass(frozen=True)
class Operation:
    """One operation out of several; open: an OpenOperation, which `networks.mixed.operation` turns into a layer.

    Its cost is expected as the sum of the candidates' costs, each times its probability.

    Attributes:
      candidates: Names of the operations.
      usual: The default among them. Default: the first.
    """

    candidates: tuple[str, ...]
    usual: str = ""

    def __post_init__(self) -> None:
        if not self.candidates or (self.usual or self.candidates[0]) not in self.candidates:
            raise UserError(
                f"Expected the default of an operation to be one of its candidates {list(self.candidates)}. "
                f"Received: {self.usual!r}."
            )

    @property
    def default(self) -> str:
        return self.usual or self.candidates[0]

    def check(self, name: str, value: Any) -> str:
        if value not in self.candidates:
            raise UserError(
                f"Expected the choice {name!r} to be one of {', '.join(self.candidates)}. "
                f"Received: {value!r}.{nearest(value, self.candidates)}"
            )
        return value

    def open(self, name: str) -> OpenOperation:
        return OpenOperation(name, self.candidates)

    def draw(self, random: np.random.Generator) -> str:
        return self.candidates[int(random.integers(len(self.candidates)))]


class OpenEdges:
    """Edges between channels that a search decides about.

    Args:
      name: Name of the choice.
      kind: Which edges there may be.

    Attributes:
      mask: Function without arguments that returns a float32 tensor `[sources, targets]`, by which a layer weighs its
        edges. `None` has no edges. A search method sets it.
    """

    def __init__(self, name: str, kind: Edges):
        self.name = name
        self.kind = kind
        self.mask: Callable[[], tf.Tensor] | None = None

    def __repr__(self) -> str:
        return f"OpenEdges({self.name!r}, {self.kind})"


@dataclass(frozen=True)
class Edges:
    """A set of edges from source channels to target channels; open: an OpenEdges. No cost is expected over it so far.

    Its JSON is a rising list of pairs, `[[source, target], ...]`. Drawn is the number of edges, evenly, then the edges.

    Attributes:
      sources: Number of source channels.
      targets: Number of target channels.
      limit: Most edges. Default: all.
    """

    sources: int
    targets: int
    limit: int | None = None

    @property
    def default(self) -> list[list[int]]:
        """No edges."""
        return []

    @property
    def most(self) -> int:
        """The most edges that there may be."""
        every = self.sources * self.targets
        return every if self.limit is None else min(self.limit, every)

    def check(self, name: str, value: Any) -> list[list[int]]:
        valid = isinstance(value, list) and all(
            isinstance(edge, list)
            and len(edge) == 2
            and all(type(end) is int and 0 <= end < count for end, count in zip(edge, self._ends, strict=True))
            for edge in value
        )
        if not valid or len({tuple(edge) for edge in value}) < len(value) or len(value) > self.most:
            raise UserError(
                f"Expected the choice {name!r} to be at most {self.most} different edges [source, target], sources "
                f"below {self.sources} and targets below {self.targets}. Received: {value!r}."
            )
        return sorted(value)

    @property
    def _ends(self) -> tuple[int, int]:
        return self.sources, self.targets

    def open(self, name: str) -> OpenEdges:
        return OpenEdges(name, self)

    def draw(self, random: np.random.Generator) -> list[list[int]]:
        count = int(random.integers(self.most, endpoint=True))
        places = sorted(random.choice(self.sources * self.targets, count, replace=False).tolist())
        return [list(divmod(place, self.targets)) for place in places]


def kind_of(default: Any) -> Kind:
    """The kind of a choice, from what a builder gives as its default.

    Raises:
      UserError: It is neither a kind, nor a number of channels, nor a truth value.
    """
    if isinstance(default, Width | Module | Operation | Edges):
        return default
    if isinstance(default, bool):
        return Module(default)
    if isinstance(default, int) and default > 0:
        return Width(default)
    raise UserError(
        "Expected the default of a choice to be channels, true or false, or a kind of `tfbnas.networks.choices`. "
        f"Received: {default!r}."
    )


def as_number(kind: Kind, closed: Any) -> float:
    """A closed value as a number for a figure: ratio of a width, 1 or 0, place of an operation, number of edges."""
    if isinstance(kind, Width):
        return closed / kind.base
    if isinstance(kind, Operation):
        return float(kind.candidates.index(closed))
    return float(len(closed)) if isinstance(kind, Edges) else float(closed)
