"""The stage that exports a trained network, and predicts its latency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from tfbnas.costs import Latency, Operation, trace
from tfbnas.costs.latency import devices
from tfbnas.errors import UserError
from tfbnas.export import export
from tfbnas.files import write_json
from tfbnas.recipes.context import Context, say
from tfbnas.recipes.int8 import forms
from tfbnas.recipes.stages import finished, stage
from tfbnas.recipes.training import Training, trained
from tfbnas.units import UNITS

STAGE = "export"


def export_stage(context: Context, task: Training) -> None:
    """Exports a trained network into the run directory, see `tfbnas.export.export`.

    Beside it go latency.json, predicted times by the latency tables that come with tfbnas and by the budget's own, and
    forms.json, what the same widths take in other numbers.
    The chief does the work alone.
    """

    def work() -> Mapping[str, Any]:
        settings = context.settings.export
        images, labels = context.images.test.images(settings.images)
        model = trained(alone, task)
        budget = context.settings.budget
        is_file = "memory" in budget.limits and budget.counting == "file"
        largest = int(budget.limits["memory"] * UNITS["memory"].scale) if is_file else None
        allow = [layer.name for layer in model.layers] if settings.float_operators else []
        result = export(
            model,
            context.run.path,
            images=images,
            labels=labels,
            input=settings.input,
            class_names=context.images.class_names,
            tolerance=settings.tolerance,
            allow=allow,
            fast_on=settings.fast_on,
            largest=largest,
        )
        tables = [budget.device] if "latency" in budget.limits else []
        operations = result.operations()
        write_json(context.run.path / "latency.json", predicted_latencies(operations, tables))
        known = forms(alone, task.choose(), len(result.flatbuffer), operations)
        write_json(context.run.path / "forms.json", known)
        time = known["forms"][0]["milliseconds"]
        if largest is not None and (text := above(len(result.flatbuffer), largest)):
            say(f"export: {text}")
        return {"bytes": len(result.flatbuffer), "milliseconds": time, "seconds": result.seconds}

    alone = context.on_one_device()
    if finished(context, STAGE):
        return
    if context.devices.is_chief:
        stage(alone, STAGE, work)
    context.devices.from_chief(lambda: None)


def above(size: int, limit: int) -> str:
    """By how much a file is larger than its budget, in two sentences; "" where it is not.

    A search counts the bytes of a file to within 2 %: how an operator writes its bits depends on the trained weights.
    """
    if size <= limit:
        return ""
    share = 100 * (size / limit - 1)
    return (
        f"model.tflite has {size} bytes, {share:.1f} % more than the budget of {limit}, which is known to 2 % before "
        "the network is trained. A `budget.memory` that is so much lower makes up for it."
    )


def predicted_latencies(network: tf.keras.Model | list[Operation], tables: Iterable[str] = ()) -> dict[str, Any]:
    """Content of latency.json: time of each operator of a closed network, with sources and errors of the tables.

    A table that says nothing of one of the operators is left out, with the reason under "left_out".

    Args:
      network: The network, or its operations; the deploy form has the layers' names of the audit.
      tables: Names or files of latency tables beside those that come with tfbnas. Default: none.
    """
    operations = network if isinstance(network, list) else trace(network)
    predictions, left_out = [], {}
    for name in dict.fromkeys([*tables, *devices()]):
        cost = Latency(name)
        try:
            rows = cost.operators(operations)
        except UserError as error:
            left_out[cost.table["name"]] = str(error)
            continue
        known = cost.table["operators"]
        operators = [
            {**vars(row), **{key: known[row.operator].get(key) for key in ("mean_error", "largest_error", "points")}}
            for row in rows
        ]
        about = {key: cost.table.get(key) for key in ("name", "device", "label", "error", "sources", "threads")}
        total = sum(row.milliseconds for row in rows)
        predictions.append({**about, "milliseconds": total, "operators": operators})
    return {"format": 1, "predictions": predictions, "left_out": left_out}
