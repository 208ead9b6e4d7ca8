"""Steps of a Markov chain that go far: to where the density of one or two coordinates alone is."""

from typing import Any, Protocol

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

_NUM_JUMPS = 4  # after each step of the inner kernel


class Target(Protocol):
    """A density of states, `[n, D]`, that stand for coordinates h."""

    is_hidden: tf.Tensor

    def log_prob(self, state: tf.Tensor) -> tf.Tensor:
        """Up to a constant, `[n]`."""

    def to_h(self, state: tf.Tensor) -> tf.Tensor:
        """The coordinates of states, `[n, D]`."""

    def to_state(self, h: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """The inverse of `to_h` for the hidden coordinates; the others stay as `state` has them."""


class WithJumps(tfp.mcmc.TransitionKernel):
    """A step of Hamiltonian Monte Carlo, then jumps of hidden coordinates by themselves.

    A jump proposes new values of one or two hidden coordinates, drawn from what each alone would be
    distributed as, and takes them by Metropolis and Hastings: with probability

        min(1, p(h') q(h) / (p(h) q(h')))

    HMC follows the slope, and seldom crosses from one category to the next or out of the zeros of a
    column; a jump does not mind what lies between.
    """

    def __init__(
        self, inner: tfp.mcmc.TransitionKernel, target: Target, alone: tfd.Distribution
    ) -> None:
        """Takes the parts.

        Args:
          inner: `DualAveragingStepSizeAdaptation` of `HamiltonianMonteCarlo`.
          target: of which `inner` has the `log_prob`.
          alone: q, of one coordinate.
        """
        self._parameters = {"inner": inner, "target": target, "alone": alone}
        self._inner = inner
        self._target = target
        self._alone = alone

    @property
    def is_calibrated(self) -> bool:
        """As TFP asks: the steps leave the target as it is."""
        return True

    @property
    def parameters(self) -> dict[str, Any]:
        """As TFP asks."""
        return self._parameters

    def bootstrap_results(self, state: tf.Tensor) -> Any:
        """Those of the inner kernel."""
        return self._inner.bootstrap_results(state)

    def one_step(self, state: tf.Tensor, results: Any, seed: Any = None) -> tuple[tf.Tensor, Any]:
        """One of the inner kernel, and the jumps."""
        step_seed, jump_seed = tfp.random.split_seed(seed, n=2, salt="with_jumps")
        state, results = self._inner.one_step(state, results, seed=step_seed)
        accepted = results.inner_results.accepted_results

        def jump(number, state, log_prob):
            own_seed = tf.random.experimental.stateless_fold_in(jump_seed, number)
            return number + 1, *self._jumped(state, log_prob, own_seed)

        # A loop, because a graph of several jumps takes that much longer to build.
        _, state, log_prob = tf.while_loop(
            lambda number, *_: number < _NUM_JUMPS,
            jump,
            [tf.constant(0), state, accepted.target_log_prob],
        )
        # What HMC keeps of where it stands.
        log_prob, gradient = tfp.math.value_and_gradient(self._target.log_prob, state)
        accepted = accepted._replace(target_log_prob=log_prob, grads_target_log_prob=[gradient])
        inner = results.inner_results._replace(accepted_results=accepted)
        return state, results._replace(inner_results=inner)

    def _jumped(self, state, log_prob, seed):
        seeds = tfp.random.split_seed(seed, n=3, salt="jump")
        h = self._target.to_h(state)
        is_moved = _one_or_two(self._target.is_hidden, seeds[0])
        drawn = tf.cast(self._alone.sample(tf.shape(h), seed=seeds[1]), h.dtype)
        proposed = tf.where(is_moved, drawn, h)
        proposed_state = self._target.to_state(proposed, state)
        proposed_log_prob = self._target.log_prob(proposed_state)
        back = self._alone.log_prob(h) - self._alone.log_prob(drawn)
        back = tf.reduce_sum(tf.where(is_moved, back, tf.zeros_like(back)), axis=-1)
        log_ratio = proposed_log_prob - log_prob + back
        chance = tf.math.log(
            tf.random.stateless_uniform(tf.shape(log_prob), seeds[2], dtype=h.dtype)
        )
        is_taken = chance < log_ratio  # not where the ratio is no number
        state = tf.where(is_taken[:, tf.newaxis], proposed_state, state)
        return state, tf.where(is_taken, proposed_log_prob, log_prob)


def _one_or_two(is_hidden, seed):
    """A mask of one hidden coordinate of each row, or two where there are two, `[n, D]`."""
    seeds = tfp.random.split_seed(seed, n=2, salt="coordinates")
    chances = tf.random.stateless_uniform(tf.shape(is_hidden), seeds[0])
    chances = tf.where(is_hidden, chances, tf.zeros_like(chances) - 1)
    number = min(2, is_hidden.shape[-1])
    highest = tf.math.top_k(chances, k=number).values
    is_pair = tf.random.stateless_uniform(tf.shape(highest)[:1], seeds[1]) < 0.5
    least = tf.where(is_pair, highest[:, -1], highest[:, 0])
    return is_hidden & (chances >= least[:, tf.newaxis])
