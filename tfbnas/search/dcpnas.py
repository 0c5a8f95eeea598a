"""DCP-NAS: a binary child whose architecture follows its real-valued parent's tangent direction.

Paper: Li et al., "DCP-NAS: Discrepant Child-Parent Neural Architecture Search for 1-bit CNNs", IJCV 2023; without its
tangent (`distance_weight` 0) CP-NAS (Zhuo et al., 2020). A step: the parent's weights on one half of the images; the
child's weights on the same ones, towards the parent's predictions; the parent's tangent on the other half, along which
alpha steps; and from there alpha^ = alpha by the child's objective. Deviations from the paper:
- the concluding formula has lost a minus, see `tangent`;
- beta of each filter takes its closed form; kernels are standardised before their sign is taken, without a clip;
- operations lag by their weights' mean square, not by their sum, which would call every small kernel less trained;
- budgets: a penalty on the expected cost of the cells that DARTS' rule leaves, and closed cells that fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas import distribution
from tfbnas.costs import Budget
from tfbnas.layers.resizing import make_growable
from tfbnas.search import decoupling, tangent
from tfbnas.search.batches import epochs_of, steps_of
from tfbnas.search.dcpnas_settings import Settings
from tfbnas.search.edges import EdgeSearch
from tfbnas.search.losses import loss_of_each
from tfbnas.search.open_operations import in_full_precision, initialise, kernels_of_operations, opened_network
from tfbnas.search.warm_up import WarmUpEpochs
from tfbnas.training import binary_kernels, fresh_optimizer, weight_optimizer

_OF_ARCHITECTURE = ("validation_loss", "validation_accuracy", "penalty", "distance", "cosine")
_MEANS = ("loss", "accuracy", "reconstruction_error", *_OF_ARCHITECTURE)
_TWINS = ("parent_optimizer", "parent_architecture_optimizer")


class DCPNAS(EdgeSearch):
    """Searches the operations of a network's edges for a binary child beside its real-valued parent.

    The paper's optimisers, for `compile`: of the weights SGD, of the architecture Adam, 6e-4, (0.5, 0.999).

    Attributes:
      network: The binary child with all operations open.
      parent: The same network in full precision.
    """

    method = "dcpnas"
    settings_class = Settings
    halves = True

    def __init__(self, network: str, *, budget: Budget | Sequence[Budget], **arguments: Any):
        super().__init__(network, budget=budget, **arguments)
        self.parent, opened = opened_network(in_full_precision(self.template))
        initialise(self.parent, self.seed)
        self.weigh(opened)
        shape = self.alpha.shape
        self.strength = tf.Variable(tf.zeros(shape), name="strength", trainable=False)
        self.lagging = tf.Variable(tf.zeros(shape, tf.bool), name="lagging", trainable=False)
        self.last = tf.Variable(tf.zeros(shape), name="last", trainable=False)
        self.offsets = tf.Variable(tf.zeros([len(self.budgets)]), name="offsets", trainable=False)
        self.latest_costs = tf.Variable(tf.zeros([len(self.budgets)]), name="latest_costs", trainable=False)
        self.tangents = tf.Variable(tf.zeros([2]), name="tangents", trainable=False)
        self.gradients = tf.Variable(tf.zeros([2, *shape]), name="gradients", trainable=False)
        self.gradient_count = tf.Variable(0.0, name="gradient_count", trainable=False)
        self.steps = tf.Variable(0, dtype=tf.int64, name="steps", trainable=False)
        self.warm = tf.Variable(False, name="warm", trainable=False)
        self._means = {name: tf.keras.metrics.Mean(name) for name in _MEANS}

    # What was found so far.

    @property
    def state(self) -> list[tf.Variable]:
        steps = [self.steps, self.tangents, self.gradients, self.gradient_count, self.offsets, self.latest_costs]
        return [self.alpha, self.strength, self.lagging, self.last, *steps]

    def tracked(self) -> dict[str, Any]:
        twins = {name: getattr(self, name) for name in _TWINS if hasattr(self, name)}
        return {**super().tracked(), "parent": self.parent, **twins}

    def gradient_to_noise(self) -> np.ndarray:
        """Of each edge in the last epoch: how long alpha^'s mean gradient is, by how long noise alone would make it.

        Near 1, that edge is decided by chance. 0 before the first step.
        """
        count = max(float(self.gradient_count), 1.0)
        mean, square = self.gradients.numpy() / count
        noise = np.sqrt(np.maximum(square - mean**2, 0.0).sum(axis=1) / max(count - 1.0, 1.0))
        return np.divide(np.linalg.norm(mean, axis=1), noise, out=np.zeros_like(noise), where=noise > 0)

    def choices(self) -> dict[str, dict[str, Any]]:
        """As of every such search, with "gradient_to_noise"."""
        ratios = dict(zip(self.edges, self.gradient_to_noise().tolist(), strict=True))
        return {name: {**choice, "gradient_to_noise": ratios[name]} for name, choice in super().choices().items()}

    def condition(self) -> dict[str, float]:
        """Beside that of the cells, how far the two tangents are apart, and how clear alpha^'s gradient is."""
        distance, cosine = self.tangents.numpy().tolist()
        ratio = float(np.median(self.gradient_to_noise()))
        return {"distance": distance, "cosine": cosine, "gradient_to_noise": ratio, **super().condition()}

    def shown(self, logs: Mapping[str, float]) -> dict[str, str | None]:
        hidden = ("reconstruction_error", "distance", "cosine", "gradient_to_noise", "penalty")
        return {**super().shown(logs), **dict.fromkeys(hidden)}

    # Training.

    def optimizers(self, train: Any) -> dict[str, Any]:
        """That of the weights with a cosine to zero, and Adam for the architecture."""
        own, epoch_steps = self.settings, steps_of(train, self.settings.batch_size)
        rates = tf.keras.optimizers.schedules.CosineDecay(own.learning_rate, own.epochs * epoch_steps)
        return {
            "weight_optimizer": weight_optimizer(own, rates, self.network, epoch_steps=epoch_steps),
            "architecture_optimizer": tf.keras.optimizers.Adam(
                own.architecture_learning_rate, 0.5, 0.999, weight_decay=own.architecture_weight_decay or None
            ),
        }

    def compile(self, weight_optimizer, architecture_optimizer=None, loss=None, metrics=None, **kwargs) -> None:
        """Configures the updates of the child, see `Search.compile`; those of the parent are configured alike."""
        super().compile(weight_optimizer, architecture_optimizer, loss, metrics, **kwargs)
        with self.distribute_strategy.scope():
            self.parent_optimizer = make_growable(fresh_optimizer(self.optimizer, self.parent))
            self.parent_architecture_optimizer = fresh_optimizer(self.architecture_optimizer, self.parent)
            distribution.update_locally(self.parent_optimizer).build(self.parent.trainable_variables)
            distribution.update_locally(self.parent_architecture_optimizer).build([self.alpha])

    def feed(self, train: Any, validation_data: Any, initial_epoch: int) -> dict[str, Any]:
        own = self.settings
        steps = min(steps_of(data, own.batch_size) for data in (train, validation_data))

        def one_epoch(index: tf.Tensor) -> tf.data.Dataset:
            halves = (
                epochs_of(data, own.batch_size, self.seed + place, index, 1).take(steps)
                for place, data in enumerate((train, validation_data))
            )
            return tf.data.Dataset.zip(tuple(halves))

        batches = tf.data.Dataset.range(initial_epoch, own.epochs).flat_map(one_epoch).prefetch(4)
        return {"x": batches, "steps_per_epoch": steps, "callbacks": [_Epochs(own.warm_up_epochs)]}

    def train_step(self, data):
        """A batch of each half: updates the weights of parent and child, and, after the warm-up, the architecture."""
        (images, labels), (held, held_labels) = data
        self.steps.assign_add(1)
        parent_logits = self.parent_step(images, labels)
        loss, error, logits = self.child_step(images, parent_logits)
        found = tf.cond(
            self.warm,
            lambda: {name: tf.zeros([]) for name in _OF_ARCHITECTURE},
            lambda: self.architecture_step(held, held_labels),
        )
        share = 1.0 - tf.cast(self.warm, tf.float32)
        weights = {"loss": loss, "accuracy": _accuracy(labels, logits), "reconstruction_error": error}
        for name, value in {**weights, **found}.items():
            self._means[name].update_state(value, sample_weight=share if name in _OF_ARCHITECTURE else 1.0)
        costs = dict(zip(self.cost_names, tf.unstack(self.latest_costs), strict=True))
        return {name: mean.result() for name, mean in self._means.items()} | costs

    def parent_step(self, images, labels) -> tf.Tensor:
        """One update of the parent's weights; returns its logits."""
        variables = self.parent.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.run(self.parent, images, tf.nn.softmax(self.alpha))
            loss = tf.reduce_mean(loss_of_each(self.loss, labels, logits))
        self.parent_optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return logits

    def child_step(self, images, parent_logits) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """One update of the child's weights by -G + mu L_R; returns -G, L_R, and its logits."""
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.run(self.network, images, tf.nn.softmax(self.alpha))
            loss, error = -tf.reduce_mean(tangent.agreement(parent_logits, logits)), tf.zeros([])
            if self.settings.reconstruction_weight:
                errors = [decoupling.reconstruction_error(kernel) for kernel in binary_kernels(self.network)]
                error = tf.add_n(errors)
            objective = loss + self.settings.reconstruction_weight * error
        self.optimizer.apply_gradients(zip(tape.gradient(objective, variables), variables, strict=True))
        return loss, error, logits

    def architecture_step(self, images, labels) -> dict[str, tf.Tensor]:
        """One step of alpha along the parent's tangent, and one of alpha^ by L; returns what is logged."""
        own = self.settings
        parent, parent_logits = self.parent_tangent(images, labels)
        self.parent_architecture_optimizer.apply_gradients([(-parent, self.alpha)])
        child, hessian, logits, agreement = self.child_tangent(images, parent_logits)
        gradient = tangent.objective_gradient(parent, child, hessian, weight=own.distance_weight, kind=own.distance)
        with tf.GradientTape() as tape:
            costs = self._expected(tf.nn.softmax(self.alpha), self.offsets)
            penalties = [one.penalty(cost) for one, cost in zip(self.budgets, tf.unstack(costs), strict=True)]
            penalty = tf.add_n(penalties)
        self.gradients.assign_add(tf.stack([gradient, tf.square(gradient)]))
        self.gradient_count.assign_add(1.0)
        gradient += tape.gradient(penalty, self.alpha, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self._move(gradient)
        self.latest_costs.assign(self._expected(tf.nn.softmax(self.alpha), self.offsets))
        return {
            "validation_loss": -agreement,
            "validation_accuracy": _accuracy(labels, logits),
            "penalty": penalty,
            "distance": tangent.distance(parent, child, own.distance),
            "cosine": tangent.cosine(parent, child),
        }

    def _move(self, gradient: tf.Tensor) -> None:
        """The optimiser's step; less trained operations are tracked back towards where they were."""
        own = self.settings
        before = self.alpha.read_value()
        if own.decoupled:
            rates = {"rate": own.back_tracking_rate, "step": own.strength_rate}
            self.strength.assign(decoupling.next_strength(self.strength, gradient, self.last, self.lagging, **rates))
        self.architecture_optimizer.apply_gradients([(gradient, self.alpha)])
        if own.decoupled:
            rate = own.back_tracking_rate
            self.alpha.assign(decoupling.tracked_back(self.alpha, before, self.strength, self.lagging, rate))
            self.last.assign(before)

    def parent_tangent(self, images, labels) -> tuple[tf.Tensor, tf.Tensor]:
        """g_P, and the parent's logits."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.alpha)
            logits = self.run(self.parent, images, tf.nn.softmax(self.alpha))
            value = -tf.reduce_mean(loss_of_each(self.loss, labels, logits))
        return distribution.means([tape.gradient(value, self.alpha)])[0], logits

    def child_tangent(self, images, parent_logits) -> tuple[tf.Tensor, tangent.Product, tf.Tensor, tf.Tensor]:
        """g_G; the product of H_G, as `curvature` says; the child's logits; the mean of G.

        Every example has a copy of alpha^ of its own, so that one backward pass gives the gradient of each.
        """
        copies = tf.tile(self.alpha.read_value()[None], [tf.shape(images)[0], 1, 1])
        with tf.GradientTape(persistent=self.settings.curvature == "sampled", watch_accessed_variables=False) as tape:
            tape.watch(copies)
            logits = self.run(self.network, images, tf.nn.softmax(copies))
            each = tangent.agreement(parent_logits, logits)
        rows = tape.gradient(each, copies)
        child, agreement = distribution.means([tf.reduce_mean(rows, axis=0), tf.reduce_mean(each)])
        curvature = self.settings.curvature
        if curvature == "sampled":
            residual = tangent.sampled_residual(logits, tf.stack([tf.cast(self.seed, tf.int64), self.steps]))
            rows = tape.gradient(logits, copies, output_gradients=residual)

        def logits_of(alpha: tf.Tensor) -> tf.Tensor:
            with self._mixing(tf.nn.softmax(alpha)):
                return self.network(images, training=True)

        def agreement_of(alpha: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(tangent.agreement(parent_logits, logits_of(alpha)))

        hessian = tangent.hessian(curvature, rows, logits_of, agreement_of, self.alpha.read_value())
        return child, lambda vector: distribution.means([hessian(vector)])[0], logits, agreement

    def settle(self) -> None:
        """What changes between epochs: which operations lag, and what cells cost beside their operations."""
        norms, has_weights = np.zeros(self.alpha.shape, np.float32), np.zeros(self.alpha.shape, bool)
        for edge, place, kernels in kernels_of_operations(self.network, self.edges):
            norms[edge, place] = float(decoupling.mean_square(kernels))
            has_weights[edge, place] = True
        share = self.settings.lagging_share if self.settings.decoupled else 0.0
        self.gradients.assign(tf.zeros_like(self.gradients))
        self.gradient_count.assign(0.0)
        self.lagging.assign(decoupling.less_trained(tf.constant(norms), tf.constant(has_weights), share))
        self.offsets.assign(self.priced.offsets(self.closed()))
        self.latest_costs.assign(self._expected(tf.nn.softmax(self.alpha), self.offsets))


class _Epochs(WarmUpEpochs):
    """Begins and ends the warm-up; gives the logs the condition of the cells."""

    def __init__(self, epochs: int):
        super().__init__(epochs)
        self._supports_tf_logs = True  # else Keras would wait for the numbers of every step

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self.model.settle()

    def on_epoch_end(self, epoch, logs=None):
        self.model.tangents.assign([logs["distance"], logs["cosine"]])
        logs.update(self.model.condition(), **dict(zip(self.model.cost_names, self.model.costs(), strict=True)))


def _accuracy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.keras.metrics.sparse_categorical_accuracy(labels, logits))
