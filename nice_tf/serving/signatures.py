"""The serving contract: a flow as SavedModel signatures that take data units.

They refuse what they cannot answer. A `FlowServer` holds tensors and variables only, so that its SavedModel loads where neither this
package nor TensorFlow Probability is installed. TensorFlow Serving does not compare what it is fed
with the signature: every check is made in the graph, and an input that breaks a rule fails with
InvalidArgument and the rule by name.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.data.schema import Schema
from nice_tf.data.units import bin_centres, to_data_units
from nice_tf.errors import check_count
from nice_tf.evaluation.likelihood import log_probs_of_classes
from nice_tf.evaluation.metrics import bits_per_dim
from nice_tf.flows.contributions import contributions
from nice_tf.flows.density import context_kwargs, encoder
from nice_tf.flows.flow import freeze
from nice_tf.flows.inpainting import inpaint
from nice_tf.flows.marginals import data_mean
from nice_tf.flows.priors import codes_from_uniforms, num_uniforms
from nice_tf.flows.ranks import log_det_of_marginals, rank_contributions
from nice_tf.serving.checks import check_answers, check_flow, check_has_ranks, check_units
from nice_tf.serving.classes import Classes
from nice_tf.serving.graph import (
    checked,
    checked_rows,
    checked_temperature,
    finite,
    require,
    uniform_rows,
)
from nice_tf.serving.tails import Tails

tfd = tfp.distributions

MAX_NUM_SAMPLES = 10_000


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
        classify  x (conditional models only)    -> log_prob_given [B, C], probability [B, C], log_prob, label [B]

    `contribution` is what an example's log_prob would gain if this value were its column's
    median, or without marginals its mean; of categories the most frequent.
    `log_prob` is in nats, of x on [0, 1]^D for integer data. `tail_probability` is the share of
    validation examples of lower log-likelihood: near 0 means unusual.

    Of a table whose flow has marginals, with `validation_rank_log_probs`, `log_prob` also gives
    `rank_log_prob` and `rank_tail_probability` `[B]`, and `explain` `rank_contribution` `[B, D]`: the same
    of the density of ranks, as `nice_tf.rank_log_prob` has it.

    A conditional model takes `label` in every signature but `classify`, `[B]` (a scalar in `sample_n`):
    int64 where all classes are whole numbers, else string; `log_prob` is then log p(x | label), that
    of validation examples with their own labels. `classify` gives log p(x | y) and p(y | x) of all
    classes y in their order, log p(x), and the most probable class.
    """

    def __init__(
        self,
        flow: tfd.TransformedDistribution,
        *,
        levels: int | None,
        validation_log_probs: np.ndarray | None = None,
        validation_rank_log_probs: np.ndarray | None = None,
        schema: Schema | None = None,
        classes: Classes | None = None,
        inpaint_steps: int = 100,
        inpaint_noise: float = 0.0,
        compile_single: bool = False,
        max_batch: int = 0,
    ):
        """Makes the signatures.

        Args:
          flow: a trained flow, with its conditioner in full precision; of `build_flow` or
            `flow_from_layers`, or another that `layers` takes.
          levels: number of integer levels of the data; `None` for continuous data and tables.
          validation_log_probs: log-likelihoods of validation examples as this server gives them,
            `[N]`, in any order.
          validation_rank_log_probs: of the same examples what `rank_log_prob` gives, `[N]`, in any
            order, of a table whose flow has marginals; `None` to leave ranks out.
          schema: of a table, its columns.
          classes: of a conditional flow, what its context stands for.
          inpaint_steps: steps of `inpaint`.
          inpaint_noise: deviation of the noise of `inpaint`; 0 for none.
          compile_single: let XLA compile `log_prob` and `sample` of a batch of one. Such a request
            waits for memory, one read of all weights. XLA's code does it faster than TensorFlow's
            on one core, the two branches of `FrozenMLP`, which are then left out, share it between
            two: which is ahead depends on the CPU.
          max_batch: rows of a request at most, above which it is refused; 0 for any number.

        Raises:
          UserError: a flow that cannot be served, by the rule that it breaks; `validation_log_probs`
            that are none or not finite; `validation_rank_log_probs` that are not finite, or of a
            flow that has no ranks; levels, columns or classes that are not those of the flow.
        """
        super().__init__()
        check_flow(flow)
        check_units(flow, levels, schema)
        check_count("max_batch", max_batch, 0)
        num_branches = None
        if compile_single:
            # XLA runs one operation after the other: branches would only cost.
            num_branches = 1
        self._flow = freeze(flow, num_branches=num_branches)
        self._levels = levels
        self._schema = schema
        self.classes: Any = classes
        self._usual = None
        self.value_dtype = tf.float32
        if schema:
            self._usual = schema.usual(data_mean(flow).numpy())
            # A table may need float64 to tell its values apart.
            self.value_dtype = flow.dtype
        self._inpaint_steps = inpaint_steps
        self._inpaint_noise = inpaint_noise
        self._compile_single = compile_single
        self.max_batch = int(max_batch)
        self.tail_probability = Tails(validation_log_probs, flow.dtype, name="validation_log_probs")
        self.rank_tail_probability: Any = None
        if validation_rank_log_probs is not None:
            check_has_ranks(flow, schema)
            self.rank_tail_probability = Tails(
                validation_rank_log_probs, flow.dtype, name="validation_rank_log_probs"
            )
        check_answers(self._flow, classes)
        self._make_functions()

    def _make_functions(self):
        x = tf.TensorSpec(self._batch_shape(), self.value_dtype, "x")
        z = tf.TensorSpec([None, self._flow.event_shape.num_elements()], tf.float32, "z")
        mask = tf.TensorSpec(self._batch_shape(), tf.float32, "mask")
        seeds = tf.TensorSpec([None, 2], tf.int32, "seed")
        temperatures = tf.TensorSpec([None], tf.float32, "temperature")
        label = []
        if self.classes:
            label = [self.classes.spec]
        self.log_prob = _graph(self._serve_log_prob, [x, *label])
        self.encode = _graph(self._serve_encode, [x, *label])
        self.decode = _graph(self._serve_decode, [z, *label])
        self.sample = _graph(self._serve_sample, [seeds, temperatures, *label])
        self.sample_n = self._make_sample_n()
        # Not for all: every function of a module is traced as it is saved.
        if self._schema:
            self.explain = _graph(self._serve_explain, [x, *label])
        if self.classes:
            self.classify = _graph(self._serve_classify, [x])
        self.inpaint = _graph(self._serve_inpaint, [x, mask, seeds, *label])

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
        if self.classes:
            signatures["classify"] = self.classify
        return signatures

    def _serve_log_prob(self, x, label=None):
        x = self._examples(x)
        context = self._context(label, x, "x")
        return self._scores(*self._by_batch_size(self._log_probs, x, context))

    def _log_probs(self, x, context):
        """Log p of examples, and of their ranks where these are asked for."""
        log_prob = self._log_prob(x, context)
        if self.rank_tail_probability is None:
            return [log_prob]
        return [log_prob, log_prob - log_det_of_marginals(self._flow, x)]

    def _log_prob(self, x, context):
        return _of_known(context, self._flow.log_prob(x, **context_kwargs(context)))

    def _serve_encode(self, x, label=None):
        x = self._examples(x)
        context = self._context(label, x, "x")
        z = encoder(self._flow).forward(x, **_of_bijector(context))
        return {"z": finite(z), "log_prob": finite(self._log_prob(x, context))}

    def _serve_decode(self, z, label=None):
        z = self._checked(z, [None, self._flow.event_shape.num_elements()], "z")
        context = self._context(label, z, "z")
        z = tf.cast(z, self._flow.dtype)
        x = self._flow.bijector.forward(z, **_of_bijector(context))
        return {"x": self._data_units(_of_known(context, x))}

    def _serve_sample(self, seed, temperature, label=None):
        seed = self._checked(seed, [None, 2], "seed")
        temperature = checked_temperature(self._checked(temperature, [None], "temperature"))
        seed = checked_rows(
            seed,
            tf.shape(temperature)[0],
            "seed and temperature must have the same number of rows",
        )
        return self._samples(seed, temperature, self._context(label, seed, "seed"))

    def _make_sample_n(self):
        number = tf.TensorSpec([], tf.int32, "num_samples")
        others = [
            tf.TensorSpec([2], tf.int32, "seed"),
            tf.TensorSpec([], tf.float32, "temperature"),
        ]
        first_seed = tf.constant([0, 0], tf.int32)
        one = tf.constant(1.0)

        # SignatureDef defaults are taken from the Python defaults, where these are tensors; of a
        # method they would be given to the wrong inputs.
        def sample_n(num_samples, seed=first_seed, temperature=one):
            return self._serve_sample_n(num_samples, seed, temperature)

        def sample_n_of_class(num_samples, label, seed=first_seed, temperature=one):
            return self._serve_sample_n(num_samples, seed, temperature, label)

        if not self.classes:
            return _graph(sample_n, [number, *others])
        label = tf.TensorSpec([], self.classes.spec.dtype, "label")
        return _graph(sample_n_of_class, [number, label, *others])

    def _serve_sample_n(self, num_samples, seed, temperature, label=None):
        num_samples = tf.ensure_shape(num_samples, [])
        num_samples = require(num_samples, num_samples >= 0, "num_samples must be at least 0")
        num_samples = require(
            num_samples,
            num_samples <= MAX_NUM_SAMPLES,
            f"num_samples must be at most {MAX_NUM_SAMPLES} per request",
        )
        seed = tf.ensure_shape(seed, [2])
        temperature = checked_temperature(tf.ensure_shape(temperature, []))

        def seed_of_row(row):
            return tf.random.experimental.stateless_fold_in(seed, row)

        seeds = tf.reshape(tf.map_fn(seed_of_row, tf.range(num_samples)), [-1, 2])
        context = None
        if label is not None:
            of_all = tf.reshape(tf.ensure_shape(label, [], name="label"), [1])
            one = self.classes.contexts(of_all, self._flow.dtype)
            context = tf.repeat(one, num_samples, axis=0)
        return self._samples(seeds, tf.fill([num_samples], temperature), context)

    def _serve_inpaint(self, x, mask, seed, label=None):
        x = self._checked(x, self._batch_shape(), "x")
        mask = self._checked(mask, self._batch_shape(), "mask")
        seed = self._checked(seed, [None, 2], "seed")
        num_rows = tf.shape(x)[0]
        mask = checked_rows(mask, num_rows, "mask must have the shape of x")
        seed = checked_rows(seed, num_rows, "seed must have as many rows as x")
        is_binary = tf.reduce_all(tf.equal(mask, 0.0) | tf.equal(mask, 1.0))
        mask = require(mask, is_binary, "mask must be 1 (observed) or 0 (to be filled)")
        observed = tf.equal(mask, 1.0)
        filled, log_prob = inpaint(
            self._flow,
            self._density_units(x),
            observed,
            seed=seed,
            num_steps=self._inpaint_steps,
            noise=self._inpaint_noise,
            bounds=self._bounds(),
            context=self._context(label, x, "x"),
        )
        return {"x": tf.where(observed, x, self._data_units(filled)), "log_prob": finite(log_prob)}

    def _serve_explain(self, x, label=None):
        x = tf.cast(self._checked(x, self._batch_shape(), "x"), self._flow.dtype)
        context = self._context(label, x, "x")
        contribution, log_prob = contributions(self._flow, x, self._usual, context=context)
        answer = {"contribution": finite(contribution), "log_prob": finite(log_prob)}
        if self.rank_tail_probability is not None:
            of_ranks = rank_contributions(self._flow, contribution, x, self._usual)
            answer["rank_contribution"] = finite(of_ranks)
        return answer

    def _serve_classify(self, x):
        x = self._examples(x)
        given, joint = log_probs_of_classes(self._flow, x, self.classes.frequencies)
        # Far outside of the data all classes overflow alike: none is more probable then.
        joint = finite(joint)
        names = tf.constant(self.classes.values)
        return {
            "log_prob_given": finite(given),
            "probability": tf.nn.softmax(joint),
            "log_prob": finite(tf.reduce_logsumexp(joint, axis=1)),
            "label": tf.gather(names, tf.argmax(joint, axis=1)),
        }

    def _examples(self, x):
        """Checked examples in density units."""
        return self._density_units(self._checked(x, self._batch_shape(), "x"))

    def _checked(self, value, shape, name):
        return checked(value, shape, name, self.max_batch)

    def _context(self, label, beside, name):
        """Contexts of labels, one for each row of an input; `None` where there is no label."""
        if label is None:
            return None
        label = self._checked(label, [None], "label")
        label = checked_rows(label, tf.shape(beside)[0], f"label must have as many rows as {name}")
        return self.classes.contexts(label, self._flow.dtype)

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
        return finite(to_data_units(x, self._levels), self.value_dtype)

    def _scores(self, log_prob, rank_log_prob=None):
        log_prob = finite(log_prob)
        scores = {"log_prob": log_prob, "tail_probability": self.tail_probability(log_prob)}
        bins = self._bins()
        if bins:
            event_size = self._flow.event_shape.num_elements()
            scores["bits_per_dim"] = bits_per_dim(log_prob, event_size, bins)
        if rank_log_prob is not None:
            scores["rank_log_prob"] = finite(rank_log_prob)
            scores["rank_tail_probability"] = self.rank_tail_probability(scores["rank_log_prob"])
        return scores

    def _bins(self):
        """Bins per unit, by which bits per dimension count; `None` for continuous values."""
        if self._levels:
            return self._levels
        if self._schema:
            return self._schema.bins_per_unit
        return None

    def _samples(self, seeds, temperatures, context):
        """One sample per row, each of its own seed, so that no row knows of its neighbours."""
        prior = self._flow.distribution
        u = uniform_rows(seeds, num_uniforms(prior))
        u = tf.maximum(u, np.finfo(np.float32).tiny)  # never 0, whose quantile is -infinity
        at_one = codes_from_uniforms(prior, tf.cast(u, self._flow.dtype))
        z = tf.cast(temperatures, self._flow.dtype)[:, tf.newaxis] * at_one

        def decode(z, context):
            x = self._flow.bijector.forward(z, **_of_bijector(context))
            # TFP remembers z as the inverse of this very x: the log-density costs no second pass.
            return x, self._log_prob(x, context)

        x, log_prob = self._by_batch_size(decode, z, context)
        return {"x": self._data_units(x), "log_prob": finite(log_prob)}

    def _by_batch_size(self, function, batch, context):
        """`function(batch, context)`; for a batch of one by XLA where asked.

        Checks stay outside: XLA leaves assertions out.
        """
        if not self._compile_single:
            return function(batch, context)
        compiled = tf.function(function, jit_compile=True, autograph=False)

        def by_xla():
            return compiled(batch, context)

        def by_tensorflow():
            return function(batch, context)

        return tf.cond(tf.equal(tf.shape(batch)[0], 1), by_xla, by_tensorflow)


def _graph(function, specs):
    """A function of TensorFlow. Nothing here needs AutoGraph, which takes seconds to look at all that
    is called.
    """
    return tf.function(function, input_signature=specs, autograph=False)


def _of_known(context, value):
    """A value for each example, NaN where the label is no class: LiteRT cannot refuse it."""
    if context is None:
        return value
    is_known = tf.reduce_any(context > 0, axis=-1)
    is_known = tf.reshape(is_known, [-1] + [1] * (value.shape.rank - 1))
    return tf.where(is_known, value, tf.constant(np.nan, value.dtype))


def _of_bijector(context):
    return context_kwargs(context).get("bijector_kwargs", {})
