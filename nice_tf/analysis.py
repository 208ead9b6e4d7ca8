"""What a trained flow tells about its data: its spectrum, and the cleaner pictures near a sample."""

import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors import DiagonalScaling
from nice_tf.flow import layers
from nice_tf.preprocessing import Center

tfd = tfp.distributions


def inverse_scales(flow: tfd.TransformedDistribution) -> tf.Tensor:
    """sigma_d = 1 / s_d of each latent coordinate, `[D]`, in the order of the data (Dinh et al. 2014, section 3.3).

    Times the prior's own scale, so that both ways to scale give the same numbers. Sorted, it is the spectrum: how much
    the data vary along each latent coordinate.
    """
    result = tf.convert_to_tensor(flow.distribution.distribution.scale)
    for layer in layers(flow):
        if isinstance(layer, DiagonalScaling):
            result *= tf.exp(-layer.log_scale)
    return result


def denoise(flow: tfd.TransformedDistribution, x: tf.Tensor, *, num_steps: int = 20) -> tf.Tensor:
    """Moves samples a little way uphill in density, which clears speckle and keeps the shape.

    The way is that of L-BFGS (`tfp.optimizer.lbfgs_minimize`) on -log p(x) in the coordinates x / sigma
    (`inverse_scales`), which have comparable ranges. It is stopped long before the mode is reached.

    Args:
      flow: as `build_flow` made it.
      x: `[N, *event_shape]`, in density units.
      num_steps: how far, iterations at most.

    Returns:
      `[N, *event_shape]`, of a density at least as high.
    """
    sigma = inverse_scales(flow)

    def value_and_gradient(scaled):
        return tfp.math.value_and_gradient(lambda u: -flow.log_prob(tf.reshape(u * sigma, tf.shape(x))), scaled)

    @tf.function
    def climb(start):
        return tfp.optimizer.lbfgs_minimize(value_and_gradient, start, max_iterations=num_steps).position

    return tf.reshape(climb(tf.reshape(x, [len(x), -1]) / sigma) * sigma, tf.shape(x))


def inpaint(
    flow: tfd.TransformedDistribution,
    x: tf.Tensor,
    observed: tf.Tensor,
    *,
    seed: tf.Tensor,
    num_steps: int = 100,
    noise: float = 0.0,
    bounds: tuple[float, float] | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Fills hidden values by projected gradient ascent on the log-density (Dinh et al. 2014, section 5.2).

        x_hidden <- x_hidden + a_i * sigma^2 * (d log p(x) / dx_hidden + noise * e / sigma),   a_i = 10 / (100 + i)

    Each example climbs by its own gradient. The paper's step lacks sigma^2 (`inverse_scales`), which evens out the
    very different ranges of the coordinates; without it the steps overshoot from one bound to the other.

    Args:
      flow: as `build_flow` made it.
      x: `[B, *event_shape]` in density units; hidden values are ignored, the search starts from the mean of the data.
      observed: bool, of the shape of x; True where x is known.
      seed: int32 `[B, 2]`, of the noise of each example.
      num_steps: how many steps.
      noise: deviation of the noise e ~ N(0, 1); 0 for none.
      bounds: lowest and highest value of a hidden coordinate; `None` for none.

    Returns:
      (x, log_prob): `[B, *event_shape]`, where observed values are those given, and `[B]`.
    """
    sigma = tf.reshape(inverse_scales(flow), flow.event_shape)
    mean = tf.reshape(next(layer.loc for layer in layers(flow) if isinstance(layer, Center)), flow.event_shape)
    x = tf.where(observed, x, mean)

    def step(i, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_prob = flow.log_prob(x)
        ascent = sigma**2 * tape.gradient(log_prob, x)
        if noise:
            ascent += noise * sigma * _normal_rows(seed, i, flow.event_shape, x.dtype)
        moved = x + 10.0 / (100.0 + tf.cast(i, x.dtype)) * ascent
        if bounds is not None:
            moved = tf.clip_by_value(moved, *bounds)
        return i + 1, tf.where(observed, x, moved)

    _, x = tf.while_loop(lambda i, x: i < num_steps, step, [tf.constant(0), x])
    return x, flow.log_prob(x)


def _normal_rows(seed, step, event_shape, dtype):
    """One N(0, 1) draw an example, each from its own seed and the step."""

    def row(seed):
        seed = tf.random.experimental.stateless_fold_in(seed, step)
        return tf.random.stateless_normal(event_shape, seed, dtype=dtype, alg="philox")

    return tf.map_fn(row, seed, fn_output_signature=tf.TensorSpec(event_shape, dtype))
