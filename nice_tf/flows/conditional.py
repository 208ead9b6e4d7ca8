"""Draws of what is not known of an example, given what is known: by Hamiltonian Monte Carlo."""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.errors import UserError, check_count
from nice_tf.flows.analysis import conditional_scales, linear_precision, mixes_linearly
from nice_tf.flows.density import context_kwargs
from nice_tf.flows.inpainting import MAX_SIZE_TO_SOLVE
from nice_tf.flows.jumps import WithJumps
from nice_tf.flows.marginals import behind_marginals, marginal_of_h
from nice_tf.memory import available_memory

tfd = tfp.distributions

THINNING = 8
_NUM_LEAPFROG_STEPS = 4
_TARGET_ACCEPTANCE = 0.8
_RIDGE = 1e-6
_VALUES_OF_SIZES = 2**20


@dataclasses.dataclass(frozen=True)
class Draws:
    """Draws of examples, and how far they can be trusted.

    Attributes:
      x: `[num_draws, B, *event_shape]`; known values are as they were given.
      acceptance: share of the proposals that was accepted, `[B]`; about 0.8 is aimed at.
      effective_sample_size: how many independent draws the draws of an example are worth, the least
        over its hidden coordinates, `[B]`: by the autocorrelation of all steps of the chains
        (`tfp.mcmc.effective_sample_size`), at most `num_draws`.
    """

    x: np.ndarray
    acceptance: np.ndarray
    effective_sample_size: np.ndarray


def draw_between(
    flow: tfd.TransformedDistribution,
    low: np.ndarray,
    high: np.ndarray,
    *,
    start: np.ndarray,
    num_draws: int,
    seed: tf.Tensor,
    num_chains: int = 4,
    num_warmup: int = 300,
    thinning: int = THINNING,
    context: tf.Tensor | None = None,
) -> Draws:
    """Draws from p(x | low <= x <= high), each example from its own.

    A coordinate with low = high is known. One with infinite ends is hidden. One between finite ends
    is known up to its bin, such as an integer with dequantization noise: the noise is drawn with
    the hidden values, so that the draws are given the integer itself.

    The chains run behind the marginals where there are some: there the density is smooth, and a
    spike such as the zeros of a column is an interval that a chain can pass. Each step is followed
    by jumps (`jumps.WithJumps`), for what several categories or a spike leave apart.

    Args:
      flow: as `build_flow` made it.
      low: lowest value of each coordinate, `[B, *event_shape]` in density units.
      high: highest value, as `low`.
      start: where the chains begin, as `low`; of `inpaint`, for instance.
      num_draws: of each example.
      seed: stateless seed, int32 `[2]`.
      num_chains: of each example, at most `num_draws`.
      num_warmup: steps of a chain before its first draw, in which its step length is found.
      thinning: steps from draw to draw.
      context: of a conditional flow, `[context_size]` or `[B, context_size]`.

    Raises:
      UserError: ends of which one is infinite, or the lower one is above the higher; a number below
        1; draws that are more than fits into memory.
    """
    sampler = ConditionalSampler(flow, num_warmup=num_warmup, thinning=thinning)
    return sampler(
        low,
        high,
        start=start,
        num_draws=num_draws,
        seed=seed,
        num_chains=num_chains,
        context=context,
    )


class ConditionalSampler:
    """What `draw_between` draws with. Its chains are compiled at the first call and serve all later
    ones, which saves seconds per block of rows.
    """

    def __init__(
        self,
        flow: tfd.TransformedDistribution,
        *,
        num_warmup: int = 300,
        thinning: int = THINNING,
    ) -> None:
        """Takes the density; arguments as for `draw_between`.

        Raises:
          UserError: a number below 1.
        """
        check_count("num_warmup", num_warmup, 1)
        check_count("thinning", thinning, 1)
        self.flow = flow
        self._num_warmup = num_warmup
        self._thinning = thinning
        self._front = None
        self._behind = flow
        self._alone = None
        parts = behind_marginals(flow)
        if parts is not None:
            self._front, self._behind = parts
            self._alone = marginal_of_h(flow)
        self._run = tf.function(self._chains, autograph=False)

    def __call__(
        self,
        low: np.ndarray,
        high: np.ndarray,
        *,
        start: np.ndarray,
        num_draws: int,
        seed: tf.Tensor,
        num_chains: int = 4,
        context: tf.Tensor | None = None,
    ) -> Draws:
        """Draws; arguments, result and errors as those of `draw_between`."""
        check_count("num_draws", num_draws, 1)
        check_count("num_chains", num_chains, 1)
        flow = self.flow
        low = np.asarray(low, flow.dtype.as_numpy_dtype)
        high = np.asarray(high, low.dtype)
        start = np.asarray(start, low.dtype)
        _check_ends(low, high)
        event_shape = flow.event_shape.as_list()
        size = flow.event_shape.num_elements()
        num_examples = len(low)
        num_chains = min(num_chains, num_draws)
        num_kept = -(-num_draws // num_chains)
        num_steps = num_kept * self._thinning
        _check_memory(flow, num_examples, num_draws, num_steps * num_chains)
        is_hidden = np.isinf(low)
        ends = []
        for end in (low, high):
            # Where there is no end, any value will do.
            ends.append(_mapped(self._front, np.where(is_hidden, start, end), size))
        known = _known(
            self._behind,
            is_hidden=tf.reshape(is_hidden, [num_examples, size]),
            low=ends[0],
            high=ends[1],
            middle=_mapped(self._front, np.clip(start, low, high), size),
            num_chains=num_chains,
            context=context,
        )
        # Of any number of examples, so that the last block of a file, or one with fewer missing
        # values, needs no graph of its own.
        chains = self._run.get_concrete_function(
            _of_any_number(known), tf.TensorSpec([2], tf.int32), num_steps
        )
        states, accepted = chains(known, seed, num_steps)
        h = _Target(self._behind, known).to_h(states[:: self._thinning])
        x = _values(self._front, h, [num_kept, num_chains, num_examples, *event_shape])
        is_known = low == high
        x = np.where(is_known, low, x)
        drawn = np.reshape(x, [num_kept * num_chains, num_examples, *event_shape])[:num_draws]
        steps = tf.reshape(states, [num_steps, num_chains, num_examples, size])
        worth = _effective(steps, is_hidden.reshape(num_examples, size), num_draws)
        share = tf.reduce_mean(tf.reshape(accepted, [-1, num_chains, num_examples]), axis=[0, 1])
        return Draws(drawn, share.numpy(), worth)

    def _chains(self, known, seed, num_steps):
        """States after the warm-up `[num_steps, num_chains * B, D]`, and 1 where a step was
        accepted.
        """
        target = _Target(self._behind, known)
        state = target.start()
        kernel = tfp.mcmc.HamiltonianMonteCarlo(
            target.log_prob,
            step_size=tf.fill([tf.shape(state)[0], 1], tf.constant(0.3, state.dtype)),
            num_leapfrog_steps=_NUM_LEAPFROG_STEPS,
        )
        kernel = tfp.mcmc.DualAveragingStepSizeAdaptation(
            kernel,
            num_adaptation_steps=max(1, int(0.8 * self._num_warmup)),
            target_accept_prob=tf.constant(_TARGET_ACCEPTANCE, state.dtype),
        )
        if self._alone is not None:
            kernel = WithJumps(kernel, target, self._alone)
        kernel = _WithKnownShapes(kernel)
        states, accepted = tfp.mcmc.sample_chain(
            num_results=num_steps,
            num_burnin_steps=self._num_warmup,
            current_state=state,
            kernel=kernel,
            trace_fn=lambda _, results: results.inner_results.is_accepted,
            seed=seed,
        )
        return states, tf.cast(accepted, states.dtype)


def _check_ends(low, high):
    if np.any(np.isinf(low) != np.isinf(high)):
        raise UserError("low and high must both be infinite or both finite in a coordinate")
    if np.any(low > high):
        place = tuple(np.argwhere(low > high)[0])
        raise UserError(f"low must be at most high, got {low[place]} and {high[place]}")


def _check_memory(flow, num_examples, num_draws, num_steps):
    """Refuses what cannot fit: a process that takes too much memory is killed without a word."""
    size = flow.event_shape.num_elements()
    # All states with what is made of them; 2.5 times the states were measured.
    needed = 3 * num_steps * num_examples * size * flow.dtype.size
    if needs_matrices(flow):
        needed += 4 * num_examples * size**2 * tf.float64.size
    available = available_memory()
    if needed > available and not tf.config.list_physical_devices("GPU"):
        raise UserError(
            f"{num_draws:,} draws of {num_examples:,} examples of {size:,} values need "
            f"{needed / 1e9:,.1f} GB of memory; {available / 1e9:,.1f} GB are free: draw fewer, or "
            "of fewer examples at once"
        )


def _mapped(front, x, size):
    """X `[B, *event]` behind the marginals, `[B, D]`."""
    x = tf.convert_to_tensor(x)
    if front is not None:
        x = front.forward(x)
    return tf.reshape(x, [-1, size])


def _values(front, h, shape):
    """H as x again, of a shape."""
    event_shape = shape[3:]
    if front is None:
        return tf.reshape(h, shape).numpy()
    flat = tf.reshape(h, [-1, h.shape[-1]])
    return np.reshape(front.inverse(flat).numpy().reshape(-1, *event_shape), shape)


class _Known(NamedTuple):
    """What is known of examples, for their chains: tensors alone, so that one compiled function
    serves all examples. `[num_chains * B, D]`, except as said.
    """

    is_hidden: tf.Tensor
    is_between: tf.Tensor
    low: tf.Tensor
    width: tf.Tensor
    middle: tf.Tensor
    scale: tf.Tensor  # [D]
    factors: tf.Tensor | None  # [B, D, D], as `_factors` says
    inverses: tf.Tensor | None
    context: tf.Tensor | None  # [num_chains * B, C]


def _known(behind, *, is_hidden, low, high, middle, num_chains, context):
    """Of examples, `[B, D]`."""

    def repeated(value):
        return tf.tile(value, [num_chains] + [1] * (len(value.shape) - 1))

    scale = tf.reshape(conditional_scales(behind), [-1])
    factors = None
    inverses = None
    if needs_matrices(behind):
        factors, inverses = _factors(behind, scale, is_hidden)
    if context is not None:
        context = tf.convert_to_tensor(context)
        context = repeated(tf.broadcast_to(context, [len(is_hidden), context.shape[-1]]))
    return _Known(
        is_hidden=repeated(is_hidden),
        is_between=repeated(~is_hidden & (low < high)),
        low=repeated(low),
        width=repeated(high - low),
        middle=repeated(middle),
        scale=scale,
        factors=factors,
        inverses=inverses,
        context=context,
    )


def _of_any_number(known):
    """Specifications of these tensors, except for the number of examples."""

    def spec(value):
        if value is None:
            return None
        shape = value.shape
        if len(shape) > 1:
            shape = [None, *shape[1:]]
        return tf.TensorSpec(shape, value.dtype)

    return tf.nest.map_structure(spec, known)


class _WithKnownShapes(tfp.mcmc.TransitionKernel):
    """The same steps. What TFP's adaptation makes of a batch of unknown size has lost its other
    dimensions, and a loop asks that a tensor keep its shape.
    """

    def __init__(self, inner):
        self._inner = inner

    @property
    def is_calibrated(self):
        return self._inner.is_calibrated

    @property
    def parameters(self):
        return {"inner": self._inner}

    def bootstrap_results(self, state):
        return self._inner.bootstrap_results(state)

    def one_step(self, state, results, seed=None):
        new = self._inner.one_step(state, results, seed=seed)
        return tf.nest.map_structure(_with_shape_of, new, (state, results))


def _with_shape_of(new, old):
    if not tf.is_tensor(new):
        return new
    return tf.ensure_shape(new, old.shape)


class _Target:
    """The density of what moves, on a scale without ends, `[num_chains * B, D]`.

    The hidden ones are a linear map of h, by which they are about uncorrelated and of deviation 1,
    as far as the linear layers tell. One between ends is the logit of its place there. One that is
    known does not move h: it has a normal density of its own, so that all chains have the same
    number of coordinates.
    """

    def __init__(self, behind, known):
        self._behind = behind
        self._known = known
        self.is_hidden = known.is_hidden

    def to_h(self, state):
        """The state as h."""
        known = self._known
        between = known.low + known.width * tf.sigmoid(state)
        h = tf.where(known.is_between, between, known.low)
        moved = tf.where(self.is_hidden, state, tf.zeros_like(state))
        hidden = known.middle + known.scale * _times(known.factors, moved)
        return tf.where(self.is_hidden, hidden, h)

    def to_state(self, h, state):
        """The state of which the hidden coordinates are those of h, the others those of `state`."""
        known = self._known
        moved = tf.where(self.is_hidden, (h - known.middle) / known.scale, tf.zeros_like(h))
        return tf.where(self.is_hidden, _times(known.inverses, moved), state)

    def start(self):
        """The state at the middle, `[num_chains * B, D]`."""
        known = self._known
        width = tf.where(known.is_between, known.width, tf.ones_like(known.width))
        place = tf.clip_by_value((known.middle - known.low) / width, 0.01, 0.99)
        logit = tf.math.log(place / (1 - place))
        return tf.where(known.is_between, logit, tf.zeros_like(logit))

    def log_prob(self, state):
        """Up to a constant, `[num_chains * B]`."""
        is_between = self._known.is_between
        h = self.to_h(state)
        event = tf.reshape(h, [-1, *self._behind.event_shape])
        result = self._behind.log_prob(event, **context_kwargs(self._known.context))
        log_slope = -tf.nn.softplus(state) - tf.nn.softplus(-state)
        is_idle = ~self.is_hidden & ~is_between
        own = tf.where(is_between, log_slope, tf.zeros_like(state))
        own = tf.where(is_idle, -0.5 * state**2, own)
        return result + tf.reduce_sum(own, axis=-1)


def _times(factors, moved):
    """What moves times the matrix of its example, which all chains and steps share."""
    if factors is None:
        return moved
    apart = tf.reshape(moved, [-1, tf.shape(factors)[0], factors.shape[1]])
    return tf.reshape(tf.einsum("bij,nbj->nbi", factors, apart), tf.shape(moved))


def needs_matrices(flow: tfd.TransformedDistribution) -> bool:
    """Whether draws take a matrix D x D for each example: where linear layers mix coordinates, and
    not so many of them that this is too much.
    """
    size = flow.event_shape.num_elements()
    return mixes_linearly(flow) and size <= MAX_SIZE_TO_SOLVE


def _factors(behind, scale, is_hidden):
    """Per example a matrix L, `[B, D, D]`, for which scale L L^T scale is the covariance of its
    hidden coordinates given all others, by the linear layers; and its inverse.
    """
    # In units of the deviations given all others, which may differ by many orders of magnitude.
    precision = tf.cast(linear_precision(behind) * scale * scale[:, tf.newaxis], tf.float64)
    both = tf.cast(is_hidden[:, :, tf.newaxis] & is_hidden[:, tf.newaxis, :], tf.float64)
    identity = tf.eye(scale.shape[0], dtype=tf.float64)
    matrix = identity + both * (precision - identity)
    # Columns that nearly follow from others leave it nearly singular. What is added only makes the
    # steps of the chains shorter.
    factor = tf.linalg.cholesky(matrix + _RIDGE * identity)
    inverse = tf.linalg.triangular_solve(factor, identity + tf.zeros_like(factor))
    both_ways = (tf.linalg.matrix_transpose(inverse), tf.linalg.matrix_transpose(factor))
    return [tf.cast(found, scale.dtype) for found in both_ways]


def _effective(steps, is_hidden, num_draws):
    """The least effective sample size over the hidden coordinates, `[B]`."""
    num_steps, num_chains = steps.shape[:2]
    if num_steps < 4:
        return np.full(len(is_hidden), float(num_chains))
    across = None
    if num_chains > 1:
        across = 1
    # Some coordinates at a time: it takes several times the memory of the steps.
    number = max(1, _VALUES_OF_SIZES // (num_steps * num_chains * len(is_hidden)))
    parts = []
    for first in range(0, is_hidden.shape[1], number):
        some = steps[..., first : first + number]
        parts.append(tfp.mcmc.effective_sample_size(some, cross_chain_dims=across).numpy())
    sizes = np.concatenate(parts, axis=-1)
    if across is None:
        sizes = sizes[0]
    # Of a chain that never moved there is no autocorrelation: all its draws are one.
    sizes = np.where(np.isfinite(sizes), sizes, 1)
    sizes = np.where(is_hidden, sizes, num_draws)
    return np.minimum(sizes.min(axis=-1), num_draws)
