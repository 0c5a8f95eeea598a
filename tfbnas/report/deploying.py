"""How an application uses the exported model: snippets with the run's own files, which run without tfbnas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tfbnas.report.reading import Run
from tfbnas.report.values import mapping

# What the network wants, from the pixels 0..255 of an image.
_SCALES = {"0..255": "pixels[None]", "-1..1": "pixels[None] / 127.5 - 1"}

_SAVED_MODEL = """\
import tensorflow as tf

model = tf.saved_model.load({saved_model!r})
labels = tf.io.read_file(model.labels.asset_path).numpy().decode().splitlines()
image = tf.io.decode_image(tf.io.read_file("photo.jpg"), channels={channels}, expand_animations=False)
pixels = tf.image.resize(image, [{height}, {width}], antialias=True)  # 0..255
logits = model.signatures["serving_default"](inputs_0={scaled})["outputs"][0]
{shares}
"""

_KERAS = """\
import os
import zipfile

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before TensorFlow is imported

import larq  # brings the layers
import tensorflow as tf

model = tf.keras.models.load_model({keras!r})
labels = zipfile.ZipFile({keras!r}).read("labels.txt").decode().splitlines()
image = tf.io.decode_image(tf.io.read_file("photo.jpg"), channels={channels}, expand_animations=False)
pixels = tf.image.resize(image, [{height}, {width}], antialias=True)  # 0..255
logits = model({scaled})[0]
{shares}
"""

_LCE = """\
import zipfile

import larq_compute_engine as lce
import numpy as np
from PIL import Image

with open({tflite!r}, "rb") as file:
    interpreter = lce.testing.Interpreter(file.read())
labels = zipfile.ZipFile({tflite!r}).read("labels.txt").decode().splitlines()
image = Image.open("photo.jpg").convert({mode!r}).resize(({width}, {height}))
pixels = np.asarray(image, np.float32).reshape({height}, {width}, {channels})  # 0..255
logits = interpreter.predict({scaled})[0]
{shares}
"""

_OF_IMAGES = """\
for label, share in zip(labels, {softmax}):
    print(label, f"{{100 * share:.1f}} %")"""
_OF_PIXELS = """\
for number, label in enumerate(labels):
    print(label, f"{{100 * float((np.argmax(logits, -1) == number).mean()):.1f}} % of the pixels")"""


@dataclass(frozen=True)
class Snippet:
    """A program of a few lines.

    Attributes:
      title: What runs the model.
      needs: What must be installed.
      code: In Python.
    """

    title: str
    needs: str
    code: str


def snippets(run: Run) -> list[Snippet]:
    """One for each file that takes a photograph; none where export.json does not say what the model takes."""
    described = mapping(run.export.get("input"))
    scaled = _SCALES.get(str(described.get("range")))
    height, width = described.get("height"), described.get("width")
    if scaled is None or not height or not width or not run.export.get("class_names"):
        return []
    grey = described.get("channels") == "grey"
    values: dict[str, Any] = {
        "saved_model": str(run.path / "saved_model"),
        "keras": str(run.path / "model.keras"),
        "tflite": str(run.path / "model.tflite"),
        "height": height,
        "width": width,
        "channels": 1 if grey else 3,
        "mode": "L" if grey else "RGB",
        "scaled": scaled,
    }
    maps = mapping(run.export.get("parity")).get("pixels") is not None

    def code(text: str, softmax: str) -> str:
        filled = text.format(**values, shares=(_OF_PIXELS if maps else _OF_IMAGES).format(softmax=softmax))
        return f"import numpy as np\n{filled}" if maps and "import numpy" not in filled else filled

    tensorflow = "tf.nn.softmax(logits).numpy()"
    return [
        Snippet("SavedModel", "TensorFlow alone, 2.16 or newer", code(_SAVED_MODEL, tensorflow)),
        Snippet("Keras model", "TensorFlow 2.16 to 2.19, tf_keras and larq", code(_KERAS, tensorflow)),
        Snippet(
            "model.tflite",
            "larq-compute-engine 0.16 on Linux x86-64, macOS or Windows",
            code(_LCE, "np.exp(logits - np.logaddexp.reduce(logits))"),
        ),
    ]


def takes(run: Run) -> str:
    """What the model takes and answers, in a sentence; empty where export.json does not say it."""
    described, names = mapping(run.export.get("input")), run.export.get("class_names")
    if not described:
        return ""
    height, width = described.get("height"), described.get("width")
    size = f" of {width} × {height}" if height and width else ""
    said = f"The model takes {described.get('channels')} images{size} with values {described.get('range')}"
    if isinstance(names, list) and names:
        some = ", ".join(map(str, names[:12])) + (f", … ({len(names)} in all)" if len(names) > 12 else "")
        said += f", and answers with a logit for each of the classes {some}, in this order"
    return f"{said}. Each of its files says so."
