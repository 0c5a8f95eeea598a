"""How far a stage has got that is not finished, from its newest checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfbnas.errors import UserError
from tfbnas.files import read_json
from tfbnas.run import STAGES


def stages(run: Path) -> dict[str, list[dict[str, Any]]]:
    """Name and history of each stage that has a checkpoint and no result; one row for each epoch or round.

    A run may go on while this reads, so a checkpoint that vanishes or is damaged is passed over.
    """
    found = {}
    for directory in sorted((run / "checkpoints").glob("*")):
        if (run / STAGES / f"{directory.name}.json").exists():
            continue
        newest_first = sorted(
            directory.glob("step-*/state.json"), key=lambda file: (len(str(file)), file), reverse=True
        )
        history = next(filter(None, map(_history, newest_first)), None)
        if history:
            found[directory.name] = history
    return found


def _history(file: Path) -> list[dict[str, Any]]:
    try:
        state = read_json(file)
    except UserError:
        return []
    if not isinstance(state, Mapping) or not isinstance(state.get("history"), list):
        return []
    rows = [dict(row) for row in state["history"] if isinstance(row, Mapping)]
    choices = state.get("choices")
    if isinstance(choices, list):
        rows = [{**row, "choices": chosen} for row, chosen in zip(rows, choices, strict=False)]
    return rows
