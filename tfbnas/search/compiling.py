"""What the searches have in common as Keras models: two optimisers, of the weights and of the architecture."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfbnas import distribution


class TwoOptimizers(tf.keras.Model):
    """A Keras model that updates its network's weights and its architecture, on one device or several.

    Attributes:
      network: The Keras model that is searched.
      architecture_variables: What the architecture's optimiser updates.
      architecture_optimizer: From `compile` on.
    """

    network: tf.keras.Model

    @property
    def architecture_variables(self) -> Sequence[tf.Variable]:
        raise NotImplementedError

    def compile(self, weight_optimizer, architecture_optimizer, loss=None, metrics=None, **kwargs) -> None:
        """Configures both updates.

        Args:
          weight_optimizer: Keras optimiser of the weights, or its name.
          architecture_optimizer: Keras optimiser of the architecture's variables, or its name.
          loss: Keras loss. Default: sparse categorical cross-entropy from logits.
          metrics: Keras metrics of `evaluate`. Default: accuracy.
        """
        with self.distribute_strategy.scope():
            weight_optimizer = tf.keras.optimizers.get(weight_optimizer)
            architecture_optimizer = tf.keras.optimizers.get(architecture_optimizer)
            super().compile(
                optimizer=weight_optimizer,
                loss=loss or tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=["accuracy"] if metrics is None else metrics,
                **kwargs,
            )
            self.distribute_reduction_method = "first"  # else Keras adds up the logs of several workers
            self.architecture_optimizer = architecture_optimizer
            distribution.update_locally(weight_optimizer).build(self.network.trainable_variables)
            distribution.update_locally(architecture_optimizer).build(list(self.architecture_variables))
