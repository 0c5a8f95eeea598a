"""TensorFlow Datasets without network and without noise."""

from __future__ import annotations

import functools
import logging
from types import ModuleType


@functools.cache
def tfds() -> ModuleType:
    """The module `tensorflow_datasets`: it never asks Google Cloud Storage, prints no log lines and no bars.

    Imported on first use, because the import takes seconds.
    """
    import absl.logging
    import tensorflow_datasets
    from tensorflow_datasets.core.utils import gcs_utils

    # A machine without network would otherwise wait for the time-outs of every look into the public bucket.
    gcs_utils._is_gcs_disabled = True
    tensorflow_datasets.disable_progress_bar()
    # TFDS logs to absl's one logger, as TensorFlow's Python side does; warnings and errors still come through.
    absl.logging.get_absl_logger().addFilter(_drop_information)
    return tensorflow_datasets


def _drop_information(record: logging.LogRecord) -> bool:
    from_tfds = "tensorflow_datasets" in record.pathname
    return record.levelno >= (logging.ERROR if from_tfds else logging.WARNING)
