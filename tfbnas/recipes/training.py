"""The stages that train a plain network: from scratch, from given weights, or with another trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas import metrics, paired, training
from tfbnas.architecture import Architecture
from tfbnas.checkpoints import Checkpoints
from tfbnas.costs import Memory
from tfbnas.costs.memory import COUNTINGS
from tfbnas.data import ImageData
from tfbnas.recipes import teaching
from tfbnas.recipes.context import Context
from tfbnas.recipes.options import FULL_PRECISION, TrainSettings
from tfbnas.recipes.pricing import milliseconds, prices
from tfbnas.recipes.stages import fitted, stage
from tfbnas.results import Role, TrainingResult

Weights = Mapping[str, Sequence[np.ndarray]]
"""By the name of a layer, the values of its weights in Keras' order."""


@dataclass(frozen=True)
class Training:
    """A network that a run trains.

    Attributes:
      key: The stage is `train-<key>`.
      label: Of the network, for people.
      role: Why it is trained.
      order: Place in tables and figures, rising.
      choose: Gives the architecture. Not called where the stage is finished.
      settings: Its own schedule. Default: the run's.
      start: Gives the weights to start from, by layer, for all layers or some (see `training.set_weights`). Called
        once, before the first epoch. Default: none, a start from scratch; with `full_precision_epochs` from the
        weights of the network in full precision.
      only: Trains the layers alone of which this says so, for instance `training.is_normalization`. Default: all.
      trainer: Makes of the network the model that is fitted, for instance one that follows a teacher; the model is
        compiled by `training.compile_with` and has the network's layers among its own. What else it must
        keep in checkpoints, its `tracked()` gives by name. Default: what the settings say of a teacher; else the
        network itself.
      deployed: Gives, of the trained network and its architecture, the fields of the result that say what it is once it
        is deployed, for instance its accuracy as int8. Default: the network is tested as it is.
    """

    key: str
    label: str
    role: Role
    order: int
    choose: Callable[[], Architecture]
    settings: TrainSettings | None = None
    start: Callable[[], Weights] | None = None
    only: Callable[[tf.keras.layers.Layer], bool] | None = None
    trainer: Callable[[tf.keras.Model], tf.keras.Model] | None = None
    deployed: Callable[[tf.keras.Model, Architecture], Mapping[str, Any]] | None = None

    @property
    def stage(self) -> str:
        return f"train-{self.key}"


def train_stage(context: Context, task: Training) -> TrainingResult:
    """Trains the network of a task and tests it; a killed training goes on at its last epoch.

    With `normalization_epochs` it has two stages, of which the last one trains batch normalisation alone.

    Returns:
      The last stage's result; `trained` gives the network.
    """
    *before, last = _parts(context, task)
    for part in before:
        _train(context, part)
    return _train(context, last)


def _parts(context: Context, task: Training) -> list[Training]:
    settings = task.settings or context.settings.train
    if not settings.normalization_epochs or task.only is not None:
        return [task]
    first = replace(
        task,
        key=f"{task.key}-weights",
        role="reference",
        label=f"{task.label}, before the last normalisation",
        order=task.order + 50,
        settings=replace(settings, normalization_epochs=0),
        deployed=None,
    )
    rest = replace(
        settings,
        epochs=settings.normalization_epochs,
        learning_rate=0.1 * settings.learning_rate,
        warm_up=0.0,
        normalization_epochs=0,
        full_precision_epochs=0,
        teacher=None,
    )

    def start() -> Weights:
        return training.weights(trained(context, first))

    return [first, replace(task, settings=rest, start=start, only=training.is_normalization, trainer=None)]


def _train(context: Context, task: Training) -> TrainingResult:
    """One stage of a training."""

    def work() -> Mapping[str, Any]:
        settings, images = task.settings or context.settings.train, context.images
        architecture = task.choose()
        network, fit_model, checkpoints = _built(context, task, architecture)
        about = TrainingResult(
            task.key,
            task.label,
            task.role,
            task.order,
            architecture.to_dict(),
            costs=prices(architecture, context.budgets),
            memory={counting: Memory(counting).of(architecture) for counting in COUNTINGS},
            epochs=settings.epochs,
            test_images=images.test.size,
            milliseconds=milliseconds(architecture, context.settings.budget.device),
            done=False,
        )
        start = task.start
        if start is None and settings.full_precision_epochs and settings.teacher != FULL_PRECISION:
            start = lambda: _full_precision_weights(context, task, architecture, network)  # noqa: E731

        def fit(done: int, callbacks: list[tf.keras.callbacks.Callback]) -> None:
            batches = batches_of(images, settings, seed=context.settings.seed, start=done)
            fit_model.fit(
                context.devices.fitting(batches),
                epochs=settings.epochs,
                initial_epoch=done,
                steps_per_epoch=images.train.steps(settings.batch_size),
                callbacks=callbacks,
                verbose=0,
            )

        history = fitted(
            context,
            task.stage,
            about,
            checkpoints,
            settings.epochs,
            fit,
            begin=lambda: training.set_weights(network, start()) if start else None,
        )
        plain = training.plain(network, architecture)
        found = task.deployed(plain, architecture) if task.deployed else tested(plain, images)
        return replace(
            about,
            **found,
            seconds=sum(row["seconds"] for row in history),
            history=history,
            done=True,
        ).to_dict()

    return TrainingResult.from_dict(stage(context, task.stage, work), place=f"stage {task.stage}")


def batches_of(images: ImageData, settings: TrainSettings, *, seed: int, start: int = 0) -> tf.data.Dataset:
    """The endless batches of a training.

    Args:
      images: The data set.
      settings: Of the training.
      seed: Of order and augmentation.
      start: Epochs that are done. Default: 0.

    Raises:
      UserError: The data set has fewer images than a batch, or smaller ones than the settings need.
    """
    return images.train.epochs(settings.batch_size, seed=seed, augment=True, start=start, cutout=settings.cutout)


def tested(network: tf.keras.Model, images: ImageData) -> dict[str, Any]:
    """What a result says of the images; which ones are classified correctly, unless each pixel has a class."""
    validation = metrics.evaluate(network, images.validation) if images.validation else {}
    if len(network.output_shape) != 2:
        return {"test": metrics.evaluate(network, images.test), "validation": validation}
    correct = metrics.correct(network, images.test)
    test = {"accuracy": float(correct.mean())}
    return {"test": test, "correct": paired.packed(correct), "validation": validation}


def trained(context: Context, task: Training) -> tf.keras.Model:
    """The float32 network of a finished training, with its weights."""
    task = _parts(context, task)[-1]
    result = TrainingResult.from_dict(context.run.result(task.stage), place=f"stage {task.stage}")
    architecture = Architecture.from_dict(result.architecture)
    network, _, checkpoints = _built(context, task, architecture)
    checkpoints.restore()
    return training.plain(network, architecture)


def _built(
    context: Context, task: Training, architecture: Architecture
) -> tuple[tf.keras.Model, tf.keras.Model, Checkpoints]:
    """The trainable form of a network, the compiled model that is fitted, and their checkpoints."""
    settings, trainer = task.settings or context.settings.train, task.trainer
    is_float = architecture.options.get("binarisation") == "float"
    if trainer is None and settings.teacher and task.only is None and not is_float:
        twin = lambda: _full_precision(context, task, architecture)  # noqa: E731
        trainer = teaching.trainer(settings, context.settings.seed, twin)
    with context.devices.scope():
        network = training.trainable(
            architecture, precision=context.settings.precision, seed=context.settings.seed, only=task.only
        )
        model = trainer(network) if trainer else network
        steps = context.images.train.steps(settings.batch_size)
        rates = training.learning_rates(settings, steps * settings.epochs)
        optimizer = training.weight_optimizer(settings, rates, network, epoch_steps=steps)
        training.compile_with(model, optimizer, label_smoothing=settings.label_smoothing)
    # The layers, not the model: that would bring its metrics along.
    held = {"layers": network.layers, "optimizer": optimizer, **getattr(model, "tracked", dict)()}
    return network, model, Checkpoints(context.run.checkpoints(task.stage), **held)


def _full_precision_weights(
    context: Context, task: Training, architecture: Architecture, network: tf.keras.Model
) -> Weights:
    """The weights of the same network in full precision, trained; what only the binary one has is kept as it is."""
    own = training.weights(network)
    found = training.weights(_full_precision(context, task, architecture))
    return {name: [*arrays, *own[name][len(arrays) :]] for name, arrays in found.items()}


def _full_precision(context: Context, task: Training, architecture: Architecture) -> tf.keras.Model:
    """The same network in full precision, trained; its layers have the same names, and its kernels the same shapes."""
    settings = task.settings or context.settings.train
    twin = replace(architecture, options={**architecture.options, "binarisation": "float"})
    epochs = settings.full_precision_epochs or settings.epochs
    plain = replace(settings, epochs=epochs, full_precision_epochs=0, teacher=None, normalization_epochs=0)
    float_task = Training(
        f"float-{task.key}",
        f"{task.label}, full precision",
        "reference",
        task.order + 100,
        lambda: twin,
        settings=plain,
    )
    train_stage(context, float_task)
    network, _, checkpoints = _built(context, float_task, twin)
    checkpoints.restore()
    return network
