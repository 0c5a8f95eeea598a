"""Networks in full precision as TensorFlow Lite files, float32 or int8: what a binary network is compared with.

Conversion and interpreter are TensorFlow's own; Larq Compute Engine has no part in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.export.convert import ExportError
from tfbnas.export.flatbuffer import operators
from tfbnas.export.rewriting import compact
from tfbnas.quiet import captured


def convert(model: tf.keras.Model, *, images: np.ndarray | None = None) -> bytes:
    """A network in full precision as a TensorFlow Lite file; what no runtime reads is left out of it.

    Args:
      model: Without binary layers.
      images: What the model takes, `[n, height, width, channels]`. With them the file is of int8 throughout, from its
        input to its output: kernels in 255 steps for each output channel, activations in 256 steps of the range that
        they have on these images. Default: none, a file of float32.

    Raises:
      ExportError: TensorFlow's converter fails, or leaves an operator in float.
    """
    function = tf.function(lambda x: model(x, training=False))
    signature = function.get_concrete_function(tf.TensorSpec([1, *model.input_shape[1:]], tf.float32))
    failure, flatbuffer = None, b""
    with captured():
        try:
            converter = tf.lite.TFLiteConverter.from_concrete_functions([signature], model)
            converter.experimental_lower_to_saved_model = False  # a third of the time, and the same operators
            if images is not None:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.representative_dataset = lambda: ([image[None]] for image in images)
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.inference_input_type = converter.inference_output_type = tf.int8
            flatbuffer = converter.convert()
        except Exception as error:  # the converter raises errors of several libraries
            failure = error
    if failure is not None or not flatbuffer:
        raise ExportError(f"TensorFlow could not convert the network to TensorFlow Lite: {failure}") from failure
    flatbuffer = compact(bytes(flatbuffer))
    if images is not None:
        _check_int8(flatbuffer)
    return flatbuffer


def uneven(model: tf.keras.Model, seed: int = 0) -> tf.keras.Model:
    """Gives every weight of a network a random value and returns it: its file is as large as that of a trained one.

    The converter leaves out what is zero or one, and equal constants are stored once.
    """
    random = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(random.uniform(0.5, 1.5, weight.shape) * (1 if "variance" in weight.name else 0.1))
    return model


def _check_int8(flatbuffer: bytes) -> None:
    for operator in operators(flatbuffer):
        if floats := [tensor for tensor in (*operator.inputs, *operator.outputs) if tensor.dtype == "float32"]:
            raise ExportError(
                f"Expected every operator of the int8 form to compute in int8. Received: {operator.name} with the "
                f"float tensor {floats[0].name!r}."
            )


class Converted(tf.keras.Model):
    """A TensorFlow Lite file as a network from images to logits, both float32, which TensorFlow's interpreter runs.

    An int8 file is given the images in its own steps, and its logits are scaled back.

    Args:
      flatbuffer: The file, with one input and one output.
    """

    def __init__(self, flatbuffer: bytes):
        super().__init__()
        with captured():
            self._runner = tf.lite.Interpreter(model_content=flatbuffer, num_threads=1)
        (self._input,), (self._output,) = self._runner.get_input_details(), self._runner.get_output_details()
        self._ready: tuple[int, ...] = ()

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (None, *(int(size) for size in self._output["shape"][1:]))

    def call(self, inputs, training=None):
        outputs = tf.numpy_function(self._run, [inputs], tf.float32)
        return tf.ensure_shape(outputs, (inputs.shape[0], *self.output_shape[1:]))

    def _run(self, images: np.ndarray) -> np.ndarray:
        if images.shape != self._ready:
            self._runner.resize_tensor_input(self._input["index"], images.shape)
            with captured():
                self._runner.allocate_tensors()
            self._ready = images.shape
        self._runner.set_tensor(self._input["index"], _to_steps(images, self._input))
        self._runner.invoke()
        return _from_steps(self._runner.get_tensor(self._output["index"]), self._output)


def _to_steps(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    if detail["dtype"] == np.float32:
        return values
    scale, zero = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(detail["dtype"])


def _from_steps(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    if detail["dtype"] == np.float32:
        return values
    scale, zero = detail["quantization"]
    return (scale * (values.astype(np.float32) - zero)).astype(np.float32)
