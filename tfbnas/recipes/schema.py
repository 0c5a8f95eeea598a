"""The settings of nested dataclasses under flat names, with their types, defaults and meanings."""

from __future__ import annotations

import argparse
import dataclasses
import os
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import docstring_parser
import jsonargparse
import yaml

from tfbnas.errors import UserError, nearest
from tfbnas.serialization import load_yaml, plain

# Names that the command line or a settings file uses beside the settings.
OPTIONS = {
    "preset": ("NAME", "Settings to start from, one of: {presets}. (default: quick)"),
    "config": ("FILE", "YAML file of settings that replace those of the preset; RUN/settings.yaml repeats a run."),
    "run_dir": ("DIR", "Run directory; an existing one goes on. (default: runs/RECIPE/PRESET-DATE-TIME)"),
}
RESERVED = (*OPTIONS, "help", "print_config", "recipe")

_USAGE = "%(prog)s [--preset NAME] [--config FILE] [--run_dir DIR] [--any.setting VALUE ...]"


class Schema:
    """The settings of a dataclass as flat names ("search.rounds") with type, default and meaning."""

    def __init__(self, settings_class: type):
        self.settings_class = settings_class
        self.leaves: dict[str, _Leaf] = {leaf.key: leaf for leaf in _leaves(settings_class)}
        self.groups = {leaf.key.rpartition(".")[0] for leaf in self.leaves.values()} - {""}
        taken = sorted(set(RESERVED) & set(self.leaves))
        if taken:
            raise TypeError(f"The names {taken} belong to the command line: {settings_class} must not use them.")
        self._types = _parser()
        for leaf in self.leaves.values():
            self._types.add_argument(f"--{leaf.key}", type=leaf.type)

    def defaults(self) -> dict[str, Any]:
        return {key: leaf.default for key, leaf in self.leaves.items()}

    def help(self, values: Mapping[str, Any], program: str, description: str, presets: Sequence[str]) -> str:
        """The text of `--help`, with `values` as defaults."""
        parser = _parser(prog=program, usage=_USAGE, description=description.strip(), formatter_class=_HelpFormatter)
        for name, (metavar, text) in OPTIONS.items():
            parser.add_argument(f"--{name}", metavar=metavar, help=text.format(presets=", ".join(presets)))
        parser.add_argument("--print_config", action="store_true", help="Print the complete settings as YAML and exit.")
        groups: dict[str, Any] = {}
        for key, leaf in self.leaves.items():
            if leaf.title not in groups:
                groups[leaf.title] = parser.add_argument_group(leaf.title)
            text = f"{leaf.help} (default: {_shown(values[key])})".replace("%", "%%").strip()
            groups[leaf.title].add_argument(f"--{key}", metavar=_metavar(leaf.type), help=text)
        return parser.format_help()

    def read(self, path: str | os.PathLike, recipe: str) -> tuple[str | None, dict[str, Any]]:
        """The preset that a YAML file names, and its settings, checked for names and types.

        Raises:
          UserError: The file is missing or damaged, is of another recipe, or a name or a type is wrong.
        """
        content = load_yaml(path)
        of = content.pop("recipe", recipe)
        if of != recipe:
            raise UserError(f"Expected settings of the recipe {recipe} in {path}. Received: settings of {of}.")
        preset = content.pop("preset", None)
        return preset, dict(self._flatten(content, "", path))

    def _flatten(self, content: Mapping[str, Any], prefix: str, path: str | os.PathLike) -> Iterator[tuple[str, Any]]:
        for name, value in content.items():
            key = f"{prefix}{name}"
            if key in self.leaves:
                yield key, self._checked(key, value, f"`{key}` in {path}")
            elif key not in self.groups:
                self.unknown(key, "", [], f" in {path}")
            elif value is None:
                continue  # a group of which all lines are commented out
            elif not isinstance(value, Mapping):
                raise UserError(f"Expected `{key}` in {path} to be a group of settings. Received: {value!r}.")
            else:
                yield from self._flatten(value, f"{key}.", path)

    def unknown(self, name: str, dashes: str, others: Sequence[str], place: str = "") -> NoReturn:
        """Refuses a name, with the nearest of `others` and all settings."""
        if name in self.groups:
            inner = next(key for key in self.leaves if key.startswith(f"{name}."))
            raise UserError(f"{dashes}{name} is a group of settings: give one of them, for instance {dashes}{inner}.")
        known = [*others, *self.leaves]
        hint = nearest(name, known)
        if not hint:  # `rounds` for `search.rounds`
            ends = [key for key in known if nearest(name.split(".")[-1], [key.split(".")[-1]])]
            hint = nearest(name, ends) or (f" Did you mean {ends[0]!r}?" if ends else "")
        hint = hint.replace("'", f"'{dashes}", 1) or " `--help` lists the known ones."
        raise UserError(f"Unknown setting `{dashes}{name}`{place}.{hint}")

    def value_of_text(self, key: str, text: str) -> Any:
        """The value of a command line's text."""
        try:
            return self._types.parse_args([f"--{key}={text}"])[key]
        except argparse.ArgumentError as error:
            self._wrong_type(key, text, f"`--{key}`", error)

    def _checked(self, key: str, value: Any, name: str) -> Any:
        nested = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        try:
            if value is None and not _optional(self.leaves[key].type):
                raise argparse.ArgumentError(None, "null")
            return self._types.parse_object(nested)[key]
        except argparse.ArgumentError as error:
            self._wrong_type(key, value, name, error)

    def _wrong_type(self, key: str, value: Any, name: str, error: Exception) -> NoReturn:
        raise UserError(f"Expected {name} to be {type_text(self.leaves[key].type)}. Received: {value!r}.") from error

    def build(self, values: Mapping[str, Any]) -> Any:
        """The dataclass, from a value for each flat name."""
        return _build(self.settings_class, "", values)


@dataclasses.dataclass(frozen=True)
class _Leaf:
    key: str
    type: Any
    default: Any
    help: str
    title: str


def _leaves(settings_class: Any, prefix: str = "") -> Iterator[_Leaf]:
    hints = typing.get_type_hints(settings_class)
    # What an inherited field means stands in the class that declares it.
    documented = [docstring_parser.parse_from_object(c) for c in reversed(settings_class.__mro__[:-1])]
    meanings = {p.arg_name: " ".join((p.description or "").split()) for one in documented for p in one.params}
    summary = documented[-1].short_description or ""
    title = f"{prefix[:-1]}: {summary}".rstrip(".") if prefix else "settings"
    inner = []
    for field in dataclasses.fields(settings_class):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            inner.append((kind, f"{prefix}{field.name}."))
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        yield _Leaf(f"{prefix}{field.name}", kind, default, meanings.get(field.name, ""), title)
    for kind, name in inner:
        yield from _leaves(kind, name)


def _build(settings_class: Any, prefix: str, values: Mapping[str, Any]) -> Any:
    arguments = {}
    for field in dataclasses.fields(settings_class):
        kind = typing.get_type_hints(settings_class)[field.name]
        key = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(kind):
            arguments[field.name] = _build(kind, f"{key}.", values)
        elif values[key] is dataclasses.MISSING:
            raise UserError(f"The setting `--{key}` has no default: give {type_text(kind)}.")
        else:
            arguments[field.name] = _as_float(kind, values[key])
    return settings_class(**arguments)


def _as_float(kind: Any, value: Any) -> Any:
    """1 as 1.0 where a float is meant: else the settings of two equal runs would look different."""
    wanted = {kind, *typing.get_args(kind)}
    if isinstance(value, int) and not isinstance(value, bool) and float in wanted and int not in wanted:
        return float(value)
    return value


def _shown(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "none"
    return yaml.safe_dump(plain(value), default_flow_style=True, width=1000).removesuffix("...\n").strip()


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Without jsonargparse's additions: the types are in the metavariables, the defaults in the texts."""

    def __init__(self, prog: str, **kwargs: Any):
        super().__init__(prog, **{**kwargs, "max_help_position": 40})


def _parser(**kwargs: Any) -> jsonargparse.ArgumentParser:
    # Settings come from where they are visible, so not from the environment nor from files in fixed places.
    return jsonargparse.ArgumentParser(exit_on_error=False, default_env=False, **kwargs)


def _optional(kind: Any) -> bool:
    return kind is Any or type(None) in typing.get_args(kind)


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
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def _metavar(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "{" + ",".join(str(value) for value in arguments) + "}"
    if origin in (typing.Union, types.UnionType):
        return "|".join(_metavar(argument) for argument in arguments)
    if origin in (list, tuple):
        return f"[{_metavar(arguments[0]) if arguments else 'VALUE'},...]"
    return {int: "INTEGER", float: "NUMBER", bool: "true|false", str: "TEXT", type(None): "null"}.get(kind, "VALUE")
