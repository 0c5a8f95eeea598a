"""Search binary neural networks under a hardware budget and deliver them as verified TFLite models."""

from tfbnas import _keras_guard  # noqa: F401  (must run before anything imports TensorFlow)

__version__ = "0.1.0"
