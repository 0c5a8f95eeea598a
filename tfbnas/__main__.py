"""Lists what can be run: `python -m tfbnas`."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from tfbnas import __version__
from tfbnas.errors import nearest
from tfbnas.sweep.recipe import known

PROGRAMS = {
    "device": "measures a .tflite on a board, a phone or this machine",
    "export": "audits, verifies and converts any Keras or Larq model",
    "predict": "says what an exported model sees in images",
    "report": "writes the report of a run anew",
    "sweep": "runs a recipe under many budgets and shows the front of cost and accuracy",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the list; returns the exit code, 2 where a program was named in another way than it is started."""
    parser = argparse.ArgumentParser(prog="python -m tfbnas", description=__doc__)
    parser.add_argument("--version", action="version", version=f"tfbnas {__version__}")
    parser.add_argument("name", nargs="?", help=argparse.SUPPRESS)
    name = parser.parse_args(arguments).name
    recipes = {recipe: f"tfbnas.recipes.{recipe}" for recipe in known()}
    modules = {**recipes, **{program: f"tfbnas.{program}" for program in PROGRAMS}}
    if name is not None:
        start = f"Start it with `python -m {modules[name]}`." if name in modules else "See the list."
        print(
            f"error: `python -m tfbnas` takes no program. Received: {name!r}. {start}"
            f"{'' if name in modules else nearest(name, modules)}",
            file=sys.stderr,
        )
        return 2
    width = max(map(len, modules))
    print("Recipes: python -m tfbnas.recipes.NAME")
    for name, module in recipes.items():
        print(f"  {name:{width}}  {_first_line(module)}")
    print("\nPrograms: python -m tfbnas.NAME")
    for name, about in PROGRAMS.items():
        print(f"  {name:{width}}  {about}")
    print(
        "\n--help after any of them lists its settings. Without settings a recipe runs in minutes, on images that ship"
    )
    print("with tfbnas.")
    return 0


def _first_line(module: str) -> str:
    """What a recipe says of itself, read from its source: to import it would take longer."""
    spec = importlib.util.find_spec(module)
    source = Path(str(spec and spec.origin)).read_text(encoding="utf-8")
    line = (ast.get_docstring(ast.parse(source)) or "").split("\n")[0].split(",")[0].rstrip(".")
    return line[:1].lower() + line[1:]


if __name__ == "__main__":
    sys.exit(main())
