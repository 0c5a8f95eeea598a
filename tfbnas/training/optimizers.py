"""Optimisers of the weights: plain SGD, Adam, or Adam for the binary kernels beside SGD for all other weights.

The last is how larq-zoo trains QuickNet (Bannink et al., "Larq Compute Engine", MLSys 2021): a latent weight matters
by its sign alone, and Adam gives it steps whose size does not depend on that of its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.weight_settings import WeightSettings

_KERNELS = {
    "kernel_quantizer": "kernel",
    "depthwise_quantizer": "depthwise_kernel",
    "pointwise_quantizer": "pointwise_kernel",
}


def weight_optimizer(
    settings: WeightSettings,
    rates: tf.keras.optimizers.schedules.LearningRateSchedule,
    model: tf.keras.Model,
    *,
    epoch_steps: int,
) -> tf.keras.optimizers.Optimizer:
    """The optimiser that the settings ask for, not yet built. Call it inside the `scope()` of a strategy, if any.

    Args:
      settings: Of a search or of a training.
      rates: How `settings.learning_rate` falls; with "adam_sgd" the rate of the kernels falls in proportion.
      model: Has the layers whose kernels are binary.
      epoch_steps: Steps of an epoch, in which `settings.warm_up` counts.

    Raises:
      UserError: There is no such recipe.
    """
    if settings.recipe == "sgd":
        decay = settings.weight_decay or None
        return tf.keras.optimizers.SGD(rates, momentum=settings.momentum, weight_decay=decay)
    if settings.recipe == "adam":
        return tf.keras.optimizers.Adam(rates)
    if settings.recipe != "adam_sgd":
        raise UserError(f'Expected `recipe` to be "sgd", "adam" or "adam_sgd". Received: recipe={settings.recipe!r}.')
    warm_up = round(settings.warm_up * epoch_steps)
    share = settings.kernel_learning_rate / settings.learning_rate
    kernels = BoundedAdam(WarmUp(rates, warm_up, factor=share), bound=settings.kernel_bound)
    rest = tf.keras.optimizers.SGD(WarmUp(rates, warm_up), momentum=settings.momentum, nesterov=True)
    return CaseOptimizer((binary_kernels(model), kernels), default=rest)


def fresh_optimizer(optimizer: tf.keras.optimizers.Optimizer, model: tf.keras.Model) -> tf.keras.optimizers.Optimizer:
    """The same optimiser for another model, not yet built: its steps and slots begin anew."""
    if isinstance(optimizer, CaseOptimizer):
        kernels, rest = (type(member).from_config(member.get_config()) for member in optimizer.members)
        return CaseOptimizer((binary_kernels(model), kernels), default=rest)
    return type(optimizer).from_config(optimizer.get_config())


def binary_kernels(model: tf.keras.Model) -> list[tf.Variable]:
    """The latent weights of a model: the kernels of all layers that have a quantiser for them, nested ones too."""
    found = [
        getattr(layer, kernel)
        for layer in model._flatten_layers()
        for quantizer, kernel in _KERNELS.items()
        if getattr(layer, quantizer, None) is not None
    ]
    return list({id(kernel): kernel for kernel in found}.values())


class CaseOptimizer(tf.keras.optimizers.Optimizer):
    """Several Keras optimisers as one: each updates its own variables, and all count the same steps.

    To Keras, `tf.distribute`, `make_growable` and checkpoints it is one optimiser, which holds all slots.

    Args:
      *cases: Pairs of variables and the optimiser, not yet built, that alone updates them.
      default: Updates all other variables.

    Attributes:
      members: The optimisers of the cases, then the default.
    """

    def __init__(
        self,
        *cases: tuple[Sequence[tf.Variable], tf.keras.optimizers.Optimizer],
        default: tf.keras.optimizers.Optimizer,
    ):
        super().__init__(name="cases", weight_decay=None)
        self.members = [*(optimizer for _, optimizer in cases), default]
        owners = {self._var_key(variable): index for index, (own, _) in enumerate(cases) for variable in own}
        self._owners = self._no_dependency(owners)
        for member in self.members:
            member.iterations = self.iterations
            member.add_variable_from_reference = self._add_slot

    def _add_slot(self, *args: Any, **kwargs: Any) -> tf.Variable:
        # Looked up when it is called: `make_growable` and Keras see the slots of all members as this optimiser's.
        return self.add_variable_from_reference(*args, **kwargs)

    def _member(self, variable: tf.Variable) -> tf.keras.optimizers.Optimizer:
        return self.members[self._owners.get(self._var_key(variable), -1)]

    def build(self, var_list) -> None:
        """Makes the slots of all variables."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._built = True
        for member in self.members:
            member.build([variable for variable in var_list if self._member(variable) is member])

    def update_step(self, gradient, variable) -> None:
        """Updates one variable as its own optimiser does, weight decay included."""
        member = self._member(variable)
        if member.weight_decay and member._use_weight_decay(variable):
            rate = tf.cast(member.learning_rate * member.weight_decay, variable.dtype)
            variable.assign_sub(variable * rate)
        member.update_step(gradient, variable)

    def _compute_current_learning_rate(self) -> None:
        for member in self.members:
            member._compute_current_learning_rate()

    @property
    def learning_rate(self):
        """That of the default; each member has its own."""
        return self.members[-1].learning_rate

    def get_config(self) -> dict[str, Any]:
        raise UserError(
            "Expected the weights alone to be saved: an optimiser that has cases belongs to the variables of one "
            "model. Received: a model to be saved with its optimiser; use `save(..., include_optimizer=False)` or "
            "`tfbnas.checkpoints.Checkpoints`."
        )


class BoundedAdam(tf.keras.optimizers.Adam):
    """Adam that can keep variables between two bounds.

    Args:
      learning_rate: Rate or schedule.
      bound: Variables are clipped to [-bound, bound] after each step, in which latent weights cannot grow so far that
        their signs never change again. Default: None, no clipping.
      **kwargs: Those of Keras' Adam.
    """

    def __init__(self, learning_rate: Any = 1e-3, *, bound: float | None = None, **kwargs: Any):
        super().__init__(learning_rate, **kwargs)
        self.bound = bound

    def update_step(self, gradient, variable) -> None:
        """Updates one variable."""
        super().update_step(gradient, variable)
        if self.bound is not None:
            variable.assign(tf.clip_by_value(variable, -self.bound, self.bound))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bound": self.bound}


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class WarmUp(tf.keras.optimizers.schedules.LearningRateSchedule):
    """`factor` times another schedule, risen to in a straight line: step k of the first n has (k + 1) / n of it.

    Args:
      rates: The other schedule; its steps are counted from the beginning of the warm-up.
      steps: n; 0 for no warm-up.
      factor: Default 1.0.
    """

    def __init__(self, rates: tf.keras.optimizers.schedules.LearningRateSchedule, steps: int, factor: float = 1.0):
        self.rates, self.steps, self.factor = rates, steps, factor

    def __call__(self, step):
        rate = self.factor * self.rates(step)
        if not self.steps:
            return rate
        return rate * tf.minimum(1.0, (tf.cast(step, tf.float32) + 1.0) / self.steps)

    def get_config(self) -> dict[str, Any]:
        rates = tf.keras.optimizers.schedules.serialize(self.rates)
        return {"rates": rates, "steps": self.steps, "factor": self.factor}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmUp:
        return cls(tf.keras.optimizers.schedules.deserialize(config["rates"]), config["steps"], config["factor"])
