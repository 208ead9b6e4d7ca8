"""What a trained flow tells about its data: its spectrum, and the cleaner pictures near a sample."""

import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors import DiagonalScaling
from nice_tf.flow import layers

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


def denoise(
    flow: tfd.TransformedDistribution, x: tf.Tensor, *, num_steps: int = 40, step_size: float = 0.1
) -> tf.Tensor:
    """Moves samples a little way uphill in density, which clears speckle and keeps the shape.

        x <- x + step_size * sigma^2 * d log p(x) / dx

    sigma^2 (`inverse_scales`) evens out the very different ranges of the coordinates. An example whose density would
    fall stays where it is and goes on with half the step, so that the density never falls.

    Args:
      flow: as `build_flow` made it.
      x: `[N, *event_shape]`, in density units.
      num_steps: how far; 0 returns x.
      step_size: of the first step.

    Returns:
      `[N, *event_shape]`, of a density at least as high.
    """
    precondition = tf.reshape(inverse_scales(flow) ** 2, flow.event_shape)
    spread = [-1] + [1] * flow.event_shape.rank

    @tf.function
    def value_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_prob = flow.log_prob(x)
        return log_prob, tape.gradient(log_prob, x)

    log_prob, gradient = value_and_gradient(x)
    steps = tf.fill(tf.shape(log_prob), tf.cast(step_size, x.dtype))
    for _ in range(num_steps):
        proposal = x + tf.reshape(steps, spread) * precondition * gradient
        new_log_prob, new_gradient = value_and_gradient(proposal)
        better = new_log_prob > log_prob
        chosen = tf.reshape(better, spread)
        x, gradient = tf.where(chosen, proposal, x), tf.where(chosen, new_gradient, gradient)
        log_prob, steps = tf.where(better, new_log_prob, log_prob), tf.where(better, steps, steps / 2)
    return x
