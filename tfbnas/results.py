"""What stages find, as data: written by the stages of a run, read by report, sweep and comparison.

TensorFlow is not imported here. Each class goes to JSON and back; its files are `stages/*.json` of a run directory.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from tfbnas.errors import UserError

FORMAT = 2

Form = Literal["binary", "int8"]
"""In which numbers a network is deployed: bits with float32 beside them, or int8 throughout."""

Role = Literal["searched", "baseline", "reference", "control"]
"""Why a network is trained: it was found ("searched"); it is an ordinary network of the same family ("baseline"); it is
the network of a paper, the whole of what was searched, or one in other numbers ("reference"); it was found by a search
that a method is compared with ("control")."""

T = TypeVar("T", bound="Result")


@dataclass(frozen=True)
class Result:
    """What every result has: a way to JSON and back."""

    def to_dict(self) -> dict[str, Any]:
        """The content of the file, with its format."""
        return {"format": FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls: type[T], content: Mapping[str, Any], *, place: str = "this result") -> T:
        """Inverse of `to_dict`.

        Args:
          content: What a file holds.
          place: Where it comes from, for the message.

        Raises:
          UserError: It is of another format, or its keys are not those of the class.
        """
        content = dict(content)
        version = content.pop("format", None)
        if version != FORMAT:
            made = "an older" if version is None or version == 1 else "a newer"
            raise UserError(
                f"Expected {place} to have format {FORMAT}. Received: format={version!r}, written by {made} tfbnas; "
                "read it with that version, or run the recipe again with another --run_dir."
            )
        try:
            return _built(cls, content)
        except (TypeError, AttributeError) as error:
            raise UserError(f"{place} is damaged: {error}.") from error


def _built(kind: Any, content: Any) -> Any:
    """A dataclass from its dictionary, those inside it too."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _built(hints.get(name), value) for name, value in content.items()})  # type: ignore[operator]
    if typing.get_origin(kind) is tuple:
        return tuple(_built(typing.get_args(kind)[0], value) for value in content)
    return content


@dataclass(frozen=True)
class Limited(Result):
    """A cost that a search limits.

    All values are in the cost's own unit (bytes, milliseconds, ...).

    Attributes:
      name: Of the cost, for instance "memory".
      unit: In which people read it, for instance "MiB".
      scale: What one such unit is in the cost's own unit.
      limit: The budget.
      found: What the network costs that was found; None while the search runs.
      expected: What a network drawn from the search's probabilities costs on average in the end; None likewise.
    """

    name: str
    unit: str
    scale: float
    limit: float
    found: float | None = None
    expected: float | None = None


@dataclass(frozen=True)
class SearchResult(Result):
    """What a search found.

    Attributes:
      method: Name of the method, for instance "dms".
      network: Name of the network family.
      choice_label: What the `value` of a choice is, for a figure's axis.
      costs: What was limited. The budget that the report and the sweep show comes first.
      architecture: The closed architecture; empty while the search runs.
      seconds: Time of all epochs, over all processes.
      history: One row for each epoch, or round: "epoch" (from 1), "seconds", the logs, and what the search records,
        among it "choices": for each choice its `value`, perhaps a band from `low` to `high`, and what it is `closed`.
      unspent: Why the network uses less of every budget than 97 %, in a sentence; empty where it uses more.
    """

    method: str
    network: str
    choice_label: str
    costs: tuple[Limited, ...]
    architecture: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    unspent: str = ""

    stage: ClassVar[str] = "search"


@dataclass(frozen=True)
class TrainingResult(Result):
    """What the training of one network came to.

    Attributes:
      key: The stage is `train-<key>`.
      label: Of the network, for people.
      role: Why it is trained.
      order: Place in tables and figures, rising.
      architecture: The closed architecture.
      costs: By the names of the search's costs, in their own units.
      memory: Bytes of the weights by counting, "paper" and "deployed", and "file", what its file is predicted to take;
        empty for an int8 network.
      test: On the test images: "accuracy" from 0 to 1, and "mean_iou" for a class for each pixel.
      validation: The same on the images held out; empty for none.
      test_images: How many.
      correct: Which of them are classified correctly, see `tfbnas.paired.packed`; "" for a class for each pixel.
      epochs: Passes over the training images.
      seconds: Time of all epochs, over all processes.
      history: One row for each epoch.
      done: False while the training runs.
      form: In which numbers it is deployed; of an int8 network `test`, `validation` and `correct` are what its file
        gives, and "float_accuracy" in `test` is the accuracy before it was quantised.
      file: Bytes of its .tflite file; 0 where none was made.
      milliseconds: Predicted time of one inference on `budget.device`; 0 where its table says nothing of an operator.
    """

    key: str
    label: str
    role: Role
    order: int
    architecture: dict[str, Any]
    costs: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    test_images: int = 0
    correct: str = ""
    epochs: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    done: bool = True
    form: Form = "binary"
    file: int = 0
    milliseconds: float = 0.0


def cost_keys(count: int) -> list[str]:
    """Under which names a search's logs and history hold its expected costs: "cost", "cost_2", "cost_3", ..."""
    return ["cost", *(f"cost_{number}" for number in range(2, count + 1))]


STATE = "about"
"""Key of a checkpoint's state under which a running stage keeps its result so far, without its history.

The state of a checkpoint is `{"epoch": done, "history": [rows], "about": Result.to_dict()}`.
"""
