"""Loads Keras models with Larq or tfbnas layers from files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import larq  # noqa: F401  (registers its layers)
import tensorflow as tf

import tfbnas.layers  # noqa: F401  (registers its layers)
from tfbnas.errors import UserError
from tfbnas.export.quiet import captured


@contextlib.contextmanager
def _keras_own_names() -> Iterator[None]:
    """Lets names of Keras's own layers mean those: older file formats name a class without its package."""
    registered = tf.keras.utils.get_custom_objects()
    hidden = {name: registered.pop(name) for name in list(registered) if hasattr(tf.keras.layers, name)}
    try:
        yield
    finally:
        registered.update(hidden)


def load_model(path: str | os.PathLike) -> tf.keras.Model:
    """Loads a .keras or .h5 file, or a SavedModel that Keras wrote.

    Raises:
      UserError: There is none, it is damaged, or it has layers that are not Keras's, Larq's or tfbnas's.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"Expected a .keras or .h5 file or a SavedModel directory. Received: {path}, which is missing.")
    try:
        with captured(), _keras_own_names():
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
