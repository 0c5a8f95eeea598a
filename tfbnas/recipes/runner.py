"""The way of every recipe: search, retraining, export, networks to compare with, report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tfbnas import data, networks, precision, report
from tfbnas.architecture import Architecture
from tfbnas.costs import MIB
from tfbnas.errors import UserError
from tfbnas.files import read_json, write_json
from tfbnas.recipes import int8
from tfbnas.recipes.comparisons import comparisons
from tfbnas.recipes.context import Context, say
from tfbnas.recipes.devices import Devices, together
from tfbnas.recipes.exporting import export_stage
from tfbnas.recipes.options import DataSettings
from tfbnas.recipes.pricing import budgets, measuring
from tfbnas.recipes.searching import check_feasible, search_stage, searched_task, warn
from tfbnas.recipes.settings import Command
from tfbnas.recipes.training import batches_of, train_stage
from tfbnas.results import SearchResult, TrainingResult
from tfbnas.run import STAGES, RunDirectory
from tfbnas.search.registry import Method
from tfbnas.tables import table

DATA = "data.json"
"""Fingerprint of the images of a run."""


def run(command: Command[Any], method: Method) -> None:
    """Runs all stages of a recipe that the run directory does not hold yet.

    Args:
      command: What the command line asks for.
      method: What searches.

    Raises:
      UserError: The settings do not fit the data, the network, or each other. Nothing is written then.
    """
    with together(command.settings) as devices:
        settings = replace(
            command.settings,
            precision=precision.resolve(command.settings.precision),
            data=data.absolute(command.settings.data),
            **_with_absolute_paths(command.settings),
        )
        images = load_data(settings.data, segmentation=settings.network.segmentation)
        template = whole(method, settings, images)
        if settings.search is None:
            data.check_network(networks.build(template), images)
            batches_of(images, settings.train, seed=settings.seed)
        else:
            check_feasible(method, template, images, settings)
            int8.check(template, settings)
        if settings.search is not None and not (command.run_dir / STAGES / "search.json").exists():
            with measuring(settings.budget):
                pass  # a machine that cannot measure is told before anything is written
        with open_run(replace(command, settings=settings), method, images, template, devices) as context:
            run_stages(context)


def _with_absolute_paths(settings: Any) -> dict[str, Any]:
    """The groups that name files, with absolute paths, so that a run goes on from any directory."""
    named = {name: getattr(settings, name) for name in ("network", "search", "train")}
    return {name: group.absolute() for name, group in named.items() if hasattr(group, "absolute")}


def run_stages(context: Context) -> None:
    """All stages, each as far as it is not done yet."""
    if context.settings.search is None:
        found = context.template
    else:
        found = Architecture.from_dict(search_stage(context).architecture)
    for name, settings in getattr(context.settings.search, "variants", dict)().items():
        search_stage(context.with_search(settings), f"search-{name}")
    if context.devices.is_chief:
        found.save(context.run.path / "architecture.json")
    searched = searched_task(context, found)
    train_stage(context, searched)
    export_stage(context, searched)
    if context.devices.is_chief:
        report.write(context.run.path)
    for task in comparisons(context, found):
        train_stage(context, task)
    if context.devices.is_chief:
        finish(context)


def load_data(settings: DataSettings, *, segmentation: bool = False) -> data.ImageData:
    """The images of the settings.

    Args:
      settings: Which ones.
      segmentation: Whether a class for every pixel is needed, or one for every image. Default: False.

    Raises:
      UserError: They are missing, damaged, or not what a classifier can be trained on.
    """
    own = vars(settings).copy()
    held_out = own.pop("held_out")
    images = data.load(**own)
    if images.segmentation != segmentation:
        kinds = ("a class for each image", "a class for each pixel")
        raise UserError(
            f"Expected a data set with {kinds[segmentation]}. Received: data.name={settings.name!r}, which has "
            f"{kinds[not segmentation]}; take {'cifar10-shapes or part_labels' if segmentation else 'another one'}, "
            "or the recipe for such labels."
        )
    count = int(held_out if held_out >= 1 else round(held_out * images.train.size))
    return images.hold_out(count, seed=0) if held_out else images


def whole(method: Method, settings: Any, images: data.ImageData) -> Architecture:
    """The network that is searched, with no choice closed.

    Raises:
      UserError: There is no such family.
    """
    network = settings.network
    networks.builder(network.family)
    if unused := network.unused():
        belong = ", ".join(f"network.{name}" for name in unused)
        say(f"network.family {network.family}: {belong} are not used; its arguments are those of network.options")
    return Architecture(method.name, network.family, {}, images.input_shape, images.classes, network.builder_options())


@contextlib.contextmanager
def open_run(
    command: Command[Any], method: Method, images: data.ImageData, template: Architecture, devices: Devices
) -> Iterator[Context]:
    """The context of a command; its run directory is new, or that of a run to go on with."""
    settings = command.settings
    with devices.open_directory(command.run_dir, command.to_dict()) as directory:
        directory.log(event="start", preset=command.preset)
        _check_images(directory, images, devices)
        say(f"run directory: {directory.path} (to go on after an interruption: --run_dir {directory.path})")
        yield Context(directory, settings, images, template, method, budgets(settings.budget), devices)


def _check_images(run: RunDirectory, images: data.ImageData, devices: Devices) -> None:
    """Notes which images a new run has; refuses to go on with others."""
    if not devices.is_chief or not images.fingerprint:
        return  # images that were not loaded by name have none
    file = run.path / DATA
    if file.exists():
        data.check_unchanged(read_json(file), images.fingerprint, name=images.name)
    else:
        write_json(file, images.fingerprint)


def finish(context: Context) -> None:
    """Writes the report and prints the table of trained networks and where everything is."""
    path = context.run.path
    page = report.write(path)
    files = (path / STAGES).glob("train-*.json")
    results = [TrainingResult.from_dict(context.run.result(file.stem), place=str(file)) for file in files]
    rows: list[tuple[str, ...]] = [("network", "accuracy", "memory", "file", "training")]
    for result in sorted(results, key=lambda result: result.order):
        accuracy = f"{100 * result.test['accuracy']:.2f} %"
        if "mean_iou" in result.test:
            accuracy += f", mean IoU {100 * result.test['mean_iou']:.2f} %"
        counted = (result.memory.get("paper", result.file), result.memory.get("file", result.file))
        memory = (f"{size / MIB:.3f} MiB" for size in counted)
        rows.append((result.label, accuracy, *memory, f"{result.seconds:.0f} s"))
    print(f"\n{table(rows)}")
    if uncertainty := report.uncertainty(report.read(path)):
        print(uncertainty)
    if context.settings.search is not None:
        warn(context, SearchResult.from_dict(context.run.result(SearchResult.stage)))
    print(f"\nmodel for Larq Compute Engine: {path / 'model.tflite'}\nreport: {page}\n{path}")
    context.run.log(event="end")
