"""A figure with its words, and its drawings on a page and in a file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure as Canvas

from tfbnas.files import write_text
from tfbnas.report import style


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
class Plot:
    """A figure as a template needs it; `failure` instead of drawings where it could not be drawn."""

    name: str
    title: str
    caption: str
    wide: Markup
    phone: Markup
    failure: str = ""


def plots(path: Path, figures: Sequence[Figure]) -> list[Plot]:
    """Draws each figure twice, for the page and for a phone, and writes the first as a file into `path`/plots."""
    drawn = []
    for figure in figures:
        try:
            wide, phone = style.svg(figure.draw), style.svg(figure.draw, narrow=True)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # One damaged file must not cost the reader all other figures of a long run.
            logging.getLogger(__name__).warning("Figure %s could not be drawn.", figure.name, exc_info=True)
            drawn.append(Plot(figure.name, figure.title, "", Markup(), Markup(), f"{type(error).__name__}: {error}"))
            continue
        write_text(path / "plots" / f"{figure.name}.svg", style.standalone(wide, title=figure.title))
        drawn.append(
            Plot(
                figure.name,
                figure.title,
                figure.caption,
                Markup(style.inline(wide, prefix=figure.name, label=figure.title)),
                Markup(style.inline(phone, prefix=f"{figure.name}-phone", label=figure.title)),
            )
        )
    return drawn
