"""Binary building blocks on Larq layers."""

import tensorflow as tf

from tfbnas.layers.convolution import BinaryConv2D, Dense, FloatConv2D
from tfbnas.layers.dense import BinaryDense
from tfbnas.layers.gate import Gated, OpenGate
from tfbnas.layers.normalization import BatchNormalization
from tfbnas.layers.quantizers import LearnedStep, StandardizedSign
from tfbnas.layers.width import OpenWidth

__all__ = [
    "BatchNormalization",
    "BinaryConv2D",
    "BinaryDense",
    "Dense",
    "FloatConv2D",
    "Gated",
    "LearnedStep",
    "OpenGate",
    "OpenWidth",
    "StandardizedSign",
    "blocks",
]


def blocks(binarisation: str) -> tuple[type[tf.keras.layers.Layer], type[tf.keras.layers.Layer]]:
    """Classes of activation and convolution, "zero_alpha" or "float", for builders that offer both forms."""
    return (tf.keras.layers.ReLU, FloatConv2D) if binarisation == "float" else (LearnedStep, BinaryConv2D)
