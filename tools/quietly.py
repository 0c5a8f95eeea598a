"""To be imported before TensorFlow and Larq: imports TensorFlow with Keras 2, without what its C++ parts say.

Warnings of traces are left out, too: a benchmark trains many models, each of which is traced once.
"""

from tfbnas.quiet import import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402

tf.get_logger().setLevel("ERROR")
