"""Reads a run directory as far as it has got."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfbnas.errors import UserError
from tfbnas.files import read_json
from tfbnas.report import unfinished
from tfbnas.run import SETTINGS, STAGES
from tfbnas.serialization import load_yaml

MIB = 2**20


def number(value: Any) -> float | None:
    """The value as a finite float, or None: a run that diverged has NaN in its files."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def numbers(rows: Sequence[Any], key: str) -> tuple[list[int], list[float]]:
    """Positions (from 0) and values of the rows that have a finite number under `key`."""
    found = [(i, number(row.get(key))) for i, row in enumerate(rows) if isinstance(row, Mapping)]
    kept = [(i, value) for i, value in found if value is not None]
    return [i for i, _ in kept], [value for _, value in kept]


def rows_of(value: Any) -> list[dict[str, Any]]:
    """The mappings in a list; nothing for anything else."""
    return [dict(row) for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def mapping(value: Any) -> dict[str, Any]:
    """The mapping itself, or an empty one."""
    return dict(value) if isinstance(value, Mapping) else {}


@dataclass(frozen=True)
class Training:
    """One network trained from the beginning, or still in training where it is not `done`.

    Memory in bytes, accuracy from 0 to 1 (on `test_images` images, and on held-out ones where there are some), time in
    seconds. `mean_iou`, from 0 to 1, is that of a network that classifies pixels, whose accuracy is that of pixels.
    """

    key: str
    label: str
    accuracy: float | None
    memory: float | None
    deployed: float | None
    seconds: float | None
    epochs: int | None
    history: list[dict[str, Any]]
    architecture: dict[str, Any]
    done: bool = True
    validation_accuracy: float | None = None
    mean_iou: float | None = None
    test_images: int | None = None

    @property
    def ratio(self) -> float | None:
        """Width of a uniform network as a multiple of the base network, else None."""
        match = re.fullmatch(r"uniform-(\d+(?:\.\d+)?)", self.key)
        return float(match[1]) if match else None


@dataclass(frozen=True)
class Goal:
    """What the search's budget limits.

    Attributes:
      name: "memory", "latency", "steps" or "multiply_adds".
      unit: As shown, for instance "MiB" or "ms".
      scale: Units of the files (bytes, milliseconds) in one shown unit.
      limit: The budget, in the unit of the files; None where nothing tells it.
      found: Cost of the network that the search found, likewise.
      references: Label and cost, likewise, of networks to compare with.
    """

    name: str
    unit: str
    scale: float
    limit: float | None
    found: float | None
    references: dict[str, float] = field(default_factory=dict)

    def text(self, value: float) -> str:
        """A cost in the unit of the files as a number in the shown one."""
        return f"{value / self.scale:.3f}" if value < 10 * self.scale else f"{value / self.scale:.1f}"


@dataclass(frozen=True)
class Run:
    """The content of a run directory; what is not there yet is empty.

    Attributes:
      path: The run directory.
      settings: Content of settings.yaml.
      settings_text: The same as written.
      searches: Stage name ("search", or "search-" and the variant) and its result, or of a search that still runs
        its history alone.
      running: Stages of searches that are not finished.
      trainings: The trained networks: the searched one first, then the one of equal memory, then by size.
      in_training: Networks whose training is not finished, with the history of their epochs.
      export: Content of export.json.
      latency: Content of latency.json: predicted times of the exported model's operators.
      benchmark: Content of benchmark.json, measured on a device.
      architecture: Content of architecture.json.
      problems: One sentence for each file that could not be read.
    """

    path: Path
    settings: dict[str, Any] = field(default_factory=dict)
    settings_text: str = ""
    searches: dict[str, dict[str, Any]] = field(default_factory=dict)
    running: frozenset[str] = frozenset()
    trainings: list[Training] = field(default_factory=list)
    in_training: list[Training] = field(default_factory=list)
    export: dict[str, Any] = field(default_factory=dict)
    latency: dict[str, Any] = field(default_factory=dict)
    benchmark: dict[str, Any] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def search(self) -> dict[str, Any]:
        return self.searches.get("search", {})

    @property
    def rounds(self) -> list[dict[str, Any]]:
        return rows_of(self.search.get("history"))

    @property
    def goal(self) -> Goal:
        """The budget, from the search's result, or before there is one from the settings."""
        asked = mapping(self.settings.get("budget"))
        if limited := mapping(self.search.get("limit")):
            known = {str(label): number(cost) for label, cost in mapping(limited.get("references")).items()}
            return Goal(
                str(limited.get("cost") or asked.get("cost") or "cost"),
                str(limited.get("unit") or ""),
                number(limited.get("scale")) or 1.0,
                number(limited.get("limit")),
                number(limited.get("found")),
                {label: cost for label, cost in known.items() if cost is not None},
            )
        name = str(self.search.get("cost_name") or asked.get("cost") or "memory")
        limit, found = number(self.search.get("budget")), number(self.search.get("cost"))
        unit, scale = ("ms", 1.0) if name == "latency" else ("MiB", float(MIB))
        if limit is None and (wanted := number(asked.get(name))) is not None:
            limit = wanted * scale
        return Goal(name, unit, scale, limit, found)

    @property
    def budget(self) -> float | None:
        """In bytes; None where it is not memory that the search limits."""
        goal = self.goal
        return goal.limit if goal.name == "memory" else None

    @property
    def expected_cost(self) -> list[float | None]:
        """The expected cost after each round, in the unit of the files."""
        name = self.goal.name
        return [number(row.get(name)) if name in row else number(row.get("cost")) for row in self.rounds]

    def cost(self, training: Training) -> float | None:
        """What a trained network costs in the unit of the goal in the files; None where nothing tells it."""
        goal = self.goal
        if training.key == "searched" and goal.found is not None:
            return goal.found
        if training.label in goal.references:
            return goal.references[training.label]
        if goal.name != "memory":
            return None
        deployed = mapping(self.settings.get("budget")).get("counting") == "deployed"
        return training.deployed if deployed else training.memory

    def training(self, key: str) -> Training | None:
        return next((training for training in self.trainings if training.key == key), None)

    @property
    def found(self) -> dict[str, Any]:
        """The architecture that the search found, from whichever file has it."""
        searched = self.training("searched")
        kept = searched.architecture if searched else {}
        return self.architecture or mapping(self.search.get("architecture")) or kept

    @property
    def recipe(self) -> str:
        """Name of the program that made the run, for instance "dms_resnet18"; "" if nothing tells it."""
        named = self.settings.get("recipe")
        if isinstance(named, str) and named:
            return named
        method, network = self.found.get("method"), self.found.get("network")
        return f"{method}_{network}" if method and network else ""

    @property
    def method(self) -> str:
        named = self.found.get("method") or self.settings.get("method")
        return str(named) if isinstance(named, str) else self.recipe.partition("_")[0]

    @property
    def network(self) -> str:
        named = self.found.get("network") or self.settings.get("network")
        return str(named) if isinstance(named, str) else self.recipe.partition("_")[2]

    @property
    def dataset(self) -> str:
        data = self.settings.get("data")
        named = mapping(data).get("name") if isinstance(data, Mapping) else data
        return str(named) if named else ""


def read(run_directory: Path) -> Run:
    """Reads every file that the report shows; missing files are no error, damaged ones are told in `problems`.

    Raises:
      UserError: There is no such directory.
    """
    path = Path(run_directory)
    if not path.is_dir():
        raise UserError(
            f"Expected `run_directory` to be the directory of a run. Received: {str(path)!r}, which is none."
        )
    problems: list[str] = []

    def load(file: Path) -> dict[str, Any]:
        if not file.is_file():
            return {}
        try:
            return mapping(read_json(file))
        except (UserError, OSError) as error:
            problems.append(str(error))
            return {}

    text, settings = _settings(path / SETTINGS, problems)
    stages = path / STAGES
    searches = {file.stem: load(file) for file in sorted(stages.glob("search*.json"))}
    trainings = [_training(file.stem, load(file)) for file in sorted(stages.glob("train-*.json"))]
    running = unfinished.stages(path)
    searching = {name: {"history": history} for name, history in running.items() if name.startswith("search")}
    in_training = [
        _training(name, {"history": history}, done=False)
        for name, history in running.items()
        if name.startswith("train-")
    ]
    return Run(
        path=path,
        settings=settings,
        settings_text=text,
        searches=searching | {stage: result for stage, result in searches.items() if result},
        running=frozenset(searching),
        trainings=sorted((t for t in trainings if t is not None), key=_rank),
        in_training=sorted((t for t in in_training if t is not None), key=_rank),
        export=load(path / "export.json"),
        latency=load(path / "latency.json"),
        benchmark=load(path / "benchmark.json"),
        architecture=load(path / "architecture.json"),
        problems=problems,
    )


def _settings(file: Path, problems: list[str]) -> tuple[str, dict[str, Any]]:
    if not file.is_file():
        return "", {}
    try:
        return file.read_text(encoding="utf-8"), load_yaml(file)
    except (UserError, OSError, UnicodeDecodeError) as error:
        problems.append(str(error))
        return "", {}


def _training(stage: str, result: dict[str, Any], *, done: bool = True) -> Training | None:
    if not result:
        return None
    key = stage.removeprefix("train-")
    memory = mapping(result.get("memory"))
    history = rows_of(result.get("history"))
    epochs = number(result.get("epochs"))
    return Training(
        key=key,
        label=str(result.get("label") or _label(key)),
        accuracy=number(result.get("accuracy")),
        memory=number(memory.get("paper")),
        deployed=number(memory.get("deployed")),
        seconds=number(result.get("seconds")),
        epochs=int(epochs) if epochs is not None else (len(history) or None),
        history=history,
        architecture=mapping(result.get("architecture")),
        done=done,
        validation_accuracy=number(result.get("validation_accuracy")),
        mean_iou=number(result.get("mean_iou")),
        test_images=int(tested) if (tested := number(result.get("test_images"))) else None,
    )


def _label(key: str) -> str:
    """Name of a network whose result is not there yet."""
    names = {"searched": "searched network", "equal-memory": "uniform, equal memory"}
    return names.get(key) or key.replace("uniform-", "uniform, ratio ")


def _rank(training: Training) -> tuple[int, float, str]:
    first = {"searched": 0, "equal-memory": 1}.get(training.key, 2)
    return first, training.ratio or training.memory or 0.0, training.key


def ordered(names: Sequence[str]) -> list[str]:
    """Names of choices in the order of the layers.

    Files with sorted keys lose the order; then names without a number come first (stem), numbers count as numbers
    (conv2 before conv10), and a short name (stage2/stream) comes before the longer ones of the same stage.
    """
    names = list(names)
    return sorted(names, key=_layer_key) if names == sorted(names) else names


def _layer_key(name: str) -> tuple[Any, ...]:
    parts = name.split("/")
    return (
        re.search(r"\d", parts[0]) is not None,
        _natural(parts[0]),
        len(parts),
        [_natural(part) for part in parts[1:]],
    )


def _natural(text: str) -> list[tuple[int, int, str]]:
    return [(1, int(piece), "") if piece.isdigit() else (0, 0, piece) for piece in _pieces(text)]


def _pieces(text: str) -> Iterator[str]:
    return (piece for piece in re.split(r"([0-9]+)", text) if piece)
