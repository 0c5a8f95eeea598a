"""Whether float rounding explains that two runs of a binary network differ.

Where a real value all but meets a threshold, the order of a summation decides its bit, and one bit changes the
outputs by far more than rounding does. Such a difference is no fault of a conversion, but it must be told from one. The
proof: the Keras model computes with the bits that the converted one has chosen. Every bit that it would have chosen
otherwise must be that of a value within a few roundings of its threshold, and the outputs must then agree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfbnas.export.declared import is_sign
from tfbnas.export.tracing import outputs_of, replaced
from tfbnas.lce.graph import all_layers, flatten, is_functional
from tfbnas.lce.registry import bits_of, rules_of

# How far from its threshold a value may lie to be decided by rounding, relative to the largest value of its tensor: 32
# float32 roundings, of the sums that lead there.
NEAR = 32 * 2.0**-23


def flat(outputs: list[np.ndarray]) -> np.ndarray:
    """All outputs of a model side by side, one row per input."""
    return np.concatenate([np.asarray(o, np.float32).reshape(len(o), -1) for o in outputs], axis=1)


def errors(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """max|a - b| / max|a| of each row."""
    scale = np.abs(a).max(axis=1)
    return np.abs(a - b).max(axis=1) / np.maximum(scale, np.maximum(1e-6 * scale.max(), 1e-30))


def agree(a: np.ndarray, b: np.ndarray, tolerance: float, *, maps: bool = False) -> np.ndarray:
    """Rows whose values agree, and with them the predicted class.

    Of label maps only the values are asked: among thousands of pixels there are always some between two classes whose
    values differ by less than the tolerance.
    """
    close = errors(a, b) <= tolerance
    return close if maps else close & (a.argmax(axis=1) == b.argmax(axis=1))


def gives_maps(model: tf.keras.Model) -> bool:
    """Whether the output of a model is values of classes for each pixel, `[batch, height, width, classes]`."""
    return len(model.outputs) == 1 and len(model.outputs[0].shape) == 4


class GivenBits:
    """A Keras model that takes given bits in place of those of its quantisers.

    Args:
      model: Deployed, or as it was trained with tfbnas layers.
      names: Of the binary layers, as in the deploy form, that read given bits; all others keep the model's own.
      logits: Whether outputs are those in front of a final softmax. Default: False.
    """

    def __init__(self, model: tf.keras.Model, names: Iterable[str], *, logits: bool = False):
        self._sites = sites = _sites(model, set(names))
        self._maps = gives_maps(model)

        @tf.function(reduce_retracing=True)
        def run(inputs, bits):
            distances = [tf.zeros(tf.shape(inputs)[:1])]
            with contextlib.ExitStack() as stack:
                for site in sites:
                    stack.enter_context(site.takes(bits[site.name], distances))
                outputs = outputs_of(model, inputs, logits=logits)
            return outputs, tf.reduce_max(tf.stack(distances), axis=0)

        self._run = run

    def run(self, inputs: np.ndarray, bits: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Outputs with the given bits, and how far these are from being the model's own.

        Args:
          inputs: As the model takes them.
          bits: +1 or -1, by the name of the layer that reads them.

        Returns:
          The outputs, flat, and one distance per input: of all values of which the model would have chosen the other
          bit, the largest distance from the threshold, relative to the largest value of the tensor.
        """
        given = {site.name: tf.constant(bits[site.name]) for site in self._sites}
        outputs, distance = self._run(tf.constant(inputs, tf.float32), given)
        return flat([np.asarray(t) for t in outputs]), np.asarray(distance)

    def errors(self, inputs: np.ndarray, bits: dict[str, np.ndarray], outputs: np.ndarray) -> np.ndarray:
        """Relative error, for each input, of `outputs` against those of the model with `bits`.

        It is infinite where the model differs in a bit that rounding does not decide, or in the predicted class.
        """
        got, distance = self.run(inputs, bits)
        explained = distance <= NEAR
        if not self._maps:
            explained &= got.argmax(axis=1) == outputs.argmax(axis=1)
        return np.where(explained, errors(outputs, got), np.inf)


@dataclass(frozen=True, eq=False)
class _Site:
    """A place in a Keras model where real values become bits.

    Attributes:
      name: Of the binary layer that reads the bits.
      layer: The layer that computes them.
      attribute: Its function that does so.
      threshold: Where the bit changes.
      value: What the layer gives out for bits of +1 and -1.
    """

    name: str
    layer: tf.keras.layers.Layer
    attribute: str
    threshold: float
    value: Callable[[tf.Tensor], tf.Tensor]

    @contextlib.contextmanager
    def takes(self, bits: tf.Tensor, distances: list[tf.Tensor]) -> Iterator[None]:
        """For the duration, the layer gives out `bits`; appends the distance of each input to `distances`."""
        own = getattr(self.layer, self.attribute)

        def call(x, *args, **kwargs):
            given = self.value(tf.reshape(tf.cast(bits, x.dtype), tf.shape(x)))
            margin = tf.where(given == own(x, *args, **kwargs), 0.0, tf.abs(x - self.threshold))
            margin, size = (tf.reduce_max(tf.reshape(t, [tf.shape(x)[0], -1]), axis=1) for t in (margin, tf.abs(x)))
            distances.append(tf.math.divide_no_nan(margin, size))
            return given

        with replaced(self.layer, self.attribute, tf.autograph.experimental.do_not_convert(call)):
            yield


def _sites(model: tf.keras.Model, names: set[str]) -> list[_Site]:
    """Where the model computes the bits that these layers read."""
    sites = [
        _Site(layer.name, layer, "input_quantizer", 0.0, tf.identity)
        for layer in all_layers(model)
        if layer.name in names and is_sign(getattr(layer, "input_quantizer", None))
    ]
    quantizers: dict[int, _Site] = {}
    if not is_functional(model):
        return sites
    for call in flatten(model).calls:
        layer = call.writers[0].layer if call.name in names and call.writers else None
        if layer is None or bits_of(layer).outputs != 1:
            continue
        threshold = rules_of(layer).threshold
        if threshold is not None:
            # The deploy form binarises threshold - x, with the sign +1 for x at the threshold.
            quantizers.setdefault(id(layer), _Site(call.name, layer, "call", threshold(layer), _zero_or_one))
        elif is_sign(layer):
            quantizers.setdefault(id(layer), _Site(call.name, layer, "call", 0.0, tf.identity))
    return sites + list(quantizers.values())


def _zero_or_one(bits: tf.Tensor) -> tf.Tensor:
    """The outputs of a LearnedStep at x; `bits` are those of the deploy form, the signs of threshold - x."""
    return tf.cast(bits < 0, bits.dtype)
