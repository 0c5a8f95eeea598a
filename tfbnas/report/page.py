"""The page: gathers what the run directory has and writes it as one file."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jinja2

import tfbnas
from tfbnas.files import write_text
from tfbnas.report import (
    cells,
    choices,
    countings,
    deploying,
    exported,
    fabric,
    forms,
    history,
    latency,
    summary,
    trained,
    widths,
)
from tfbnas.report.figure import Figure, Plot, plots
from tfbnas.report.methods import Method, Published, method_named
from tfbnas.report.reading import Run, read
from tfbnas.report.values import duration


def write(run_directory: Path) -> Path:
    """Writes `report.html` and `plots/*.svg` into a run directory, each whole or not at all.

    The page needs no network, no scripts and no other file. What the run has not reached yet, the page says.

    Args:
      run_directory: Directory of a run, finished or not.

    Returns:
      The path of report.html.

    Raises:
      UserError: There is no such directory, its results are of another format, or the disk is full.
    """
    run = read(Path(run_directory))
    method = method_named(run.method)
    published = list(method.published(run))
    drawn = {
        "results": plots(run.path, [*forms.figures(run), *trained.figures(run, method, published)]),
        "search": plots(run.path, figures(run, method)),
        "export": plots(run.path, exported.figures(run)),
        "latency": plots(run.path, latency.figures(run)),
    }
    page = run.path / "report.html"
    write_text(page, _render(run, method, published, drawn))
    return page


def figures(run: Run, method: Method) -> list[Figure]:
    """The figures of a search: those of every method, with what the method says of them, and its own."""
    shared = [*fabric.figures(run), *cells.figures(run), *widths.figures(run, method), *choices.figures(run, method)]
    found = [*shared, *method.figures(run), *history.costs(run, method), *history.numbers(run, method)]
    found += choices.candidates(run, method)
    more = method.captions
    return [replace(one, caption=" ".join(filter(None, (one.caption, more.get(one.name))))) for one in found]


def environment() -> jinja2.Environment:
    """Finds the pages' templates."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("tfbnas.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def written() -> str:
    """The time, as a page tells when it was written."""
    return datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")


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
            stages=summary.stages(run, method),
            table=trained.table(run, published),
            compared=bool(published),
            forms=forms.table(run),
            verdict=forms.verdict(run),
            counting=countings.beside(run).sentence,
            uncertainty=trained.uncertainty(run),
            remarks=[*trained.limits(run), *method.remarks(run)],
            search_time=duration(run.search.seconds or None) if run.search else "",
            plots=plots,
            numbered=numbered,
            audit=exported.audit(run),
            facts=exported.facts(run),
            made_with=exported.made_with(run),
            converter=exported.converter(run),
            takes=deploying.takes(run),
            snippets=deploying.snippets(run),
            measured=latency.facts(run),
            warnings=latency.warnings(run),
            doubts=list(method.doubts(run)),
            times=latency.by_kind(run),
            time_notes=latency.notes(run),
            commands=summary.commands(run),
            version=tfbnas.__version__,
            written=written(),
        )
    )
