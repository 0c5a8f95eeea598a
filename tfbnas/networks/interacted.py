"""ResNet-20 and VGG-small: searched for channel interactions (Wang et al., CVPR 2019), or for widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfbnas.errors import UserError
from tfbnas.hints import has_type
from tfbnas.layers import BatchNormalization, Dense, FloatConv2D, blocks
from tfbnas.layers.interaction import BLOCK, InteractedConv2D, OpenInteractions, checked_edges
from tfbnas.layers.threshold import ChannelThreshold
from tfbnas.networks.choices import Edges
from tfbnas.networks.resnet import check_shortcuts


@dataclass(frozen=True)
class Interactions(Edges):
    """The channel graph of a layer; open: an OpenInteractions.

    Its JSON is a rising list of edges, `[[teacher, student, influence], ...]`. Drawn is the number of edges, evenly up
    to a tenth of all that join two channels of one block, then the edges and their influences.

    Attributes:
      levels: K0: influences are +-3, +-5 .. +-(2 K0 + 1). Default 2.
    """

    levels: int = 2

    def check(self, name: str, value: Any) -> list[list[int]]:
        return [list(edge) for edge in checked_edges(value, self.sources, self.levels, name)]

    def open(self, name: str) -> OpenInteractions:  # type: ignore[override]
        return OpenInteractions(name, self.sources, self.levels)

    @property
    def pairs(self) -> int:
        """How many pairs of two channels of one block there are."""
        return len(self._pairs())

    def draw(self, random: np.random.Generator) -> list[list[int]]:
        return self.drawn(int(random.integers(self.pairs // 10, endpoint=True)), random)

    def drawn(self, count: int, random: np.random.Generator) -> list[list[int]]:
        """So many edges within blocks, with influences of all kinds."""
        steps = random.integers(1, self.levels, count, endpoint=True)
        return self.placed(random.choice([-1, 1], count) * (2 * steps + 1), random)

    def placed(self, influences: Sequence[int], random: np.random.Generator) -> list[list[int]]:
        """A random graph with these influences: every set of pairs within blocks is as probable as the others."""
        pairs = self._pairs()
        chosen = pairs[np.sort(random.choice(len(pairs), len(influences), replace=False))]
        mixed = random.permutation(np.asarray(influences, int))
        return [[int(t), int(s), int(k)] for (t, s), k in zip(chosen, mixed, strict=True)]

    def _pairs(self) -> np.ndarray:
        """Teacher and student of every edge within a block, in rising order, `[pairs, 2]`."""
        block = np.arange(self.sources) // BLOCK
        return np.argwhere((block[:, None] == block) & ~np.eye(self.sources, dtype=bool))


class _Convolutions:
    """Makes the convolutions of a network, binary with interactions or in full precision; or of chosen widths."""

    def __init__(self, choose, binarisation: str, *, widths: bool = False, thresholds: bool = False, **options):
        if not widths and binarisation not in ("sign", "float"):
            raise UserError(
                f'Expected the option `binarisation` of a network with interactions to be "sign" or "float". '
                f"Received: binarisation={binarisation!r}."
            )
        if widths and thresholds:
            raise UserError("Expected one of the options `widths` and `thresholds`. Received: both.")
        self.choose, self.binarisation = choose, binarisation
        self.options, self.thresholds, self.widths = options, thresholds, widths

    def width(self, name: str, channels: int) -> Any:
        """The channels of a choice, where widths are what is chosen."""
        return self.choose(name, channels) if self.widths else channels

    def __call__(self, x, channels: Any, name: str, strides: int = 1):
        if self.widths:
            quantize, convolution = blocks(self.binarisation)
            return convolution(channels, 3, strides, name=name)(quantize(name=f"{name}_step")(x))
        edges = self.choose(name, Interactions(channels, channels, levels=self.options["levels"]))
        if self.thresholds:
            x = ChannelThreshold(name=f"{name}_threshold")(x)
        if self.binarisation == "sign":
            return InteractedConv2D(channels, 3, strides, edges=edges, name=name, **self.options)(x)
        x = tf.keras.layers.ReLU(name=f"{name}_relu")(x)
        return FloatConv2D(channels, 3, strides, name=name)(x)


def resnet20(
    choose,
    *,
    input_shape=(32, 32, 3),
    classes=10,
    base: int = 16,
    n: int = 3,
    binarisation: str = "sign",
    levels: int = 2,
    influence_unit: float = 0.01,
    interval_reach: float | None = None,
    thresholds: bool = False,
    shortcuts: str = "convolution",
    widths: bool = False,
):
    """Three stages of 2 n binary 3x3 convolutions with real shortcuts around them; first and last layer float.

    Choices: "stageS_convC", the channel graph of each binary convolution (see `Interactions`). With `widths` instead
    "stem" and "stageN/stream", the channels of each stage, and, if shortcuts lead around blocks, "stageN/blockM/inner".
    Where a shortcut halves the image, it is an average pool and a float 1x1 convolution. Shortcuts around every
    convolution are those of Bi-Real Net.

    Args:
      choose: `choose(name, kind)` gives the edges of each choice, or OpenInteractions; with `widths` the channels.
      input_shape: Height, width, channels.
      classes: Units of the last layer.
      base: Channels of the first stage. Default 16.
      n: Pairs of convolutions in a stage; the depth is 6 n + 2. Default 3.
      binarisation: "sign" (activations and kernels -1 and +1), or "float": full precision with ReLU, float kernels
        under the same names, and no interactions, whatever the choices are. With `widths` any way of
        `tfbnas.layers.blocks`. Default: "sign".
      levels: K0. Default 2.
      influence_unit: U0, by which share of N0 one step of a staircase corrects. Default 0.01.
      interval_reach: Up to which bitcount the intervals divide, in units of sqrt(N0). This is ours. Default: up to N0.
      thresholds: Whether each binary convolution takes the signs of its input at a learned threshold for each channel,
        not at 0. Default: False.
      shortcuts: "convolution": around each; "block": around two. Default: "convolution".
      widths: Whether the numbers of channels are what is chosen, and there are no interactions. Default: False.

    Raises:
      UserError: An option has another value, or two do not go together.

    Returns:
      Functional model from images to logits `[batch, classes]`, float32.
    """
    own: dict[str, Any] = {"levels": levels, "influence_unit": influence_unit, "interval_reach": interval_reach}
    convolve = _Convolutions(choose, binarisation, widths=widths, thresholds=thresholds, **own)
    inputs = tf.keras.Input(input_shape)
    stream = convolve.width("stem", base)
    x = BatchNormalization(name="stem_bn")(FloatConv2D(stream, 3, name="stem")(inputs))
    x = _stages(convolve, x, stream, [base, 2 * base, 4 * base], n, shortcuts)
    return tf.keras.Model(inputs, Dense(classes, name="logits", dtype="float32")(x), name="resnet20")


def resnet18_interactions(
    choose,
    *,
    input_shape=(224, 224, 3),
    classes=1000,
    base: int = 64,
    n: int = 2,
    binarisation: str = "sign",
    levels: int = 2,
    influence_unit: float = 0.01,
    interval_reach: float | None = None,
    shortcuts: str = "block",
):
    """Four stages of 2 n binary 3x3 convolutions behind a float 7x7 convolution of stride 2 and a max pool.

    Choices: "stageS_convC", the channel graph of each binary convolution (see `Interactions`). The shortcuts are those
    of `resnet20`.

    Args:
      choose: `choose(name, kind)` gives the edges of each choice, or OpenInteractions.
      input_shape: Height, width, channels. Default: those of ImageNet.
      classes: Units of the last layer. Default: those of ImageNet.
      base: Channels of the first stage. Default 64.
      n: Pairs of convolutions in a stage. Default 2.
      binarisation: See `resnet20`.
      levels: K0. Default 2.
      influence_unit: U0. Default 0.01.
      interval_reach: See `resnet20`. Default: up to N0.
      shortcuts: "block": around two convolutions. "convolution": around each (Bi-Real Net). Default: "block".

    Raises:
      UserError: An option has another value.

    Returns:
      Functional model from images to logits `[batch, classes]`, float32.
    """
    own: dict[str, Any] = {"levels": levels, "influence_unit": influence_unit, "interval_reach": interval_reach}
    convolve = _Convolutions(choose, binarisation, **own)
    inputs = tf.keras.Input(input_shape)
    x = BatchNormalization(name="stem_bn")(FloatConv2D(base, 7, 2, name="stem")(inputs))
    x = tf.keras.layers.MaxPool2D(3, 2, padding="same", name="stem_pool")(x)
    x = _stages(convolve, x, base, [base, 2 * base, 4 * base, 8 * base], n, shortcuts)
    outputs = Dense(classes, name="logits", dtype="float32")(x)
    return tf.keras.Model(inputs, outputs, name="resnet18_interactions")


def _stages(convolve: _Convolutions, x: tf.Tensor, stream: Any, widths: Sequence[int], n: int, shortcuts: str):
    """Stages of 2 n binary convolutions, and the mean over all pixels.

    Args:
      convolve: Makes the convolutions.
      x: What the stem gives, of `stream` channels.
      stream: Channels of the shortcut around the first stage.
      widths: Channels of each stage; where they are what is chosen, what they are chosen about.
      n: Pairs of convolutions in a stage.
      shortcuts: Around what shortcuts lead.
    """
    check_shortcuts(shortcuts)
    each, y = shortcuts == "convolution", x
    for stage, channels in enumerate(widths, start=1):
        stream = convolve.width(f"stage{stage}/stream", channels) if stage > 1 else stream
        for index in range(1, 2 * n + 1):
            scope, strides = f"stage{stage}_conv{index}", 2 if stage > 1 and index == 1 else 1
            ends = each or index % 2 == 0
            filters = stream if ends else convolve.width(f"stage{stage}/block{(index + 1) // 2}/inner", channels)
            y = BatchNormalization(name=f"{scope}_bn")(convolve(y, filters, scope, strides))
            if strides > 1:
                x = tf.keras.layers.AveragePooling2D(2, padding="same", name=f"stage{stage}_pool")(x)
                x = FloatConv2D(stream, 1, name=f"stage{stage}_shortcut")(x)
                x = BatchNormalization(name=f"stage{stage}_shortcut_bn")(x)
            if ends:
                x = y = tf.keras.layers.Add(name=f"{scope}_add")([x, y])
    return tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)


_VGG_SMALL = ((1, 1), (2, 2), (4, 4))


def checked_stages(stages: Any) -> Sequence[Sequence[int]]:
    """The stages of a VGG network, as they are.

    Raises:
      UserError: They are no list of lists of whole numbers above 0.
    """
    lists = isinstance(stages, Sequence) and all(isinstance(stage, Sequence) and stage for stage in stages)
    if not (stages and lists and all(has_type(n, int) and n > 0 for stage in stages for n in stage)):
        raise UserError(
            "Expected `stages` of vgg_small to be a list for each stage, with the channels of its convolutions in "
            f"units of `base`, for instance [[1, 1], [2, 2], [4, 4]]. Received: stages={stages!r}."
        )
    return stages


def vgg_small(
    choose,
    *,
    input_shape=(32, 32, 3),
    classes=10,
    base: int = 128,
    stages: Sequence[Sequence[int]] | None = None,
    binarisation: str = "sign",
    levels: int = 2,
    influence_unit: float = 0.01,
    interval_reach: float | None = None,
    widths: bool = False,
):
    """3x3 convolutions in stages that end with a max pool, six in three stages by default; the first one float.

    Choices: "conv2" to "conv6", the channel graph of each binary convolution (see `Interactions`); with `widths`
    "conv1" to "conv6", the channels of each. As published the last layer reads all pixels; here their mean. VGG-16's
    convolutions are `base=64, stages=[[1, 1], [2, 2], [4, 4, 4], [8, 8, 8], [8, 8, 8]]`.

    Args:
      choose: `choose(name, kind)` gives the edges of each choice, or OpenInteractions.
      input_shape: Height, width, channels; height and width at least 2 for each stage, multiplied.
      classes: Units of the last layer.
      base: Channels of the first convolution. Default 128.
      stages: Channels of the convolutions of each stage, in units of `base`. Default: [[1, 1], [2, 2], [4, 4]].
      binarisation: See `resnet20`.
      levels: K0. Default 2.
      influence_unit: U0. Default 0.01.
      interval_reach: See `resnet20`. Default: up to N0.
      widths: See `resnet20`.

    Raises:
      UserError: The images are smaller, `stages` is no list of lists of whole numbers above 0, or `binarisation` is
        another one.

    Returns:
      Functional model from images to logits `[batch, classes]`, float32.
    """
    stages = _VGG_SMALL if stages is None else checked_stages(stages)
    side = 2 ** len(stages)
    if min(input_shape[:2]) < side:
        raise UserError(
            f"Expected images of at least {side}x{side} pixels for vgg_small, which halves them {len(stages)} times. "
            f"Received: {input_shape[0]}x{input_shape[1]}; scale them (--data.image_size 32)."
        )
    own: dict[str, Any] = {"levels": levels, "influence_unit": influence_unit, "interval_reach": interval_reach}
    convolve = _Convolutions(choose, binarisation, widths=widths, **own)
    inputs = tf.keras.Input(input_shape)
    x, index = inputs, 0
    for stage in stages:
        for place, multiple in enumerate(stage, start=1):
            index += 1
            name = f"conv{index}"
            channels = convolve.width(name, multiple * base)
            x = FloatConv2D(channels, 3, name=name)(x) if index == 1 else convolve(x, channels, name)
            if place == len(stage):
                x = tf.keras.layers.MaxPool2D(2, name=f"pool{index}")(x)
            x = BatchNormalization(name=f"bn{index}")(x)
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return tf.keras.Model(inputs, Dense(classes, name="logits", dtype="float32")(x), name="vgg_small")
