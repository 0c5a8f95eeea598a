"""One training step of a binary ResNet-18, as tfbnas, Larq and PyTorch take it, and the convolutions in it alone.

All variants are given the same batch over and over, train with SGD and momentum, and compute every convolution but the
first with binary kernels on binary activations. tfbnas has the binarisation of DMS; Larq's and PyTorch's networks
have the plain signs that their users write, with latent weights clipped to [-1, 1].
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf
import turns

from tfbnas import networks, training
from tfbnas.architecture import Architecture

Step = Callable[[], object]
RATE, MOMENTUM, CLASSES = 0.05, 0.9, 10


@dataclass(frozen=True)
class Task:
    """What is trained: a network of `base` channels, by batches of images of `size` pixels in height and width."""

    batch: int
    base: int
    size: int = 32
    network: str = "resnet18"

    @property
    def architecture(self) -> Architecture:
        """The network in tfbnas's form."""
        shape = (self.size, self.size, 3)
        return Architecture("benchmark", self.network, {}, shape, CLASSES, {"base": self.base})

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Random images `[batch, size, size, 3]` and labels `[batch]`."""
        random = np.random.default_rng(0)
        images = random.normal(size=(self.batch, self.size, self.size, 3)).astype(np.float32)
        return images, random.integers(0, CLASSES, self.batch)


def keras_step(model: tf.keras.Model, batch: tuple[Any, ...]) -> Step:
    """One step of `fit` of a compiled model: its own train function, with a batch that is there already."""
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    train = model.make_train_function()
    return lambda: float(train(batches)["loss"])


def tfbnas_step(task: Task, precision: str) -> Step:
    """As the recipes train."""
    model = training.trainable(task.architecture, precision=precision)
    training.compile_for_training(model, learning_rate=RATE, momentum=MOMENTUM)
    return keras_step(model, task.arrays())


def larq_step(task: Task, pad_values: float) -> Step:
    """Plain Larq layers and Keras."""
    model = larq_network(task, pad_values)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.SGD(RATE, momentum=MOMENTUM), loss, metrics=["accuracy"])
    return keras_step(model, task.arrays())


def larq_network(task: Task, pad_values: float) -> tf.keras.Model:
    """Of plain Larq layers. Padding with ones is what Larq Compute Engine runs; with zeros it is faster."""

    def convolution(x, filters: int, size: int, stride: int = 1):
        x = lq.layers.QuantConv2D(
            filters,
            size,
            stride,
            padding="same",
            pad_values=pad_values,
            input_quantizer="ste_sign",
            kernel_quantizer="ste_sign",
            kernel_constraint="weight_clip",
            use_bias=False,
        )(x)
        return tf.keras.layers.BatchNormalization(momentum=0.9)(x)

    inputs = tf.keras.Input((task.size, task.size, 3))
    x = tf.keras.layers.Conv2D(task.base, 3, padding="same", use_bias=False)(inputs)
    x = tf.keras.layers.BatchNormalization(momentum=0.9)(x)
    for stage in range(4):
        for block in range(2):
            filters, stride = task.base * 2**stage, 2 if stage and not block else 1
            y = convolution(convolution(x, filters, 3, stride), filters, 3)
            x = tf.keras.layers.add([convolution(x, filters, 1, stride) if stride > 1 else x, y])
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(CLASSES)(x))


def torch_network(task: Task) -> tuple[Any, list[Any]]:
    """PyTorch's network, and the latent weights in it."""
    torch: Any = importlib.import_module("torch")  # optional, and to the type checker the same with and without it
    nn: Any = torch.nn

    class Sign(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            context.save_for_backward(x)
            return x.sign()

        @staticmethod
        def backward(context, upstream):
            (x,) = context.saved_tensors
            return upstream * (x.abs() <= 1)

    class BinaryConv2d(nn.Conv2d):
        def forward(self, x):
            return nn.functional.conv2d(x, Sign.apply(self.weight), None, self.stride, self.padding)

    class Block(nn.Module):
        def __init__(self, inputs: int, filters: int, stride: int):
            super().__init__()

            def convolution(inputs: int, size: int, stride: int):
                layer = BinaryConv2d(inputs, filters, size, stride, size // 2, bias=False)
                return nn.Sequential(layer, nn.BatchNorm2d(filters))

            self.first, self.second = convolution(inputs, 3, stride), convolution(filters, 3, 1)
            self.shortcut = convolution(inputs, 1, stride) if stride > 1 else None

        def forward(self, x):
            bits = Sign.apply(x)
            y = self.second(Sign.apply(self.first(bits)))
            return y + (x if self.shortcut is None else self.shortcut(bits))

    base = task.base
    layers = [nn.Conv2d(3, base, 3, 1, 1, bias=False), nn.BatchNorm2d(base)]
    for stage in range(4):
        filters = base * 2**stage
        before, stride = (filters // 2, 2) if stage else (base, 1)
        layers += [Block(before, filters, stride), Block(filters, filters, 1)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(base * 8, CLASSES)]
    model = nn.Sequential(*layers)
    return model, [layer.weight for layer in model.modules() if isinstance(layer, BinaryConv2d)]


def torch_step(task: Task, *, compiled: bool = False, fast: bool = False) -> Step:
    """PyTorch: eager or compiled; `fast`: channels last, and bfloat16 where autocast finds it safe."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(turns.threads())
    model, latent = torch_network(task)
    images, labels = map(torch.from_numpy, task.arrays())
    images = images.permute(0, 3, 1, 2)  # in memory this is channels last
    if fast:
        model = model.to(memory_format=torch.channels_last)
    else:
        images = images.contiguous()
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)

    def loss_of(images, labels):
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            return torch.nn.functional.cross_entropy(model(images), labels)

    if compiled:
        torch._dynamo.reset()
    forward = torch.compile(loss_of) if compiled else loss_of

    def step() -> float:
        optimizer.zero_grad()
        loss = forward(images, labels)
        loss.backward()
        optimizer.step()
        clip(latent)
        return loss.item()

    return step


def clip(latent: list[Any]) -> None:
    """Keeps PyTorch's latent weights in [-1, 1]."""
    torch: Any = importlib.import_module("torch")
    with torch.no_grad():
        torch._foreach_clamp_min_(latent, -1.0)
        torch._foreach_clamp_max_(latent, 1.0)


def bound_step(task: Task, precision: str) -> Step:
    """The convolutions of the network and nothing else: forward, and by filters and inputs (not the images) backward.

    They wait for each other as in a network: forward for the one before, backward for the input's gradient of the one
    behind; the gradients by filters keep nobody waiting.
    """
    layers = [layer for layer in networks.build(task.architecture).layers if hasattr(layer, "kernel_size")]
    strides = [[1, *layer.strides, 1] for layer in layers]
    # For each its input, kernel and output's gradient; as arguments, since constants might be folded.
    shapes = [
        [(task.batch, *layer.input_shape[1:]), layer.kernel.shape, (task.batch, *layer.output_shape[1:])]
        for layer in layers
    ]
    tensors = [[tf.cast(tf.random.normal(shape), precision) for shape in own] for own in shapes]

    @tf.function
    def convolutions(tensors):
        used, before = [], []
        for (x, kernel, _), stride in zip(tensors, strides, strict=True):
            with tf.control_dependencies(before):
                before = [tf.nn.conv2d(x, kernel, stride, "SAME")]
            used += before
        for index in reversed(range(len(layers))):
            x, kernel, y = tensors[index]
            given = {"out_backprop": y, "strides": strides[index], "padding": "SAME"}
            with tf.control_dependencies(before):
                used.append(tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=kernel.shape, **given))
                if index:
                    before = [tf.raw_ops.Conv2DBackpropInput(input_sizes=x.shape, filter=kernel, **given)]
                    used += before
        # One element of a result is enough for TensorFlow to compute it, and nothing to keep.
        return tf.add_n([tf.reshape(output, [-1])[0] for output in used])

    return lambda: float(convolutions(tensors))


@dataclass(frozen=True)
class Variant:
    """One row of the table: a label, the precision by whose bound it is measured, and what makes its step."""

    label: str
    precision: str
    make: Callable[[Task], Step]
    needs_torch: bool = False

    @property
    def missing(self) -> bool:
        """Whether it needs PyTorch, and there is none."""
        return self.needs_torch and importlib.util.find_spec("torch") is None


VARIANTS = {
    "tfbnas-bfloat16": Variant("tfbnas, bfloat16", "bfloat16", lambda task: tfbnas_step(task, "bfloat16")),
    "tfbnas-float32": Variant("tfbnas, float32", "float32", lambda task: tfbnas_step(task, "float32")),
    "larq": Variant("Larq", "float32", lambda task: larq_step(task, 1.0)),
    "larq-zeros": Variant("Larq, padded with zeros", "float32", lambda task: larq_step(task, 0.0)),
    "torch": Variant("PyTorch", "float32", torch_step, True),
    "torch-compile": Variant("PyTorch, compiled", "float32", lambda task: torch_step(task, compiled=True), True),
    "torch-bfloat16": Variant("PyTorch, bfloat16", "bfloat16", lambda task: torch_step(task, fast=True), True),
    "bound-float32": Variant("convolutions, float32", "float32", lambda task: bound_step(task, "float32")),
    "bound-bfloat16": Variant("convolutions, bfloat16", "bfloat16", lambda task: bound_step(task, "bfloat16")),
}
