"""Everything that touches Larq Compute Engine: conversion and the interpreter."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.export.description import INPUT, LABELS, Description
from tfbnas.export.flatbuffer import input_output_types
from tfbnas.export.rewriting import compact
from tfbnas.files import write_text
from tfbnas.quiet import captured

_DTYPES = {"float32": tf.float32, "int8": tf.int8}


class ExportError(UserError):
    """A model that cannot be exported as it declares itself, with the layer, the reason and the remedy."""


def _engine() -> Any:
    """The module `larq_compute_engine`, imported when it is needed: Linux on aarch64 has none.

    Raises:
      UserError: It is not installed.
    """
    try:
        import larq_compute_engine
    except ImportError as error:
        raise UserError(
            "Conversion and parity check need larq-compute-engine, which is not installed here "
            f"({error}). Export on Linux x86-64, macOS or Windows with Python 3.10-3.12: pip install "
            "'larq-compute-engine==0.16.*'; Linux aarch64 has no such package."
        ) from error
    return larq_compute_engine


def versions() -> dict[str, str]:
    """Installed versions of the packages on which an exported file depends."""
    found = {}
    for package in ("tensorflow", "tf_keras", "larq", "larq-compute-engine", "tfbnas"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def write_saved_model(
    model: tf.keras.Model, directory: str | os.PathLike, description: Description | None = None
) -> None:
    """Writes a SavedModel for serving, which TensorFlow loads without Keras, larq or tfbnas.

    Its one signature `serving_default` runs the model at inference on a batch of any size. Class names are an asset:
    `tf.saved_model.load(directory).labels.asset_path` names the file. The input is described in
    `assets.extra/input.json`.
    """
    files = description.files() if description else {}
    specs = [tf.TensorSpec([None, *t.shape[1:]], t.dtype, name=f"inputs_{i}") for i, t in enumerate(model.inputs)]

    def serve(*inputs):
        outputs = tf.nest.flatten(model(list(inputs) if len(inputs) > 1 else inputs[0], training=False))
        return {f"outputs_{i}" if len(outputs) > 1 else "outputs": tensor for i, tensor in enumerate(outputs)}

    module = tf.Module()
    module.variables_ = list(model.variables)
    module.serve = tf.function(serve, input_signature=specs)
    with tempfile.TemporaryDirectory() as scratch:
        if LABELS in files:
            source = Path(scratch) / LABELS
            source.write_text(files[LABELS], encoding="utf-8")
            module.labels = tf.saved_model.Asset(str(source))
        with captured():
            tf.saved_model.save(module, str(directory), signatures={"serving_default": module.serve})
    if INPUT in files:
        write_text(Path(directory) / "assets.extra" / INPUT, files[INPUT])


def convert(
    saved_model: str | os.PathLike, *, input_type: str = "float32", output_type: str = "float32", target: str = "arm"
) -> bytes:
    """Converts a SavedModel of one signature to a TFLite flatbuffer with LCE's binary operators.

    The batch size None becomes 1. What no runtime reads is left out of the file; see `rewriting.compact`.

    Args:
      saved_model: Directory, as `write_saved_model` writes it.
      input_type: "float32" or "int8", the latter for models that carry quantisation ranges. Default: "float32".
      output_type: Likewise.
      target: "arm" or "xcore". Default: "arm".

    Raises:
      ExportError: The converter fails; its own output is in the message.
      UserError: LCE is not installed.
    """
    engine = _engine()
    for name in (input_type, output_type):
        if name not in _DTYPES:
            raise UserError(f"Expected an input and output type out of {sorted(_DTYPES)}. Received: {name!r}.")
    failure, flatbuffer = None, b""
    with captured() as log:
        try:
            # convert_keras_model would fall back to another way with nothing but a warning; this one fails or works.
            flatbuffer = engine.convert_saved_model(
                str(saved_model),
                inference_input_type=_DTYPES[input_type],
                inference_output_type=_DTYPES[output_type],
                target=target,
            )
        except Exception as error:  # the converter raises bare Exception and errors of several libraries
            failure = error
    if "int8" in (input_type, output_type) and "not integer quantized" in str(failure):
        raise ExportError(
            f"Not exported: expected quantisation ranges in the model for {input_type} inputs and {output_type} "
            "outputs. Received: one without; train it quantisation-aware (tf.quantization.fake_quant_* nodes at inputs "
            "and outputs), or export with float32."
        ) from failure
    if failure is not None or not flatbuffer:
        raise ExportError(
            f"Larq Compute Engine could not convert the model: {str(failure or 'no result').strip()}\n"
            f"Output of the converter:\n{_essence(log.text)}"
        ) from failure
    flatbuffer = compact(bytes(flatbuffer))
    inputs, outputs = input_output_types(flatbuffer)
    if {*inputs} != {input_type} or {*outputs} != {output_type}:
        raise ExportError(
            f"Not exported: asked for {input_type} inputs and {output_type} outputs, Larq Compute Engine made {inputs} "
            f"and {outputs}."
        )
    return flatbuffer


def convert_model(model: tf.keras.Model, **options: Any) -> bytes:
    """`convert` for a Keras model, through a SavedModel in a temporary directory."""
    _engine()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "saved_model"
        write_saved_model(model, path)
        return convert(path, **options)


def _essence(text: str, lines: int = 15) -> str:
    """The last lines of a log without TensorFlow's start-up chatter."""
    chatter = ("cuda", "oneDNN", "AVX", "WARNING: All log messages", "TF-TRT", "rebuild TensorFlow", "MLIR V1")
    kept = [line for line in text.splitlines() if line.strip() and not any(word in line for word in chatter)]
    return "\n".join(kept[-lines:]) or "(nothing)"


class Interpreter:
    """Runs a flatbuffer with LCE's kernels on this machine (correct on x86, but not representative in speed).

    Grouped binary convolutions, which the default kernel refuses, run with the indirect one.

    Args:
      flatbuffer: A converted model.
      threads: Threads of the interpreter. Default: 1.

    Raises:
      ExportError: The interpreter refuses the model.
      UserError: LCE is not installed.
    """

    def __init__(self, flatbuffer: bytes, *, threads: int = 1):
        _engine()
        from larq_compute_engine.tflite.python.interpreter import Interpreter as LceInterpreter

        with captured() as log:
            try:
                self._interpreter = LceInterpreter(flatbuffer, num_threads=threads)
                return
            except RuntimeError:
                with contextlib.suppress(RuntimeError):
                    self._interpreter = LceInterpreter(flatbuffer, num_threads=threads, use_indirect_bgemm=True)
                    return
        raise ExportError(f"Not exported: LCE's interpreter refuses the converted model.\n{_essence(log.text)}")

    @property
    def input_types(self) -> list[str]:
        """NumPy names of the input dtypes."""
        return [np.dtype(t).name for t in self._interpreter.input_types]

    @property
    def output_types(self) -> list[str]:
        """NumPy names of the output dtypes."""
        return [np.dtype(t).name for t in self._interpreter.output_types]

    def times(self, example: np.ndarray, runs: int) -> list[float]:
        """Seconds of each of several runs on a batch of one, with the little that calling from Python takes."""
        found = []
        with captured():
            for _ in range(runs):
                start = time.perf_counter()
                self._interpreter.predict(example)
                found.append(time.perf_counter() - start)
        return found

    def predict(self, inputs: np.ndarray | list[np.ndarray]) -> list[np.ndarray]:
        """All outputs for a batch of real inputs, computed one example at a time; int8 is converted on both sides."""
        run, arrays = self._interpreter, inputs if isinstance(inputs, list) else [inputs]
        for i, (scale, zero) in enumerate(zip(run.input_scales, run.input_zero_points, strict=True)):
            if scale is not None:
                arrays[i] = np.clip(np.round(arrays[i] / scale) + zero, -128, 127).astype(np.int8)
        with captured():
            outputs = run.predict(arrays if len(arrays) > 1 else arrays[0])
        outputs = outputs if isinstance(outputs, list) else [outputs]
        ranges = zip(outputs, run.output_scales, run.output_zero_points, strict=True)
        return [o if scale is None else (o.astype(np.float32) - zero) * scale for o, scale, zero in ranges]
