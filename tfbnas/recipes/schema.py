"""The settings of nested dataclasses under flat names: jsonargparse reads them, messages and help are ours."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import docstring_parser
import jsonargparse
import yaml

from tfbnas.errors import UserError, nearest
from tfbnas.hints import type_text
from tfbnas.serialization import load_yaml, plain

# Names that the command line or a settings file uses beside the settings.
OPTIONS = {
    "preset": ("NAME", "Settings to start from, one of: {presets}. (default: the first of them)"),
    "config": ("FILE", "YAML file of settings that replace those of the preset; RUN/settings.yaml repeats a run."),
    "run_dir": ("DIR", "Run directory; an existing one goes on. (default: runs/RECIPE/PRESET-DATE-TIME)"),
}
RESERVED = (*OPTIONS, "help", "print_config", "recipe")

_USAGE = "%(prog)s [--preset NAME] [--config FILE] [--run_dir DIR] [--any.setting VALUE ...]"


class Given(typing.NamedTuple):
    """A value as a user wrote it, and how a message names its setting: "`--seed`", "`seed` in my.yaml"."""

    value: Any
    name: str


class Schema:
    """The settings of a dataclass as flat names ("search.rounds").

    A dataclass may have `RENAMED: ClassVar[dict[str, str]]`, from a setting's old name to the new one, both without
    the dataclass's own prefix. A remark may follow the new name after a space. The old name is refused with it.

    Attributes:
      leaves: Type, meaning and group of each setting.
      groups: Names of the inner dataclasses.
      renamed: New name of each renamed setting, with the remark.
    """

    def __init__(self, settings_class: type):
        self.settings_class = settings_class
        self.renamed: dict[str, str] = {}
        self.leaves = dict(self._walk(settings_class, ""))
        self.groups = {key.rpartition(".")[0] for key in self.leaves} - {""}
        taken = sorted(set(RESERVED) & set(self.leaves))
        if taken:
            raise TypeError(f"The names {taken} belong to the command line: {settings_class} must not use them.")
        # Settings come from where they are visible, so not from the environment nor from files in fixed places.
        self._parser = jsonargparse.ArgumentParser(exit_on_error=False, default_env=False)
        hints = typing.get_type_hints(settings_class)
        for field in dataclasses.fields(settings_class):
            factory = field.default_factory
            default = field.default if factory is dataclasses.MISSING else factory()
            known = {"required": True} if default is dataclasses.MISSING else {"default": default}
            self._parser.add_argument(f"--{field.name}", type=hints[field.name], **known)

    def _walk(self, settings_class: Any, prefix: str) -> Iterator[tuple[str, _Leaf]]:
        hints = typing.get_type_hints(settings_class)
        meanings: dict[str, str] = {}
        # What an inherited field means stands in the class that declares it.
        for one in reversed(settings_class.__mro__[:-1]):
            documented = docstring_parser.parse_from_object(one)
            meanings |= {p.arg_name: " ".join((p.description or "").split()) for p in documented.params}
            for old, new in vars(one).get("RENAMED", {}).items():
                self.renamed[prefix + old] = prefix + new
        written = not (settings_class.__doc__ or "").startswith(f"{settings_class.__name__}(")
        summary = (documented.short_description if written else None) or ""
        title = f"{prefix[:-1]}: {summary}".rstrip(".: ") if prefix else "settings"
        names, own = (
            [field.name for field in dataclasses.fields(settings_class)],
            vars(settings_class)["__annotations__"],
        )
        # Single values before groups, and those that the class itself declares before inherited ones.
        for name in sorted(names, key=lambda name: (dataclasses.is_dataclass(hints[name]), name not in own)):
            if dataclasses.is_dataclass(hints[name]):
                yield from self._walk(hints[name], f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", _Leaf(hints[name], meanings.get(name, ""), title)

    def help(self, given: Mapping[str, Given], program: str, description: str, presets: Sequence[str]) -> str:
        """The text of `--help`, with the values of a preset as defaults."""
        parser = argparse.ArgumentParser(
            prog=program, usage=_USAGE, description=description.strip(), formatter_class=_HelpFormatter
        )
        for name, (metavar, text) in OPTIONS.items():
            parser.add_argument(f"--{name}", metavar=metavar, help=text.format(presets=", ".join(presets)))
        parser.add_argument("--print_config", action="store_true", help="Print the complete settings as YAML and exit.")
        try:
            defaults = self._adapted(given)
        except UserError:  # the help is there for those who have made a mistake
            defaults = self._parser.get_defaults()
        groups: dict[str, Any] = {}
        for key, leaf in self.leaves.items():
            if leaf.title not in groups:
                groups[leaf.title] = parser.add_argument_group(leaf.title)
            text = f"{leaf.help} (default: {_shown(defaults[key])})".replace("%", "%%").strip()
            groups[leaf.title].add_argument(f"--{key}", metavar=_metavar(leaf.type), help=text)
        return parser.format_help()

    def read(self, path: str | os.PathLike, recipe: str) -> tuple[str | None, dict[str, Given]]:
        """The preset that a YAML file names, and its settings.

        Raises:
          UserError: The file is missing or damaged, is of another recipe, or a name is unknown.
        """
        content = load_yaml(path)
        of = content.pop("recipe", recipe)
        if of != recipe:
            raise UserError(f"Expected settings of the recipe {recipe} in {path}. Received: settings of {of}.")
        preset = content.pop("preset", None)
        return preset, dict(self._flatten(content, "", path))

    def _flatten(self, content: Mapping[str, Any], prefix: str, path: str | os.PathLike) -> Iterator[tuple[str, Given]]:
        for name, value in content.items():
            key = f"{prefix}{name}"
            if key in self.leaves:
                yield key, Given(value, f"`{key}` in {path}")
            elif key not in self.groups:
                self.unknown(key, "", [], f" in {path}")
            elif isinstance(value, Mapping):
                yield from self._flatten(value, f"{key}.", path)
            elif value is not None:  # null: a group of which all lines are commented out
                raise UserError(f"Expected `{key}` in {path} to be a group of settings. Received: {value!r}.")

    def unknown(self, name: str, dashes: str, others: Sequence[str], place: str = "") -> NoReturn:
        """Refuses a name: with the new one if it was renamed, else with the nearest of `others` and all settings."""
        if name in self.renamed:
            new, *remark = self.renamed[name].split(" ", 1)
            renamed = " ".join([f"`{dashes}{new}`", *remark])
            raise UserError(f"The setting `{dashes}{name}`{place} has a new name: give {renamed}.")
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

    def build(self, given: Mapping[str, Given]) -> Any:
        """The dataclass, from the values that differ from its defaults.

        Raises:
          UserError: A value has the wrong type, or one without default is missing.
        """
        built = self._parser.instantiate(self._adapted(given))
        return self.settings_class(**vars(built))

    def _adapted(self, given: Mapping[str, Given]) -> jsonargparse.Namespace:
        """The values in the types of the settings, and the defaults of all others."""
        values = jsonargparse.Namespace()
        for key, one in given.items():
            if one.value is None and not _optional(self.leaves[key].type):
                self._refuse(key, one)
            values[key] = one.value
        try:
            return self._parser.parse_object(values)
        except argparse.ArgumentError as error:
            # jsonargparse names the setting, or the first that is required and missing.
            found = re.search(r'Parser key "([^"]+)"|required: ([\w.]+)', str(error))
            key = (found[1] or found[2]) if found else ""
            if key not in self.leaves:
                raise UserError(f"Wrong settings: {error}") from error
            if key in given:
                self._refuse(key, given[key])
            raise UserError(
                f"The setting `--{key}` has no default: give {type_text(self.leaves[key].type)}."
            ) from error

    def _refuse(self, key: str, given: Given) -> NoReturn:
        raise UserError(f"Expected {given.name} to be {type_text(self.leaves[key].type)}. Received: {given.value!r}.")


_SCHEMAS: dict[type, Schema] = {}


def schema_of(settings_class: type) -> Schema:
    """The schema of a dataclass, made once: a sweep reads the settings of each of its trials."""
    if settings_class not in _SCHEMAS:
        _SCHEMAS[settings_class] = Schema(settings_class)
    return _SCHEMAS[settings_class]


class _Leaf(typing.NamedTuple):
    type: Any
    help: str
    title: str


def _shown(value: Any) -> str:
    return yaml.safe_dump(plain(value), default_flow_style=True, width=1000).removesuffix("...\n").strip()


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """A description keeps its lines; a setting's name and type have room for 40 characters."""

    def __init__(self, prog: str, **kwargs: Any):
        super().__init__(prog, **{**kwargs, "max_help_position": 40})


def _optional(kind: Any) -> bool:
    return kind is Any or type(None) in typing.get_args(kind)


def _metavar(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "{" + ",".join(str(value) for value in arguments) + "}"
    if origin in (typing.Union, types.UnionType):
        return "|".join(_metavar(argument) for argument in arguments)
    if origin in (list, tuple):
        return f"[{_metavar(arguments[0]) if arguments else 'VALUE'},...]"
    return {int: "INTEGER", float: "NUMBER", bool: "true|false", str: "TEXT", type(None): "null"}.get(kind, "VALUE")
