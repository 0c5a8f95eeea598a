"""Images for training: everything through TensorFlow Datasets, nothing from the network."""

from tfbnas.data.load import ImageData, load
from tfbnas.data.split import MemorySplit, Split

__all__ = ["ImageData", "MemorySplit", "Split", "load"]
