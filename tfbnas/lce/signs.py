"""Which tensors of a network are never negative: a binary layer that takes their signs reads nothing but +1."""

from __future__ import annotations

import tensorflow as tf

from tfbnas.lce.graph import Call, flatten, is_functional
from tfbnas.lce.registry import bits_of, rules_of
from tfbnas.lce.standard import passes


def constant_bits(model: tf.keras.Model) -> list[tuple[Call, Call]]:
    """The calls that quantise values that are never negative to one bit, each with the call that makes them so.

    A layer with a threshold of its own is no such call. A model that is no graph of layers is not looked into.
    """
    found = []
    for call in flatten(model).calls if is_functional(model) else []:
        bits = bits_of(call.layer)
        if 1 in (bits.inputs, bits.outputs) and rules_of(call.layer).threshold is None and len(call.writers) == 1:
            source = never_negative(call.writers[0])
            if source is not None:
                found.append((call, source))
    return found


def never_negative(call: Call) -> Call | None:
    """The call that keeps a tensor from being negative, its own or one in front of it; None where it may be so."""
    rules = rules_of(call.layer)
    if rules.never_negative(call.layer):
        return call
    if not call.writers or not (rules.keeps_sign or passes(call.layer)):
        return None
    sources = [never_negative(writer) for writer in call.writers]
    return None if None in sources else sources[0]
