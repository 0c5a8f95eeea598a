"""Reads a run directory as far as it has got."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tfbnas.errors import UserError
from tfbnas.files import read_json
from tfbnas.report.values import mapping, number, rows_of
from tfbnas.results import FORMAT, STATE, Limited, Result, SearchResult, TrainingResult
from tfbnas.run import SETTINGS, STAGES
from tfbnas.serialization import load_yaml

R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Run:
    """The content of a run directory; what is not there yet is empty.

    Attributes:
      path: The run directory.
      settings: Content of settings.yaml.
      settings_text: The same as written.
      searches: Results by stage: "search", or "search-" and the variant; also of searches that still run.
      running: Stages of searches that are not finished.
      trainings: The trained networks, in the order of tables.
      in_training: Networks whose training is not finished.
      export: Content of export.json.
      latency: Content of latency.json: predicted times of the exported model's operators.
      forms: Content of forms.json: bytes and predicted times of the network that was found as int8 and float32.
      benchmark: Content of benchmark.json, measured on a device.
      architecture: Content of architecture.json.
      problems: One sentence for each file that could not be read.
    """

    path: Path
    settings: dict[str, Any] = field(default_factory=dict)
    settings_text: str = ""
    searches: dict[str, SearchResult] = field(default_factory=dict)
    running: frozenset[str] = frozenset()
    trainings: list[TrainingResult] = field(default_factory=list)
    in_training: list[TrainingResult] = field(default_factory=list)
    export: dict[str, Any] = field(default_factory=dict)
    latency: dict[str, Any] = field(default_factory=dict)
    forms: dict[str, Any] = field(default_factory=dict)
    benchmark: dict[str, Any] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def search(self) -> SearchResult | None:
        """The search itself, not a variant that it is compared with."""
        return self.searches.get(SearchResult.stage)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows of the search's epochs."""
        return self.search.history if self.search else []

    @property
    def costs(self) -> tuple[Limited, ...]:
        """What the search limits; the budget that is shown comes first."""
        return self.search.costs if self.search else ()

    @property
    def searched(self) -> TrainingResult | None:
        """The network that the search found, trained."""
        return next((training for training in self.trainings if training.role == "searched"), None)

    @property
    def compared(self) -> list[TrainingResult]:
        """The other trained networks."""
        return [training for training in self.trainings if training is not self.searched]

    def price(self, training: TrainingResult, cost: Limited) -> float | None:
        """What a trained network costs, in the cost's own unit; of a measured cost only what the search measured."""
        return training.costs.get(cost.name, cost.found if training is self.searched else None)

    @property
    def found(self) -> dict[str, Any]:
        """The architecture that the search found, from whichever file has it."""
        result = self.search.architecture if self.search else {}
        return self.architecture or result or (self.searched.architecture if self.searched else {})

    @property
    def recipe(self) -> str:
        """Name of the program that made the run, for instance "dms_resnet18"; "" if nothing tells it."""
        return str(self.settings.get("recipe") or "")

    @property
    def method(self) -> str:
        """Name of the method; before anything is found, that in the recipe's name."""
        named = self.search.method if self.search else self.found.get("method")
        return str(named or self.recipe.partition("_")[0])

    @property
    def network(self) -> str:
        """Name of the network family."""
        named = self.search.network if self.search else self.found.get("network")
        return str(named or self.group("network").get("family") or self.recipe.partition("_")[2])

    @property
    def dataset(self) -> str:
        return str(self.group("data").get("name") or "")

    @property
    def warm_up(self) -> int:
        """Epochs at the beginning of the search in which only weights are trained."""
        return sum(row.get("warm_up") is True for row in self.history)

    @property
    def has_search(self) -> bool:
        """Whether the recipe searches; else it trains one network as it is."""
        return bool(self.searches) or not self.settings or "search" in self.settings

    def group(self, name: str) -> dict[str, Any]:
        """A group of the settings."""
        return mapping(self.settings.get(name))


def read(run_directory: Path) -> Run:
    """Reads every file that the report shows; missing files are no error, damaged ones are told in `problems`.

    Raises:
      UserError: There is no such directory, or its results are of another format.
    """
    path = Path(run_directory)
    if not path.is_dir():
        raise UserError(
            f"Expected `run_directory` to be the directory of a run. Received: {str(path)!r}, which is none."
        )
    problems: list[str] = []

    def load(file: Path) -> dict[str, Any]:
        return mapping(_attempt(read_json, file, problems)) if file.is_file() else {}

    searches, trainings = {}, []
    stages = [(file.stem, file, load(file)) for file in sorted((path / STAGES).glob("*.json"))]
    running = list(_running(path))
    for name, file, content in [*stages, *running]:
        if name.startswith(SearchResult.stage) and (search := _result(SearchResult, file, content, problems)):
            searches[name] = search
        elif name.startswith("train-") and (training := _result(TrainingResult, file, content, problems)):
            trainings.append(training)
    trainings.sort(key=lambda training: (training.order, training.key))
    settings = path / SETTINGS
    return Run(
        path=path,
        settings=mapping(_attempt(load_yaml, settings, problems)) if settings.is_file() else {},
        settings_text=settings.read_text(encoding="utf-8", errors="replace") if settings.is_file() else "",
        searches=searches,
        running=frozenset(name for name, _, _ in running if name in searches),
        trainings=[training for training in trainings if training.done],
        in_training=[training for training in trainings if not training.done],
        export=load(path / "export.json"),
        latency=load(path / "latency.json"),
        forms=load(path / "forms.json"),
        benchmark=load(path / "benchmark.json"),
        architecture=load(path / "architecture.json"),
        problems=problems,
    )


def _attempt(way: Callable[[Path], Any], file: Path, problems: list[str]) -> Any:
    try:
        return way(file)
    except (UserError, OSError) as error:
        problems.append(str(error))
        return None


def _running(path: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Of each stage that has a checkpoint and no result: its name, the newest checkpoint, and the result so far.

    A run may go on while this reads, so a checkpoint that vanishes or is damaged is passed over.
    """
    for stage in sorted((path / "checkpoints").glob("*")):
        if (path / STAGES / f"{stage.name}.json").exists():
            continue
        for file in sorted(stage.glob("step-*/state.json"), key=lambda file: (len(str(file)), file), reverse=True):
            state = mapping(_attempt(read_json, file, []))
            if history := rows_of(state.get("history")):
                yield stage.name, file, {**mapping(state.get(STATE)), "history": history}
                break


def _result(kind: type[R], file: Path, content: dict[str, Any], problems: list[str]) -> R | None:
    """The result of a stage; None where the file is damaged."""
    if not content:
        return None
    if content.get("format") != FORMAT:
        kind.from_dict(content, place=str(file))  # refuses it
    result = _attempt(lambda file: kind.from_dict(content, place=str(file)), file, problems)
    return result and _cleaned(result)


def _cleaned(result: R) -> R:
    """The result without values of another type than its fields have, and without numbers that are not finite."""
    values = {one.name: (_CLEAN.get(str(one.type)), getattr(result, one.name)) for one in dataclasses.fields(result)}
    return dataclasses.replace(result, **{name: clean(value) for name, (clean, value) in values.items() if clean})


def _numbers(value: Any) -> dict[str, float]:
    known = {str(name): number(one) for name, one in mapping(value).items()}
    return {name: one for name, one in known.items() if one is not None}


_CLEAN: Mapping[str, Callable[[Any], Any]] = {
    "str": str,
    "int": lambda value: int(number(value) or 0),
    "float": lambda value: number(value) or 0.0,
    "float | None": number,
    "dict[str, float]": _numbers,
    "dict[str, Any]": mapping,
    "list[dict[str, Any]]": rows_of,
    "tuple[Limited, ...]": lambda value: tuple(_cleaned(one) for one in value if one.limit),
}
