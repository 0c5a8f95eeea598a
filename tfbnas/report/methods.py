"""The methods whose searches the report can draw: one module and one line here for each."""

from __future__ import annotations

from tfbnas.report import bsn, dms
from tfbnas.report.parts import Method

METHODS: dict[str, Method] = {"bsn": bsn.METHOD, "dms": dms.METHOD}


def method_named(name: str) -> Method:
    """The registered method, or for an unknown name one that has no figures and no published results."""
    known = METHODS.get(name)
    if known is not None:
        return known
    return Method(
        name=name or "search",
        title=name or "Search",
        source="",
        published=lambda run: (),
        remarks=lambda run: (),
        figures=lambda run: (),
    )
