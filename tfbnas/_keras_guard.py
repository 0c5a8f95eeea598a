"""Selects Keras 2 before TensorFlow is imported: Larq and Larq Compute Engine need it.

TensorFlow decides once, at its own import, whether `tf.keras` is Keras 3 or Keras 2 (the package
`tf_keras`), by the environment variable TF_USE_LEGACY_KERAS.
"""

import os
import sys

_WANTED = ("1", "true", "True")

if "tensorflow" in sys.modules and os.environ.get("TF_USE_LEGACY_KERAS") not in _WANTED:
    raise ImportError(
        "tfbnas needs Keras 2 (tf_keras), but TensorFlow was imported before tfbnas and has chosen Keras 3. "
        "Import tfbnas before tensorflow, or set the environment variable TF_USE_LEGACY_KERAS=1."
    )
os.environ["TF_USE_LEGACY_KERAS"] = "1"
