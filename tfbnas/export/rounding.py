"""Whether float rounding explains that two runs of a binary network differ.

Where a real value all but meets a threshold, the order of a summation decides its bit, and one bit changes the
outputs by far more than rounding does. Such a difference is no fault of a conversion, but it must be told from one. The
test: changes of the size of float rounding, made to the input and to the scales and offsets of the normalisations, must
lead the Keras model to either output.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfbnas.export.declared import all_layers

# Relative changes of a few float32 roundings (1.2e-7 each), in rising order.
SCALES = (3e-7, 1e-6, 3e-6)
_ATTEMPTS = 24
_STEPS = 200


def flat(outputs: list[np.ndarray]) -> np.ndarray:
    """All outputs of a model side by side, one row per input."""
    return np.concatenate([np.asarray(o, np.float32).reshape(len(o), -1) for o in outputs], axis=1)


def errors(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """max|a - b| / max|a| of each row."""
    scale = np.abs(a).max(axis=1)
    return np.abs(a - b).max(axis=1) / np.maximum(scale, np.maximum(1e-6 * scale.max(), 1e-30))


def agree(a: np.ndarray, b: np.ndarray, tolerance: float) -> np.ndarray:
    """Rows whose values agree, and with them the predicted class."""
    return (errors(a, b) <= tolerance) & (a.argmax(axis=1) == b.argmax(axis=1))


def explained_by_rounding(
    model: tf.keras.Model, inputs: np.ndarray, a: np.ndarray, c: np.ndarray, tolerance: float
) -> np.ndarray:
    """Which inputs the model maps to `a` as well as to `c` under changes of the size of float rounding.

    Random changes of all inputs at once come first. Where several bits of one input are open, their combination is
    searched for step by step; that search ends with the first input for which it fails.

    Args:
      model: A Keras model; its weights are the same afterwards.
      inputs: The inputs in question.
      a: Outputs of one run, flat.
      c: Outputs of the other run, flat.
      tolerance: Largest relative error of outputs that agree.

    Returns:
      One boolean per input.
    """
    with _Changeable(model) as changeable:
        found = [np.zeros(len(inputs), bool) for _ in (a, c)]
        for scale in (0.0, *SCALES):
            left = np.flatnonzero(~(found[0] & found[1]))
            for _ in range(_ATTEMPTS if scale and len(left) else 1):
                outputs = changeable.run(inputs[left], changeable.draw(inputs[left], scale))
                for seen, target in zip(found, (a, c), strict=True):
                    seen[left] |= agree(target[left], outputs, tolerance)
                if (found[0] & found[1]).all():
                    return np.ones(len(inputs), bool)
        for index in np.flatnonzero(~(found[0] & found[1])):
            for seen, target in zip(found, (a, c), strict=True):
                row = slice(index, index + 1)
                seen[index] |= changeable.reaches(inputs[row], target[row], tolerance)
            if not (found[0] & found[1])[index]:
                break
    return found[0] & found[1]


class _Changeable:
    """A model whose input, normalisations and biases can be changed by small relative amounts.

    A change is a list of arrays: one for the input, one for each variable.
    """

    def __init__(self, model: tf.keras.Model):
        self.variables = [
            v for layer in all_layers(model) for v in layer.weights if len(v.shape) == 1 and v.dtype == tf.float32
        ]
        self.saved = [v.numpy() for v in self.variables]
        self.function = tf.function(lambda x: tf.nest.flatten(model(x, training=False)), reduce_retracing=True)
        self.generator = np.random.default_rng(0)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for variable, value in zip(self.variables, self.saved, strict=True):
            variable.assign(value)

    def draw(self, inputs: np.ndarray, scale: float) -> list[np.ndarray]:
        """A random change of everything."""
        return [scale * self.generator.uniform(-1, 1, value.shape) for value in (inputs, *self.saved)]

    def run(self, inputs: np.ndarray, change: list[np.ndarray]) -> np.ndarray:
        """Outputs under a change."""
        for variable, value, delta in zip(self.variables, self.saved, change[1:], strict=True):
            variable.assign(value * (1 + delta))
        changed = inputs + np.abs(inputs).max() * change[0]
        return flat([np.asarray(t) for t in self.function(tf.constant(changed.astype(np.float32)))])

    def reaches(self, inputs: np.ndarray, target: np.ndarray, tolerance: float) -> bool:
        """Whether a search that keeps what brings the outputs closer to `target` arrives there."""
        best = self.draw(inputs, 0.0)
        outputs = self.run(inputs, best)
        closest = errors(target, outputs)[0]
        for _ in range(_STEPS):
            if agree(target, outputs, tolerance)[0]:
                return True
            fresh = self.draw(inputs, self.generator.choice(SCALES))
            part = self.generator.choice([0.02, 0.1, 0.5])
            change = [
                np.where(self.generator.uniform(size=old.shape) < part, new, old)
                for old, new in zip(best, fresh, strict=True)
            ]
            outputs = self.run(inputs, change)
            distance = errors(target, outputs)[0]
            if distance <= closest:
                best, closest = change, distance
        return bool(agree(target, outputs, tolerance)[0])
