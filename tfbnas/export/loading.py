"""Loads Keras models with Larq or tfbnas layers from files."""

from __future__ import annotations

import os
from pathlib import Path

import larq  # noqa: F401  (registers its layers)
import tensorflow as tf

import tfbnas.layers  # noqa: F401  (registers its layers)
from tfbnas.errors import UserError
from tfbnas.quiet import captured


def load_model(path: str | os.PathLike) -> tf.keras.Model:
    """Loads a .keras or .h5 file, or a SavedModel that Keras wrote.

    Raises:
      UserError: There is none, it is damaged, or it has layers that are not Keras's, Larq's or tfbnas's.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"Expected a .keras or .h5 file or a SavedModel directory. Received: {path}, which is missing.")
    try:
        with captured():
            model = tf.keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises half a dozen types here
        reason = str(error).strip().splitlines()
        raise UserError(
            f"Expected a model of Keras and Larq layers. Received: {path}, which cannot be loaded "
            f"({reason[0] if reason else type(error).__name__}); register own layers and call tfbnas.export.export."
        ) from error
    if not isinstance(model, tf.keras.Model):
        raise UserError(
            f"Expected a SavedModel that Keras wrote (model.save). Received: {path}, a SavedModel without Keras "
            "layers; save the model as .keras."
        )
    return model
