"""How the report speaks about a search method."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tfbnas.report.figure import Figure
from tfbnas.report.reading import Run
from tfbnas.results import Role
from tfbnas.search.registry import METHODS


@dataclass(frozen=True)
class Published:
    """One row of a paper's table of results.

    Attributes:
      label: As printed.
      role: What kind of network it is, as in `TrainingResult`.
      accuracy: Test accuracy in percent.
      memory: In MiB, as printed.
      key: The trained network of a run that it stands beside; "" where there is none.
    """

    label: str
    role: Role
    accuracy: float
    memory: float
    key: str = ""


def _nothing(run: Run) -> Sequence:
    return ()


@dataclass(frozen=True)
class Method:
    """What the report says of a method's runs beside what it says of every run.

    A module `tfbnas.report.<name>` with such an object `METHOD` adds what only that method has. Name and paper come
    from the registry of searches.

    Attributes:
      label: Short name.
      title: Name in full.
      source: The paper.
      epochs: Setting of the group `search` that says how many epochs the search has, which also names them: of
        "rounds", one is called a round. "" where no setting says it.
      neutral: A value of choices that stands out, drawn as a dotted line; None for none.
      axes: Labels for numbers in the history, by their key.
      curves: Numbers in the history, by their key, that tell how the architecture is trained: a sweep draws their mean
        over the seeds, beside the expected cost.
      captions: Further sentences for the figures of every run, by the figure's name.
      figures: Its own figures of a run.
      published: The paper's results for the run's network and data.
      table: Where in the paper they are, for instance "table 1".
      remarks: Sentences on how to read them beside the run's results.
      doubts: Sentences on what looks wrong with a search, also while it goes on.
    """

    label: str = ""
    title: str = ""
    source: str = ""
    epochs: str = ""
    neutral: float | None = None
    axes: Mapping[str, str] = field(default_factory=dict)
    curves: Sequence[str] = ()
    captions: Mapping[str, str] = field(default_factory=dict)
    figures: Callable[[Run], Sequence[Figure]] = _nothing
    published: Callable[[Run], Sequence[Published]] = _nothing
    table: str = ""
    remarks: Callable[[Run], Sequence[str]] = _nothing
    doubts: Callable[[Run], Sequence[str]] = _nothing

    @property
    def epoch(self) -> str:
        """What one epoch of the search is called."""
        return self.epochs.removesuffix("s") or "epoch"


def method_named(name: str) -> Method:
    """The method of a name; for one without a module or a registration only what every method has."""
    module = f"tfbnas.report.{name}"
    exists = name.isidentifier() and importlib.util.find_spec(module) is not None
    own: Method = getattr(importlib.import_module(module), "METHOD", Method()) if exists else Method()
    known = METHODS.get(name)
    if known is None:
        return replace(own, label=name or "search", title=name or "Search")
    return replace(own, label=known.label, title=known.title, source=known.source)
