"""sweep.html: the front, the table of trials and what failed, in one file that needs no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tfbnas
from tfbnas.files import write_text
from tfbnas.report.figure import plots
from tfbnas.report.page import environment, written
from tfbnas.report.summary import data_name
from tfbnas.report.values import duration, mib, percent
from tfbnas.sweep.figure import figures
from tfbnas.sweep.results import FRONT, REPORT

PAGE = "sweep.html"


def write(run_dir: Path, content: Mapping[str, Any]) -> Path:
    """Writes sweep.html and plots/front.svg.

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
            title=f"{content['recipe'].split('.')[-1]}: accuracy against {content['cost'] or 'cost'}",
            lead=_lead(content),
            data=data_name(str(content["data"] or "")),
            content=content,
            done=statuses.count("finished"),
            open=len(statuses) - statuses.count("finished") - statuses.count("failed"),
            rows=[_row(run_dir, row, content) for row in _by_cost(content["trials"])],
            compared=[_row(run_dir, row, content) for row in _by_cost(content["baselines"])],
            validated=content["front_by"] == "validation_accuracy",
            failures=[row for row in content["trials"] if row["status"] == "failed"],
            plots=plots(run_dir, figures(content)),
            front=sorted(file.name for file in (run_dir / FRONT).glob("*.*")),
            version=tfbnas.__version__,
            written=written(),
            path=run_dir,
        )
    )
    write_text(page, text)
    return page


def _by_cost(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["cost"] is None, row["cost"] or 0.0))


def _row(run_dir: Path, row: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the table, as text."""
    report = f"{row['run_dir']}/{REPORT}"
    return {
        "label": row.get("label") or f"{row['budget']:g}",
        "weight": "" if "label" in row else f"{row['penalty_weight']:g}",
        "status": row.get("status", "finished"),
        "cost": "" if row["cost"] is None else f"{row['cost']:.4g}",
        "accuracy": percent(row["accuracy"]),
        "validation": percent(row["validation_accuracy"]),
        "memory": mib(row["memory"]),
        "deployed": mib(row["deployed"]),
        "time": duration(row["seconds"]),
        "report": report if (run_dir / report).is_file() else "",
        "on_front": row.get("name") in content["front"],
    }


def _lead(content: Mapping[str, Any]) -> str:
    """The ends of the front in a sentence; "" while there is none."""
    front = [row for row in content["trials"] if row["name"] in content["front"]]
    if not front:
        return ""
    ends = sorted(front, key=lambda row: row["cost"])
    said = [f"{percent(row['accuracy'])} % of the test images at {row['cost']:.4g} {content['unit']}" for row in ends]
    number = {1: "One network is", 2: "Two networks are", 3: "Three networks are"}.get(
        len(front), f"{len(front)} networks are"
    )
    return f"{number} on the front: {said[0]}" + (f" to {said[-1]}." if len(front) > 1 else ".")
