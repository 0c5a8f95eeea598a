"""What every search offers to those who run it, keep it in checkpoints, and show it."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfbnas import distribution, training
from tfbnas.architecture import Architecture
from tfbnas.callbacks import Progress
from tfbnas.costs import Budget
from tfbnas.data import Split, check, check_logits, described, splits
from tfbnas.errors import UserError
from tfbnas.layers.resizing import make_growable
from tfbnas.results import cost_keys
from tfbnas.search import arguments
from tfbnas.search.doubt import doubt
from tfbnas.units import UNITS, Unit

_SHOWN = {"bytes": UNITS["memory"], "multiply-adds": UNITS["multiply_adds"]}
"""The unit in which people read a cost, by the unit that it is computed in."""


class Search(tf.keras.Model):
    """A search for an architecture under budgets, as a Keras model.

    A method makes `network` and its variables in its constructor. It implements `train_step`, `feed`, `optimizers`,
    `architecture`, `costs`, `choices`, `state` and `least_costs`, and overrides what it does in another way.

    Made, compiled and fitted inside the `scope()` of a MirroredStrategy or MultiWorkerMirroredStrategy, a search
    divides each batch among the devices and takes the steps of one device.

    Args:
      network: Name of a network family, or "package.module:function" for a builder of one's own.
      budget: Limit on a cost and the weight of exceeding it, or several.
      input_shape: Height, width, channels of the images. Default: those of `images`, or (32, 32, 3).
      classes: Number of classes. Default: those of `images`, or 10.
      images: What will be searched on, as `fit` takes it, or a whole data set (`tfbnas.data.load`): it says what
        `input_shape` and `classes` are. Default: none.
      options: Further arguments of the network's builder. Default: none.
      seed: Of all that the search draws. Default: 0.
      settings: Hyperparameters, an instance of `settings_class`. Default: its defaults.
      **hyperparameters: Fields of the settings that differ.

    Raises:
      UserError: There is no such hyperparameter, or an argument is of another kind or out of range.

    Attributes:
      method: Name of the method, as an Architecture holds it.
      settings_class: The dataclass of the hyperparameters.
      halves: Whether `fit` takes two disjoint parts of the training images: of the weights, and of the architecture.
      choice_label: What the "value" of a choice is, for the axis of a figure.
      epoch_label: What an epoch of Keras is to the method, for messages.
      network: The Keras model that is searched.
      settings: The hyperparameters.
      template: The network that is searched, with no choice closed.
      budgets: All budgets.
      seed: The seed.
    """

    method: ClassVar[str]
    settings_class: ClassVar[Any]
    halves: ClassVar[bool] = False
    choice_label: ClassVar[str]
    epoch_label: ClassVar[str] = "epoch"

    network: tf.keras.Model

    def __init__(
        self,
        network: str,
        *,
        budget: Budget | Sequence[Budget],
        input_shape: tuple[int, int, int] | None = None,
        classes: int | None = None,
        images: Any = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        settings: Any = None,
        **hyperparameters: Any,
    ):
        super().__init__(name=self.method)
        self.settings = arguments.configured(type(self), settings, hyperparameters)
        self.budgets = arguments.budgets(budget)
        arguments.require_whole("seed", seed)
        self.seed = seed
        shape, count = ((32, 32, 3), 10) if images is None else described(images)
        shape, count = shape if input_shape is None else input_shape, count if classes is None else classes
        self.template = Architecture(self.method, network, {}, shape, count, options or {})
        self.architecture_optimizer: Any = None

    # What was found so far.

    @property
    def budget(self) -> Budget:
        """The first of the budgets."""
        return self.budgets[0]

    @property
    def cost_names(self) -> list[str]:
        """Under which names logs hold the expected cost of each budget: "cost", "cost_2", "cost_3", ..."""
        return cost_keys(len(self.budgets))

    def architecture(self) -> Architecture:
        """The present best, closed, within the budgets."""
        raise NotImplementedError

    def weights(self) -> dict[str, list[np.ndarray]]:
        """The weights that the search leaves for `architecture()`, by layer. Default: those of `network`."""
        return training.weights(self.network)

    def unspent(self) -> str:
        """Why the present best uses less than 97 % of every budget, in words; "" where it uses more or cannot say."""
        return ""

    def costs(self) -> list[float]:
        """Expected cost of each budget now, in its own unit."""
        raise NotImplementedError

    def cost(self) -> tf.Tensor:
        """Expected cost of the first budget now, a scalar."""
        return tf.constant(self.costs()[0])

    def choices(self) -> dict[str, dict[str, Any]]:
        """What is known of each choice, by its name: JSON, with the same keys at every time.

        "value" is drawn over the epochs, with a band from "low" to "high" where there is one. "closed" is what the
        choice would be if the search ended now. "candidates" are what it may become, with "probabilities" that do not
        depend on other choices. A width has its "base"; where its candidates are ratios, it has "candidate_channels".
        "least" and "most" are the ends of what the value could reach in the epoch, where a gradient moves it.
        The value of a module is the probability that it stays. A method adds keys of its own.
        """
        raise NotImplementedError

    @classmethod
    def check_costs(cls, budgets: Sequence[Budget]) -> None:
        """Refuses costs that the method cannot search under; nothing is measured. Default: it can under all.

        Raises:
          UserError: There is one.
        """

    @classmethod
    def least_costs(cls, template: Architecture, budgets: Sequence[Budget], settings: Any) -> list[float | None]:
        """The least cost of each budget that such a search can end with, in its own unit; None where it is unknown.

        Args:
          template: The network that is searched; its choices do not matter.
          budgets: What is limited. The limits do not matter.
          settings: Hyperparameters.

        Raises:
          UserError: The method cannot search the network, or not under one of the costs.
        """
        return [None] * len(budgets)

    @classmethod
    def least_text(cls, template: Architecture, settings: Any) -> str:
        """What the network of the least cost is, for a message."""
        return f"the smallest {template.network} the search can reach"

    # What is kept and shown of it.

    @property
    def state(self) -> list[tf.Variable]:
        """All variables of the search beside the networks' weights and the optimisers'."""
        raise NotImplementedError

    def tracked(self) -> dict[str, Any]:
        """What a checkpoint must hold by name, so that the search goes on from it: as tf.train.Checkpoint takes it."""
        optimizers = {
            "weight_optimizer": getattr(self, "optimizer", None),
            "architecture_optimizer": self.architecture_optimizer,
        }
        return {
            "network": self.network,
            "variables": list(self.state),
            **{name: optimizer for name, optimizer in optimizers.items() if optimizer is not None},
        }

    def record(self) -> dict[str, Any]:
        """What is kept of the epoch that has just ended, beside its logs: JSON."""
        return {"choices": self.choices()}

    def scalars(self) -> dict[str, float]:
        """Further scalars for TensorBoard at the end of an epoch."""
        return {f"value/{name}": choice["value"] for name, choice in self.choices().items()}

    def shown(self, logs: Mapping[str, float]) -> dict[str, str | None]:
        """What a progress bar shows beside loss and accuracy: the cost of each budget. None hides a number."""
        found: dict[str, str | None] = {}
        for name, budget in zip(self.cost_names, self.budgets, strict=True):
            if name in logs:
                unit = _SHOWN.get(budget.cost.unit, Unit(budget.cost.unit))
                now, limit = (unit.text(v) if math.isfinite(v) else str(v) for v in (float(logs[name]), budget.limit))
                found[name] = f"{now} of {limit} {unit.name}"
        return found

    # Training.

    @property
    def epochs(self) -> int:
        """Epochs of the whole search, as Keras counts them."""
        return self.settings.epochs

    @property
    def architecture_variables(self) -> Sequence[tf.Variable]:
        """What the architecture's optimiser updates."""
        return ()

    def optimizers(self, train: Any) -> dict[str, Any]:
        """Keyword arguments of `compile` that the settings ask for.

        Args:
          train: The data of the weights: they decide how many steps a schedule has.
        """
        raise NotImplementedError

    def compile(self, weight_optimizer, architecture_optimizer=None, loss=None, metrics=None, **kwargs) -> None:
        """Configures the updates.

        Args:
          weight_optimizer: Keras optimiser of the weights, or its name; its slots may grow with the weights.
          architecture_optimizer: Keras optimiser of `architecture_variables`, or its name. Default: none.
          loss: Keras loss. Default: sparse categorical cross-entropy from logits.
          metrics: Keras metrics of `evaluate`. Default: accuracy.

        Raises:
          UserError: The network has other outputs than classes, or ends in a softmax or sigmoid where the loss takes
            logits, or an optimiser is missing or none.
        """
        arguments.require_classes(self.network, self.template)
        if loss is None:
            check_logits(self.network)
        with self.distribute_strategy.scope():
            weight_optimizer, architecture_optimizer = arguments.optimizers(
                weight_optimizer, architecture_optimizer, needed=len(self.architecture_variables) > 0
            )
            weight_optimizer = make_growable(weight_optimizer)
            super().compile(
                optimizer=weight_optimizer,
                loss=loss or tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=["accuracy"] if metrics is None else metrics,
                **kwargs,
            )
            self.distribute_reduction_method = "first"  # else Keras adds up the logs of several workers
            self.architecture_optimizer = architecture_optimizer
            distribution.update_locally(weight_optimizer).build(self.network.trainable_variables)
            if architecture_optimizer is not None:
                distribution.update_locally(architecture_optimizer).build(list(self.architecture_variables))

    def feed(self, train: Any, validation_data: Any, initial_epoch: int) -> dict[str, Any]:
        """Arguments of Keras' `fit`: batches `x`, perhaps `steps_per_epoch`, `validation_data`, own `callbacks`.

        Args:
          train: As `fit` takes it.
          validation_data: Likewise.
          initial_epoch: First epoch that is left.
        """
        raise NotImplementedError

    def fit(
        self,
        train,
        validation_data=None,
        *,
        initial_epoch: int = 0,
        callbacks: Sequence[tf.keras.callbacks.Callback] = (),
        verbose: bool = True,
        **hyperparameters: Any,
    ) -> tf.keras.callbacks.History:
        """Searches, from `initial_epoch` to `epochs`. All hyperparameters are those of the constructor.

        Args:
          train: Data of the weights: a `tfbnas.data.Split`, a pair (images, labels) of arrays with pixels 0..255, or a
            finite `tf.data.Dataset` of (images, labels) batches, which alone has its own batch size.
          validation_data: Of the same kind. Where `halves` is true, the data of the architecture, apart from `train`.
            Else what is evaluated after each epoch, with the network that would come out now. Default: none; where
            `halves` is true, `train` is divided.
          initial_epoch: First epoch, when a search goes on from a checkpoint. Default: 0.
          callbacks: Keras callbacks; at `on_epoch_end` the epoch's choices are final.
          verbose: Whether a progress bar is shown. Default: True.

        Returns:
          Keras history, with loss, accuracy, and the expected cost of the first budget; with validation_loss and
          validation_accuracy where there are validation data.

        Raises:
          UserError: A hyperparameter is given here, `compile` was not called, or the images do not fit the network.
        """
        arguments.refuse_in_fit(self, hyperparameters)
        if getattr(self, "optimizer", None) is None:
            raise UserError(
                "Expected a compiled search. Write search.compile(**search.optimizers(train)) before `fit`."
            )
        arguments.require_whole("initial_epoch", initial_epoch, most=self.epochs)
        train, validation_data = splits(train, validation_data, halves=self.halves, seed=self.seed)
        for part in (train, validation_data):
            if isinstance(part, (Split, tf.data.Dataset)):
                check(part, input_shape=self.template.input_shape, classes=self.template.classes)
        own = self.feed(train, validation_data, initial_epoch)
        bar = [Progress("search", describe=self.shown)] if verbose else []
        return super().fit(
            **own
            | {
                "x": distribution.divided(own["x"], self.distribute_strategy),
                "callbacks": [_Names(), *own.get("callbacks", ()), *bar, *callbacks, *([_Doubt()] if verbose else [])],
            },
            epochs=self.epochs,
            initial_epoch=initial_epoch,
            verbose=0,
        )

    @contextlib.contextmanager
    def _holding(self, name: str, value: Any) -> Iterator[None]:
        """Inside, the attribute `name` is `value`, which layers read in a forward pass; outside it is None."""
        setattr(self, name, value)
        try:
            yield
        finally:
            setattr(self, name, None)

    def call(self, inputs, training=None):
        return self.network(inputs, training=training)

    def test_step(self, data):
        """One batch of `evaluate`: the loss and metrics of `compile`."""
        super().test_step(data)
        return {metric.name: metric.result() for metric in self.compiled_loss.metrics + self.compiled_metrics.metrics}


class _Doubt(tf.keras.callbacks.Callback):
    """Warns in the end where the search has weighed nothing."""

    def on_train_begin(self, logs=None):
        self.records: list[Mapping[str, Any]] = []

    def on_epoch_end(self, epoch, logs=None):
        self.records.append({"choices": self.model.choices()})

    def on_train_end(self, logs=None):
        optimizer = self.model.architecture_optimizer
        if found := doubt(self.records, None if optimizer is None else float(optimizer.learning_rate)):
            warnings.warn(found, stacklevel=2)


class _Names(tf.keras.callbacks.Callback):
    """Gives the logs the names that every method uses: Keras says "val_loss" of what is evaluated after an epoch."""

    def on_epoch_end(self, epoch, logs=None):
        for name in [name for name in logs if name.startswith("val_")]:
            logs[f"validation_{name[4:]}"] = logs.pop(name)
