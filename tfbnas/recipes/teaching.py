"""What a network follows as it is trained, beside the labels: a teacher's logits, or its feature maps."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.export.scaling import takes_pixels
from tfbnas.loading import load_model
from tfbnas.recipes.options import FULL_PRECISION, TrainSettings
from tfbnas.training.adversarial import Adversarial
from tfbnas.training.distillation import Distillation, feature_layers

Trainer = Callable[[tf.keras.Model], tf.keras.Model]


def trainer(settings: TrainSettings, seed: int, twin: Callable[[], tf.keras.Model]) -> Trainer:
    """Makes of a network the model that is fitted, see `Training.trainer`.

    Args:
      settings: Name a teacher.
      seed: Of what the trainer draws.
      twin: Gives the same network in full precision, trained.

    Raises:
      UserError: The file of the teacher is none.
    """
    teacher = twin() if settings.teacher == FULL_PRECISION else _from_file(str(settings.teacher))
    return functools.partial(_following, teacher, settings, seed)


def _from_file(file: str) -> tf.keras.Model:
    model = load_model(file)
    if takes_pixels(model):  # training has images in [-1, 1]
        inputs = tf.keras.Input(model.inputs[0].shape[1:])
        pixels = tf.keras.layers.Rescaling(127.5, 127.5, dtype="float32")(inputs)
        model = tf.keras.Model(inputs, model(pixels), name=model.name)
    return model


def _following(teacher: tf.keras.Model, settings: TrainSettings, seed: int, network: tf.keras.Model) -> tf.keras.Model:
    weight = settings.teacher_weight
    if settings.follows == "logits":
        return Distillation(network, teacher, share=weight, temperature=settings.temperature)
    pairs = feature_layers(network, teacher)
    if settings.follows == "features":
        return Distillation(network, teacher, share=0.0, features=pairs, feature_weight=weight)
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise UserError(
            "Expected one device with --train.follows discriminators, whose updates are not divided among devices. "
            f"Received: {tf.distribute.get_strategy().num_replicas_in_sync}; set --strategy none."
        )
    return Adversarial(network, teacher, features=pairs, weight=weight, seed=seed)
