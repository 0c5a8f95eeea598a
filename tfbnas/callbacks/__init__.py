"""Keras callbacks that every stage uses: progress, TensorBoard, a stop at NaN, flips of weights, and checkpoints."""

from tfbnas.callbacks.bar import Describe, StageBar
from tfbnas.callbacks.finite import StopOnNaN
from tfbnas.callbacks.flips import Flips
from tfbnas.callbacks.progress import Progress
from tfbnas.callbacks.saving import SaveEveryEpoch
from tfbnas.callbacks.scalars import TensorBoardScalars

__all__ = ["Describe", "Flips", "Progress", "SaveEveryEpoch", "StageBar", "StopOnNaN", "TensorBoardScalars"]
