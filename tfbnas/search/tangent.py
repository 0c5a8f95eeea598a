"""How far the tangents of a parent and a child are apart, and in which direction that falls. Pure functions.

Source: Li et al., "DCP-NAS: Discrepant Child-Parent Neural Architecture Search for 1-bit CNNs", IJCV 2023. The parent's
tangent is g_P = d/d alpha sum_n p_n log p_n, summed over the labels' classes: minus the gradient of its cross-entropy
(Eq. 4.29 as printed is always zero). The child agrees with its parent by G = sum_n p_n log(p^_n / p_n), minus their
Kullback-Leibler divergence; its tangent is g_G = dG/d alpha^. D says how far the two are apart, and

    grad D = H_G dD/dg_G,    H_G = d2 G / d alpha^2, close to -GGN,
    GGN = 1/B sum_b J_b^T (diag p^_b - p^_b p^_b^T) J_b,    J_b = d logits_b / d alpha^.

The paper's last formula loses that minus: along its step D rises. Written with the batch's mean gradient, its product
g g^T only rescales g; here each example has its own.

All tangents and vectors have the shape of the architecture's parameters; `rows` have the examples in front.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfbnas.errors import UserError, nearest

DISTANCES = ("frobenius", "l1", "cosine")
Product = Callable[[tf.Tensor], tf.Tensor]


def agreement(parent_logits: tf.Tensor, child_logits: tf.Tensor) -> tf.Tensor:
    """G of each example, `[batch]`, at most 0: minus the divergence of the child from the parent.

    Args:
      parent_logits: `[batch, classes]`; no gradient passes.
      child_logits: `[batch, classes]`.
    """
    parent = tf.stop_gradient(tf.nn.log_softmax(parent_logits))
    return tf.reduce_sum(tf.exp(parent) * (tf.nn.log_softmax(child_logits) - parent), axis=-1)


def distance(parent: tf.Tensor, child: tf.Tensor, kind: str = "frobenius") -> tf.Tensor:
    """D of two tangents, a scalar: the squared Frobenius norm of their difference, its L1 norm, or 1 - their cosine.

    Raises:
      UserError: There is no such kind.
    """
    if kind == "frobenius":
        return tf.reduce_sum(tf.square(child - parent))
    if kind == "l1":
        return tf.reduce_sum(tf.abs(child - parent))
    if kind == "cosine":
        return 1.0 - cosine(parent, child)
    raise UserError(f"Expected `distance` out of {', '.join(DISTANCES)}. Received: {kind!r}.{nearest(kind, DISTANCES)}")


def cosine(parent: tf.Tensor, child: tf.Tensor) -> tf.Tensor:
    """Cosine of the angle between two tangents, a scalar; 0 where one is zero."""
    norms = tf.norm(parent) * tf.norm(child)
    return tf.math.divide_no_nan(tf.reduce_sum(parent * child), norms)


def discrepancy(parent: tf.Tensor, child: tf.Tensor, kind: str = "frobenius") -> tf.Tensor:
    """dD/dg_G: which change of the child's tangent raises D most, in its shape. 2 (g_G - g_P) for "frobenius"."""
    with tf.GradientTape() as tape:
        tape.watch(child)
        found = distance(parent, child, kind)
    return tape.gradient(found, child)


def distance_gradient(parent: tf.Tensor, child: tf.Tensor, hessian: Product, kind: str = "frobenius") -> tf.Tensor:
    """grad D by the child's architecture parameters.

    Args:
      parent: The parent's tangent.
      child: The child's tangent.
      hessian: Product of H_G with a vector; of one of the forms below, minus their product.
      kind: Of `distance`.
    """
    return hessian(discrepancy(parent, child, kind))


def objective_gradient(
    parent: tf.Tensor, child: tf.Tensor, hessian: Product, *, weight: float, kind: str = "frobenius"
) -> tf.Tensor:
    """Gradient of L = -G + lambda D by the child's architecture parameters, to be descended.

    Args:
      parent: The parent's tangent.
      child: The child's tangent.
      hessian: As in `distance_gradient`; not called where it has no part.
      weight: lambda; 0 gives CP-NAS's gradient.
      kind: Of `distance`.
    """
    return -child + weight * distance_gradient(parent, child, hessian, kind) if weight else -child


# Products of the generalised Gauss-Newton matrix with a vector, from the cheapest to the exact.


def per_sample_product(rows: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """1/B sum_b g_b (g_b . v): the examples' own gradients in the place of the square root of the matrix.

    Args:
      rows: g_b, `[batch, ..]`. Those of G itself give the form the paper means, which falls to zero as the child learns
        to agree. Those of `sampled_residual` give the GGN in the mean.
      vector: v, `[..]`.
    """
    flat = tf.reshape(rows, [tf.shape(rows)[0], -1])
    along = tf.linalg.matvec(flat, tf.reshape(vector, [-1]))
    count = tf.cast(tf.shape(flat)[0], flat.dtype)
    return tf.reshape(tf.linalg.matvec(flat, along, transpose_a=True) / count, tf.shape(vector))


def diagonal_product(rows: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """1/B sum_b g_b^2 v, element by element: the diagonal of `per_sample_product`."""
    return tf.reduce_mean(tf.square(rows), axis=0) * vector


def sampled_residual(logits: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """e_y - p^ for a label y that is drawn from the child's own prediction p^, `[batch, classes]`.

    Its second moment is diag p^ - p^ p^^T, so that the examples' gradients towards it are rows whose
    `per_sample_product` is the GGN's in the mean.

    Args:
      logits: `[batch, classes]`.
      seed: Two integers.
    """
    drawn = tf.random.stateless_categorical(logits, 1, seed)[:, 0]
    return tf.stop_gradient(tf.one_hot(drawn, logits.shape[-1], dtype=logits.dtype) - tf.nn.softmax(logits))


def jacobian_product(logits_of: Callable[[tf.Tensor], tf.Tensor], alpha: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """J v of each example, `[batch, classes]`, as the gradient of the vector-Jacobian product u -> J^T u.

    TensorFlow's ForwardAccumulator would be shorter, but within a `tf.function` it passes over custom gradients, those
    of all quantisers.

    Args:
      logits_of: Logits `[batch, classes]` from the architecture's parameters.
      alpha: The parameters.
      vector: v, in their shape.
    """
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(alpha)
            logits = logits_of(alpha)
        upstream = tf.zeros_like(logits)
        outer.watch(upstream)
        pulled = inner.gradient(logits, alpha, output_gradients=upstream)
    return outer.gradient(pulled, upstream, output_gradients=vector)


def gauss_newton_product(logits_of: Callable[[tf.Tensor], tf.Tensor], alpha: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """1/B sum_b J_b^T (diag p^ - p^ p^^T) J_b v: Jacobian-vector product, weights, vector-Jacobian product.

    Args:
      logits_of: As in `jacobian_product`.
      alpha: The parameters.
      vector: v, in their shape.
    """
    pushed = jacobian_product(logits_of, alpha, vector)
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        logits = logits_of(alpha)
    prediction = tf.nn.softmax(logits)
    weighed = prediction * (pushed - tf.reduce_sum(prediction * pushed, axis=-1, keepdims=True))
    count = tf.cast(tf.shape(logits)[0], logits.dtype)
    return tape.gradient(logits, alpha, output_gradients=tf.stop_gradient(weighed / count))


def hessian_product(value_of: Callable[[tf.Tensor], tf.Tensor], alpha: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """H v of a scalar function, exact and slow: the gradient of the gradient along v.

    Args:
      value_of: A scalar from the architecture's parameters, here the mean G.
      alpha: The parameters.
      vector: v, in their shape.
    """
    with tf.GradientTape() as outer:
        outer.watch(alpha)
        with tf.GradientTape() as inner:
            inner.watch(alpha)
            value = value_of(alpha)
        along = tf.reduce_sum(inner.gradient(value, alpha) * vector)
    return outer.gradient(along, alpha, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def hessian(
    form: str,
    rows: tf.Tensor,
    logits_of: Callable[[tf.Tensor], tf.Tensor],
    agreement_of: Callable[[tf.Tensor], tf.Tensor],
    alpha: tf.Tensor,
) -> Product:
    """The product of what stands for H_G, with its sign.

    Args:
      form: "per_sample" or "sampled" (other rows), "diagonal", "gauss_newton", or "exact".
      rows: Gradients of the examples, for the forms that are made of them.
      logits_of: As in `jacobian_product`.
      agreement_of: The mean G, for the exact form.
      alpha: Where both are taken.
    """
    forms: dict[str, Product] = {
        "per_sample": lambda vector: -per_sample_product(rows, vector),
        "sampled": lambda vector: -per_sample_product(rows, vector),
        "diagonal": lambda vector: -diagonal_product(rows, vector),
        "gauss_newton": lambda vector: -gauss_newton_product(logits_of, alpha, vector),
        "exact": lambda vector: hessian_product(agreement_of, alpha, vector),
    }
    return forms[form]
