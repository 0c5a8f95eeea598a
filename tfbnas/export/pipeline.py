"""From a trained model to files: deploy form, conversion, audit, parity check."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.export.auditing import Row, Sizes, audit, check, sizes, table
from tfbnas.export.comparison import Parity, check_images, parity
from tfbnas.export.convert import convert, versions, write_saved_model
from tfbnas.export.deploy_form import deploy_with_notes
from tfbnas.export.quiet import captured
from tfbnas.files import atomic_write, write_json


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
        s, p = self.sizes, self.parity
        classes = p.images - len(p.other_class)
        lines = [
            table(self.rows),
            f"model.tflite: {s.file} bytes for {s.binary_weights} bytes of binary weights and {s.float_parameters} of "
            f"float parameters (limit {s.limit})",
            f"parity: largest relative error {p.error:.1e} (tolerance {p.tolerance:g}), {classes} of {p.images} "
            f"predicted classes equal, {len(p.undecided)} images decided by float rounding",
        ]
        if s.float_parameters > s.binary_weights:
            largest = ", ".join(f"{name} {size} B" for name, size in s.largest_float[:3])
            lines.append(f"most of the parameters' bytes are float: {largest}")
        return "\n".join(lines)


def export(
    model: tf.keras.Model,
    directory: str | os.PathLike,
    *,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    tolerance: float = 1e-4,
    allow: Iterable[str] = (),
) -> ExportResult:
    """Writes a trained model for deployment, after an audit of its operators and a check of its outputs.

    Writes `model.keras` (loads with TensorFlow and larq), `saved_model/` (with TensorFlow alone), `model.tflite` (for
    Larq Compute Engine) and `export.json` into `directory`, each whole or not at all, and only if all is in order.

    Args:
      model: Trained functional float32 model, of tfbnas layers or any other Keras and Larq layers.
      directory: Where the files go; made if it is missing.
      images: Some real images as the model takes them, `[n, height, width, channels]`; a few hundred are enough.
      labels: Their classes, to report both accuracies. Default: None.
      tolerance: Largest relative error of the outputs. Default: 1e-4.
      allow: Names of layers that may come out float although they declare themselves binary.

    Raises:
      ExportError: The model fails the conversion, the audit or the comparison; names layer, reason and remedy.
      UserError: The model or the images are not of the kind expected, or LCE is not installed.
    """
    start = time.monotonic()
    images = check_images(model, images)
    deployed = deploy_with_notes(model)
    with tempfile.TemporaryDirectory() as scratch:
        saved_model = Path(scratch) / "saved_model"
        write_saved_model(deployed.model, saved_model)
        flatbuffer = convert(saved_model)
        rows = audit(flatbuffer, deployed.model, allow=allow, conversions=deployed.conversions)
        check(rows)
        found = parity(flatbuffer, deployed.model, model, images=images, labels=labels, tolerance=tolerance)
        result = ExportResult(
            directory=Path(directory),
            deployed=deployed.model,
            flatbuffer=flatbuffer,
            rows=rows,
            sizes=sizes(flatbuffer, deployed.model),
            parity=found,
            conversions=deployed.conversions,
            versions=versions(),
            seconds=time.monotonic() - start,
        )
        _write(result, saved_model)
    return result


def _write(result: ExportResult, saved_model: Path) -> None:
    """Writes the files; export.json comes last and tells that the others are complete."""
    with atomic_write(result.directory / "model.keras") as path, captured():
        result.deployed.save(path)
    with atomic_write(result.directory / "saved_model") as path:
        shutil.copytree(saved_model, path)
    with atomic_write(result.directory / "model.tflite") as path:
        path.write_bytes(result.flatbuffer)
    write_json(result.directory / "export.json", result.to_json())
