"""Selects Keras 2 before TensorFlow is imported: Larq and Larq Compute Engine need it.

TensorFlow decides once, at the latest when `tf.keras` is first used, whether that is Keras 3 or Keras 2 (the package
`tf_keras`), by the environment variable TF_USE_LEGACY_KERAS.
"""

import os
import sys

_WANTED = ("1", "true", "True")


def _chosen_keras_3() -> bool:
    """Whether an import of TensorFlow before this one has settled on Keras 3."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return False
    if os.environ.get("TF_USE_LEGACY_KERAS") not in _WANTED:
        return True
    # The variable may have been set too late; this attribute loads Keras 2 where it was not.
    keras = getattr(tensorflow, "keras", None)
    return keras is not None and not keras.Model.__module__.startswith("tf_keras")


if _chosen_keras_3():
    raise ImportError(
        "tfbnas needs Keras 2 (tf_keras), but TensorFlow was imported before tfbnas and has chosen Keras 3. "
        "Import tfbnas before tensorflow, or set the environment variable TF_USE_LEGACY_KERAS=1 before both."
    )
os.environ["TF_USE_LEGACY_KERAS"] = "1"
