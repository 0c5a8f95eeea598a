"""Binary building blocks on Larq layers."""

from tfbnas.layers.binarisation import blocks, register_blocks
from tfbnas.layers.convolution import BinaryConv2D, Dense, FloatConv2D, SignConv2D
from tfbnas.layers.dense import BinaryDense
from tfbnas.layers.gate import Gated, OpenGate
from tfbnas.layers.interaction import InteractedConv2D
from tfbnas.layers.normalization import BatchNormalization
from tfbnas.layers.quantizers import ApproxSign, LearnedStep, StandardizedSign, SteSign
from tfbnas.layers.rectified import RectifiedConv2D
from tfbnas.layers.width import OpenWidth

__all__ = [
    "ApproxSign",
    "BatchNormalization",
    "BinaryConv2D",
    "BinaryDense",
    "Dense",
    "FloatConv2D",
    "Gated",
    "InteractedConv2D",
    "LearnedStep",
    "OpenGate",
    "OpenWidth",
    "RectifiedConv2D",
    "SignConv2D",
    "StandardizedSign",
    "SteSign",
    "blocks",
    "register_blocks",
]
