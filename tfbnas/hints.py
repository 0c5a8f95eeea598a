"""Types of settings: in words, and whether a value is of one. TensorFlow is not imported here."""

from __future__ import annotations

import dataclasses
import numbers
import types
import typing
from collections.abc import Mapping
from typing import Any

from tfbnas.errors import UserError

_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "null"}


def type_text(kind: Any) -> str:
    """A type in words, for messages: "an integer", "one of 'sgd', 'adam'", "a list of numbers"."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(argument) for argument in arguments)
    if origin in (list, tuple) and arguments:
        if origin is tuple and Ellipsis not in arguments:
            return f"a list of {len(arguments)} values ({', '.join(type_text(a) for a in arguments)})"
        return f"a list like [a, b] of which each is {type_text(arguments[0])}"
    if origin is dict:
        return f"names with values like {{a: 1}}{'' if arguments[1] is Any else f', each {type_text(arguments[1])}'}"
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def has_type(value: Any, kind: Any) -> bool:
    """Whether a value is of a type: numpy's numbers are numbers, integers are numbers too, true and false are none."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(has_type(value, argument) for argument in arguments)
    if origin in (list, tuple):
        return isinstance(value, (list, tuple)) and all(has_type(one, arguments[0]) for one in value)
    if origin is dict:
        return isinstance(value, Mapping)
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, kind)


def require_types(group: str, settings: Any) -> None:
    """Checks the fields of a dataclass that a program has filled; a command line's are of their types already.

    Args:
      group: Of the settings, for the message; empty in a program that calls a constructor.
      settings: The dataclass.

    Raises:
      UserError: A value is not of the type that its field declares.
    """
    kinds = typing.get_type_hints(type(settings))
    for name in (field.name for field in dataclasses.fields(settings)):
        value = getattr(settings, name)
        if not has_type(value, kinds[name]):
            scope = f"{group}.{name}" if group else name
            raise UserError(f"Expected `{scope}` to be {type_text(kinds[name])}. Received: {name}={value!r}.")
