"""Adds a page to the documentation for each part of the package. mkdocs calls it (see mkdocs.yml)."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = Path(__file__).parents[1] / "tfbnas"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Makes `api/<part>.md` for every folder and every file right below the package."""
    folders = [path.parent for path in PACKAGE.glob("*/__init__.py")]
    modules = [path for path in PACKAGE.glob("*.py") if not path.name.startswith("_")]
    for path in sorted([*folders, *modules]):
        content = f"# tfbnas.{path.stem}\n\n::: tfbnas.{path.stem}\n"
        files.append(File.generated(config, f"api/{path.stem}.md", content=content))
    return files
