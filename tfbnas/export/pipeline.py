"""From a trained model to files: deploy form, conversion, audit, parity check."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.costs.latency import load_table
from tfbnas.errors import UserError
from tfbnas.export.auditing import Row, audit, check, check_allowed, table
from tfbnas.export.comparison import Parity, check_images, parity
from tfbnas.export.convert import Interpreter, convert, versions, write_saved_model
from tfbnas.export.deploy_form import deploy_with_notes
from tfbnas.export.description import LABELS, Description, append, check_class_names
from tfbnas.export.file_size import Sizes, sizes
from tfbnas.export.metadata import described
from tfbnas.export.padding import Padding, is_same, padded, widened
from tfbnas.export.scaling import NOTE, is_scaling, prepare
from tfbnas.files import atomic_write, read_json, write_json, write_text
from tfbnas.lce.graph import all_layers
from tfbnas.lce.operations import Operation, trace
from tfbnas.quiet import captured

_COMPARED = 256
"""Images on which a model with constant channels must be the same as without."""


@dataclass
class ExportResult:
    """What `export` wrote and found.

    Attributes:
      directory: Where the files are.
      deployed: The deploy form.
      flatbuffer: Content of model.tflite.
      rows: Audit, one row per operator.
      sizes: Bytes of the file against the information in it.
      parity: Result of the comparison with the trained model.
      conversions: Layers that the deploy form needs beyond the trained one, with the reason; usually none.
      versions: Of the packages that made the file.
      seconds: Time taken.
      description: What the files say of their input and classes.
      padding: Constant channels in model.tflite.
    """

    directory: Path
    deployed: tf.keras.Model
    flatbuffer: bytes
    rows: list[Row]
    sizes: Sizes
    parity: Parity
    conversions: dict[str, str]
    versions: dict[str, str]
    seconds: float
    description: Description
    padding: Padding = field(default_factory=lambda: Padding(b""))

    def operations(self) -> list[Operation]:
        """The operations of the deploy form, with the channels that model.tflite has."""
        return widened(trace(self.deployed), self.padding, [row.layer for row in self.rows])

    def to_json(self) -> dict[str, Any]:
        """Content of export.json."""
        return {
            "audit": [asdict(row) for row in self.rows],
            "sizes": self.sizes.to_json(),
            "parity": self.parity.to_json(),
            "conversions": self.conversions,
            "versions": self.versions,
            "seconds": round(self.seconds, 2),
            **({"padding": self.padding.to_json()} if self.padding.widened else {}),
            **self.description.to_json(),
        }

    def summary(self) -> str:
        """Audit table, sizes and parity as text."""
        parts = [table(self.rows), self.sizes.summary(), self.parity.summary(), self.padding.summary()]
        return "\n".join(filter(None, parts))


def export(
    model: tf.keras.Model,
    directory: str | os.PathLike,
    *,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    input: str | None = "pixels",
    class_names: Sequence[str] = (),
    tolerance: float = 1e-4,
    allow: Iterable[str] = (),
    input_type: str = "float32",
    output_type: str = "float32",
    fast_on: str | None = "raspberry_pi_4b",
    largest: int | None = None,
) -> ExportResult:
    """Writes a trained model for deployment, after an audit of its operators and a check of its outputs.

    Writes `model.keras` (loads with TensorFlow and larq), `saved_model/` (with TensorFlow alone), `model.tflite` (for
    Larq Compute Engine) and `export.json` into `directory`, each whole or not at all, and only if all is in order. Each
    of the three says what it takes and answers, in files `labels.txt` and `input.json`: members of `model.keras` and of
    a zip behind `model.tflite`, which has TFLite metadata too, and assets of `saved_model/`. `labels.txt` lies beside
    them as well.

    Args:
      model: Trained functional float32 model, of tfbnas layers or any other Keras and Larq layers.
      directory: Where the files go; made if it is missing.
      images: Some real images as the model takes them, `[n, height, width, channels]`; a few hundred are enough.
      labels: Their classes, or those of their pixels, to report both accuracies. Default: None.
      input: "pixels": the files take pixels x from 0 to 255; the model was trained on x / 127.5 - 1, as tfbnas trains,
        and that is put in front. "normalised": they take [-1, 1], as the model does. None: they take what the model
        takes, of which nothing is known or said. A model that scales pixels itself, in its first layer, stays as it is;
        it is described as one of pixels, and `images` are pixels. Default: "pixels".
      class_names: Of the classes, in the order of the outputs. Default: none.
      tolerance: Largest relative error of the outputs. Default: 1e-4.
      allow: Names of layers that may come out float although they declare themselves quantised.
      input_type: "float32" or "int8", the latter for models that carry quantisation ranges. Default: "float32".
      output_type: Likewise.
      fast_on: Latency table that says where constant channels make model.tflite faster; it gets those, and computes the
        same to the bit. None: no such channels. Default: "raspberry_pi_4b".
      largest: Bytes that model.tflite may have with such channels. Default: any number.

    Raises:
      ExportError: The model fails the conversion, the audit or the comparison; names layer, reason and remedy.
      UserError: The model or the images are not of the kind expected, or LCE is not installed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        saved_model = Path(scratch) / "saved_model"
        result = examine(
            model,
            saved_model,
            images=images,
            labels=labels,
            input=input,
            class_names=class_names,
            tolerance=tolerance,
            allow=allow,
            input_type=input_type,
            output_type=output_type,
            fast_on=fast_on,
            largest=largest,
        )
        result.directory = Path(directory)
        _write(result, saved_model)
    return result


def examine(
    model: tf.keras.Model,
    saved_model: Path,
    *,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    input: str | None = None,
    class_names: Sequence[str] = (),
    tolerance: float = 1e-4,
    allow: Iterable[str] = (),
    input_type: str = "float32",
    output_type: str = "float32",
    fast_on: str | None = None,
    largest: int | None = None,
    audited: Callable[[list[Row], Sizes], None] = lambda rows, sizes: None,
) -> ExportResult:
    """Everything that `export` does but for the files, of which it only writes a SavedModel to `saved_model`.

    Args:
      images: As for `export`; `None` compares on random inputs alone.
      input: As for `export`. Default: None.
      fast_on: As for `export`. Default: None.
      audited: Called with the audit before the model is judged by it.
    """
    start = time.monotonic()
    if fast_on is not None:
        load_table(fast_on, argument="fast_on")
    batch = model.inputs[0].shape[0] if model.inputs else None
    if batch not in (None, 1):
        raise UserError(f"Expected a model of batch size None or 1. Received: {batch}; build it without a batch size.")
    if images is not None:
        images = check_images(model, images)
    if input is not None and input_type != "float32":
        raise UserError(
            f"Expected input=None with input_type={input_type!r}: the model's quantisation ranges say what it takes. "
            f"Received: input={input!r}."
        )
    source = prepare(model, images, input)
    shape = tuple(model.inputs[0].shape[1:]) if model.inputs else ()
    description = Description(source.input, shape, _names(model, class_names))
    deployed = deploy_with_notes(source.model)
    check_allowed(deployed.model, allow := tuple(allow))
    write_saved_model(deployed.model, saved_model, description)
    converted = convert(saved_model, input_type=input_type, output_type=output_type)
    flatbuffer = described(converted, description)
    scalings = {layer.name: NOTE for layer in all_layers(deployed.model) if is_scaling(layer)}
    rows = audit(flatbuffer, deployed.model, allow=allow, conversions={**scalings, **deployed.conversions})
    measured = sizes(converted, deployed.model, description=len(flatbuffer) - len(converted))
    audited(rows, measured)
    check(rows)
    found = parity(flatbuffer, deployed.model, source.trained, images=source.images, labels=labels, tolerance=tolerance)
    wider = Padding(converted)
    if fast_on is not None and (input_type, output_type) == ("float32", "float32"):
        room = None if largest is None else largest - measured.description
        wider = _verified(padded(converted, fast_on, largest=room), converted, deployed.model, source.images)
    if wider.widened:
        flatbuffer = described(wider.flatbuffer, description)
        measured.file, measured.constant_channels = len(flatbuffer), wider.bytes
        wider.tell(rows)
    return ExportResult(
        directory=Path(),
        deployed=deployed.model,
        flatbuffer=flatbuffer,
        rows=rows,
        sizes=measured,
        parity=found,
        conversions=deployed.conversions,
        versions=versions(),
        seconds=time.monotonic() - start,
        description=description,
        padding=wider,
    )


def _verified(wider: Padding, converted: bytes, model: tf.keras.Model, images: np.ndarray | None) -> Padding:
    """The padding, if the model computes the same with it, to the bit; else none."""
    if not wider.widened:
        return wider
    if images is None:
        shapes = [(_COMPARED, *tensor.shape[1:]) for tensor in model.inputs]
        chance = np.random.default_rng(0)
        inputs: Any = [chance.normal(size=shape).astype(np.float32) for shape in shapes]
        inputs = inputs if len(inputs) > 1 else inputs[0]
    else:
        inputs = np.asarray(images[:_COMPARED], np.float32)
    outputs = [Interpreter(one).predict(inputs) for one in (converted, wider.flatbuffer)]
    return wider if is_same(*outputs) else Padding(converted)


def _names(model: tf.keras.Model, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes, if they are as many as the model's."""
    if not len(names):
        return ()
    if len(model.outputs) != 1:
        raise UserError(f"Expected a model with 1 output for `class_names`. Received: {len(model.outputs)}.")
    return check_class_names(names, model.outputs[0].shape[-1])


def _write(result: ExportResult, saved_model: Path) -> None:
    """Writes the files; export.json comes last and tells that the others are complete."""
    files, record = result.description.files(), result.directory / "export.json"
    with atomic_write(result.directory / "model.keras") as path, captured():
        result.deployed.save(path)
        append(path, files)
    with atomic_write(result.directory / "saved_model") as path:
        shutil.copytree(saved_model, path)
    with atomic_write(result.directory / "model.tflite") as path:
        path.write_bytes(result.flatbuffer)
    if LABELS in files:
        write_text(result.directory / LABELS, files[LABELS])
    elif record.is_file() and "class_names" in read_json(record):
        (result.directory / LABELS).unlink(missing_ok=True)  # an earlier export's
    write_json(record, result.to_json())
