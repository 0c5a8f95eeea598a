"""Holds back what C++ libraries write to stdout and stderr, and shows it when it explains a failure."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator

_lock = threading.RLock()


class Captured:
    """What was written while `captured()` was open; `text` is complete when it has closed."""

    text: str = ""


@contextlib.contextmanager
def captured() -> Iterator[Captured]:
    """Collects what is written to the file descriptors 1 and 2 of the process, and Python's warnings.

    `sys.stdout` and `sys.stderr` stay as they are: loggers that are set up meanwhile keep hold of them.
    The output of other threads is collected too.
    """
    result = Captured()
    with _lock, tempfile.TemporaryFile() as file, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _flush()
        saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        try:
            for descriptor in saved:
                os.dup2(file.fileno(), descriptor)
            yield result
        finally:
            _flush()
            for descriptor, original in saved.items():
                os.dup2(original, descriptor)
                os.close(original)
            file.seek(0)
            messages = [f"{warning.category.__name__}: {warning.message}" for warning in caught]
            result.text = "\n".join([file.read().decode("utf-8", "replace"), *messages])


def import_tensorflow() -> None:
    """Imports TensorFlow for a command line, without what its C++ parts say on a machine without GPU.

    That would bury tables and progress bars; what matters is raised as an exception. An own TF_CPP_MIN_LOG_LEVEL holds.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with captured():
        import tensorflow  # noqa: F401
    # A search may train one network after the other, each of which has to be traced.
    logging.getLogger("tensorflow").addFilter(
        lambda record: "triggered tf.function retracing" not in record.getMessage()
    )


@functools.cache
def compile_once() -> None:
    """Lets TensorFlow's compiler say what it says at its first use now, where nobody hears it."""
    with captured():
        import tensorflow as tf

        tf.function(lambda: tf.zeros(()), jit_compile=True)()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
