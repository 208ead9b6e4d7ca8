"""Filling hidden values by ascent on the log-density, and the masks of the paper's experiment."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from numpy.typing import ArrayLike

from nice_tf.bijectors.diagonal import Center
from nice_tf.choices import MASKS
from nice_tf.errors import UserError, check_choice, check_count
from nice_tf.flows.analysis import conditional_scales, linear_precision, mixes_linearly
from nice_tf.flows.density import check_holds_no_context, context_kwargs, layers
from nice_tf.flows.marginals import behind_marginals, data_mean

tfd = tfp.distributions

MAX_SIZE_TO_SOLVE = 512  # D above which D x D systems of all examples at once are too much
_MAX_SIZE_TO_FACTOR = 4096  # D above which one D x D system is
# Added to a diagonal of ones: values that nearly follow from others leave a matrix nearly singular.
_RIDGE = 1e-6


def make_mask(name: str, event_shape: list[int], *, seed: int = 0) -> np.ndarray:
    """One of the paper's ten masks, for pictures of any size.

    Args:
      name: what is hidden: a half (`top`, `bottom`, `left`, `right`), pixels of `even` or `odd`
        place in reading order, the `middle_rows` or `middle_columns` from a quarter to three
        quarters, a share of 75 or 90 % (`random_75`, `random_90`).
      event_shape: `[height, width]` or `[height, width, channels]`; a pixel is hidden with all its
        channels.
      seed: of the random masks.

    Returns:
      bool, True where a value is observed, of shape `event_shape`.

    Raises:
      UserError: an unknown name, or examples that are no pictures.

    Examples:
      >>> import nice_tf
      >>> nice_tf.make_mask("top", [4, 2])
      array([[False, False],
             [False, False],
             [ True,  True],
             [ True,  True]])
    """
    check_choice("mask", name, MASKS)
    if len(event_shape) not in (2, 3):
        raise UserError(
            f"mask {name} is for pictures [height, width, channels], the data have shape "
            f"{event_shape}"
        )
    height, width = event_shape[:2]
    row, column = np.indices([height, width])
    place = row * width + column
    if name.startswith("random"):
        observed = (
            np.random.default_rng(seed).random([height, width])
            >= int(name.removeprefix("random_")) / 100
        )
    else:
        observed = ~{
            "top": row < height // 2,
            "bottom": row >= height // 2,
            "even": place % 2 == 0,
            "odd": place % 2 == 1,
            "left": column < width // 2,
            "right": column >= width // 2,
            "middle_rows": (row >= height // 4) & (row < 3 * height // 4),
            "middle_columns": (column >= width // 4) & (column < 3 * width // 4),
        }[name]
    return np.broadcast_to(
        observed.reshape([height, width] + [1] * (len(event_shape) - 2)), event_shape
    ).copy()


def check_mask(mask: np.ndarray, event_shape: list[int]) -> np.ndarray:
    """A user's mask, `[*event_shape]` or `[height, width]` for all channels, as bool of shape
    `event_shape`.

    Raises:
      UserError: another shape, values other than 1 (observed) and 0 (hidden), or nothing hidden.
    """
    mask = np.asarray(mask)
    fits = list(mask.shape) == list(event_shape)
    if not fits and not (mask.ndim == 2 and list(mask.shape) == list(event_shape[:2])):
        raise UserError(
            f"the mask has shape {list(mask.shape)}, the model's examples have {list(event_shape)}"
        )
    if not np.all((mask == 0) | (mask == 1)):
        wrong = mask[(mask != 0) & (mask != 1)]
        raise UserError(
            f"the mask must be 1 (observed) or 0 (to be filled) everywhere, got {wrong.flat[0]}"
        )
    if np.all(mask == 1):
        raise UserError("the mask hides nothing: it is 1 (observed) everywhere")
    mask = mask.astype(bool)
    return mask if fits else np.broadcast_to(mask[..., np.newaxis], event_shape).copy()


def inpaint(
    flow: tfd.TransformedDistribution,
    x: tf.Tensor,
    observed: tf.Tensor,
    *,
    seed: tf.Tensor,
    num_steps: int = 100,
    noise: float = 0.0,
    bounds: tuple[ArrayLike, ArrayLike] | None = None,
    context: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Fills hidden values by projected gradient ascent on the log-density (Dinh et al. 2014,
    section 5.2).

        x_hidden <- x_hidden + a_i * sigma^2 * (d log p(x) / dx_hidden + noise * e / sigma)
        a_i = 10 / (100 + i)

    Each example climbs by its own gradient. The paper's step lacks sigma^2 (`conditional_scales`),
    which evens out the very different ranges of the coordinates; without it the steps overshoot
    from one bound to the other.

    With marginals in front the way is made behind them, on log p(h) of h = Q(F(x)): the density of
    x has a step at each edge of a bin, and no slope that leads anywhere.

    Args:
      flow: as `build_flow` made it.
      x: `[B, *event_shape]` in density units; hidden values are ignored, the search starts from the
        `Center` of the flow: the mean of the data where `initialize_from_data` or a whitening set
        it; without one from what the prior's mean stands for; with marginals from the median; with
        a whitening, or a prior with a covariance, of at most 4,096 values from their mean given the
        observed ones.
      observed: bool, of the shape of x, or one that is broadcast to it; True where x is known.
      seed: int32 `[B, 2]`, of the noise of each example.
      num_steps: how many steps.
      noise: deviation of the noise e ~ N(0, 1); 0 for none.
      bounds: lowest and highest value of a hidden coordinate, numbers or of event shape; `None` for
        none.
      context: of a conditional flow, `[context_size]` or `[B, context_size]`.

    Returns:
      (x, log_prob): `[B, *event_shape]`, where observed values are those given, and `[B]`.

    Raises:
      UserError: an example without a finite log-density where the ascent starts; a prior without a
        finite `stddev`; a flow of `condition`, which holds its context.

    Examples:
      >>> import nice_tf
      >>> flow = nice_tf.build_flow([2], num_couplings=2, hidden_units=(16,))
      >>> x, log_prob = nice_tf.inpaint(
      ...     flow, [[0.5, 0.0]], [[True, False]], seed=[[0, 1]]
      ... )
      >>> float(x[0, 0])  # what was observed stays
      0.5
    """
    check_holds_no_context(flow, "give inpaint the flow itself and context=")
    check_count("num_steps", num_steps, 0)
    kwargs = context_kwargs(context)
    observed = tf.broadcast_to(observed, tf.shape(x))
    parts = behind_marginals(flow)
    if parts is None:
        middle = _middle(flow, x, kwargs)
        x = _climbed(flow, x, observed, seed, num_steps, noise, bounds, kwargs, middle)
        return x, flow.log_prob(x, **kwargs)
    front, behind = parts
    h = front.forward(tf.where(observed, x, data_mean(flow)))
    is_known = tf.reshape(observed, tf.shape(h))
    middle = data_mean(behind)
    h = _climbed(behind, h, is_known, seed, num_steps, noise, None, kwargs, middle)
    filled = front.inverse(h)
    if bounds is not None:
        filled = tf.clip_by_value(filled, *(tf.cast(bound, x.dtype) for bound in bounds))
    x = tf.where(observed, x, filled)
    return x, flow.log_prob(x, **kwargs)


def _climbed(flow, x, observed, seed, num_steps, noise, bounds, kwargs, middle):
    """X with its hidden values where the ascent leads; the arguments are those of `inpaint`, and
    where hidden values start, `[*event_shape]` or one for each example.

    An example that a step took out of the support, or without noise below the density of its start,
    goes back and makes its steps half as long.
    """
    sigma = conditional_scales(flow)
    x = _start(flow, x, observed, sigma, middle)
    lowest = flow.log_prob(x, **kwargs)
    _check_start(lowest)
    if noise:
        lowest = tf.fill(tf.shape(lowest), lowest.dtype.min)
    # Rounding moves an example that starts at its mode below it.
    lowest -= 1e-3 * (1 + tf.abs(lowest))

    def of_rows(value):
        return tf.reshape(value, [-1] + [1] * flow.event_shape.rank)

    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_prob = flow.log_prob(x, **kwargs)
        return log_prob, tape.gradient(log_prob, x)

    def step(i, x, kept, ascent, pace):
        log_prob, gradient = slope(x)
        values = tf.reshape(gradient, [tf.shape(x)[0], -1])
        is_good = tf.reduce_all(tf.math.is_finite(values), axis=1) & (log_prob >= lowest)
        is_good = of_rows(is_good & tf.math.is_finite(log_prob))
        now = sigma**2 * gradient
        if noise:
            now += noise * sigma * _normal_rows(seed, i, flow.event_shape, x.dtype)
        kept = tf.where(is_good, x, kept)
        ascent = tf.where(is_good, now, ascent)
        pace = tf.where(is_good, pace, pace / 2)
        moved = kept + pace * (10.0 / (100.0 + tf.cast(i, x.dtype))) * ascent
        if bounds is not None:
            moved = tf.clip_by_value(moved, *(tf.cast(bound, x.dtype) for bound in bounds))
        return i + 1, tf.where(observed, x, moved), kept, ascent, pace

    pace = of_rows(tf.ones_like(lowest))
    state = [tf.constant(0), x, x, tf.zeros_like(x), pace]
    _, x, kept, _, _ = tf.while_loop(lambda i, *_: i < num_steps, step, state)
    log_prob = flow.log_prob(x, **kwargs)
    is_good = tf.math.is_finite(log_prob) & (log_prob >= lowest)
    return tf.where(of_rows(is_good), x, kept)


def _check_start(log_prob):
    """Refuses examples without a density, where it is known before the run."""
    if not tf.executing_eagerly():
        return
    num_bad = int(np.sum(~np.isfinite(log_prob)))
    if num_bad:
        raise UserError(
            f"{num_bad} of {len(log_prob)} examples have no finite log-density where the ascent "
            "starts: observed values that the flow can take are needed"
        )


def _middle(flow, x, kwargs):
    """Where hidden values start: the mean of the data where the flow begins with a `Center`, else
    what the prior's mean stands for, as 0 may be out of the support.
    """
    for layer in layers(flow):
        if isinstance(layer, Center):
            return data_mean(flow)
        if not isinstance(layer, tfp.bijectors.Reshape):
            break
    try:
        mean = flow.distribution.mean()
    except NotImplementedError:
        return data_mean(flow)
    z = tf.broadcast_to(mean, [tf.shape(x)[0], *flow.distribution.event_shape])
    return flow.bijector.forward(z, **kwargs.get("bijector_kwargs", {}))


def _start(flow, x, observed, sigma, mean):
    """Hidden values at their mean given the observed ones, as far as linear layers before the
    couplings and the prior's covariance tell.
    """
    event_size = flow.event_shape.num_elements()
    if not mixes_linearly(flow) or event_size > _MAX_SIZE_TO_FACTOR:
        return tf.where(observed, x, mean)
    # In units of the deviations given all others, which may differ by many orders of magnitude.
    scale = tf.reshape(sigma, [-1])
    precision = linear_precision(flow) * scale * scale[:, tf.newaxis]
    is_hidden = tf.cast(tf.reshape(~observed, [-1, event_size]), x.dtype)
    known = tf.reshape(tf.where(observed, x - mean, tf.zeros_like(x)), [-1, event_size]) / scale
    # P_hh h = -P_ho o for each example, with rows and columns of the observed values those of the
    # identity.
    right = -(is_hidden * tf.matmul(known, precision))
    if event_size <= MAX_SIZE_TO_SOLVE:
        matrices = _of_hidden(precision, is_hidden)
        hidden = tf.linalg.solve(matrices, right[..., tf.newaxis])[..., 0]
    else:
        hidden = _solved_one_by_one(precision, is_hidden, right)
    return tf.where(observed, x, mean + tf.reshape(hidden * scale, tf.shape(x)))


def _of_hidden(precision, is_hidden):
    """The matrix with rows and columns of the observed values those of the identity, `[..., D, D]`;
    `is_hidden` is 1 or 0, `[..., D]`.
    """
    identity = tf.eye(precision.shape[0], dtype=precision.dtype)
    both = is_hidden[..., :, tf.newaxis] * is_hidden[..., tf.newaxis, :]
    return identity + both * (precision - identity)


def _solved_one_by_one(precision, is_hidden, right):
    """The solution of each example's system, `[B, D]`; of one for all where they hide the same."""

    def solved(is_hidden, right):
        """Of one matrix and right sides `[D, n]`."""
        matrix = tf.cast(_of_hidden(precision, is_hidden), tf.float64)
        matrix = tf.linalg.set_diag(matrix, tf.linalg.diag_part(matrix) + _RIDGE)
        found = tf.linalg.cholesky_solve(tf.linalg.cholesky(matrix), tf.cast(right, tf.float64))
        return tf.cast(found, precision.dtype)

    def of_all():
        hidden_by_any = tf.cast(tf.reduce_any(is_hidden > 0, axis=0), precision.dtype)
        return tf.transpose(solved(hidden_by_any, tf.transpose(right)))

    def of_each():
        return tf.map_fn(
            lambda row: solved(row[0], row[1][:, tf.newaxis])[:, 0],
            (is_hidden, right),
            fn_output_signature=tf.TensorSpec(precision.shape[:1], precision.dtype),
            parallel_iterations=1,  # each has matrices of its own
        )

    hide_the_same = tf.reduce_all(is_hidden == is_hidden[:1])
    return tf.cond(hide_the_same, of_all, of_each)


def _normal_rows(seed, step, event_shape, dtype):
    """One N(0, 1) draw per example, each from its own seed and the step."""

    def row(seed):
        seed = tf.random.experimental.stateless_fold_in(seed, step)
        return tf.random.stateless_normal(event_shape, seed, dtype=dtype, alg="philox")

    return tf.map_fn(row, seed, fn_output_signature=tf.TensorSpec(event_shape, dtype))
