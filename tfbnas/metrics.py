"""How good a network is: accuracy, and for a network that classifies every pixel mean IoU beside it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfbnas.data.split import Split

_PIXELS = 500 * 32 * 32


def mean_iou(classes: int) -> tf.keras.metrics.MeanIoU:
    """Mean over classes of intersection over union, of label maps and logits; TensorFlow's own.

    All images are counted together. A class that is neither in a label nor in a prediction does not count.

    Args:
      classes: Number of classes; labels are `[..]` in 0..classes - 1, predictions `[.., classes]`.
    """
    return tf.keras.metrics.MeanIoU(classes, name="mean_iou", sparse_y_true=True, sparse_y_pred=False)


def evaluate(network: tf.keras.Model, split: Split, *, batch_size: int = 500) -> dict[str, float]:
    """Measures a network on all images of a split. One that classifies pixels is compiled anew.

    Args:
      network: From images to logits `[batch, classes]`, or `[batch, height, width, classes]` for segmentation.
      split: Images with labels to match.
      batch_size: Most images at a time; large images are taken in smaller numbers, so that 500 of 32x32 pixels need
        the memory. Default: 500.

    Returns:
      "accuracy", the fraction of images, or of pixels, that are classified correctly, and for segmentation "mean_iou".
    """
    if len(network.output_shape) == 2:
        return {"accuracy": float(correct(network, split, batch_size=batch_size).mean())}
    measures = ["accuracy", mean_iou(network.output_shape[-1])]
    network.compile(metrics=measures, loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = split.epoch(0, _fitting(split, batch_size), shuffle=False)
    found = network.evaluate(batches, verbose=0, return_dict=True)
    return {name: float(found[name]) for name in ("accuracy", "mean_iou")}


def correct(network: tf.keras.Model, split: Split, *, batch_size: int = 500) -> np.ndarray:
    """Whether a network classifies each image of a split correctly, `[images]`, in the split's order.

    Args:
      network: From images to logits `[batch, classes]`.
      split: Images with labels.
      batch_size: As in `evaluate`.
    """
    classify = tf.function(lambda images: tf.argmax(network(images, training=False), axis=-1), reduce_retracing=True)
    batches = split.epoch(0, _fitting(split, batch_size), shuffle=False)
    return np.concatenate([classify(images).numpy() == labels.numpy() for images, labels in batches])


def _fitting(split: Split, batch_size: int) -> int:
    height, width = split.image_shape[:2]
    return max(1, min(batch_size, split.size, _PIXELS // (height * width)))
