"""Numbers of channels that are still to be chosen, and the variables whose shape depends on them."""

from __future__ import annotations

import contextlib
import operator
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import tensorflow as tf

from tfbnas.errors import UserError

LAYOUT_MULTIPLE = 16
"""Channels of an activation with open width are rounded up to this: others leave oneDNN's vector path (batch
normalisation of 27 channels takes ten times as long as of 32)."""


_aligned = False


@contextlib.contextmanager
def aligned_activations() -> Iterator[None]:
    """Layers built inside give their activations a number of channels for which the CPU has fast kernels.

    Given channel numbers that are no multiple of LAYOUT_MULTIPLE become OpenWidths of that size. The variables and the
    computed values are those of the same network built outside, so weights go from one to the other as they are.
    """
    global _aligned
    before, _aligned = _aligned, True
    try:
        yield
    finally:
        _aligned = before


def builds_for_training() -> bool:
    """Whether networks are being built in the form that trains best, inside `aligned_activations`."""
    return _aligned


def maybe_aligned(channels: Channels, name: str) -> Channels:
    """The channels a layer should work with: an OpenWidth inside `aligned_activations` where that is faster."""
    if _aligned and not isinstance(channels, OpenWidth) and channels % LAYOUT_MULTIPLE:
        return OpenWidth(name, channels, fixed=True)
    return channels


class OpenWidth:
    """A number of channels that may change.

    Layers accept it wherever they accept an integer number of channels. Their variables then have `size` channels now;
    `tfbnas.layers.resizing.resize` changes that without retracing: the graph knows the dimension only as `None`.
    Activations have `layout()` channels, of which those from `size` on are zero: layers pad kernels with zeros as they
    use them, so that no value of the network depends on the layout.

    Args:
      name: Name of the choice; the key under which an Architecture stores the chosen number.
      base: Channels of the network as published (expansion ratio 1).
      size: Channels that the variables have at first. Default: `base`.
      fixed: Whether the number is given and only the layout is open (see `aligned_activations`). Default: False.

    Attributes:
      size: Scalar int32 variable, channels of the variables now.
      mask: Function without arguments that returns a float32 tensor of shape `[size]`, by which BatchNormalization
        multiplies its output; `None` keeps all channels. A search method sets it.
      gate: Function without arguments that returns a float32 tensor of shape `[size]`: a binary convolution that reads
        channels with 0 computes what it would if they were cut out. Their mask must be 0, too. With numbers below 1
        channels of -1 and +1 count so much less. `None`: all are there. A search method sets it.
    """

    def __init__(self, name: str, base: int, *, size: int | None = None, fixed: bool = False):
        self.name = name
        self.base = base
        self.fixed = fixed
        self.size = tf.Variable(size or base, dtype=tf.int32, trainable=False, name=f"{name}/size")
        self.mask: Callable[[], tf.Tensor] | None = None
        self.gate: Callable[[], tf.Tensor] | None = None

    def layout(self) -> tf.Tensor:
        """Channels of activations now: `size`, rounded up."""
        return -(-self.size // LAYOUT_MULTIPLE) * LAYOUT_MULTIPLE

    def _no_number(self, *_: object) -> NoReturn:
        raise UserError(
            f"Expected a layer of tfbnas.layers for the open width {self.name!r}. Received: one that needs a number."
        )

    # What Keras' own layers do with a number of channels; without these they fail with a bare TypeError.
    __index__ = __int__ = __lt__ = __le__ = __gt__ = __ge__ = _no_number

    def __repr__(self) -> str:
        return f"OpenWidth({self.name!r}, base={self.base})"


Channels = int | OpenWidth


def checked_channels(channels: Any, layer: str) -> Channels:
    """The channels that a layer is given.

    Args:
      channels: A positive integer (also numpy's) or an OpenWidth.
      layer: Name of the layer, for the message.

    Raises:
      UserError: Something else, as an edited architecture may hold.
    """
    if isinstance(channels, OpenWidth):
        return channels
    if isinstance(channels, bool) or not hasattr(channels, "__index__") or operator.index(channels) < 1:
        raise UserError(
            f"Expected the channels of layer {layer!r} to be a positive integer or an OpenWidth. "
            f"Received: {channels!r}."
        )
    return operator.index(channels)


def static_size(channels: Channels) -> int | None:
    """The number of channels where it is known when the graph is built, else `None`."""
    return None if isinstance(channels, OpenWidth) else int(channels)


def present_size(channels: Channels) -> int:
    """The number of channels that variables have now (reads a variable: eager only)."""
    return int(channels.size.numpy()) if isinstance(channels, OpenWidth) else int(channels)


def pad_to_layout(value: tf.Tensor, dimensions: Sequence[Channels], fill: float = 0.0) -> tf.Tensor:
    """A variable's value as the layers compute with it: open dimensions filled up to their layout."""
    if None not in map(static_size, dimensions):
        return value
    behind = [d.layout() - d.size if isinstance(d, OpenWidth) else 0 for d in dimensions]
    return tf.pad(value, [[0, count] for count in behind], constant_values=fill)


@dataclass(frozen=True, eq=False)
class OpenWeight:
    """A variable of which at least one dimension is an OpenWidth.

    Attributes:
      variable: The variable; its static shape is `None` where a dimension is open.
      dimensions: One integer or OpenWidth per axis.
      initializer: Gives new channels their values.
      key: Name that is unique in the network; new values depend on it and on a seed only.
    """

    variable: tf.Variable
    dimensions: tuple[Channels, ...]
    initializer: Any
    key: str

    def fresh(self, seed: int) -> tf.Tensor:
        """A freshly initialised value of the present shape."""
        return initial_value(self.initializer, [present_size(d) for d in self.dimensions], seed, self.key)


def initial_value(initializer, shape: Sequence[int], seed: int, key: str) -> tf.Tensor:
    """Value of a Keras initialiser that depends on nothing but its configuration, `shape`, `seed` and `key`."""
    config = initializer.get_config()
    if "seed" in config:
        config["seed"] = (seed * 1_000_003 + zlib.crc32(key.encode())) % (2**31 - 1)
    return type(initializer).from_config(config)(tuple(shape), dtype=tf.float32)


class OpenLayer(tf.keras.layers.Layer):
    """Mixin for layers whose input or output channels may be an OpenWidth.

    AutoGraph leaves these layers as they are: to convert their source takes an eighth of the time until a first step. A
    subclass that branches on tensors needs `tf.cond`.

    Attributes:
      open_weights: The layer's OpenWeights; empty when all its channels are given.
    """

    open_weights: tuple[OpenWeight, ...] = ()
    _open_input: Channels | None = None

    @tf.autograph.experimental.do_not_convert
    def __call__(self, inputs, *args, **kwargs):
        if not self.built and hasattr(inputs, "_keras_history"):
            self._open_input = channels_of(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def input_channels(self, input_shape) -> Channels:
        """Channels of the input: from the graph where they are open, else from the shape."""
        return int(input_shape[-1]) if self._open_input is None else self._open_input

    def add_sized_weight(
        self, name: str, dimensions: Sequence[Channels], initializer, *, trainable=True, constraint=None
    ):
        """Like `add_weight`, for dimensions of which some may be open.

        Args:
          name: Name of the variable inside the layer.
          dimensions: One integer or OpenWidth per axis.
          initializer: Keras initialiser, or its name.
          trainable: Whether the optimiser updates it. Default: True.
          constraint: Keras constraint that the optimiser applies. Default: None.
        """
        initializer = tf.keras.initializers.get(initializer)
        if None not in map(static_size, dimensions):
            # Always read as it is: Keras would round moving statistics at every step in mixed precision.
            return self.add_weight(
                name=name,
                shape=dimensions,
                initializer=initializer,
                trainable=trainable,
                constraint=constraint,
                experimental_autocast=False,
            )
        key = f"{self.name}/{name}"
        sizes = [present_size(d) for d in dimensions]
        variable = tf.Variable(
            # From the global generator, as Keras does it: under one global seed, the same network built with given
            # channel numbers starts with the same weights.
            initializer(tuple(sizes), dtype=tf.float32),
            shape=[static_size(d) for d in dimensions],
            trainable=trainable,
            constraint=constraint,
            name=key,
        )
        self.open_weights += (OpenWeight(variable, tuple(dimensions), initializer, key),)
        return variable


def channels_of(tensor) -> Channels:
    """Channels (last axis) of a Keras tensor: an integer, or the OpenWidth that decides them.

    Follows the graph upward to the layer that sets the number, one with `filters` or open `units`; every other layer
    is taken to keep the channels of its first input.

    Raises:
      UserError: An image of open width is flattened: its features are no channels. Or tensors of different widths are
        combined.
    """
    if tensor.shape[-1] is not None:
        return int(tensor.shape[-1])
    history = tensor._keras_history
    for attribute in ("filters", "units"):
        if (channels := getattr(history.layer, attribute, None)) is not None:
            return channels
    sources = tf.nest.flatten(history.layer.get_input_at(history.node_index))
    channels = [channels_of(source) for source in sources]
    _check_one_width(history.layer, channels)
    source = sources[0]
    reshapes = isinstance(history.layer, tf.keras.layers.Flatten | tf.keras.layers.Reshape)
    if reshapes and any(size != 1 for size in source.shape[1:-1]):
        # Its features would have the zeros of the layout in between, and move when the width is resized.
        raise UserError(
            f"Expected an image of given width, or of one pixel, in front of {type(history.layer).__name__} "
            f"{history.layer.name!r}. Received: one of the shape {tuple(source.shape)}, whose channels are open; put a "
            "GlobalAveragePooling2D there, or give the channels as a number, a multiple of "
            f"{LAYOUT_MULTIPLE}."
        )
    return channels[0]


def _check_one_width(layer: tf.keras.layers.Layer, channels: Sequence[Channels]) -> None:
    """Refuses what the layout would hide at first: sums of tensors whose numbers of channels can grow apart."""
    first = channels[0]
    for other in channels[1:]:
        fixed = all(not isinstance(c, OpenWidth) or c.fixed for c in (first, other))
        if other is first or (fixed and present_size(other) == present_size(first)):
            continue
        raise UserError(
            f"Expected tensors of one width at the layer {layer.name!r}. Received: {first!r} and {other!r}; ask for "
            "the width once and give it to the layers of all that is combined."
        )
    if len(channels) > 1 and isinstance(layer, tf.keras.layers.Concatenate):
        raise UserError(
            f"Expected given channel numbers at the Concatenate {layer.name!r}. Received: {first!r}; open widths can "
            "be added, not concatenated."
        )
