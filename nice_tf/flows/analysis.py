"""What a trained flow tells about its data: its spectrum, ways through its latent space, pictures
near a sample.
"""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.diagonal import DiagonalScaling
from nice_tf.choices import INTERPOLATIONS
from nice_tf.errors import UserError, check_choice, check_count
from nice_tf.flows import linear
from nice_tf.flows.density import check_holds_no_context, context_kwargs, encoder, layers
from nice_tf.flows.marginals import behind_marginals
from nice_tf.flows.priors import covariance, relative_deviation

tfb = tfp.bijectors
tfd = tfp.distributions


def inverse_scales(flow: tfd.TransformedDistribution) -> tf.Tensor:
    """sigma_d = 1 / s_d of each latent coordinate, `[D]`, in the order of the data (Dinh et al.
    2014, section 3.3).

    Times the prior's own scale, so that both ways to scale give the same numbers. For a mixture
    that is its deviation divided by that of the unit logistic: where it is the logistic, the
    numbers are those of a logistic prior. For a prior of your own it is its deviation. Sorted, it
    is the spectrum: how much the data vary along each latent coordinate. Where the layers are your
    own and leave the coordinates in another order, it is the order of z.

    Raises:
      UserError: what is given is no flow, but a layer, for example; a prior without a finite
        `stddev`.
    """
    found = layers(flow)
    scale = tf.ones([flow.distribution.event_shape[-1]], flow.dtype)
    for layer in found:
        if isinstance(layer, DiagonalScaling):
            scale *= tf.exp(-layer.log_scale)
        elif isinstance(layer, tfb.Permute):
            scale = layer.forward(scale)
    return scale * relative_deviation(flow.distribution)


def conditional_scales(flow: tfd.TransformedDistribution) -> tf.Tensor:
    """How much each value varies when all others are known, as far as the linear layers tell, event
    shape.

        scale_d = (sum_j W_jd^2 / sigma_j^2)^(-1/2)

    with the matrix W of the linear layers and the deviations sigma of the prior; where no layer
    mixes values, it is sigma_d of `inverse_scales`. A prior with a `covariance()` counts by that,
    see `linear_precision`. The natural length of a step in each value of x. For a mixture prior it
    is that of all components together: one of them can be narrower.

    Raises:
      UserError: as `inverse_scales` says.
    """
    found = linear.placed_layers(flow)
    sigma = relative_deviation(flow.distribution)
    num_matrices = sum(layer.mixes for layer in found)
    if covariance(flow.distribution) is not None:
        num_matrices += 1
        sigma = _given_others(flow.distribution)
    # The way back by deviations alone holds for one matrix: behind two the values are dependent.
    if num_matrices > 1:
        scales = tf.math.rsqrt(tf.linalg.diag_part(linear_precision(flow)))
        return tf.reshape(scales, flow.event_shape)
    for layer in reversed(found):
        sigma = layer.deviations_before(sigma)
    return tf.reshape(sigma, flow.event_shape)


def linear_precision(flow: tfd.TransformedDistribution) -> tf.Tensor:
    """Inverse covariance of the values as far as the linear layers tell, `[D, D]`: W^T diag(1 /
    sigma^2) W, with the matrix W of all linear layers and the deviations sigma of the prior; W^T
    C^-1 W where the prior has a covariance C.
    """
    matrix = tf.eye(flow.event_shape.num_elements(), dtype=flow.dtype)
    for layer in linear.placed_layers(flow):
        matrix = layer.times_linear_part(matrix)
    correlated = covariance(flow.distribution)
    if correlated is None:
        matrix /= relative_deviation(flow.distribution)[:, tf.newaxis]
    else:
        matrix = tf.linalg.triangular_solve(tf.linalg.cholesky(correlated), matrix)
    return tf.matmul(matrix, matrix, transpose_a=True)


def _given_others(prior):
    """How much each coordinate of a prior with a covariance varies when all others are known."""
    factor = tf.linalg.cholesky(covariance(prior))
    inverse = tf.linalg.triangular_solve(factor, tf.eye(factor.shape[0], dtype=factor.dtype))
    return tf.math.rsqrt(tf.reduce_sum(inverse**2, axis=0))


def mixes_linearly(flow: tfd.TransformedDistribution) -> bool:
    """Whether a linear layer makes one value of several, or the prior has a covariance:
    `linear_precision` is no diagonal.
    """
    if covariance(flow.distribution) is not None:
        return True
    return any(layer.mixes for layer in linear.placed_layers(flow))


def effective_dimension(sigma: np.ndarray, share: float = 0.99) -> int:
    """How few latent coordinates carry this share of sum_d sigma_d^2, the largest first.

    Args:
      sigma: as `inverse_scales` gives it, `[D]`.
      share: above 0, at most 1.

    Raises:
      UserError: a share out of these bounds.
    """
    if not 0 < share <= 1:
        raise UserError(f"share must be above 0 and at most 1, got {share}")
    power = np.sort(np.asarray(sigma, np.float64) ** 2)[::-1]
    return min(
        int(np.searchsorted(np.cumsum(power), share * power.sum() * (1 - 1e-12))) + 1, len(power)
    )


def reconstruct(flow: tfd.TransformedDistribution, x: tf.Tensor, num_coordinates: int) -> tf.Tensor:
    """Examples from their codes with all but the latent coordinates of largest sigma set to the
    prior's mean: 0, or what a mixture has learned.

    Args:
      flow: as `build_flow` made it.
      x: `[N, *event_shape]` in density units.
      num_coordinates: how many latent coordinates are kept, 0 to D.

    Returns:
      `[N, *event_shape]`.

    Raises:
      UserError: a number out of these bounds.
    """
    sigma = inverse_scales(flow).numpy()
    check_count("num_coordinates", num_coordinates, 0)
    if num_coordinates > len(sigma):
        raise UserError(f"num_coordinates must be from 0 to {len(sigma)}, got {num_coordinates}")
    kept = np.zeros_like(sigma)
    kept[np.argsort(-sigma)[:num_coordinates]] = 1
    codes = encoder(flow).forward(x) * kept + flow.distribution.mean() * (1 - kept)
    return encoder(flow).inverse(codes)


def interpolate(
    flow: tfd.TransformedDistribution,
    first: tf.Tensor,
    last: tf.Tensor,
    num_steps: int,
    *,
    kind: str = "linear",
) -> tf.Tensor:
    """Examples between two, on a line or on an arc between their codes.

        linear      z(t) = (1 - t) z_0 + t z_1
        spherical   z(t) = (sin((1 - t) a) z_0 + sin(t a) z_1) / sin(a)

    with a the angle between z_0 and z_1. A mixture prior can have gaps between its components: what
    lies on the way is then less usual than both ends.

    Args:
      flow: as `build_flow` made it.
      first: `[*event_shape]` in density units.
      last: as `first`.
      num_steps: how many examples, at least 2, both ends among them.
      kind: `"linear"` or `"spherical"`; the arc keeps the length of codes of equal length.

    Returns:
      `[num_steps, *event_shape]`.

    Raises:
      UserError: an unknown kind, or fewer than 2 steps.
    """
    check_choice("kind", kind, INTERPOLATIONS)
    check_count("num_steps", num_steps, 2)
    start, end = tf.unstack(encoder(flow).forward(tf.stack([first, last])))
    t = tf.cast(tf.linspace(0.0, 1.0, num_steps), flow.dtype)[:, tf.newaxis]
    cosine = tf.clip_by_value(
        tf.tensordot(start, end, 1) / (tf.norm(start) * tf.norm(end)), -1.0, 1.0
    )
    angle = tf.acos(cosine)
    if kind == "linear" or tf.sin(angle) < 1e-4:  # codes of one direction: the arc is the line
        return encoder(flow).inverse((1 - t) * start + t * end)
    return encoder(flow).inverse(
        (tf.sin((1 - t) * angle) * start + tf.sin(t * angle) * end) / tf.sin(angle)
    )


def sphere_codes(
    event_size: int, *, radius: float, num_rows: int, num_columns: int, dimension: int, seed: int
) -> np.ndarray:
    """Latent codes on a randomly turned sphere around 0, as in the manifold figure of Dinh et al.
    2014, appendix A.1.

    Args:
      event_size: D, above `dimension`.
      radius: of the sphere. Prior samples have about the length sqrt(D) times the prior's
        deviation. Those of a mixture lie around its mean, each coordinate with its own deviation:
        `mean + deviation * codes` with codes of radius sqrt(D).
      num_rows: of the grid: from pole to pole on the 2-sphere, once round the first circle on the
        3-sphere.
      num_columns: of the grid: once round the axis on the 2-sphere, round the second circle on the
        3-sphere.
      dimension: 2 for the ordinary sphere, in 3 directions; 3 for the sphere in 4 directions, of
        which the grid is the torus (cos a, sin a, cos b, sin b) / sqrt(2).
      seed: of the directions.

    Returns:
      z, `[num_rows, num_columns, D]` in float32.

    Raises:
      UserError: a dimension that is neither 2 nor 3, or not below D.
    """
    if dimension not in (2, 3) or dimension >= event_size:
        raise UserError(f"dimension must be 2 or 3 and below D = {event_size}, got {dimension}")
    around = 2 * np.pi * np.arange(num_columns) / num_columns
    if dimension == 2:
        polar = (np.pi * (np.arange(num_rows) + 0.5) / num_rows)[:, np.newaxis]
        coordinates = (
            np.sin(polar) * np.cos(around),
            np.sin(polar) * np.sin(around),
            np.cos(polar),
        )
    else:
        other = (2 * np.pi * np.arange(num_rows) / num_rows)[:, np.newaxis]
        coordinates = tuple(
            f(angle) / np.sqrt(2) for angle in (other, around) for f in (np.cos, np.sin)
        )
    points = np.stack(np.broadcast_arrays(*coordinates), axis=-1)
    directions, _ = np.linalg.qr(
        np.random.default_rng(seed).normal(size=[event_size, points.shape[-1]])
    )
    return (radius * points @ directions.T).astype(np.float32)


def denoise(
    flow: tfd.TransformedDistribution,
    x: tf.Tensor,
    *,
    num_steps: int = 20,
    context: tf.Tensor | None = None,
) -> tf.Tensor:
    """Moves samples a little way uphill in density, which clears speckle and keeps the shape.

    The way is that of L-BFGS (`tfp.optimizer.lbfgs_minimize`) on -log p(x) in the coordinates x /
    scale (`conditional_scales`), which have comparable ranges. It is stopped long before the mode
    is reached. With marginals the way is made behind them, on the density of h = Q(F(x)), which is
    smooth.

    Args:
      flow: as `build_flow` made it.
      x: `[N, *event_shape]`, in density units.
      num_steps: how far, iterations at most.
      context: of a conditional flow, `[context_size]` or `[N, context_size]`.

    Returns:
      `[N, *event_shape]`, of a density at least as high; with marginals, of that of h.

    Raises:
      UserError: a flow of `condition`, which holds its context.
    """
    check_holds_no_context(flow, "give denoise the flow itself and context=")
    parts = behind_marginals(flow)
    if parts is not None:
        front, behind = parts
        h = denoise(behind, front.forward(x), num_steps=num_steps, context=context)
        return front.inverse(h)
    scale = tf.reshape(conditional_scales(flow), [-1])

    # This alone is compiled. A graph of the whole search takes three times as long to build as this
    # way takes in all, and TensorFlow would keep some 130 MB of it for each call.
    @tf.function(autograph=False)
    def value_and_gradient(scaled):
        return tfp.math.value_and_gradient(
            lambda u: -flow.log_prob(tf.reshape(u * scale, tf.shape(x)), **context_kwargs(context)),
            scaled,
        )

    start = tf.reshape(x, [len(x), -1]) / scale
    found = tfp.optimizer.lbfgs_minimize(value_and_gradient, start, max_iterations=num_steps)
    return tf.reshape(found.position * scale, tf.shape(x))
