"""From a trained model to files: deploy form, conversion, audit, parity check."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.export.auditing import Row, audit, check, table
from tfbnas.export.comparison import Parity, check_images, parity
from tfbnas.export.convert import convert, versions, write_saved_model
from tfbnas.export.deploy_form import deploy_with_notes
from tfbnas.export.file_size import Sizes, sizes
from tfbnas.files import atomic_write, write_json
from tfbnas.quiet import captured


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

    def to_json(self) -> dict[str, Any]:
        """Content of export.json."""
        return {
            "audit": [asdict(row) for row in self.rows],
            "sizes": self.sizes.to_json(),
            "parity": self.parity.to_json(),
            "conversions": self.conversions,
            "versions": self.versions,
            "seconds": round(self.seconds, 2),
        }

    def summary(self) -> str:
        """Audit table, sizes and parity as text."""
        return "\n".join([table(self.rows), self.sizes.summary(), self.parity.summary()])


def export(
    model: tf.keras.Model,
    directory: str | os.PathLike,
    *,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    tolerance: float = 1e-4,
    allow: Iterable[str] = (),
    input_type: str = "float32",
    output_type: str = "float32",
) -> ExportResult:
    """Writes a trained model for deployment, after an audit of its operators and a check of its outputs.

    Writes `model.keras` (loads with TensorFlow and larq), `saved_model/` (with TensorFlow alone), `model.tflite` (for
    Larq Compute Engine) and `export.json` into `directory`, each whole or not at all, and only if all is in order.

    Args:
      model: Trained functional float32 model, of tfbnas layers or any other Keras and Larq layers.
      directory: Where the files go; made if it is missing.
      images: Some real images as the model takes them, `[n, height, width, channels]`; a few hundred are enough.
      labels: Their classes, or those of their pixels, to report both accuracies. Default: None.
      tolerance: Largest relative error of the outputs. Default: 1e-4.
      allow: Names of layers that may come out float although they declare themselves quantised.
      input_type: "float32" or "int8", the latter for models that carry quantisation ranges. Default: "float32".
      output_type: Likewise.

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
            tolerance=tolerance,
            allow=allow,
            input_type=input_type,
            output_type=output_type,
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
    tolerance: float = 1e-4,
    allow: Iterable[str] = (),
    input_type: str = "float32",
    output_type: str = "float32",
    audited: Callable[[list[Row], Sizes], None] = lambda rows, sizes: None,
) -> ExportResult:
    """Everything that `export` does but for the files, of which it only writes a SavedModel to `saved_model`.

    Args:
      images: As for `export`; `None` compares on random inputs alone.
      audited: Called with the audit before the model is judged by it.
    """
    start = time.monotonic()
    batch = model.inputs[0].shape[0] if model.inputs else None
    if batch not in (None, 1):
        raise UserError(f"Expected a model of batch size None or 1. Received: {batch}; build it without a batch size.")
    if images is not None:
        images = check_images(model, images)
    deployed = deploy_with_notes(model)
    write_saved_model(deployed.model, saved_model)
    flatbuffer = convert(saved_model, input_type=input_type, output_type=output_type)
    rows = audit(flatbuffer, deployed.model, allow=allow, conversions=deployed.conversions)
    measured = sizes(flatbuffer, deployed.model)
    audited(rows, measured)
    check(rows)
    found = parity(flatbuffer, deployed.model, model, images=images, labels=labels, tolerance=tolerance)
    seconds = time.monotonic() - start
    return ExportResult(
        Path(), deployed.model, flatbuffer, rows, measured, found, deployed.conversions, versions(), seconds
    )


def _write(result: ExportResult, saved_model: Path) -> None:
    """Writes the files; export.json comes last and tells that the others are complete."""
    with atomic_write(result.directory / "model.keras") as path, captured():
        result.deployed.save(path)
    with atomic_write(result.directory / "saved_model") as path:
        shutil.copytree(saved_model, path)
    with atomic_write(result.directory / "model.tflite") as path:
        path.write_bytes(result.flatbuffer)
    write_json(result.directory / "export.json", result.to_json())
