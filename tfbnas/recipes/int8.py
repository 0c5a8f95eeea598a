"""The networks in full precision beside the binary one that was found: float32 and int8, by table and trained."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas import metrics, networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Latency, Memory, Operation, largest_within
from tfbnas.costs.closed import price
from tfbnas.errors import UserError
from tfbnas.export import full_precision
from tfbnas.files import atomic_write
from tfbnas.networks.choices import Width
from tfbnas.recipes.baselines import Int8
from tfbnas.recipes.context import Context
from tfbnas.recipes.families import NetworkSettings
from tfbnas.recipes.pricing import milliseconds
from tfbnas.recipes.training import Training, tested

STAGE = "export"
LABELS: dict[Int8, str] = {
    "equal_latency": "int8, equal time",
    "equal_memory": "int8, equal size",
    "same_widths": "int8, same widths",
}
_ORDER = 50
_CALIBRATION = 256
_FINER = 1.03
_ATTEMPTS = 8


def twin(architecture: Architecture) -> Architecture:
    """The same network in full precision.

    Raises:
      UserError: Its builder has no option `binarisation`.
    """
    if "binarisation" not in inspect.signature(networks.builder(architecture.network)).parameters:
        raise UserError(
            f"Expected a network with the option `binarisation`, of which there is a form in full precision. Received: "
            f"{architecture.network!r}; leave `baselines.int8` out, or give its builder that option."
        )
    return replace(architecture, options={**architecture.options, "binarisation": "float"})


def check(template: Architecture, settings: Any) -> None:
    """Refuses what `baselines.int8` asks for where it can be known to fail.

    Raises:
      UserError: There is no form in full precision, its widths cannot grow, or the latency table says nothing of int8.
    """
    ways = settings.baselines.int8_ways
    if not ways:
        return
    whole = twin(template)
    if {"equal_latency", "equal_memory"} & set(ways):
        Widened(template, settings.network)
    if "equal_latency" in ways:
        try:
            Latency(settings.budget.device, int8=True).of(whole)
            Latency(settings.budget.device).of(template)
        except UserError as error:
            raise UserError(f"Expected a `budget.device` that knows int8, for baselines.int8. {error}") from error


def int8_networks(context: Context, found: Architecture) -> Iterator[Training]:
    """The networks that `baselines.int8` asks for; each takes as many epochs as the one that was found."""
    for order, way in enumerate(context.settings.baselines.int8_ways, start=_ORDER):
        key = f"int8-{way.replace('_', '-')}"
        choose = functools.partial(_chosen, context, found, way)
        yield as_int8(context, Training(key, LABELS[way], "reference", order, choose))


def as_int8(context: Context, task: Training) -> Training:
    """A training of a network in full precision whose result is that of its int8 file, `int8/<key>.tflite`."""
    settings = context.settings.train
    epochs = settings.epochs + settings.full_precision_epochs
    return replace(
        task,
        settings=replace(settings, epochs=epochs, full_precision_epochs=0),
        deployed=functools.partial(_deployed, context, task.key),
    )


def _chosen(context: Context, found: Architecture, way: Int8) -> Architecture:
    if way == "same_widths":
        return replace(twin(found), method="int8")
    widened, exported = Widened(found, context.settings.network), context.run.result(STAGE)
    if way == "equal_latency":
        price = widened.price(Latency(context.settings.budget.device, int8=True))
        return widened.largest(float(exported["milliseconds"] or 0.0), price)
    return equal_memory(widened, float(exported["bytes"]), context.images.train.images(1)[0])


class Widened:
    """The family's network in full precision with all its widths at a multiple of those that it has as published.

    What else was found stays: modules, operations. Widths that are no choices grow with an option of the builder.

    Args:
      found: Names the network.
      settings: Of its family.

    Raises:
      UserError: No width is a choice, and the builder is not given the option with which all widths grow.
    """

    def __init__(self, found: Architecture, settings: NetworkSettings):
        self._plain, self._settings = replace(twin(found), method="int8"), settings
        self._bases = {name: kind.base for name, kind in networks.choices(found).items() if isinstance(kind, Width)}
        if not self._bases and settings.width_option not in found.options:
            raise UserError(
                f"Expected a network whose widths can grow, by choices or by its option `{settings.width_option}`, for "
                f"baselines.int8. Received: {found.network!r} with the options {found.options}; give it "
                f"`--network.options '{{{settings.width_option}: 16}}'`, or take same_widths."
            )

    def at(self, ratio: float) -> Architecture:
        """All widths at `ratio` times their base, at least one channel."""
        if self._bases:
            widths = {name: max(1, round(base * ratio)) for name, base in self._bases.items()}
            return replace(self._plain, choices={**self._plain.choices, **widths})
        option, multiple = self._settings.width_option, self._settings.width_multiple

        def scaled(base: int) -> int:
            return multiple * max(1, round(base * ratio / multiple))

        base = self._plain.options[option]
        value = [scaled(one) for one in base] if isinstance(base, list | tuple) else scaled(base)
        return replace(self._plain, options={**self._plain.options, option: value})

    def price(self, cost: Any) -> Callable[[Architecture], float]:
        """A function from such networks to what they cost; fast where only widths are chosen."""
        if len(self._bases) == len(networks.choices(self._plain)) and self._bases:
            fast = price(cost, self._plain)
            return lambda architecture: fast(architecture.choices)
        return functools.cache(cost.of)

    def largest(self, limit: float, cost: Callable[[Architecture], float]) -> Architecture:
        """The widest one whose cost is within a limit; the narrowest one where none is.

        Costs rise in stairs on which a wider network may be cheaper: so more is tried beyond the first that is not.
        """
        upper = 1.0
        while cost(self.at(upper)) <= limit:
            upper *= 2
        ratio = largest_within(limit, lambda r: cost(self.at(r)), upper=upper, steps=12)
        further = [ratio * _FINER**k for k in range(24, 0, -1)]
        return self.at(next((r for r in further if cost(self.at(r)) <= limit), ratio))


def equal_memory(widened: Widened, limit: float, images: np.ndarray) -> Architecture:
    """The widest network whose int8 file has no more bytes than `limit`; the narrowest one where none has.

    The file's bytes are its weights' and a rest that hardly depends on the widths; converting tells them apart.
    """
    count = widened.price(Memory("deployed"))

    def weights(architecture: Architecture) -> float:
        return count(architecture) / 4

    rest, found = 0.0, widened.largest(limit, weights)
    for _ in range(_ATTEMPTS):
        size = file_bytes(found, images)
        if rest and size <= limit:
            break
        rest = max(1.01 * rest, size - weights(found))
        found = widened.largest(limit - rest, weights)
    return found


def file_bytes(architecture: Architecture, images: np.ndarray | None = None) -> int:
    """Bytes of the file of a network in full precision, before it is trained: float32, with images int8."""
    return len(full_precision.convert(full_precision.uneven(networks.build(architecture)), images=images))


def _deployed(context: Context, key: str, network: tf.keras.Model, architecture: Architecture) -> dict[str, Any]:
    """What a trained network in full precision is as int8; its file goes into the run directory."""
    images, device = context.images, context.settings.budget.device
    calibration, _ = images.train.images(_CALIBRATION)
    flatbuffer = full_precision.convert(network, images=calibration)
    if context.devices.is_chief:
        (context.run.path / "int8").mkdir(exist_ok=True)
        with atomic_write(context.run.path / "int8" / f"{key}.tflite") as path:
            path.write_bytes(flatbuffer)
    found = tested(full_precision.Converted(flatbuffer), images)
    before = metrics.evaluate(network, images.test)["accuracy"]
    time = milliseconds(architecture, device, int8=True)
    in_bytes = context.settings.budget.counting == "file"
    costs = {"latency": time, "memory": float(len(flatbuffer)) if in_bytes else 0.0}
    return {
        **found,
        "test": {**found["test"], "float_accuracy": before},
        "form": "int8",
        "file": len(flatbuffer),
        "milliseconds": time,
        "memory": {},
        "costs": {name: value for name, value in costs.items() if value and name in context.budgets},
    }


def forms(context: Context, found: Architecture, file: int, operations: Sequence[Operation]) -> dict[str, Any]:
    """Content of forms.json: bytes and predicted time of the network that was found, and of its int8 and float32 forms.

    Where the table of `budget.device` says nothing of an operator, a time is None; where there is no form in full
    precision, there is only the network itself. With `baselines.int8` there are times of other widths, too.

    Args:
      context: The run.
      found: What was found.
      file: Bytes of its model.tflite.
      operations: What that file computes.
    """
    device = context.settings.budget.device
    rows: list[dict[str, Any]] = [{"form": "binary", "bytes": file, "milliseconds": None}]
    with contextlib.suppress(UserError):
        rows[0]["milliseconds"] = sum(row.milliseconds for row in Latency(device).operators(operations))
    with contextlib.suppress(UserError):
        full, image = twin(found), context.images.train.images(1)[0]
        # What is in full precision itself has no other forms to be compared with.
        for form, images in (("int8", image), ("float32", None)) if full.options != found.options else ():
            time = milliseconds(full, device, int8=form == "int8") or None
            rows.append({"form": form, "bytes": file_bytes(full, images), "milliseconds": time})
    content = {"format": 1, "device": device, "forms": rows}
    return {**content, "widths": _widths(found, device)} if context.settings.baselines.int8_ways else content


def _widths(found: Architecture, device: str) -> list[dict[str, float]]:
    """Predicted times of uniform networks, binary and int8, by the channels of their first width."""
    bases = [kind.base for kind in networks.choices(found).values() if isinstance(kind, Width)]
    if not bases or len(bases) < len(networks.choices(found)):
        return []
    names = list(networks.choices(found))
    try:
        costs = [price(Latency(device, int8=int8), twin(found) if int8 else found) for int8 in (False, True)]
        rows = []
        for channels in (*range(1, 8), *range(8, 129, 4)):
            choices = {name: max(1, round(base * channels / bases[0])) for name, base in zip(names, bases, strict=True)}
            times = [cost(choices) for cost in costs]
            rows.append({"channels": channels, "binary": times[0], "int8": times[1]})
        return rows
    except UserError:
        return []
