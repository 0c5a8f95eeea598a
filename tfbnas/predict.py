"""Says what an exported model sees in images, by Larq Compute Engine's interpreter on this machine.

python -m tfbnas.predict MODEL IMAGE... [--top 3]
python -m tfbnas.predict MODEL --dir FOLDER [--csv predictions.csv]

The interpreter computes on x86 what it computes on ARM, but slowly: it says nothing of a board's speed.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbnas.errors import UserError, exit_code
from tfbnas.quiet import captured, import_tensorflow

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_RANGES = {"0..255": (1.0, 0.0), "-1..1": (1 / 127.5, -1.0)}


@dataclass(frozen=True)
class Prediction:
    """What the model sees in one image.

    Attributes:
      classes: Names and probabilities of the likeliest classes, or for a model that classifies pixels their shares.
      changes: What was done to the image to make it fit, and what was not; in words, empty if nothing.
    """

    classes: list[tuple[str, float]]
    changes: str


class Classifier:
    """An exported model, with what it says of itself.

    Class names come from the `labels.txt` that the file carries or that lies beside it; the range of the pixels from
    `input.json` in the file or "input" of the `export.json` beside it. Without either they are scaled to -1..1, as
    files of tfbnas 0.1 want them.

    Args:
      path: The `.tflite` file, or a directory that holds `model.tflite`.

    Raises:
      UserError: It is missing, no model, or one that does not classify images, or LCE is not installed.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        content = _content(self.path)
        self.path = self.path / "model.tflite" if self.path.is_dir() else self.path
        if importlib.util.find_spec("larq_compute_engine") is None:
            raise UserError(
                "Prediction needs larq-compute-engine, which is not installed here: pip install "
                "'larq-compute-engine==0.16.*' (Linux x86-64, macOS, Windows). Linux on ARM has no such package; "
                "docs/deploy.md says how the model runs there."
            )
        from tfbnas.export.convert import ExportError, Interpreter
        from tfbnas.export.flatbuffer import operators, outputs, softmax_input

        try:
            first = operators(content)[0]
            self.input_shape = next(tensor.shape for tensor in first.inputs if tensor.data is None)
            self.output_shape = outputs(content)[0].shape
            self.probabilities = softmax_input(content) is not None
            self._interpreter = Interpreter(content)
        except ExportError as error:
            raise UserError(f"Larq Compute Engine cannot run {self.path}. Export the model again.") from error
        except Exception as error:  # a damaged flatbuffer fails anywhere
            raise UserError(f"The file {self.path} is damaged ({error}). Export the model again.") from error
        if len(self.input_shape) != 4 or self.input_shape[3] not in (1, 3) or len(self.output_shape) not in (2, 4):
            raise UserError(
                f"Expected a model from an image to classes. Received: {self.path}, from {list(self.input_shape)} to "
                f"{list(self.output_shape)}."
            )
        about = self._about()
        self.labels = self._labels(about)
        self.described = "input" in about
        given = about.get("input", {}).get("range", "-1..1")
        if given not in _RANGES:
            raise UserError(f"Expected an input range of {' or '.join(_RANGES)}. Received: {given!r} for {self.path}.")
        self.scale, self.offset = _RANGES[given]

    def predict(self, image: str | os.PathLike, *, top: int = 3) -> Prediction:
        """The likeliest classes of an image file.

        Raises:
          UserError: The file is missing or no image that the model can take.
        """
        import numpy as np

        pixels, changes = _read(Path(image), (self.input_shape[1], self.input_shape[2], self.input_shape[3]))
        (outputs,) = self._interpreter.predict(pixels[None].astype(np.float32) * self.scale + self.offset)
        scores = outputs[0].astype(np.float64)
        if scores.ndim == 3:
            shares = np.bincount(scores.argmax(-1).reshape(-1), minlength=scores.shape[-1]) / scores[..., 0].size
        elif self.probabilities:
            shares = scores
        else:
            shares = np.exp(scores - scores.max())
            shares /= shares.sum()
        order = np.argsort(-shares, kind="stable")[:top]
        return Prediction([(self.labels[i], float(shares[i])) for i in order], changes)

    def _about(self) -> dict[str, Any]:
        """What the file carries, or else what lies beside it: "labels" (text) and "input"."""
        found: dict[str, Any] = {}
        beside = self.path.parent
        if (beside / "export.json").is_file():
            exported = _json((beside / "export.json").read_text(encoding="utf-8"), beside / "export.json")
            found = {key: exported[key] for key in ("input",) if key in exported}
        if (beside / "labels.txt").is_file():
            found["labels"] = (beside / "labels.txt").read_text(encoding="utf-8")
        if zipfile.is_zipfile(self.path):  # TFLite metadata: files in a zip behind the model
            with zipfile.ZipFile(self.path) as archive:
                if "labels.txt" in archive.namelist():
                    found["labels"] = archive.read("labels.txt").decode("utf-8")
                if "input.json" in archive.namelist():
                    found["input"] = _json(archive.read("input.json").decode("utf-8"), self.path)
        return found

    def _labels(self, about: dict[str, Any]) -> list[str]:
        classes = self.output_shape[-1]
        labels = about["labels"].splitlines() if "labels" in about else [f"class {i}" for i in range(classes)]
        if len(labels) != classes:
            raise UserError(
                f"Expected the names of {classes} classes, one a line, in the labels.txt of {self.path}. Received: "
                f"{len(labels)}. Take the labels.txt that was exported with the model."
            )
        return labels


def _content(path: Path) -> bytes:
    file = path / "model.tflite" if path.is_dir() else path
    if not file.is_file():
        what = "a directory without model.tflite" if path.is_dir() else "which does not exist"
        raise UserError(f"Expected a .tflite file, or a directory with model.tflite. Received: {path}, {what}.")
    content = file.read_bytes()
    if content[4:8] != b"TFL3":
        hint = " Take the model.tflite beside it." if (file.parent / "model.tflite").is_file() else ""
        raise UserError(f"Expected a .tflite file. Received: {file}, which is none.{hint}")
    return content


def _json(text: str, where: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"The description of the input in {where} is damaged ({error}). Export the model again."
        ) from error


def _read(path: Path, shape: tuple[int, int, int]) -> tuple[Any, str]:
    """The pixels of an image, 0..255, as training takes them; and in words what was changed."""
    import numpy as np
    import tensorflow as tf
    from PIL import Image

    from tfbnas.data import augment, decode

    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise UserError(f"Expected an image file. Received: {path} ({error.strerror}).") from error
    problem = decode.image_problem(tf.constant(encoded), shape, shape[0])
    if problem:
        raise UserError(f"The image {path} {problem}")
    image = decode.decode(tf.constant(encoded), shape[2])
    height, width = image.shape[:2]
    changes = []
    if (height, width) != tuple(shape[:2]):
        cut = "" if height * shape[1] == width * shape[0] else ", its middle cut out"
        changes.append(f"{width}x{height} pixels, scaled to {shape[1]}x{shape[0]}{cut}")
    try:
        with captured():
            turned = Image.open(path).getexif().get(0x0112, 1)
    except Exception:  # what TensorFlow reads is read; this is a remark
        turned = 1
    if turned not in (0, 1):
        changes.append("taken with the camera turned, which is not corrected here, nor in training")
    return np.rint(augment.fit(image, (shape[0], shape[1]))), "; ".join(changes)


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"Expected --dir to be a directory of images. Received: {folder}.")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())
    if not found:
        raise UserError(f"Expected images ({', '.join(_ENDINGS)}) in --dir {folder}. Received: none.")
    return found


def _write(classifier: Classifier, folder: Path, out: Path, top: int) -> None:
    from tfbnas.files import atomic_write

    images, bad, named, right = _images(folder), [], 0, 0
    rows: list[Iterable[Any]] = []
    for image in images:
        try:
            classes = classifier.predict(image, top=top).classes
        except UserError as error:
            bad.append(str(error))
            continue
        rows.append(
            [image.relative_to(folder), *(value for name, share in classes for value in (name, f"{share:.4f}"))]
        )
        if image.parent.name in classifier.labels:
            named, right = named + 1, right + (image.parent.name == classes[0][0])
    shown = range(1, 1 + min(top, len(classifier.labels)))
    header = [f"{column} {number}" for number in shown for column in ("class", "probability")]
    with atomic_write(out) as path, open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["image", *header], *rows])
    print(f"written: {out} ({len(rows)} images)")
    if named:
        print(f"{right} of {named} images that lie in a folder with the name of a class are of that class")
    if bad:
        raise UserError(f"{len(bad)} of {len(images)} images were left out. The first: {bad[0]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code, 0 or (for what a user can mend) 2."""
    parser = argparse.ArgumentParser(prog="python -m tfbnas.predict", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help=".tflite file, or the run directory that holds model.tflite")
    parser.add_argument("images", type=Path, nargs="*", metavar="IMAGE", help="JPEG, PNG, GIF or BMP file")
    parser.add_argument("--top", type=int, default=3, help="how many classes are shown (default: 3)")
    parser.add_argument("--dir", type=Path, help="directory: all images in it and below go into a table")
    parser.add_argument(
        "--csv", type=Path, default=Path("predictions.csv"), help="that table (default: predictions.csv)"
    )
    options = parser.parse_args(arguments)
    if bool(options.images) == bool(options.dir):
        parser.error("expected either images or --dir FOLDER")
    if options.top < 1:
        parser.error(f"expected --top to be at least 1, received {options.top}")
    return exit_code(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    _content(options.model)  # before TensorFlow is waited for
    for image in options.images:
        if not image.is_file():
            raise UserError(f"Expected an image file. Received: {image}, which does not exist.")
    import_tensorflow()
    classifier = Classifier(options.model)
    if not classifier.described:
        print(f"{classifier.path} does not say what pixels it takes: they are scaled to -1..1.", file=sys.stderr)
    if options.dir:
        _write(classifier, options.dir, options.csv, options.top)
    for image in options.images:
        prediction = classifier.predict(image, top=options.top)
        print(image, f"({prediction.changes})" if prediction.changes else "")
        width = max(len(name) for name, _ in prediction.classes)
        for name, share in prediction.classes:
            print(f"  {name:{width}}  {100 * share:5.1f} %")


if __name__ == "__main__":
    sys.exit(main())
