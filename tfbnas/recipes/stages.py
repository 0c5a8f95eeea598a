"""The stages that every method's recipe shares: data, training of plain networks, export, report."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import tensorflow as tf

from tfbnas import data, metrics, quiet, report, training
from tfbnas.architecture import Architecture
from tfbnas.callbacks import Describe, Progress, SaveEveryEpoch, StopOnNaN, TensorBoardScalars
from tfbnas.checkpoints import Checkpoints
from tfbnas.costs import MIB, Latency, Memory, trace
from tfbnas.costs.latency import devices
from tfbnas.errors import UserError
from tfbnas.export import export
from tfbnas.files import write_json
from tfbnas.recipes.devices import alone, fitting, from_chief, is_chief, open_directory, scope
from tfbnas.recipes.options import DataSettings, ExportSettings, TrainSettings
from tfbnas.recipes.settings import Command
from tfbnas.run import RunDirectory


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
    return images.hold_out(held_out, seed=0) if held_out else images


class Schedule(Protocol):
    """Settings that say how a learning rate falls, of a search or of a training."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def schedule(self) -> str: ...
    @property
    def drops(self) -> Sequence[float]: ...


def learning_rates(settings: Schedule, steps: int) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """The schedule of a training of `steps` steps."""
    if settings.schedule == "cosine":
        return tf.keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)
    return training.piecewise_schedule(settings.learning_rate, steps=steps, drops=settings.drops)


def _without_seconds(logs: Mapping[str, float]) -> dict[str, str | None]:
    return {"seconds": None}


def open_run(command: Command) -> RunDirectory:
    """The run directory of a command, new or to go on with."""
    run = open_directory(command.run_dir, command.to_dict())
    run.log(event="start", preset=command.preset)
    say(f"run directory: {run.path} (to go on after an interruption: --run_dir {run.path})")
    return run


def say(text: str) -> None:
    """Tells the user what goes on, beside the progress bars."""
    print(text, file=sys.stderr, flush=True)


def stage(
    run: RunDirectory, name: str, work: Callable[[], Mapping[str, Any]], *, by_chief: bool = False
) -> dict[str, Any]:
    """The result of a stage: from an earlier process, or from `work`, which is then stored.

    Args:
      run: Where it is stored.
      name: Of the stage.
      work: Gives the result.
      by_chief: Whether one of several workers does the work for all. Default: False.

    Raises:
      UserError: An image cannot be read. (Sets too large for memory are checked only as they are read.)
    """
    if from_chief(lambda: run.finished(name)):
        say(f"{name}: already done")
        return from_chief(lambda: run.result(name))
    say(f"{name}: begins")
    run.log(event="stage begins", stage=name)
    skipped = by_chief and not is_chief()
    try:
        with alone() if by_chief else contextlib.nullcontext():
            result = {} if skipped else work()
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
        if "IteratorGetNext" not in str(error):
            raise
        problem = error.message.splitlines()[0].split("}} ")[-1]
        raise UserError(
            f"Stage {name!r} stopped: an image of the data set cannot be read ({problem}). Replace or delete it and "
            "run again; with the same --run_dir it goes on from the last checkpoint."
        ) from error
    run.finish(name, result)
    run.log(event="stage ends", stage=name)
    return from_chief(lambda: run.result(name))


def callbacks(
    run: RunDirectory,
    name: str,
    checkpoints: Checkpoints,
    history: list[dict[str, Any]],
    *,
    describe: Describe = _without_seconds,
    scalars: Callable[[], Mapping[str, float]] | None = None,
    extra: Callable[[], Mapping[str, Any]] | None = None,
) -> list[tf.keras.callbacks.Callback]:
    """What accompanies every training stage: stop at NaN, progress bar, TensorBoard, log, checkpoints."""
    quiet.compile_once()  # not earlier: tf.distribute wants to be set up before anything runs
    if not is_chief():
        return [StopOnNaN(name)]
    return [
        StopOnNaN(name),
        Progress(name, describe=describe),
        TensorBoardScalars(run.path / "tensorboard" / name, extra=scalars),
        _Log(run, name),
        SaveEveryEpoch(checkpoints, history=history, extra=extra),
    ]


class _Log(tf.keras.callbacks.Callback):
    """Logs every epoch once: before its checkpoint, and not again when a killed process makes it be done again."""

    def __init__(self, run: RunDirectory, name: str):
        super().__init__()
        self.run, self.name = run, name
        self.logged = {event["epoch"] for event in run.events() if event.get("stage") == name and "epoch" in event}

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 not in self.logged:
            self.run.log(event="epoch", stage=self.name, epoch=epoch + 1, **{k: float(v) for k, v in logs.items()})


class Timer(tf.keras.callbacks.Callback):
    """Seconds of each epoch, in its logs: the sum over all epochs counts no time twice or between processes."""

    def on_epoch_begin(self, epoch, logs=None):
        self.begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = time.perf_counter() - self.begin


def search_history(
    run: RunDirectory,
    name: str,
    search: Any,
    epochs: int,
    fit: Callable[[int, list[tf.keras.callbacks.Callback]], object],
    *,
    records: Mapping[str, Callable[[], Any]],
    describe: Describe,
    scalars: Callable[[], Mapping[str, float]],
) -> list[dict[str, Any]]:
    """Runs a search to its end; a killed one goes on with its first unfinished epoch.

    Args:
      run: Where checkpoints and log lie.
      name: Of the stage.
      search: A compiled search: its `network`, `state` and both optimisers are what a checkpoint holds.
      epochs: Of the whole search, as Keras counts them.
      fit: `fit(done, callbacks)` runs what is left behind the first `done` epochs.
      records: By name, what is kept of the search at the end of each epoch (JSON).
      describe: What the progress bar shows.
      scalars: Further scalars for TensorBoard.

    Returns:
      One entry for each epoch: its logs, and the records of that epoch.
    """
    checkpoints = Checkpoints(
        run.checkpoints(name),
        network=search.network,
        variables=search.state,
        weight_optimizer=search.optimizer,
        architecture_optimizer=search.architecture_optimizer,
    )
    done, state = _restored(checkpoints, {"history": [], **{key: [] for key in records}})
    kept = {key: list(state[key]) for key in records}

    def record() -> dict[str, Any]:
        for key, value in records.items():
            kept[key].append(value())
        return kept

    if done < epochs:
        saving = callbacks(run, name, checkpoints, state["history"], describe=describe, scalars=scalars, extra=record)
        fit(done, [Timer(), *saving])
        state = from_chief(checkpoints.state)
    rows = zip(*(state[key] for key in records), strict=True)
    return [
        {**entry, **dict(zip(records, row, strict=True))} for entry, row in zip(state["history"], rows, strict=True)
    ]


def _restored(checkpoints: Checkpoints, empty: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Step and state of the newest checkpoint, whose variables all workers have now; 0 and `empty` without one."""
    own: tuple[int, dict[str, Any]] = checkpoints.restore() or (0, empty)
    step, state = from_chief(lambda: own)
    if step != own[0]:
        raise UserError(
            f"Expected all workers to see the chief's run directory, whose {checkpoints.directory} is at step {step}. "
            f"Received: step {own[0]} on this one; give a --run_dir on a disk that they share."
        )
    return step, state


def train_stage(
    run: RunDirectory,
    key: str,
    label: str,
    choose: Callable[[], Architecture],
    images: data.ImageData,
    settings: TrainSettings,
    *,
    precision: str,
    seed: int,
) -> dict[str, Any]:
    """Trains the network of an architecture and tests it; a killed training goes on at its last epoch.

    Args:
      run: Where results and checkpoints lie.
      key: Of the stage, `train-<key>`.
      label: Of the network, for people.
      choose: Gives the architecture; not called when the stage is finished.
      images: Data set.
      settings: Schedule.
      precision: "float32" or "bfloat16".
      seed: Of weights, order and augmentation.

    Returns:
      The stage's result; the weights are the last checkpoint of the stage, see `trained`.
    """
    name = f"train-{key}"

    def work() -> dict[str, Any]:
        architecture = choose()
        model, checkpoints = _model(run, key, architecture, images, settings, precision, seed)
        steps = images.train.steps(settings.batch_size)
        done, state = _restored(checkpoints, {"history": []})
        if not done and settings.full_precision_epochs:
            _start_from_full_precision(run, key, label, model, architecture, images, settings, precision, seed)
        if done < settings.epochs:
            saving = callbacks(run, name, checkpoints, state["history"])
            model.fit(
                fitting(images.train.epochs(settings.batch_size, seed=seed, augment=True, start=done)),
                epochs=settings.epochs,
                initial_epoch=done,
                steps_per_epoch=steps,
                callbacks=[Timer(), *saving],
                verbose=0,
            )
            state = from_chief(checkpoints.state)
        network = training.plain(model, architecture)
        measured = metrics.evaluate(network, images.test)
        held_out = metrics.evaluate(network, images.validation) if images.validation else {}
        return {
            "label": label,
            "architecture": architecture.to_dict(),
            **measured,
            **{f"validation_{name}": value for name, value in held_out.items()},
            "seconds": sum(entry["seconds"] for entry in state["history"]),
            "epochs": settings.epochs,
            "test_images": images.test.size,
            "memory": {counting: Memory(counting).of(architecture) for counting in ("paper", "deployed")},
            "history": state["history"],
        }

    return stage(run, name, work)


def _start_from_full_precision(run, key, label, model, architecture, images, settings, precision, seed) -> None:
    """Trains the float twin of a network and copies its weights, which have the same names and shapes."""
    twin = Architecture(
        architecture.method,
        architecture.network,
        architecture.choices,
        architecture.input_shape,
        architecture.classes,
        {**architecture.options, "binary": False},
    )
    own = TrainSettings(**{**vars(settings), "epochs": settings.full_precision_epochs, "full_precision_epochs": 0})
    train_stage(
        run, f"float-{key}", f"{label}, full precision", lambda: twin, images, own, precision=precision, seed=seed
    )
    source, checkpoints = _model(run, f"float-{key}", twin, images, own, precision, seed)
    checkpoints.restore()
    for layer in source.layers:
        if layer.weights:
            target = model.get_layer(layer.name)
            for weight, value in zip(target.weights, layer.weights, strict=True):
                weight.assign(value.numpy())


def _model(run, key, architecture, images, settings, precision, seed) -> tuple[tf.keras.Model, Checkpoints]:
    """The trainable form of a network, compiled, and its checkpoints."""
    with scope():
        model = training.trainable(architecture, precision=precision, seed=seed)
        optimizer = training.compile_for_training(
            model,
            learning_rate=learning_rates(settings, images.train.steps(settings.batch_size) * settings.epochs),
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
    # The layers, not the model: that would bring its metrics along.
    return model, Checkpoints(run.checkpoints(f"train-{key}"), layers=model.layers, optimizer=optimizer)


def export_stage(
    run: RunDirectory,
    key: str,
    images: data.ImageData,
    training_settings: TrainSettings,
    settings: ExportSettings,
    *,
    precision: str,
    tables: Iterable[str] = (),
) -> dict[str, Any]:
    """Exports a trained network into the run directory: model.keras, saved_model/, model.tflite, export.json.

    Beside it goes latency.json, predicted times by the latency tables that come with tfbnas and by `tables`.
    """

    def work() -> dict[str, Any]:
        architecture = Architecture.from_dict(run.result(f"train-{key}")["architecture"])
        model, checkpoints = _model(run, key, architecture, images, training_settings, precision, 0)
        checkpoints.restore()
        network = training.plain(model, architecture)
        some, labels = images.test.images(settings.images)
        result = export(network, run.path, images=some, labels=labels, tolerance=settings.tolerance)
        write_json(run.path / "latency.json", predicted_latencies(result.deployed, tables))
        return {"bytes": len(result.flatbuffer), "seconds": result.seconds}

    return stage(run, "export", work, by_chief=True)


def predicted_latencies(model: tf.keras.Model, tables: Iterable[str] = ()) -> dict[str, Any]:
    """Content of latency.json: time of each operator of a closed network, with sources and errors of the tables.

    A table that says nothing of one of the operators is left out, with the reason under "left_out".

    Args:
      model: The network; the deploy form has the layers' names of the audit.
      tables: Names or files of latency tables beside those that come with tfbnas. Default: none.
    """
    operations = trace(model)
    predictions, left_out = [], {}
    for name in dict.fromkeys([*tables, *devices()]):
        cost = Latency(name)
        try:
            rows = cost.operators(operations)
        except UserError as error:
            left_out[cost.table["name"]] = str(error)
            continue
        known = cost.table["operators"]
        operators = [
            {**vars(row), **{key: known[row.operator].get(key) for key in ("mean_error", "largest_error", "points")}}
            for row in rows
        ]
        about = {key: cost.table.get(key) for key in ("name", "device", "label", "error", "sources", "threads")}
        total = sum(row.milliseconds for row in rows)
        predictions.append({**about, "milliseconds": total, "operators": operators})
    return {"format": 1, "predictions": predictions, "left_out": left_out}


def write_report(run: RunDirectory) -> None:
    """Writes the report of what the run has found until now."""
    if is_chief():
        report.write(run.path)


def finish(run: RunDirectory) -> None:
    """Writes the report and prints the table of trained networks and where everything is."""
    if not is_chief():
        return
    page = report.write(run.path)
    rows = [("network", "accuracy", "memory", "deployed", "training")]
    for file in sorted((run.path / "stages").glob("train-*.json")):
        result = run.result(file.stem)
        rows.append(
            (
                result["label"],
                f"{100 * result['accuracy']:.2f} %"
                + (f", mean IoU {100 * result['mean_iou']:.2f} %" if "mean_iou" in result else ""),
                f"{result['memory']['paper'] / MIB:.3f} MiB",
                f"{result['memory']['deployed'] / MIB:.3f} MiB",
                f"{result['seconds']:.0f} s",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    print()
    for row in rows:
        print("  ".join(text.ljust(widths[0]) if i == 0 else text.rjust(widths[i]) for i, text in enumerate(row)))
    if uncertainty := report.uncertainty(report.read(run.path)):
        print(uncertainty)
    print(f"\nmodel for Larq Compute Engine: {run.path / 'model.tflite'}\nreport: {page}\n{run.path}")
    run.log(event="end")
