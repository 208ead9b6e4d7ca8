"""The serving contract: a flow as SavedModel signatures that take data units.

They refuse what they cannot answer. A `FlowServer` holds tensors and variables only, so that its SavedModel loads where neither this
package nor TensorFlow Probability is installed. TensorFlow Serving does not compare what it is fed
with the signature: every check is made in the graph, and an input that breaks a rule fails with
InvalidArgument and the rule by name.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.data.schema import Schema
from nice_tf.data.units import bin_centres, to_data_units
from nice_tf.evaluation.metrics import bits_per_dim
from nice_tf.flows.contributions import contributions
from nice_tf.flows.density import encoder
from nice_tf.flows.flow import data_mean, freeze
from nice_tf.flows.inpainting import inpaint
from nice_tf.flows.priors import codes_from_uniforms, num_uniforms

tfd = tfp.distributions

MAX_NUM_SAMPLES = 10_000
_SEEDS_PER_TURN = 4


class FlowServer(tf.Module):
    """The signatures of a trained flow.

    `B` is the batch, at least 1; `x` is float32, of a table in the flow's dtype, and in data units:
    0..levels-1 for integer data, whose value v is taken at the centre of its bin, (v + 1/2) /
    levels, without noise.

        log_prob  x                              -> log_prob, bits_per_dim (integer data), tail_probability  [B]
        encode    x                              -> z [B, D], log_prob [B]
        decode    z [B, D]                       -> x
        sample    seed [B, 2], temperature [B]   -> x, log_prob [B]; a row depends on its own seed alone
        sample_n  num_samples, seed [2], temperature (scalars) -> x, log_prob [num_samples]
        inpaint   x, mask (1: observed), seed [B, 2] -> x, log_prob [B]
        explain   x (tables only)                -> contribution [B, D], log_prob [B]

    `contribution` is what an example's log_prob would gain if this value were its column's
    median, or without marginals its mean; of categories the most frequent.
    `log_prob` is in nats, of x on [0, 1]^D for integer data. `tail_probability` is the share of
    validation examples of lower log-likelihood: near 0 means unusual.
    """

    def __init__(
        self,
        flow: tfd.TransformedDistribution,
        *,
        levels: int | None,
        validation_log_probs: np.ndarray,
        schema: Schema | None = None,
        inpaint_steps: int = 100,
        inpaint_noise: float = 0.0,
        compile_single: bool = False,
    ):
        """Makes the signatures.

        Args:
          flow: a trained flow, with its conditioner in full precision.
          levels: number of integer levels of the data; `None` for continuous data and tables.
          validation_log_probs: log-likelihoods of validation examples as this server gives them,
            `[N]`, ascending.
          schema: of a table, its columns.
          inpaint_steps: steps of `inpaint`.
          inpaint_noise: deviation of the noise of `inpaint`; 0 for none.
          compile_single: let XLA compile `log_prob` and `sample` of a batch of one. Such a request
            waits for memory, one read of all weights. XLA's code does it faster than TensorFlow's
            on one core, the two branches of `FrozenMLP`, which are then left out, share it between
            two: which is ahead depends on the CPU.
        """
        super().__init__()
        num_branches = None
        if compile_single:
            # XLA runs one operation after the other: branches would only cost.
            num_branches = 1
        self._flow = freeze(flow, num_branches=num_branches)
        self._levels = levels
        self._schema = schema
        self._usual = None
        self.value_dtype = tf.float32
        if schema:
            self._usual = schema.usual(data_mean(flow).numpy())
            # A table may need float64 to tell its values apart.
            self.value_dtype = flow.dtype
        self._inpaint_steps = inpaint_steps
        self._inpaint_noise = inpaint_noise
        self._compile_single = compile_single
        self._validation_log_probs = tf.Variable(
            validation_log_probs, trainable=False, dtype=flow.dtype
        )
        self._make_functions()

    def _make_functions(self):
        x = tf.TensorSpec(self._batch_shape(), self.value_dtype, "x")
        z = tf.TensorSpec([None, self._flow.event_shape.num_elements()], tf.float32, "z")
        mask = tf.TensorSpec(self._batch_shape(), tf.float32, "mask")
        seeds = tf.TensorSpec([None, 2], tf.int32, "seed")
        temperatures = tf.TensorSpec([None], tf.float32, "temperature")
        self.log_prob = tf.function(self._serve_log_prob, input_signature=[x])
        self.encode = tf.function(self._serve_encode, input_signature=[x])
        self.decode = tf.function(self._serve_decode, input_signature=[z])
        self.sample = tf.function(self._serve_sample, input_signature=[seeds, temperatures])
        self.sample_n = self._make_sample_n()
        # Tables only: all functions of a module are traced as it is saved.
        if self._schema:
            self.explain = tf.function(self._serve_explain, input_signature=[x])
        self.inpaint = tf.function(self._serve_inpaint, input_signature=[x, mask, seeds])

    def signatures(self) -> dict[str, Callable]:
        """Signature name to function, for `tf.saved_model.save`."""
        signatures = {
            "serving_default": self.log_prob,
            "log_prob": self.log_prob,
            "encode": self.encode,
            "decode": self.decode,
            "sample": self.sample,
            "sample_n": self.sample_n,
            "inpaint": self.inpaint,
        }
        if self._schema:
            signatures["explain"] = self.explain
        return signatures

    def _serve_log_prob(self, x):
        x = self._density_units(_checked(x, self._batch_shape(), "x"))
        return self._scores(self._by_batch_size(self._flow.log_prob, x))

    def _serve_encode(self, x):
        x = self._density_units(_checked(x, self._batch_shape(), "x"))
        return {
            "z": _finite(encoder(self._flow).forward(x)),
            "log_prob": _finite(self._flow.log_prob(x)),
        }

    def _serve_decode(self, z):
        z = _checked(z, [None, self._flow.event_shape.num_elements()], "z")
        return {"x": self._data_units(self._flow.bijector.forward(tf.cast(z, self._flow.dtype)))}

    def _serve_sample(self, seed, temperature):
        seed = _checked(seed, [None, 2], "seed")
        temperature = _checked_temperature(_checked(temperature, [None], "temperature"))
        same_rows = tf.equal(tf.shape(seed)[0], tf.shape(temperature)[0])
        seed = _require(seed, same_rows, "seed and temperature must have the same number of rows")
        return self._samples(seed, temperature)

    def _make_sample_n(self):
        # SignatureDef defaults are taken from the Python defaults, where these are tensors.
        @tf.function(
            input_signature=[
                tf.TensorSpec([], tf.int32, "num_samples"),
                tf.TensorSpec([2], tf.int32, "seed"),
                tf.TensorSpec([], tf.float32, "temperature"),
            ]
        )
        def sample_n(num_samples, seed=tf.constant([0, 0], tf.int32), temperature=tf.constant(1.0)):  # noqa: B008
            num_samples = tf.ensure_shape(num_samples, [])
            num_samples = _require(num_samples, num_samples >= 0, "num_samples must be at least 0")
            num_samples = _require(
                num_samples,
                num_samples <= MAX_NUM_SAMPLES,
                f"num_samples must be at most {MAX_NUM_SAMPLES} a request",
            )
            seed = tf.ensure_shape(seed, [2])
            temperature = _checked_temperature(tf.ensure_shape(temperature, []))

            def seed_of_row(row):
                return tf.random.experimental.stateless_fold_in(seed, row)

            seeds = tf.map_fn(seed_of_row, tf.range(num_samples))
            return self._samples(tf.reshape(seeds, [-1, 2]), tf.fill([num_samples], temperature))

        return sample_n

    def _serve_inpaint(self, x, mask, seed):
        x = _checked(x, self._batch_shape(), "x")
        mask = _checked(mask, self._batch_shape(), "mask")
        seed = _checked(seed, [None, 2], "seed")
        num_rows = tf.shape(x)[0]
        has_mask_rows = tf.equal(tf.shape(mask)[0], num_rows)
        mask = _require(mask, has_mask_rows, "mask must have the shape of x")
        has_seed_rows = tf.equal(tf.shape(seed)[0], num_rows)
        seed = _require(seed, has_seed_rows, "seed must have as many rows as x")
        is_binary = tf.reduce_all(tf.equal(mask, 0.0) | tf.equal(mask, 1.0))
        mask = _require(mask, is_binary, "mask must be 1 (observed) or 0 (to be filled)")
        observed = tf.equal(mask, 1.0)
        filled, log_prob = inpaint(
            self._flow,
            self._density_units(x),
            observed,
            seed=seed,
            num_steps=self._inpaint_steps,
            noise=self._inpaint_noise,
            bounds=self._bounds(),
        )
        return {"x": tf.where(observed, x, self._data_units(filled)), "log_prob": _finite(log_prob)}

    def _serve_explain(self, x):
        x = tf.cast(_checked(x, self._batch_shape(), "x"), self._flow.dtype)
        contribution, log_prob = contributions(self._flow, x, self._usual)
        return {"contribution": _finite(contribution), "log_prob": _finite(log_prob)}

    def _bounds(self):
        """Lowest and highest value of what `inpaint` fills in: the range of the data."""
        if self._schema:
            return self._schema.bounds
        if self._levels is None:
            return None
        return (0.0, 1.0)

    def _batch_shape(self):
        return [None, *self._flow.event_shape]

    def _density_units(self, x):
        if self._levels is None:
            return tf.cast(x, self._flow.dtype)
        return bin_centres(x, self._levels, dtype=self._flow.dtype)

    def _data_units(self, x):
        return _finite(to_data_units(x, self._levels), self.value_dtype)

    def _scores(self, log_prob):
        log_prob = _finite(log_prob)
        validation = self._validation_log_probs
        lower = tf.searchsorted(validation, tf.cast(log_prob, validation.dtype))
        scores = {
            "log_prob": log_prob,
            "tail_probability": tf.cast(lower, tf.float32) / validation.shape[0],
        }
        bins = self._bins()
        if bins:
            event_size = self._flow.event_shape.num_elements()
            scores["bits_per_dim"] = bits_per_dim(log_prob, event_size, bins)
        return scores

    def _bins(self):
        """Bins per unit, by which bits per dimension count; `None` for continuous values."""
        if self._levels:
            return self._levels
        if self._schema:
            return self._schema.bins_per_unit
        return None

    def _samples(self, seeds, temperatures):
        """One sample per row, each of its own seed, so that no row knows of its neighbours."""
        prior = self._flow.distribution
        u = _uniform_rows(seeds, num_uniforms(prior))
        u = tf.maximum(u, np.finfo(np.float32).tiny)  # never 0, whose quantile is -infinity
        at_one = codes_from_uniforms(prior, tf.cast(u, self._flow.dtype))
        z = tf.cast(temperatures, self._flow.dtype)[:, tf.newaxis] * at_one

        def decode(z):
            x = self._flow.bijector.forward(z)
            # TFP remembers z as the inverse of this very x: the log-density costs no second pass.
            return x, self._flow.log_prob(x)

        x, log_prob = self._by_batch_size(decode, z)
        return {"x": self._data_units(x), "log_prob": _finite(log_prob)}

    def _by_batch_size(self, function, batch):
        """`function(batch)`; for a batch of one by XLA where asked.

        Checks stay outside: XLA leaves assertions out.
        """
        if not self._compile_single:
            return function(batch)
        compiled = tf.function(function, jit_compile=True)

        def by_xla():
            return compiled(batch)

        def by_tensorflow():
            return function(batch)

        return tf.cond(tf.equal(tf.shape(batch)[0], 1), by_xla, by_tensorflow)


def _uniform_rows(seeds, size):
    """Uniform numbers `[N, size]`, each row of its own seed."""

    def uniform(seed):
        # The two operations behind tf.random.stateless_uniform, without its arithmetic on each row:
        # the loop over rows is what a large batch pays for. A named algorithm: the automatic one
        # differs between devices.
        key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
        return tf.raw_ops.StatelessRandomUniformV2(
            shape=[size], key=key, counter=counter, alg=tf.random.Algorithm.PHILOX.value
        )

    def turn(seeds_of_turn):
        return tf.stack([uniform(seed) for seed in tf.unstack(seeds_of_turn)])

    # A few rows in each turn of the loop, and one turn at a time: what moves a loop on costs more
    # than a row.
    num_rows = tf.shape(seeds)[0]
    padded = tf.pad(seeds, [[0, -num_rows % _SEEDS_PER_TURN], [0, 0]])
    u = tf.map_fn(
        turn,
        tf.reshape(padded, [-1, _SEEDS_PER_TURN, 2]),
        fn_output_signature=tf.TensorSpec([_SEEDS_PER_TURN, size], tf.float32),
        parallel_iterations=1,
    )
    return tf.gather(tf.reshape(u, [-1, size]), tf.range(num_rows))


def _require(value, condition, message):
    """`value`, once `condition` was seen to hold: what is computed from it waits for the check."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(value)


def _checked(value, shape, name):
    """A batch of this shape, not empty and finite, or an InvalidArgument error."""
    value = tf.ensure_shape(value, shape, name=name)
    value = _require(
        value, tf.shape(value)[0] > 0, f"{name} must hold at least one example: the batch is empty"
    )
    if not value.dtype.is_floating:
        return value
    is_finite = tf.reduce_all(tf.math.is_finite(value))
    return _require(value, is_finite, f"{name} must be finite: it holds NaN or infinity")


def _checked_temperature(temperature):
    valid = tf.reduce_all((temperature > 0) & tf.math.is_finite(temperature))
    return _require(temperature, valid, "temperature must be finite and above 0")


def _finite(value, dtype=tf.float32):
    """For strict JSON readers: what overflows becomes the largest number, NaN the lowest."""
    value = tf.where(tf.math.is_nan(value), value.dtype.min, value)
    return tf.cast(tf.clip_by_value(value, dtype.min, dtype.max), dtype)
