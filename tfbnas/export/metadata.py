"""TFLite metadata: what Android's tools and model viewers read of inputs, outputs and labels.

It is a flatbuffer of its own, in a buffer of the model. Its schema is metadata_schema.fbs of TensorFlow Lite Support
(identifier M001), by whose order fields are numbered here. The files that it names lie in a zip behind the model.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import flatbuffers

from tfbnas.export.description import LABELS, Description, append
from tfbnas.export.flatbuffer import softmax_input
from tfbnas.export.rewriting import with_metadata

_IMAGE_PROPERTIES = 2  # in the union ContentProperties
_NORMALIZATION_OPTIONS = 1  # in the union ProcessUnitOptions
_COLOUR_SPACES = {"RGB": 1, "grey": 2}
_TENSOR_AXIS_LABELS = 2
# Mean and deviation with which an application scales pixels 0..255, and the values that the model then gets.
_SCALES = {"pixels": (0.0, 1.0, 0.0, 255.0), "normalised": (127.5, 127.5, -1.0, 1.0)}

Field: TypeAlias = Callable[[int], None]
"""Writes a value into the table that is begun, at the field of that number."""


def described(flatbuffer: bytes, description: Description) -> bytes:
    """The same model with its description: TFLite metadata, and a zip of labels.txt and input.json behind it.

    Where nothing is known of the model, nothing is added.
    """
    files = description.files()
    if not files:
        return flatbuffer
    content = with_metadata(flatbuffer, metadata(description, probabilities=softmax_input(flatbuffer) is not None))
    stream = io.BytesIO(content)
    append(stream, files)
    return stream.getvalue()


def metadata(description: Description, *, probabilities: bool = False) -> bytes:
    """The metadata of a model with one input, an image, and one output.

    Args:
      description: What the model takes and answers.
      probabilities: Whether it answers with probabilities, or with logits. Default: False.
    """
    writer = _Writer()
    name, about = ("probability", "Probability of each class") if probabilities else ("logit", "Logit of each class")
    answers = {0: writer.text(name), 1: writer.text(about)}
    if description.class_names:
        labels = {0: writer.text(LABELS), 1: writer.text("Names of the classes"), 2: writer.byte(_TENSOR_AXIS_LABELS)}
        answers[6] = writer.tables([writer.table(labels)])
    inputs, outputs = writer.table(_input(writer, description)), writer.table(answers)
    graph = writer.table({2: writer.tables([inputs]), 3: writer.tables([outputs])})
    return writer.finish({0: writer.text("tfbnas"), 3: writer.tables([graph]), 7: writer.text("1.0.0")})


def _input(writer: _Writer, description: Description) -> Mapping[int, Field]:
    """Fields of the input's TensorMetadata."""
    if description.input is None:
        return {0: writer.text("image")}
    mean, deviation, least, most = _SCALES[description.input]
    height, width = description.shape[:2]
    image = {0: writer.byte(_COLOUR_SPACES[description.colours])}
    if height and width:
        image[1] = writer.offset(writer.table({0: writer.uint(width), 1: writer.uint(height)}))
    content = {0: writer.byte(_IMAGE_PROPERTIES), 1: writer.offset(writer.table(image))}
    options = writer.table({0: writer.floats([mean]), 1: writer.floats([deviation])})
    unit = writer.table({0: writer.byte(_NORMALIZATION_OPTIONS), 1: writer.offset(options)})
    return {
        0: writer.text("image"),
        1: writer.text(f"{description.colours} image, values {description.to_json()['input']['range']}"),
        3: writer.offset(writer.table(content)),
        4: writer.tables([unit]),
        5: writer.offset(writer.table({0: writer.floats([most]), 1: writer.floats([least])})),
    }


class _Writer:
    """Writes tables of a flatbuffer. What a table refers to is written before it."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1024)

    def byte(self, value: int) -> Field:
        return lambda slot: self._builder.PrependUint8Slot(slot, value, 0)

    def uint(self, value: int) -> Field:
        return lambda slot: self._builder.PrependUint32Slot(slot, value, 0)

    def offset(self, place: int) -> Field:
        return lambda slot: self._builder.PrependUOffsetTRelativeSlot(slot, place, 0)

    def text(self, value: str) -> Field:
        return self.offset(self._builder.CreateString(value))

    def floats(self, values: Sequence[float]) -> Field:
        self._builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._builder.PrependFloat32(value)
        return self.offset(self._builder.EndVector())

    def tables(self, places: Sequence[int]) -> Field:
        """A vector of tables."""
        self._builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            self._builder.PrependUOffsetTRelative(place)
        return self.offset(self._builder.EndVector())

    def table(self, fields: Mapping[int, Field]) -> int:
        """Where a table lies, from its fields by their numbers."""
        self._builder.StartObject(max(fields) + 1)
        for slot, write in fields.items():
            write(slot)
        return self._builder.EndObject()

    def finish(self, fields: Mapping[int, Field]) -> bytes:
        """The whole, with these fields of the root."""
        self._builder.Finish(self.table(fields), file_identifier=b"M001")
        return bytes(self._builder.Output())
