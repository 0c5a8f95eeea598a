"""sweep.html: figures, the table of networks, the trials and what failed, in one file that needs no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tfbnas
from tfbnas.files import write_text
from tfbnas.report.figure import plots
from tfbnas.report.page import environment, written
from tfbnas.report.summary import data_name
from tfbnas.report.values import duration, percent
from tfbnas.sweep import curves, results, rows
from tfbnas.sweep.figure import figures
from tfbnas.sweep.results import FRONT, REPORT

PAGE = "sweep.html"


def write(run_dir: Path, content: Mapping[str, Any]) -> Path:
    """Writes sweep.html and its figures in plots/.

    Args:
      run_dir: The sweep's directory.
      content: That of sweep.json.

    Returns:
      The path of sweep.html.
    """
    statuses = [row["status"] for row in content["trials"]]
    page = run_dir / PAGE
    text = (
        environment()
        .get_template("sweep.html.j2")
        .render(
            title=f"{content['recipe'].split('.')[-1]}: {_subject(content)}",
            lead=_lead(content),
            data=data_name(str(content["data"] or "")),
            content=content,
            done=statuses.count("finished"),
            open=len(statuses) - statuses.count("finished") - statuses.count("failed"),
            networks=rows.networks(content),
            differences=rows.differences(content),
            runs=[_run(run_dir, row) for row in content["trials"]],
            notes=rows.notes(content),
            validated=content["front_by"] == "validation_accuracy",
            failures=[row for row in content["trials"] if row["status"] == "failed"],
            plots=plots(run_dir, [*figures(content), *curves.figures(content)]),
            front=sorted(file.name for file in (run_dir / FRONT).glob("*.*")),
            version=tfbnas.__version__,
            written=written(),
            path=run_dir,
        )
    )
    write_text(page, text)
    return page


def _subject(content: Mapping[str, Any]) -> str:
    """What the sweep is about, in a few words."""
    if len(content["budgets"]) > 1:
        return f"accuracy against {content['cost'] or 'cost'}"
    several = len(content["seeds"]) > 1
    return (
        "settings compared" if len(content["points"]) > 1 else f"{len(content['seeds'])} seeds" if several else "a run"
    )


def _run(run_dir: Path, row: Mapping[str, Any]) -> dict[str, str]:
    """A line of the table of trials, as text."""
    report = f"{row['run_dir']}/{REPORT}"
    return {
        "name": row["name"],
        "status": row["status"],
        "cost": "" if row["cost"] is None else f"{row['cost']:.4g}",
        "accuracy": percent(row["accuracy"]),
        "time": duration(row["seconds"]),
        "report": report if (run_dir / report).is_file() else "",
    }


def _lead(content: Mapping[str, Any]) -> str:
    """The ends of the front in a sentence, or what the one point came to; "" while there is nothing."""
    points = {point["name"]: results.searched(point) for point in content["points"]}
    ends = [found for name in content["front"] if (found := points[name])]
    if len(points) < 2:
        return rows.summary(content) if len(content["seeds"]) > 1 else ""
    if not ends:
        return ""
    said = [
        f"{percent(one['accuracy']['mean'])} % of the test images at {one['cost']['mean']:.4g} {content['unit']}"
        for one in ends
    ]
    number = {1: "One network is", 2: "Two networks are", 3: "Three networks are"}.get(
        len(ends), f"{len(ends)} networks are"
    )
    return f"{number} on the front: {said[0]}" + (f" to {said[-1]}." if len(ends) > 1 else ".")
