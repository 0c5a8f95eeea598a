"""The ways to count the memory of all weights that a report shows."""

from __future__ import annotations

from dataclasses import dataclass

from tfbnas.report.reading import Run


@dataclass(frozen=True)
class Counting:
    """A way to count the memory of all weights, beside that of the papers.

    Attributes:
      key: In `TrainingResult.memory`.
      head: Small print of its column.
      title: Of its panel.
      sentence: How it counts.
    """

    key: str
    head: str
    title: str
    sentence: str


_FILE = Counting("file", "of the file, MiB", "As the .tflite file", "Of the file: what model.tflite takes, predicted.")
_DEPLOYED = Counting(
    "deployed",
    "deployed, MiB",
    "As deployed, with BatchNormalization",
    "Deployed: the same and eight bytes per channel of each BatchNormalization.",
)


def beside(run: Run) -> Counting:
    """Which way stands beside the papers': bytes of the file, unless the run is older or has a column of files."""
    known = any("file" in one.memory for one in run.trainings)
    return _FILE if known and not has_int8(run) else _DEPLOYED


def has_int8(run: Run) -> bool:
    """Whether there are networks that are deployed as int8."""
    return any(one.form == "int8" for one in run.trainings)
