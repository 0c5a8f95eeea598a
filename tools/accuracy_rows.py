"""What benchmark_accuracy.py trains: the same binary ResNet-18 as tfbnas, plain Larq and PyTorch train it.

All rows of a seed start from the same kernels and see the same batches; PyTorch's and Larq's networks are those of
training_variants.py.
"""

from __future__ import annotations

import collections
import importlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import training_variants as variants
import turns

from tfbnas import training
from tfbnas.data import ImageData
from tfbnas.recipes.options import TrainSettings

LABELS = {"tfbnas": "tfbnas", "larq": "Larq", "torch": "PyTorch"}
_TEST_BATCH = 500


class Row(Protocol):
    """A network in training. `held` is what a checkpoint of TensorFlow can keep of it."""

    held: dict[str, Any]

    def train(self, epoch: int) -> None:
        """One epoch, counted from 0."""

    def accuracy(self) -> float:
        """The share of the test images that are classified correctly."""

    def save(self, directory: Path, epochs: int) -> None:
        """Keeps what `held` cannot, behind so many epochs."""

    def restore(self, directory: Path, epochs: int) -> None:
        """The reverse of `save`."""


def make(
    row: str, settings: TrainSettings, task: variants.Task, images: ImageData, *, precision: str, seed: int
) -> Row:
    """A row at its start.

    Args:
      row: "tfbnas", "larq" or "torch".
      settings: Of the training.
      task: The network.
      images: To train and to test with.
      precision: "float32" or "bfloat16", of tfbnas and PyTorch; Larq computes in float32.
      seed: Of the weights at the start and of the batches.
    """
    model = training.trainable(task.architecture, precision=precision, seed=seed)
    if row == "torch":
        return TorchRow(model, settings, task, images, fast=precision == "bfloat16", seed=seed)
    if row == "larq":
        model, start = variants.larq_network(task, 1.0), model
        kernels = _kernels(start)
        for layer in model.layers:
            if hasattr(layer, "kernel"):
                layer.kernel.assign(kernels[tuple(layer.kernel.shape)].popleft())
    return KerasRow(model, settings, images, seed)


def _kernels(model: tf.keras.Model) -> dict[tuple[int, ...], collections.deque[np.ndarray]]:
    """By their shapes, the kernels in the order of the layers: what other frameworks order otherwise, too."""
    found: dict[tuple[int, ...], collections.deque[np.ndarray]] = collections.defaultdict(collections.deque)
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            value = layer.kernel.numpy()
            found[value.shape].append(value)
    return found


def missing(row: str) -> bool:
    """Whether a row needs PyTorch, and there is none."""
    return row == "torch" and importlib.util.find_spec("torch") is None


class KerasRow:
    """A Keras model, as the recipes train it."""

    def __init__(self, model: tf.keras.Model, settings: TrainSettings, images: ImageData, seed: int):
        self.model, self.settings, self.images, self.seed = model, settings, images, seed
        self.steps = images.train.steps(settings.batch_size)
        rates = training.learning_rates(settings, self.steps * settings.epochs)
        optimizer = training.weight_optimizer(settings, rates, model, epoch_steps=self.steps)
        self.held = {"layers": model.layers, "optimizer": training.compile_with(model, optimizer)}
        self._logits = tf.function(lambda x: model(x, training=False))

    def train(self, epoch: int) -> None:
        batches = self.images.train.epochs(self.settings.batch_size, seed=self.seed, augment=True, start=epoch)
        self.model.fit(batches, epochs=epoch + 1, initial_epoch=epoch, steps_per_epoch=self.steps, verbose=0)

    def accuracy(self) -> float:
        return _accuracy(self.images, lambda x: self._logits(x).numpy())

    def save(self, directory: Path, epochs: int) -> None: ...

    def restore(self, directory: Path, epochs: int) -> None: ...


class TorchRow:
    """PyTorch; `fast`: channels last, and bfloat16 where autocast finds it safe."""

    held: dict[str, Any] = {}

    def __init__(
        self,
        start: tf.keras.Model,
        settings: TrainSettings,
        task: variants.Task,
        images: ImageData,
        *,
        fast: bool,
        seed: int,
    ):
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(turns.threads())
        self.settings, self.images, self.fast, self.seed = settings, images, fast, seed
        self.model, self.latent = variants.torch_network(task)
        kernels = _kernels(start)
        with self.torch.no_grad():
            for name, weight in self.model.named_parameters():
                if weight.ndim == 4:
                    height, width, inputs, outputs = (weight.shape[i] for i in (2, 3, 1, 0))
                    value = kernels[height, width, inputs, outputs].popleft().transpose(3, 2, 0, 1)
                    weight.copy_(self.torch.from_numpy(np.ascontiguousarray(value)))
                elif weight.ndim == 2:
                    weight.copy_(self.torch.from_numpy(kernels[tuple(weight.shape[::-1])].popleft().T.copy()))
                elif name == list(self.model.state_dict())[-1]:
                    weight.zero_()  # the bias of the last layer
        if fast:
            self.model = self.model.to(memory_format=self.torch.channels_last)
        self.steps = images.train.steps(settings.batch_size)
        rates = training.learning_rates(settings, self.steps * settings.epochs)
        optim = self.torch.optim
        if settings.recipe == "sgd":
            self.rates = [rates]
            self.optimizers = [optim.SGD(self.model.parameters(), settings.learning_rate, momentum=settings.momentum)]
            return
        warm_up, share = round(settings.warm_up * self.steps), settings.kernel_learning_rate / settings.learning_rate
        self.rates = [training.WarmUp(rates, warm_up, factor) for factor in (share, 1.0)]
        own = {id(weight) for weight in self.latent}
        rest = [weight for weight in self.model.parameters() if id(weight) not in own]
        self.optimizers = [
            optim.Adam(self.latent, settings.kernel_learning_rate),
            optim.SGD(rest, settings.learning_rate, momentum=settings.momentum, nesterov=True),
        ]

    def _batch(self, images: np.ndarray):
        tensor = self.torch.from_numpy(images).permute(0, 3, 1, 2)  # in memory this is channels last
        return tensor if self.fast else tensor.contiguous()

    def _forward(self, images):
        with self.torch.autocast("cpu", self.torch.bfloat16, enabled=self.fast):
            return self.model(images)

    def train(self, epoch: int) -> None:
        self.model.train()
        batches: Iterator = self.images.train.epochs(
            self.settings.batch_size, seed=self.seed, augment=True, start=epoch
        ).as_numpy_iterator()
        for step in range(epoch * self.steps, (epoch + 1) * self.steps):
            images, labels = next(batches)
            rates = [float(rate(step)) for rate in self.rates]
            for optimizer, rate in zip(self.optimizers, rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate
                optimizer.zero_grad()
            logits = self._forward(self._batch(images))
            self.torch.nn.functional.cross_entropy(logits.float(), self.torch.from_numpy(labels).long()).backward()
            if self.settings.recipe == "sgd":
                with self.torch.no_grad():  # decoupled, as Keras decays
                    self.torch._foreach_mul_(list(self.model.parameters()), 1 - rates[0] * self.settings.weight_decay)
            for optimizer in self.optimizers:
                optimizer.step()
            variants.clip(self.latent)

    def accuracy(self) -> float:
        self.model.eval()
        with self.torch.no_grad():
            return _accuracy(self.images, lambda x: self._forward(self._batch(x.numpy())).float().numpy())

    def _states(self) -> list[Any]:
        return [self.model, *self.optimizers]

    def save(self, directory: Path, epochs: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.torch.save([part.state_dict() for part in self._states()], directory / "new.pt")
        os.replace(directory / "new.pt", directory / f"{epochs}.pt")
        # The one before is needed if the process is killed before the checkpoint that counts this epoch.
        (directory / f"{epochs - 2}.pt").unlink(missing_ok=True)

    def restore(self, directory: Path, epochs: int) -> None:
        states = self.torch.load(directory / f"{epochs}.pt")
        for part, state in zip(self._states(), states, strict=True):
            part.load_state_dict(state)


def _accuracy(images: ImageData, logits) -> float:
    right = 0
    for batch, labels in images.test.epoch(0, min(_TEST_BATCH, images.test.size), shuffle=False):
        right += int(np.sum(np.argmax(logits(batch), axis=-1) == labels.numpy()))
    return right / images.test.size
