"""Trains and searches for 20 steps: `losses.py FILE STRATEGY=CASE,.. ..`, for instance `mirrored=train,dms`.

Writes what came out to FILE: for each strategy and case the losses of every step and all weights at the end.
"""

import json
import sys

import tfbnas  # noqa: F401  isort: skip
import numpy as np
import tensorflow as tf

from tfbnas import training
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Memory
from tfbnas.distribution import divided
from tfbnas.layers import BatchNormalization, BinaryConv2D, Dense, FloatConv2D, LearnedStep
from tfbnas.networks import register
from tfbnas.search.bsn import BSN
from tfbnas.search.dms import DMS

SHAPE, CLASSES, BATCH = (8, 8, 3), 4, 16


def chain(choose, *, input_shape, classes):
    inputs = tf.keras.Input(input_shape)
    x = BatchNormalization(name="bn1")(FloatConv2D(choose("a", 5), 3, name="conv1")(inputs))
    x = BinaryConv2D(choose("b", 6), 3, name="conv2")(LearnedStep(name="step")(x))
    x = BatchNormalization(name="bn2")(x)
    return tf.keras.Model(inputs, Dense(classes, name="logits")(tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)))


def batches() -> tf.data.Dataset:
    chance = np.random.default_rng(0)
    labels = chance.integers(0, CLASSES, 5 * BATCH)
    images = chance.normal(size=(5 * BATCH, *SHAPE)).astype(np.float32) + labels[:, None, None, None] / 4
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH, drop_remainder=True)


def sgd() -> tf.keras.optimizers.Optimizer:
    schedule = tf.keras.optimizers.schedules.CosineDecay(0.05, 20)
    return tf.keras.optimizers.SGD(schedule, momentum=0.9, weight_decay=1e-2)


class Losses(tf.keras.callbacks.Callback):
    """The losses of each step, not their running mean."""

    def __init__(self):
        super().__init__()
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append({name: float(value) for name, value in logs.items()})
        self.model.reset_metrics()

    def on_epoch_end(self, epoch, logs=None):
        self.steps[-1] |= {name: float(value) for name, value in logs.items() if name.startswith("validation")}


def train(losses):
    model = training.trainable(Architecture("plain", "chain", {"a": 5, "b": 6}, SHAPE, CLASSES, {}))
    training.compile_for_training(model, learning_rate=0.05, weight_decay=1e-2)
    model.fit(divided(batches().repeat()), steps_per_epoch=20, callbacks=[losses], verbose=0)
    return model.weights


def dms(losses):
    own = {"rounds": 2, "weight_epochs": 1}
    search = DMS("chain", budget=Budget(Memory(), 700.0), input_shape=SHAPE, classes=CLASSES, **own)
    search.compile(sgd(), tf.keras.optimizers.Adam(4e-3))
    sizes = [int(width.size.numpy()) for width in search.widths]
    search.fit(batches(), batches(), callbacks=[losses], verbose=False)
    assert sizes != [int(width.size.numpy()) for width in search.widths], "nothing was resized"
    return [*search.network.weights, search.mu, *search.optimizer.variables]


def bsn(losses, validation=None, **arguments):
    options = {"columns": 2, "scales": 2, "filters": 4}
    budget = Budget(Memory(), 560.0)
    search = BSN(
        "cnf",
        budget=budget,
        input_shape=SHAPE,
        classes=CLASSES,
        options=options,
        initial_logit=0.3,
        epochs=4,
        warm_up_epochs=1,
        **arguments,
    )
    search.compile(sgd(), tf.keras.optimizers.SGD(0.1))
    search.fit(batches(), validation, callbacks=[losses], verbose=False)
    return [*search.network.weights, search.logits, search.level]


def bsn_of_each_example(losses):
    return bsn(losses, batches(), groups=None, baseline="batch")


def strategy_of(name: str) -> tf.distribute.Strategy:
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    return tf.distribute.MultiWorkerMirroredStrategy() if name == "multiworker" else tf.distribute.get_strategy()


def main(file: str, *wanted: str) -> None:
    cases = {name: listed.split(",") for name, listed in (one.split("=") for one in wanted)}
    if "mirrored" in cases:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
    strategies = {name: strategy_of(name) for name in cases}
    register("chain", chain)
    found: dict[str, dict] = {name: {} for name in cases}
    for name, strategy in strategies.items():
        for case in (one for one in CASES if one.__name__ in cases[name]):
            tf.keras.utils.set_random_seed(0)
            losses = Losses()
            with strategy.scope():
                variables = case(losses)
            copies = [strategy.experimental_local_results(variable) for variable in variables]
            found[name][case.__name__] = {
                "losses": losses.steps,
                "weights": [values[0].numpy().tolist() for values in copies],
                "equal": all(np.array_equal(values[0].numpy(), other.numpy()) for values in copies for other in values),
            }
    with open(file, "w") as output:
        json.dump(found, output)


CASES = (train, dms, bsn, bsn_of_each_example)

if __name__ == "__main__":
    main(*sys.argv[1:])
