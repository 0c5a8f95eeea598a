"""Images for training: everything through TensorFlow Datasets, nothing from the network."""

from tfbnas.data.arrays import from_arrays, splits
from tfbnas.data.checks import check, check_logits, check_network, described
from tfbnas.data.fingerprint import check_unchanged
from tfbnas.data.load import ImageData, load
from tfbnas.data.locate import absolute
from tfbnas.data.split import MemorySplit, Split

__all__ = [
    "ImageData",
    "MemorySplit",
    "Split",
    "absolute",
    "check",
    "check_logits",
    "check_network",
    "check_unchanged",
    "described",
    "from_arrays",
    "load",
    "splits",
]
