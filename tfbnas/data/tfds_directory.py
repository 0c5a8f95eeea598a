"""Data sets that TFDS has written."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.data.offline import tfds
from tfbnas.data.parts import Opened, Part, maps_do_not_stream, split_names
from tfbnas.data.streams import Piece, RecordSplit, StreamSplit
from tfbnas.errors import UserError

# The test split of ImageNet has no labels.
_LABELLED_TEST_SPLITS = {"imagenet2012": "validation"}


def open_tfds(builder: Any, train_split: str, test_split: str | None, validation_split: str | None = None) -> Opened:
    """Opens what a TFDS builder has written; split names and errors as in `tfbnas.data.load`."""
    info = builder.info
    where = f"{info.full_name} in {builder.data_dir}"
    image_key, label_key = _keys(info, where)
    image, label = info.features[image_key], info.features[label_key]
    height, width, channels = image.shape
    kind = tf.as_dtype(image.dtype)
    if channels not in (1, 3) or kind != tf.uint8:
        raise UserError(
            f"Expected images of 1 or 3 channels of uint8. Received: {channels} channels of {kind.name} in {where}."
        )
    test_split = _LABELLED_TEST_SPLITS.get(info.name) if test_split is None else test_split
    splits = split_names(list(info.splits), train_split, test_split, where, validation_split)
    parts = tuple(_part(builder, split, image_key, label_key) for split in splits)
    names = [str(name) for name in (label.names or range(label.num_classes))]
    return Opened((height, width, channels), names, parts)


def _keys(info: Any, where: str) -> tuple[str, str]:
    """Names of the image and of the label."""
    features = tfds().features
    keys = info.supervised_keys or ("image", "label")
    found = dict(info.features.items()) if isinstance(info.features, features.FeaturesDict) else {}
    good = (
        len(keys) == 2
        and all(isinstance(key, str) for key in keys)
        and isinstance(found.get(keys[0]), features.Image)
        and isinstance(found.get(keys[1]), (features.ClassLabel, features.LabeledImage))
        and found[keys[1]].num_classes
        and (found[keys[1]].dtype == np.uint8 or not _is_map(found[keys[1]]))
    )
    if not good:
        raise UserError(
            f"Expected a data set for image classification, with the features image (Image) and label (ClassLabel; for "
            "segmentation LabeledImage of uint8, with the number of labels). "
            f"Received: {where}, with {', '.join(f'{k} ({type(v).__name__})' for k, v in found.items()) or 'none'}."
        )
    return keys


def _is_map(feature: Any) -> bool:
    return isinstance(feature, tfds().features.LabeledImage)


def _part(builder: Any, split: str, image_key: str, label_key: str) -> Part:
    files = [image_key, *([label_key] if _is_map(builder.info.features[label_key]) else [])]
    decoders = tfds().decode.PartialDecoding(
        {image_key: True, label_key: True}, decoders={key: tfds().decode.SkipDecoding() for key in files}
    )
    where = f"split {split!r} of {builder.data_dir}"
    info = builder.info.splits[split]
    if not info.num_examples:
        raise UserError(f"The {where} is empty. Make the data set again, or name another split.")
    missing = [piece.filename for piece in info.file_instructions if not os.path.exists(piece.filename)]
    if missing:
        raise UserError(f"The {where} is incomplete: {missing[0]} is missing. Make the data set again.")
    encoded = builder.as_dataset(
        split=split, decoders=decoders, shuffle_files=False, read_config=tfds().ReadConfig(try_autocache=False)
    ).map(lambda example: (example[image_key], example[label_key]))

    def stream(shape: tuple[int, int, int], scaled: bool) -> StreamSplit:
        if label_key in files:
            raise maps_do_not_stream(where)
        if builder.info.file_format.value != "tfrecord":
            raise UserError(
                "Expected a data set of more than the memory limit to be stored as tfrecord. "
                f"Received: {where}, stored as {builder.info.file_format.value}. "
                "Prepare it again with file_format='tfrecord', or raise the limit (--data.memory_limit)."
            )
        features = decoders.extract_features(builder.info.features)

        def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            example = features.deserialize_example(record, decoders=decoders.decoders)
            return example[image_key], example[label_key]

        pieces = [
            Piece(p.filename, p.skip, p.take if p.take >= 0 else p.examples_in_shard - p.skip)
            for p in info.file_instructions
        ]
        return RecordSplit(pieces, parse, name=where, image_shape=shape, scaled=scaled)

    return Part(
        where=where,
        count=info.num_examples,
        encoded=encoded,
        describe=lambda number: f"Image number {number} (from 0)",
        contents=lambda: (
            f"{os.path.basename(p.filename)} {os.path.getsize(p.filename)} {p.skip} {p.take}"
            for p in info.file_instructions
        ),
        stream=stream,
    )
