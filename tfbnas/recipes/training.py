"""The stages that train a plain network: from scratch, from given weights, or with another trainer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas import metrics, paired, training
from tfbnas.architecture import Architecture
from tfbnas.checkpoints import Checkpoints
from tfbnas.costs import Memory
from tfbnas.data import ImageData
from tfbnas.recipes.context import Context
from tfbnas.recipes.options import TrainSettings
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
        keep in checkpoints, its `tracked()` gives by name. Default: the network itself.
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

    Returns:
      The stage's result; `trained` gives the network.
    """

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
            memory={counting: Memory(counting).of(architecture) for counting in ("paper", "deployed")},
            epochs=settings.epochs,
            test_images=images.test.size,
            milliseconds=milliseconds(architecture, context.settings.budget.device),
            done=False,
        )
        start = task.start
        if start is None and settings.full_precision_epochs:
            start = functools.partial(_full_precision_weights, context, task, architecture)

        def fit(done: int, callbacks: list[tf.keras.callbacks.Callback]) -> None:
            batches = images.train.epochs(settings.batch_size, seed=context.settings.seed, augment=True, start=done)
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
    result = TrainingResult.from_dict(context.run.result(task.stage), place=f"stage {task.stage}")
    architecture = Architecture.from_dict(result.architecture)
    network, _, checkpoints = _built(context, task, architecture)
    checkpoints.restore()
    return training.plain(network, architecture)


def _built(
    context: Context, task: Training, architecture: Architecture
) -> tuple[tf.keras.Model, tf.keras.Model, Checkpoints]:
    """The trainable form of a network, the compiled model that is fitted, and their checkpoints."""
    settings = task.settings or context.settings.train
    with context.devices.scope():
        network = training.trainable(
            architecture, precision=context.settings.precision, seed=context.settings.seed, only=task.only
        )
        model = task.trainer(network) if task.trainer else network
        steps = context.images.train.steps(settings.batch_size)
        rates = training.learning_rates(settings, steps * settings.epochs)
        optimizer = training.compile_with(model, training.weight_optimizer(settings, rates, network, epoch_steps=steps))
    # The layers, not the model: that would bring its metrics along.
    held = {"layers": network.layers, "optimizer": optimizer, **getattr(model, "tracked", dict)()}
    return network, model, Checkpoints(context.run.checkpoints(task.stage), **held)


def _full_precision_weights(context: Context, task: Training, architecture: Architecture) -> Weights:
    """Trains the same network in full precision; its layers have the same names and shapes."""
    settings = task.settings or context.settings.train
    twin = replace(architecture, options={**architecture.options, "binarisation": "float"})
    float_task = replace(
        task,
        key=f"float-{task.key}",
        role="reference",
        label=f"{task.label}, full precision",
        order=task.order + 100,
        choose=lambda: twin,
        settings=replace(settings, epochs=settings.full_precision_epochs, full_precision_epochs=0),
    )
    train_stage(context, float_task)
    network, _, checkpoints = _built(context, float_task, twin)
    checkpoints.restore()
    return training.weights(network)
