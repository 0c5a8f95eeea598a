"""What a report is made of, whatever the method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure as Canvas

from tfbnas.report.reading import Run


@dataclass(frozen=True)
class Figure:
    """A plot with its words.

    Attributes:
      name: Its file in `plots/` without the ending; letters, digits and hyphens.
      title: One line above the plot.
      caption: What one sees, and which figure of the paper it mirrors.
      draw: Draws it. Takes whether the page is narrow (a phone), returns the matplotlib figure.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[bool], Canvas]


@dataclass(frozen=True)
class Published:
    """One row of a paper's table of results.

    Attributes:
      label: As printed.
      key: The trained network of a run that it stands beside ("searched", "uniform-2.00"), or "" where there is none.
      accuracy: Test accuracy in percent.
      memory: In MiB, as printed.
    """

    label: str
    key: str
    accuracy: float
    memory: float


@dataclass(frozen=True)
class Method:
    """How the report speaks about a search method.

    Attributes:
      name: Short name, for instance "DMS".
      title: Name in full.
      source: The paper that `published` and the figures' numbers refer to.
      published: The paper's results for the run's network and data; empty where it has none.
      remarks: Sentences on how to read `published` beside the run's results.
      figures: The method's own figures of a run, in the order of the page.
    """

    name: str
    title: str
    source: str
    published: Callable[[Run], Sequence[Published]]
    remarks: Callable[[Run], Sequence[str]]
    figures: Callable[[Run], Sequence[Figure]]
