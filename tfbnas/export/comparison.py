"""Whether a converted model computes what the trained one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.export.computed_bits import ComputedBits
from tfbnas.export.convert import ExportError, Interpreter, convert_model
from tfbnas.export.flatbuffer import softmax_input
from tfbnas.export.rewriting import with_outputs
from tfbnas.export.rounding import GivenBits, agree, errors, flat, gives_maps
from tfbnas.export.scaling import is_scaling, takes_pixels
from tfbnas.export.tracing import ends_in_softmax, outputs_of
from tfbnas.lce.graph import all_layers, is_functional
from tfbnas.quiet import captured

_UNSTEADY = "Not exported: Larq Compute Engine's interpreter gives other outputs when it runs the same model again."


@dataclass
class Parity:
    """Result of a comparison that found no contradiction.

    An image is *undecided* where a real value lies so close to a threshold that float rounding decides its bit. Its
    outputs differ, but the trained model and the deploy form give those of the converted one when they take its bits,
    and all bits that they would have chosen otherwise are such (see `rounding.py`). That is shown for each such image,
    not assumed.

    Attributes:
      images: Number of given images.
      random: Number of random inputs.
      tolerance: Largest relative error allowed.
      error: Largest relative error, max|a - b| / max|a| per image, converted against trained; of undecided images, with
        the bits of the converted model.
      error_deployed: Likewise, converted against deploy form.
      undecided: Indices of the undecided images.
      undecided_random: Number of undecided random inputs.
      other_class: Indices of the undecided images of which the predicted class differs too, or that of a pixel.
      accuracy: Share of right classes of the trained model, with labels.
      accuracy_converted: Likewise of the converted one.
      pixels: Number of pixels of all images for a model that classifies pixels, else `None`.
      other_pixels: Number of those whose predicted class differs.
    """

    images: int
    random: int
    tolerance: float
    error: float
    error_deployed: float
    undecided: list[int]
    undecided_random: int
    other_class: list[int]
    accuracy: float | None = None
    accuracy_converted: float | None = None
    pixels: int | None = None
    other_pixels: int = 0

    def summary(self) -> str:
        """One sentence."""
        undecided = len(self.undecided) + self.undecided_random
        inputs, classes = f"{self.random} random inputs", ""
        if self.images:
            inputs = f"{self.images} images and {inputs}"
            equal, of = self.images - len(self.other_class), self.images
            if self.pixels is not None:
                equal, of = self.pixels - self.other_pixels, self.pixels
            classes = f"{equal} of {of} predicted classes equal; "
        return (
            f"parity: largest relative error {self.error:.1e} (tolerance {self.tolerance:g}) on {inputs}; {classes}"
            f"rounding decides {undecided} of them"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def parity(
    flatbuffer: bytes,
    deployed: tf.keras.Model,
    trained: tf.keras.Model | None = None,
    *,
    images: np.ndarray | None,
    labels: np.ndarray | None = None,
    tolerance: float = 1e-4,
    random_inputs: int = 16,
    seed: int = 0,
) -> Parity:
    """Compares a converted model, run by LCE's interpreter, with the deploy form and the trained model.

    Models that end in a softmax are compared in front of it: there, it does not make large errors of small ones, nor
    hide them where it is saturated.

    Args:
      flatbuffer: The converted model.
      deployed: The Keras model that was converted.
      trained: The model that it was made from. Default: `deployed`.
      images: Inputs as the model takes them, `[n, height, width, channels]`; `None` for random ones alone.
      labels: Class of each image, or of each of its pixels, to report both accuracies. Default: None.
      tolerance: Largest relative error of the outputs. Default: 1e-4.
      random_inputs: Number of normally distributed inputs tried too, of the images' mean and deviation; without images,
        0 and 1, or 127.5 and 64 for a model that takes pixels. Default: 16.
      seed: Of the random inputs. Default: 0.

    Raises:
      ExportError: Outputs or predicted classes differ by more than rounding can do; or the Keras model gives NaN or
        infinite outputs (which LCE would hide).
      UserError: `images` does not fit the model.
    """
    center, deviation = (127.5, 64.0) if takes_pixels(deployed) else (0.0, 1.0)
    if images is None:
        check_images(deployed, images := np.zeros((1, *deployed.input_shape[1:]), np.float32))
        images = images[:0]
    else:
        images = check_images(deployed, images)
        center, deviation = images.mean(), images.std() + 1e-3
    _check_weights(deployed)
    noise = np.random.default_rng(seed).normal(center, deviation, (random_inputs, *images.shape[1:]))
    inputs = np.concatenate([images, noise.astype(np.float32)])
    trained = trained or deployed
    number = softmax_input(flatbuffer) if ends_in_softmax(deployed) and ends_in_softmax(trained) else None
    a = _predict(trained, inputs, logits=number is not None)
    b = a if trained is deployed else _predict(deployed, inputs, logits=number is not None)
    for name, outputs in (("trained", a), ("deployed", b)):
        bad = ~np.isfinite(outputs).all(axis=1)
        if bad.any():
            raise ExportError(
                f"Not exported: the {name} model gives NaN or infinite outputs (input number {int(np.argmax(bad))} of "
                f"{len(inputs)}), which binarisation hides in the converted one; the weights or inputs are damaged."
            )
    c = outputs = flat(Interpreter(flatbuffer).predict(inputs))
    if number is not None:
        c = _logits(flatbuffer, number, inputs, outputs, tolerance)
    maps = gives_maps(deployed)
    same = np.all([agree(x, y, tolerance, maps=maps) for x, y in ((a, c), (b, c), (a, b))], axis=0)
    undecided = np.flatnonzero(~same)
    error_trained, error_deployed = errors(a, c), errors(b, c)
    if len(undecided):
        found = _with_its_bits(flatbuffer, [trained, deployed], inputs[undecided], c[undecided], number, tolerance)
        bad = ~(found <= tolerance).all(axis=0)
        if bad.any():
            # With the bits of the converted model, what rounding decides is no difference of the deploy form.
            converted = not found[1, bad][0] <= tolerance
            _fail(deployed, inputs, a, b, c, undecided[bad], tolerance, converted=converted)
        error_trained[undecided], error_deployed[undecided] = found
    of_images = undecided[undecided < len(images)]
    predicted, other = (_classes(deployed, outputs[: len(images)]) for outputs in (a, c))
    differs = predicted != other
    result = Parity(
        images=len(images),
        random=random_inputs,
        tolerance=tolerance,
        error=float(error_trained.max(initial=0.0)),
        error_deployed=float(error_deployed.max(initial=0.0)),
        undecided=[int(i) for i in of_images],
        undecided_random=int(len(undecided) - len(of_images)),
        other_class=[int(i) for i in of_images if differs[i].any()],
        pixels=differs.size if maps else None,
        other_pixels=int(differs.sum()) if maps else 0,
    )
    if labels is not None:
        labels = np.asarray(labels).reshape(predicted.shape)
        result.accuracy = float((predicted == labels).mean())
        result.accuracy_converted = float((other == labels).mean())
    return result


def _classes(model: tf.keras.Model, outputs: np.ndarray) -> np.ndarray:
    """The predicted class of each input, `[n, 1]`, or of each of its pixels, `[n, pixels]`, from flat outputs."""
    classes = model.output_shape[-1] if gives_maps(model) else outputs.shape[1]
    return outputs.reshape(len(outputs), outputs.shape[1] // classes, classes).argmax(axis=-1)


def _logits(flatbuffer: bytes, number: int, inputs: np.ndarray, outputs: np.ndarray, tolerance: float) -> np.ndarray:
    """What the converted model takes the final softmax of; checks the softmax."""
    shares, logits = Interpreter(with_outputs(flatbuffer, [number])).predict(inputs)
    if not np.array_equal(flat([shares]), outputs):
        raise ExportError(_UNSTEADY)
    if not (errors(flat([np.asarray(tf.nn.softmax(logits))]), outputs) <= tolerance).all():
        raise ExportError("Not exported: the converted model's softmax differs from TensorFlow's.")
    return flat([logits])


def _with_its_bits(
    flatbuffer: bytes,
    models: list[tf.keras.Model],
    inputs: np.ndarray,
    outputs: np.ndarray,
    number: int | None,
    tolerance: float,
    batch: int = 8,
) -> np.ndarray:
    """Errors of the trained model and the deploy form with the converted model's bits, `[2, inputs]`.

    Infinite where rounding explains no difference of the bits, and behind the first few inputs where it does not.
    """
    trained, deployed = models
    computed = ComputedBits(flatbuffer if number is None else with_outputs(flatbuffer, [number]), deployed)
    logits, result = number is not None, np.full((2, len(inputs)), np.inf)
    given = {model: GivenBits(model, computed.names, logits=logits) for model in models}
    for start in range(0, len(inputs), batch):
        part = slice(start, start + batch)
        shown, bits = computed.read(inputs[part])
        if not np.array_equal(flat(shown[-1:] if logits else shown), outputs[part]):
            raise ExportError(_UNSTEADY)
        found = {model: bound.errors(inputs[part], bits, outputs[part]) for model, bound in given.items()}
        result[:, part] = found[trained], found[deployed]
        if not (result[:, part] <= tolerance).all():
            break
    return result


def check_images(model: tf.keras.Model, images: np.ndarray) -> np.ndarray:
    """The images as float32, after a check that they fit the model.

    Raises:
      UserError: They do not, there are none, or they hold NaN or infinite values.
    """
    if len(model.inputs) != 1:
        raise UserError(f"Expected a model with 1 input. Received: {len(model.inputs)}; export its parts one by one.")
    images = np.asarray(images)
    wanted = tuple(model.inputs[0].shape[1:])
    fits = images.ndim == len(wanted) + 1 and all(w in (None, s) for w, s in zip(wanted, images.shape[1:], strict=True))
    if not fits or not len(images):
        raise UserError(
            f"Expected images of shape [n, {', '.join(map(str, wanted))}] with n >= 1. Received: images of shape "
            f"{list(images.shape)}; pass some preprocessed images, as the model was trained on."
        )
    images = images.astype(np.float32)
    if not np.isfinite(images).all():
        bad = int(np.argmax(~np.isfinite(images.reshape(len(images), -1)).all(axis=1)))
        raise UserError(
            f"Expected finite images. Received: NaN or infinite values in image number {bad}; leave it out."
        )
    return images


def _check_weights(model: tf.keras.Model) -> None:
    for layer in all_layers(model):
        for variable in layer.weights:
            if not np.isfinite(np.asarray(variable)).all():
                raise ExportError(
                    f"Not exported: weight {variable.name!r} of layer {layer.name!r} holds NaN or infinite values; "
                    "go back to the last good checkpoint."
                )


def _predict(model: tf.keras.Model, inputs: np.ndarray, *, logits: bool = False, batch: int = 256) -> np.ndarray:
    """All outputs, flat, one row per input."""
    # 64 channels of a million pixels take 268 MB.
    batch = max(1, min(batch, 2**20 // int(np.prod(inputs.shape[1:3]))))
    run = tf.function(lambda x: outputs_of(model, x, logits=logits))
    rows = []
    for start in range(0, len(inputs), batch):
        part = inputs[start : start + batch]
        padded = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)]) if start else part
        rows.append(flat([np.asarray(t) for t in run(tf.constant(padded))])[: len(part)])
    return np.concatenate(rows)


def _fail(deployed, inputs, a, b, c, bad: np.ndarray, tolerance: float, *, converted: bool) -> None:
    index = int(bad[0])
    pair = "the deploy form" if converted else "the trained model"
    error = float((errors(b, c) if converted else errors(a, b))[index])
    classes = [_classes(deployed, outputs[index : index + 1])[0] for outputs in (a, c)]
    if gives_maps(deployed):
        share = np.not_equal(*classes).mean()
        predicted = f"predicted classes different at {100 * share:.2g} % of its pixels"
    else:
        predicted = f"predicted classes {classes[0][0]} (Keras) and {classes[1][0]} (converted)"
    where = ""
    if converted:
        with captured():  # many models are traced, of which TensorFlow warns
            layer = first_difference(deployed, inputs[bad[:4]], tolerance)
        where = f" The first layer that differs is {layer!r}." if layer else ""
    raise ExportError(
        f"Not exported: the converted model differs from {pair} on {len(bad)} of {len(inputs)} inputs; on number "
        f"{index} by {error:.1e} relative (tolerance {tolerance:g}), {predicted}.{where} "
        "Raise `tolerance` only if such an error is acceptable."
    )


def first_difference(model: tf.keras.Model, inputs: np.ndarray, tolerance: float) -> str | None:
    """Name of the first layer from which on the converted model differs, by bisection; `None` where none is found."""
    if len(model.layers) == 3 and is_scaling(model.layers[1]) and is_functional(model.layers[2]):
        return first_difference(model.layers[2], np.asarray(model.layers[1](inputs)), tolerance)
    layers = [layer for layer in model.layers if not isinstance(layer, tf.keras.layers.InputLayer)]

    def differs(layer: tf.keras.layers.Layer) -> bool:
        part = tf.keras.Model(model.inputs, layer.output)
        converted = flat(Interpreter(convert_model(part)).predict(inputs))
        return not (errors(_predict(part, inputs), converted) <= tolerance).all()

    return _bisect(layers, differs)


def _bisect(layers: list, differs: Callable[[Any], bool]) -> str | None:
    low, high = 0, len(layers) - 1
    try:
        while low < high:
            middle = (low + high) // 2
            if differs(layers[middle]):
                high = middle
            else:
                low = middle + 1
        return layers[low].name if layers and differs(layers[low]) else None
    except Exception:  # a part of the model may not convert on its own; the error itself is reported anyway
        return None
