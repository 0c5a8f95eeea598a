"""Settings of a recipe: nested dataclasses, filled from a preset, a YAML file and the command line.

TensorFlow is not imported here, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from tfbnas.errors import UserError, nearest
from tfbnas.recipes.schema import OPTIONS, Given, Schema, schema_of
from tfbnas.run import SETTINGS
from tfbnas.serialization import dump_yaml, load_yaml, plain

DEFAULT_PRESET = "quick"

S = TypeVar("S")


@dataclasses.dataclass(frozen=True)
class Command(Generic[S]):
    """What a command line asks for.

    Attributes:
      recipe: Name of the recipe, for instance "dms_resnet18".
      preset: Name of the preset from which the settings started.
      run_dir: The run directory (not made yet).
      settings: The complete settings.
    """

    recipe: str
    preset: str
    run_dir: Path
    settings: S

    def to_dict(self) -> dict[str, Any]:
        """The complete settings as JSON values, with the names of recipe and preset: what RunDirectory takes."""
        return {"recipe": self.recipe, "preset": self.preset, **to_dict(self.settings)}


def run_main(
    function: Callable[[Command[S]], None],
    settings_class: type[S],
    *,
    recipe: str,
    description: str,
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """A recipe's program: parses the command line, calls `function`, and ends the process.

    Exit codes: 0 done; 2 for a UserError, printed as `error: ...` without traceback; 130 after Ctrl-C, with the
    command that goes on. Any other exception is a defect of the program and keeps its traceback.

    Args:
      function: Does the run.
      settings_class: Dataclass of the recipe's settings.
      recipe: Name of the module in `tfbnas.recipes`.
      description: First lines of the help, usually the module's docstring.
      argv: Arguments. Default: those of the process.
    """
    program = f"python -m tfbnas.recipes.{recipe}"
    command: Command[S] | None = None
    try:
        command = parse(
            settings_class,
            sys.argv[1:] if argv is None else argv,
            program=program,
            description=description,
            presets=preset_files(recipe),
        )
        with _stopped_by_signals():
            function(command)
    except UserError as error:
        _leave(f"error: {error}", 2)
    except KeyboardInterrupt:
        again = ""
        if command is not None and (command.run_dir / SETTINGS).exists():
            again = f" To go on: {program} --run_dir {command.run_dir}"
        _leave(f"Stopped.{again}", 130)
    except Exception as error:
        # Libraries wrap the operating system's error in types of their own.
        if not any(text in str(error) for text in ("No space left on device", "Disk quota exceeded")):
            raise
        _leave("error: The disk is full. Free some space and run again with the same --run_dir; it goes on.", 2)
    sys.exit(0)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Inside, SIGTERM ends the process as Ctrl-C does, and Ctrl-C also what a shell has started in the background."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _leave(message: str, code: int) -> NoReturn:
    # A progress bar may still stand on the line.
    print(("\n" if sys.stderr.isatty() else "") + message, file=sys.stderr, flush=True)
    sys.exit(code)


def parse(
    settings_class: type[S],
    argv: Sequence[str],
    *,
    program: str,
    description: str,
    presets: Mapping[str, str | os.PathLike],
    checked: bool = True,
) -> Command[S]:
    """Settings from, each over the one before: the dataclass's defaults, `--preset`, `--config`, the command line.

    `--run_dir` of an existing run, without `--preset` and `--config`, starts from that run's settings. `--help` and
    `--print_config` print and exit. A dataclass with a method `check()` has it called when all is known, inner ones
    first; it raises UserError for values that do not go together.

    Args:
      settings_class: Dataclass; its fields are dataclasses or values of which every type is known to jsonargparse.
        What a field means, and its unit, stands in the class's docstring ("Attributes:") or below the field.
      argv: Arguments without the program's name.
      program: How the program is called, for the help; its last word, behind the last dot, is the recipe's name.
      description: First lines of the help.
      presets: Name and YAML file of each preset.
      checked: Whether the `check` methods are called. Default: true.

    Returns:
      The command.

    Raises:
      UserError: Unknown setting or preset (with the nearest name), wrong type, missing or damaged file, or a `check`.
      SystemExit: After `--help` and `--print_config`.
    """
    recipe = program.split()[-1].split(".")[-1]
    schema = schema_of(settings_class)
    options, arguments, flags = _tokens(argv, schema)
    try:
        preset, given = _base(schema, recipe, options, presets)
    except UserError:
        if "help" not in flags:
            raise
        preset, given = next(iter(presets)), {}
    if "help" in flags:
        print(schema.help(given, program, description, list(presets)), end="")
        sys.exit(0)
    settings = schema.build({**given, **arguments})
    if checked:
        check(settings)
    name = Path(options["config"]).stem if "config" in options else preset
    run_dir = options.get("run_dir") or default_run_dir(recipe, preset if name == Path(SETTINGS).stem else name)
    command = Command(recipe, preset, Path(run_dir), settings)
    if "print_config" in flags:
        print(dump_yaml(command.to_dict()), end="")
        sys.exit(0)
    return command


def _base(
    schema: Schema, recipe: str, options: Mapping[str, str], presets: Mapping[str, str | os.PathLike]
) -> tuple[str, dict[str, Given]]:
    """Name of the preset, and the values before the command line's settings."""
    preset, config, run_dir = (options.get(name) for name in ("preset", "config", "run_dir"))
    if not preset and not config and run_dir and (Path(run_dir) / SETTINGS).exists():
        config = str(Path(run_dir) / SETTINGS)
    named, configured = schema.read(config, recipe) if config else (None, {})
    name = preset or named or next(iter(presets))
    if name not in presets:
        where = f"`preset` in {config}" if named and not preset else "`--preset`"
        raise UserError(
            f"Expected {where} to be one of {', '.join(presets)}. Received: {name!r}.{nearest(name, presets)}"
        )
    return name, {**schema.read(presets[name], recipe)[1], **configured}


def _tokens(argv: Sequence[str], schema: Schema) -> tuple[dict[str, str], dict[str, Given], set[str]]:
    """The texts of the options, those of the settings, and which of `help` and `print_config` are asked for."""
    rest, options, settings, flags = list(argv), {}, {}, set()
    while rest:
        token = rest.pop(0)
        name, equals, text = token.removeprefix("--").partition("=")
        if token in ("-h", "--help", "--print_config"):
            flags.add("help" if token == "-h" else name)
            continue
        if not token.startswith("--"):
            raise UserError(f"Expected arguments of the form --name value. Received: {token!r}.")
        if name not in OPTIONS and name not in schema.leaves:
            schema.unknown(name, "--", [*OPTIONS, "help", "print_config"])
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"Expected a value after --{name}. Received: {rest[0] if rest else 'nothing'}.")
            text = rest.pop(0)
        if name in OPTIONS:
            if not text.strip():  # a variable of a script that is not set
                raise UserError(f"Expected a value after --{name}. Received: an empty text.")
            options[name] = text
        else:
            settings[name] = Given(text, f"`--{name}`")
    return options, settings, flags


def check(settings: Any) -> None:
    """Calls `check()` of each dataclass in the settings that has it, inner ones first."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check(value)
    if callable(getattr(settings, "check", None)):
        settings.check()


def to_dict(settings: Any) -> dict[str, Any]:
    """The complete settings as nested dictionaries of JSON values."""
    return plain(dataclasses.asdict(settings))


def default_run_dir(recipe: str, preset: str) -> Path:
    """A directory that is not there yet: `runs/<recipe>/<preset>-<date>-<time>`, below the working directory."""
    first = path = Path("runs") / recipe / f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while path.exists():
        number += 1
        path = first.with_name(f"{first.name}-{number}")
    return path


def preset_files(recipe: str) -> dict[str, Path]:
    """Name and YAML file of each preset of a recipe, `quick` first.

    They are `<recipe>_<preset>.yaml` in the folder `recipes` of a checkout, `tfbnas/presets` of an installation.

    Raises:
      UserError: There are none.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "presets", package.parent / "recipes"):
        # The name of one recipe may be the beginning of another's.
        files = [file for file in sorted(folder.glob(f"{recipe}_*.yaml")) if load_yaml(file).get("recipe") == recipe]
        if files:
            named = {file.stem[len(recipe) + 1 :]: file for file in files}
            return dict(sorted(named.items(), key=lambda item: (item[0] != DEFAULT_PRESET, item[0])))
    raise UserError(
        f"Expected the presets of {recipe} in {package / 'presets'}, but there are none: install tfbnas anew."
    )
