"""The quantisers of a binary network: {0, alpha} and +-1 activations, and standardised +-1 kernels."""

from __future__ import annotations

import larq as lq
import tensorflow as tf

from tfbnas.layers.width import OpenLayer, OpenWidth

MINIMAL_STEP = 1e-2


class PositiveStep(tf.keras.constraints.Constraint):
    """Keeps a step size at or above `MINIMAL_STEP`: at zero the quantiser has no gradient any more."""

    def __call__(self, step):
        return tf.maximum(step, MINIMAL_STEP)


@tf.custom_gradient
def unit_step(x: tf.Tensor, step: tf.Tensor, elements: tf.Tensor):
    """round(clip(x / step, 0, 1)) with the straight-through gradient of the rounding.

    The forward pass needs one comparison, because round-half-to-even turns the tie x = step / 2 into 0.
    The gradients are those of clip(x / step, 0, 1): 1/step by `x` and -x/step^2 by `step` inside (0, step).
    That of `step` is scaled by 1/sqrt(elements), as in LSQ (Esser et al., ICLR 2020, section 2.2).

    Args:
      x: Real tensor of any shape, batch first.
      step: Positive scalar, float32.
      elements: Number of elements of one example, float32.

    Returns:
      Tensor of zeros and ones with the shape and dtype of `x`.
    """
    local = tf.cast(step, x.dtype)
    output = tf.cast(x > local * 0.5, x.dtype)

    def gradient(upstream):
        if x.dtype == tf.bfloat16:
            # TensorFlow finds tensors of a tf.cond's forward pass (a module that may be left out) again only where an
            # ordinary operation reads them.
            by_x = _clip_gradient_in_one_pass(tf.identity(x), tf.identity(local), upstream)
        else:
            by_x = _clip_gradient(x, local, upstream)
        by_step = -tf.cast(tf.reduce_sum(by_x * x), tf.float32) / step
        return by_x, by_step * tf.math.rsqrt(elements), None

    return output, gradient


def _clip_gradient(x: tf.Tensor, step: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """Gradient of clip(x / step, 0, 1) by `x`."""
    # A product instead of tf.where, which is many times slower on a CPU.
    return tf.cast(tf.logical_and(x > 0, x < step), x.dtype) * (upstream * (1.0 / step))


# Six passes over the activations become one, which takes a third of the time. In bfloat16 only: in float32 XLA's loop
# for a CPU is slower than TensorFlow's six.
_clip_gradient_in_one_pass = tf.function(_clip_gradient, jit_compile=True)


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class LearnedStep(OpenLayer, lq.quantizers.Quantizer):
    """Binary activations with a learned step: output round(clip(x / alpha, 0, 1)) in {0, 1}.

    DMS Eq. 2 outputs {0, alpha}. The factor alpha scales a convolution's output per tensor and is cancelled by
    the BatchNormalization that must follow; leaving it out saves a pass over the activations and changes no
    gradient (that of alpha loses the part which the normalisation cancels).

    Args:
      initial_step: alpha at the start. Default 2.0: of inputs with unit variance, a third is then above the threshold
        alpha / 2 after the shift that batch normalisation learns, and the gradient reaches nearly half of them.
    """

    precision = 1

    def __init__(self, initial_step: float = 2.0, **kwargs):
        super().__init__(**kwargs)
        self.initial_step = initial_step

    def build(self, input_shape):
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype=tf.float32,
            initializer=tf.keras.initializers.Constant(self.initial_step),
            constraint=PositiveStep(),
            experimental_autocast=False,
        )
        channels = self.input_channels(input_shape)
        self._width = channels if isinstance(channels, OpenWidth) else None
        super().build(input_shape)

    def call(self, inputs):
        shape = tf.shape(inputs)
        channels = shape[-1] if self._width is None else self._width.size
        return unit_step(inputs, self.step, tf.cast(tf.reduce_prod(shape[1:-1]) * channels, tf.float32))

    def get_config(self):
        return {**super().get_config(), "initial_step": self.initial_step}


def standardized_sign(kernel: tf.Tensor, clip_value: float | None = None, epsilon: float = 1e-5) -> tf.Tensor:
    """Sign of the kernel standardised per filter, z = (w - mean) / sqrt(variance + epsilon^2) over all other axes.

    The forward pass needs no division, which changes no sign. The gradient passes straight through the sign, and
    exactly through the standardisation: (g - mean(g) - z mean(g z)) / deviation.

    Source: weight standardisation, Qiao et al. 2019, as DMS section B.2.3 uses it before binarisation.

    Args:
      kernel: Real, filters last.
      clip_value: Where |z| is above this, no gradient passes; `None` for no bound.
      epsilon: Of the deviation.

    Returns:
      Tensor of -1 and +1; a filter without any variance is +1.
    """

    @tf.custom_gradient
    def sign(kernel):
        shape = tf.shape(kernel)
        rows = tf.reshape(kernel, [-1, shape[-1]])
        centred = rows - tf.reduce_mean(rows, axis=0)

        def gradient(upstream):
            upstream = tf.reshape(upstream, [-1, shape[-1]])
            inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axis=0) + epsilon**2)
            z = centred * inverse
            if clip_value is not None:
                upstream *= tf.cast(tf.abs(z) <= clip_value, upstream.dtype)
            along = z * tf.reduce_mean(upstream * z, axis=0)
            return tf.reshape((upstream - tf.reduce_mean(upstream, axis=0) - along) * inverse, shape)

        return tf.reshape(lq.math.sign(centred), shape), gradient

    return tf.ensure_shape(sign(tf.convert_to_tensor(kernel)), kernel.shape)


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class StandardizedSign(lq.quantizers.Quantizer):
    """Binary kernels: sign of the standardised kernel, in {-1, +1}.

    DMS Eq. 1 multiplies each filter by E|w|; that positive factor is cancelled by the BatchNormalization that must
    follow, in the output and in the gradient of the latent kernel alike. The gradient passes straight through the sign
    where the standardised value is at most `clip_value` in size, and exactly through the standardisation.

    Args:
      clip_value: Bound of the straight-through gradient, in standard deviations; `None` for no bound. Default: None.
    """

    precision = 1

    def __init__(self, clip_value: float | None = None, **kwargs):
        super().__init__(**kwargs)
        self.clip_value = clip_value

    def call(self, inputs):
        return standardized_sign(inputs, self.clip_value)

    def get_config(self):
        return {**super().get_config(), "clip_value": self.clip_value}


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class SteSign(lq.quantizers.SteSign):
    """Larq's SteSign with the same outputs and gradients; the gradient takes a third of the time.

    Larq selects by `tf.where`, which is many times slower on a CPU than a product.
    """

    def call(self, inputs):
        return super(lq.quantizers.SteSign, self).call(_ste_sign(inputs, self.clip_value))


@tf.keras.utils.register_keras_serializable(package="tfbnas")
class ApproxSign(lq.quantizers.ApproxSign):
    """Larq's ApproxSign with the same outputs and gradients; the gradient takes a third of the time (see `SteSign`)."""

    def call(self, inputs):
        return super(lq.quantizers.ApproxSign, self).call(_approx_sign(inputs))


def _ste_sign(x: tf.Tensor, clip_value: float | None) -> tf.Tensor:
    @tf.custom_gradient
    def sign(x):
        def gradient(upstream):
            if clip_value is None:
                return upstream
            return upstream * tf.cast(tf.abs(x) <= tf.cast(clip_value, x.dtype), upstream.dtype)

        return lq.math.sign(x), gradient

    return sign(x)


@tf.custom_gradient
def _approx_sign(x: tf.Tensor):
    def gradient(upstream):
        return tf.maximum(1 - tf.abs(x), 0) * 2 * upstream

    return lq.math.sign(x), gradient
