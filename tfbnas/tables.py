"""Tables of text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], align: str = "<>") -> str:
    """Rows as lines whose cells stand below each other, two spaces apart.

    Args:
      rows: Cells of each row, as many in all of them; the first row holds the heads.
      align: For each column "<" (left) or ">" (right); the last one holds for all columns behind it. Default: the
        first column left, the others right.

    Returns:
      The lines, without spaces at their ends.

    Raises:
      ValueError: The rows differ in length.
    """
    columns = list(zip(*rows, strict=True))
    sides = align.ljust(len(columns), align[-1])
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in rows:
        cells = (f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=False))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
