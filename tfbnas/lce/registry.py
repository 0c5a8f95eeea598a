"""What Larq Compute Engine makes of each class of layers. A layer of one's own registers its Rules here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import larq as lq
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from tfbnas.lce.graph import Call

Layer: TypeAlias = tf.keras.layers.Layer


@dataclass(frozen=True)
class Bits:
    """Bits of the numbers that a layer computes with; 32 is float.

    Attributes:
      inputs: To which the layer quantises its input. 32: it takes the input as it comes.
      kernel: Of its weights.
      outputs: Of its result; 1 for a layer that is a quantiser.
    """

    inputs: int = 32
    kernel: int = 32
    outputs: int = 32


def declared_precision(quantizer: Any) -> int:
    """Bits that a Larq quantiser, or a layer that is one, declares; 32 for none."""
    return 32 if quantizer is None else int(getattr(quantizer, "precision", 32) or 32)


def larq_bits(layer: Layer) -> Bits:
    """The bits that a layer declares by Larq's attributes: input_quantizer, kernel_quantizer, precision."""
    quantizers = (getattr(layer, "input_quantizer", None), getattr(layer, "kernel_quantizer", None), layer)
    return Bits(*[32 if isinstance(q, lq.quantizers.NoOp) else declared_precision(q) for q in quantizers])


def _no(layer: Layer) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What becomes of the layers of one class. Every attribute has a default; a layer names what differs.

    Attributes:
      kind: Kind of its operation (see `Operation`), None where it costs nothing; or a function of the layer to that.
        Default: "unknown".
      bits: Function of the layer to its Bits. Default: those of Larq's attributes.
      binary_operator: Whether LCE computes it on bits where its input and its kernel are binary. Default: False.
      writes_bits: Function of the layer: whether that operator can give out bits, not floats. Default: never.
      keeps_bits: Function of the layer: whether it gives out bits where it reads some. Default: never.
      absorbs: Whether a normalisation or ReLU directly behind becomes part of its operator; or a function of the layer
        to that. Default: False.
      threshold: For a quantiser with the values 0 and 1: function of the layer to the number above which it gives 1.
      signs: For a convolution of the bits 0 and 1: function of the layer to its kernel of -1 and +1.
      affine: For a normalisation: function of the layer to scale and offset per channel at inference, or to None where
        it normalises another axis than the last. Not inherited.
      passes: What it makes of a * x + b: "linear", a * layer(x) + b for all a and b; "increasing", for a > 0 only;
        "sum", a * layer(x, y) + b + c for tensors a * x + b and a * y + c. Empty: none of these. Not inherited.
      never_negative: Function of the layer: whether it gives no negative value, whatever it reads. Default: it may.
      keeps_sign: Whether it gives no negative value where it reads none. Default: False; with `passes` it does.
      per_channel: Whether it computes every channel (last axis) on its own. Not inherited.
      elementwise: Whether it computes every element on its own, whatever the shape. Not inherited.
      lower: `lower(call, deployment)` returns the output of the layer in the deploy form, standard Keras and Larq
        layers; `deployment` is a `tfbnas.export.deploy_form.Deployment`. Not inherited. Default: the layer is copied.
      reads_any_form: Whether `lower` reads its input in any form (see `carrying.py`). Not inherited. Default: as it is.
      no_operator: Reason and remedy in the audit of a layer for which LCE has no binary operator.
      varies: Whether measuring gives its weights uneven values: the converter would merge equal ones. Default: False.
    """

    kind: str | None | Callable[[Layer], str | None] = "unknown"
    bits: Callable[[Layer], Bits] = larq_bits
    binary_operator: bool = False
    writes_bits: Callable[[Layer], bool] = _no
    keeps_bits: Callable[[Layer], bool] = _no
    absorbs: bool | Callable[[Layer], bool] = False
    threshold: Callable[[Layer], float] | None = None
    signs: Callable[[Layer], np.ndarray] | None = None
    affine: Callable[[Layer], tuple[np.ndarray, np.ndarray] | None] | None = None
    passes: str = ""
    never_negative: Callable[[Layer], bool] = _no
    keeps_sign: bool = False
    per_channel: bool = False
    elementwise: bool = False
    lower: Callable[[Call, Any], Any] | None = None
    reads_any_form: bool = False
    no_operator: tuple[str, str] | None = None
    varies: bool = False


_RULES: dict[type, Rules] = {}
_DEFAULT = Rules()
_EXACT = ("passes", "per_channel", "elementwise", "affine", "lower", "reads_any_form")
"""What is said of a class only: a subclass may compute something else."""


def register(*classes: type[Layer], **rules: Any) -> None:
    """Says what becomes of the layers of some classes and, where these have no rules of their own, their subclasses.

    Args:
      classes: Of layers. Rules that a class has already are kept as far as `rules` does not name them; a new class
        starts with those that it inherits.
      rules: Attributes of `Rules`.

    Raises:
      TypeError: `Rules` has no such attribute.
    """
    for layer_class in classes:
        found = rules_of_class(layer_class)
        kept = {k: v for k, v in vars(found).items() if k not in _EXACT or layer_class in _RULES}
        _RULES[layer_class] = Rules(**{**kept, **rules})


def rules_of_class(layer_class: type) -> Rules:
    """The rules of the nearest class, in the order of inheritance, that has some."""
    return next((_RULES[base] for base in layer_class.__mro__ if base in _RULES), _DEFAULT)


def rules_of(layer: Layer) -> Rules:
    """What becomes of a layer, by its class or the nearest one that it inherits from."""
    return rules_of_class(type(layer))


def exact_rules_of(layer: Layer) -> Rules:
    """What becomes of a layer whose very class is registered; else the rules of a layer of which nothing is known."""
    return _RULES.get(type(layer), _DEFAULT)


def kind_of(layer: Layer) -> str | None:
    """The kind of a layer's operation; None for a layer that costs nothing, or nothing but what is in it."""
    kind = None if getattr(layer, "alternatives", ()) else rules_of(layer).kind
    return kind(layer) if callable(kind) else kind


def absorbs(layer: Layer) -> bool:
    """Whether a normalisation or ReLU directly behind becomes part of a layer's operator."""
    found = rules_of(layer).absorbs
    return found(layer) if callable(found) else found


def bits_of(layer: Layer) -> Bits:
    """The bits of the numbers that a layer computes with."""
    return rules_of(layer).bits(layer)
