"""The page: gathers what the run directory has and writes it as one file."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

import tfbnas
from tfbnas.files import write_text
from tfbnas.report import exported, latency, results, style, summary
from tfbnas.report.methods import method_named
from tfbnas.report.parts import Figure, Method, Published
from tfbnas.report.reading import Run, number, read

_PHONE = "phone"


@dataclass(frozen=True)
class Plot:
    """A figure as the template needs it; `failure` instead of drawings where it could not be drawn."""

    name: str
    title: str
    caption: str
    wide: Markup
    phone: Markup
    failure: str = ""


def write(run_directory: Path) -> Path:
    """Writes `report.html` and `plots/*.svg` into a run directory, each whole or not at all.

    The page needs no network, no scripts and no other file. What the run has not reached yet, the page says.

    Args:
      run_directory: Directory of a run, finished or not.

    Returns:
      The path of report.html.

    Raises:
      UserError: There is no such directory, or the disk is full.
    """
    run = read(Path(run_directory))
    method = method_named(run.method)
    published = list(method.published(run))
    drawn = {
        "results": plots(run.path, results.figures(run, published, method.source)),
        "search": plots(run.path, method.figures(run)),
        "export": plots(run.path, exported.figures(run)),
        "latency": plots(run.path, latency.figures(run)),
    }
    page = run.path / "report.html"
    write_text(page, _render(run, method, published, drawn))
    return page


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
                Markup(style.inline(phone, prefix=f"{figure.name}-{_PHONE}", label=figure.title)),
            )
        )
    return drawn


def environment() -> jinja2.Environment:
    """Finds the pages' templates."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("tfbnas.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _render(run: Run, method: Method, published: Sequence[Published], plots: dict[str, list[Plot]]) -> str:
    numbered = {figure.name: i for i, figure in enumerate((p for part in plots.values() for p in part), start=1)}
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            method=method,
            title=summary.title(run, method),
            lead=summary.lead(run, method),
            tiles=summary.tiles(run),
            stages=summary.stages(run),
            rows=results.table(run, published),
            compared=bool(published),
            epochs=results.common_epochs(run),
            classified=results.classified(run),
            uncertainty=results.uncertainty(run),
            remarks=method.remarks(run),
            search_time=results.duration(number(run.search.get("seconds"))),
            plots=plots,
            numbered=numbered,
            audit=exported.audit(run),
            facts=exported.facts(run),
            made_with=exported.made_with(run),
            measured=latency.facts(run),
            warnings=latency.warnings(run),
            times=latency.by_kind(run),
            time_notes=latency.notes(run),
            commands=summary.commands(run),
            version=tfbnas.__version__,
            written=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        )
    )
