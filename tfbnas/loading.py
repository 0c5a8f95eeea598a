"""Loads Keras models with Larq or tfbnas layers from files."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import larq as lq
import tensorflow as tf

import tfbnas.layers  # noqa: F401  (registers its layers)
from tfbnas.errors import UserError
from tfbnas.quiet import captured

_HOMES = (
    tf.keras.layers,
    tf.keras.models,
    tf.keras.initializers,
    tf.keras.constraints,
    tf.keras.regularizers,
    tf.keras.activations,
    tf.keras.mixed_precision,
)
# Classes that Keras knows and does not show.
_INTERNAL = {"Functional", "TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty"}
_KEYS = ("class_name", "registered_name")


def load_model(path: str | os.PathLike) -> tf.keras.Model:
    """Loads a .keras or .h5 file, or a SavedModel that Keras wrote.

    Initialisers that Keras does not know are passed over: the weights come from the file.

    Raises:
      UserError: There is none, it is damaged, or it has layers that are not Keras's, Larq's or tfbnas's.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"Expected a .keras or .h5 file or a SavedModel directory. Received: {path}, which is missing.")
    try:
        # A .h5 file names a quantiser within a layer by its class alone.
        quantizers = {key.split(">")[-1]: value for key, value in _registered().items() if _is_quantizer(value)}
        with captured(), tf.keras.utils.custom_object_scope(quantizers):
            model = _load(path)
    except Exception as error:  # Keras raises half a dozen types here
        unknown = ", ".join(sorted(_unknown(_config(path))))
        said = str(error).strip().split("\n")[0] or type(error).__name__
        reason = f"it refers to {unknown}, which neither Keras nor Larq nor tfbnas has" if unknown else said
        raise UserError(
            f"Expected a model of Keras and Larq layers. Received: {path}, which cannot be loaded "
            f"({reason}); import the module that registers your own classes (--import MODULE)."
        ) from error
    if not isinstance(model, tf.keras.Model):
        raise UserError(
            f"Expected a SavedModel that Keras wrote (model.save). Received: {path}, a SavedModel without Keras "
            "layers; save the model as .keras."
        )
    return model


def _is_quantizer(registered: Any) -> bool:
    return isinstance(registered, type) and issubclass(registered, lq.quantizers.Quantizer)


def _load(path: Path) -> tf.keras.Model:
    config = _config(path)
    if not _drop_unknown_initializers(config):
        return tf.keras.models.load_model(path, compile=False)
    build = tf.keras.utils.deserialize_keras_object if zipfile.is_zipfile(path) else tf.keras.models.model_from_config
    model = build(config)
    model.load_weights(str(path))
    return model


def _config(path: Path) -> Any:
    """The architecture that a file holds, or `None`."""
    try:
        if path.is_file() and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return {**json.loads(archive.read("config.json")), "compile_config": None}
        if path.is_file() and h5py.is_hdf5(path):
            with h5py.File(path) as file:
                return json.loads(file.attrs["model_config"])
    except (KeyError, ValueError, OSError, zipfile.BadZipFile):
        pass  # Keras says what is wrong with it
    return None


def _drop_unknown_initializers(config: Any) -> bool:
    """Puts zeros in the place of initialisers that Keras does not know; returns whether there were any.

    Nothing that the configuration names is imported or called.
    """
    items = list(config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ())
    found = False
    for key, value in items:
        if str(key).endswith("_initializer") and not _is_known(value):
            config[key] = {"class_name": "Zeros", "config": {}}
            found = True
        else:
            found |= _drop_unknown_initializers(value)
    return found


def _is_known(initializer: Any) -> bool:
    return initializer is None or bool(_names(initializer) & {*dir(tf.keras.initializers), *_registered()})


def _unknown(config: Any) -> set[str]:
    """Names of the classes and functions in a configuration, initialisers apart, that Keras cannot know."""
    if isinstance(config, list):
        return set().union(*map(_unknown, config))
    if not isinstance(config, dict):
        return set()
    found = set().union(*(_unknown(value) for key, value in config.items() if not key.endswith("_initializer")))
    known = {name for home in _HOMES for name in dir(home)} | _INTERNAL | set(_registered())
    names = _names(config) if "class_name" in config else set()
    return found if names & known else found | set(sorted(names)[:1])


def _names(described: Any) -> set[str]:
    """By which names an object may be registered that a configuration describes."""
    if isinstance(described, dict):
        is_function = described.get("class_name") == "function"
        described = [described.get("config")] if is_function else [described.get(k) for k in _KEYS]
    return {name for name in (described if isinstance(described, list) else [described]) if isinstance(name, str)}


def _registered() -> dict[str, Any]:
    return tf.keras.utils.get_custom_objects()
