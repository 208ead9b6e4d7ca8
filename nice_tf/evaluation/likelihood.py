"""The log-likelihood that is reported."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.config import Config
from nice_tf.data.batches import evaluation_batches
from nice_tf.data.labels import Labels
from nice_tf.data.rows import Array
from nice_tf.data.schema import Schema, Spikes
from nice_tf.data.units import is_discrete, to_density_units
from nice_tf.evaluation.metrics import bits_per_dim, importance_weighted, on_range, standard_error
from nice_tf.flows.density import context_kwargs
from nice_tf.flows.marginals import marginals_alone
from nice_tf.seeds import stateless_seed

tfd = tfp.distributions


def log_probs(
    flow: tfd.TransformedDistribution,
    values: Array,
    *,
    levels: int | None,
    config: Config,
    split: str,
    steps: np.ndarray | None = None,
    spikes: Spikes | None = None,
    labels: Labels | None = None,
    dequantization: str | None = None,
) -> np.ndarray:
    """Log-likelihood of each example, for independent draws of the noise.

    Args:
      flow: the density.
      values: `[N, *event_shape]` in data units.
      levels: number of integer levels; `None` for continuous data, of which one draw is all there
        is.
      config: for `num_draws`, `batch_size`, `dequantization` and `seed`.
      split: sets the noise of one split apart from that of another.
      steps: as for `to_density_units`.
      spikes: as for `to_density_units`.
      labels: of a conditional density.
      dequantization: instead of the settings' own; `"none"` for values at the centre of their bins,
        one draw.

    Returns:
      Nats, `[num_draws, N]` in float64. Of a conditional density `[num_draws, N, 3]`, what
      `by_bayes` gives.
    """
    kind = dequantization or config.dequantization
    num_draws = number_of_draws(levels, steps, config, spikes)
    if kind == "none":
        num_draws = 1

    def density_units(values, draw, number):
        seed = stateless_seed(config.seed, f"{split}_noise", draw, number)
        return to_density_units(
            values, levels, kind, seed, steps=steps, spikes=spikes, dtype=flow.dtype
        )

    classes = None
    if labels:
        classes = labels.numbers[split]
    batches = evaluation_batches(values, config.batch_size, classes)

    # One graph for all batches, of which the last may be smaller.
    @tf.function(
        input_signature=[tf.TensorSpec([], tf.int32), *batches.element_spec], autograph=False
    )
    def batch_log_prob(draw, numbers, batch):
        if labels is None:
            return flow.log_prob(density_units(batch, draw, numbers[0]))
        values, classes = batch
        x = density_units(values, draw, numbers[0])
        return by_bayes(flow, x, classes, labels.frequencies)

    draws = []
    for draw in range(num_draws):
        found = [batch_log_prob(tf.constant(draw), *batch).numpy() for batch in batches]
        draws.append(np.concatenate(found))
    return np.asarray(draws, np.float64)


def noisy_rows(
    values: Array,
    *,
    levels: int | None,
    config: Config,
    split: str,
    steps: np.ndarray | None = None,
    spikes: Spikes | None = None,
    dtype: tf.DType = tf.float32,
) -> np.ndarray:
    """The examples as `log_probs` gives them to a flow, for densities that are no flows.

    Args:
      values: as for `log_probs`, here and below.
      levels: as there.
      config: as there.
      split: as there.
      steps: as there.
      spikes: as there.
      dtype: of the flow that they are to be compared with.

    Returns:
      x in density units, `[num_draws, N, *event_shape]` in float64.
    """
    itself = _Itself(dtype)
    return log_probs(
        itself, values, levels=levels, config=config, split=split, steps=steps, spikes=spikes
    )


class _Itself:
    """A density that gives x back instead of log p(x)."""

    def __init__(self, dtype):
        self.dtype = dtype

    def log_prob(self, x):
        return x


def by_bayes(
    flow: tfd.TransformedDistribution, x: tf.Tensor, classes: tf.Tensor, frequencies: np.ndarray
) -> tf.Tensor:
    """What a conditional density says of examples, of all classes at the same x.

        log p(x | y)
        log p(x) = log sum_c p(c) p(x | c)
        whether y is the c of the largest p(c | x), which is as p(c) p(x | c)

    Args:
      flow: the density, its context one-hot.
      x: `[B, *event_shape]` in density units.
      classes: y, the number of each example's class, `[B]`.
      frequencies: p(c), `[C]`.

    Returns:
      `[B, 3]`: nats, nats, and 1 or 0.
    """
    given_each, joint = log_probs_of_classes(flow, x, frequencies)
    is_right = tf.argmax(joint, axis=1, output_type=classes.dtype) == classes
    own = tf.gather(given_each, classes, batch_dims=1)
    return tf.stack(
        [own, tf.reduce_logsumexp(joint, axis=1), tf.cast(is_right, flow.dtype)], axis=1
    )


def log_probs_of_classes(
    flow: tfd.TransformedDistribution, x: tf.Tensor, frequencies: np.ndarray
) -> tuple[tf.Tensor, tf.Tensor]:
    """Log p(x | y) and log p(x, y) of all classes, `[B, C]` each in nats.

    Args:
      flow: the density, its context one-hot.
      x: `[B, *event_shape]` in density units.
      frequencies: p(y), `[C]`.
    """
    contexts = tf.eye(len(frequencies), dtype=flow.dtype)
    given_each = tf.transpose(
        tf.map_fn(lambda context: flow.log_prob(x, **context_kwargs(context)), contexts)
    )
    return given_each, given_each + tf.cast(tf.math.log(frequencies), flow.dtype)


def number_of_draws(
    levels: int | None, steps: np.ndarray | None, config: Config, spikes: Spikes | None = None
) -> int:
    """How many noise draws an evaluation takes: one where there is no noise."""
    if config.dequantization == "uniform" and is_discrete(levels, steps, spikes):
        return config.num_draws
    return 1


def evaluate(
    flow: tfd.TransformedDistribution,
    values: Array,
    *,
    levels: int | None,
    config: Config,
    split: str,
    dataset: str,
    epoch: int,
    schema: Schema | None = None,
    labels: Labels | None = None,
) -> dict[str, Any]:
    """Mean log-likelihood of a split; arguments as for `log_probs`, and the schema of a table.

    Returns:
      The content of `evaluation.json`. `log_prob` is the mean in nats over examples and draws,
      `log_prob_std_error` the standard error over examples of their means over draws. Of integer
      data, `log_prob_on_ranges` gives the same density with values on other ranges. `bits_per_dim`
      and the bound of `metrics.importance_weighted` are None where no noise is added. Of a
      conditional density all these are of p(x | y), and `conditional` holds what follows by Bayes,
      with the frequencies of the classes in train as p(y): `log_prob` of p(x) with its error, and
      `accuracy`, the share of examples and draws whose class is the one of largest p(y | x), with
      its error, beside the share in this split of the class that is the most frequent in train.
      Where the flow has marginals, `marginals` says what these alone come to at the same noise,
      `log_prob`, and what the couplings add to it, `gain`: of a conditional density, to log p(x).
    """
    noise: dict[str, Any] = {"levels": levels, "config": config, "split": split}
    bins: float | None = levels
    if schema:
        noise |= {"steps": schema.steps, "spikes": schema.spikes}
        bins = schema.bins_per_unit
    draws = log_probs(flow, values, labels=labels, **noise)
    conditional = None
    if labels:
        conditional = _conditional(draws, labels, split)
        of_all_classes = draws[..., 1].mean(axis=0)
        draws = draws[..., 0]
    per_example = draws.mean(axis=0)
    event_size = int(np.prod(values.shape[1:]))
    result = {
        "dataset": dataset,
        "split": split,
        "num_examples": len(values),
        "num_draws": len(draws),
        "event_size": event_size,
        "levels": levels,
        "log_prob": float(per_example.mean()),
        "log_prob_std_error": standard_error(per_example),
        "log_prob_on_ranges": None,
        "bits_per_dim": None,
        "importance_weighted_log_prob": None,
        "importance_weighted_bits_per_dim": None,
        "epoch": epoch,
    }
    if levels is not None:
        result["log_prob_on_ranges"] = {
            f"[{low}, {high}]": on_range(result["log_prob"], event_size, low, high)
            for low, high in ((-1, 1), (0, levels))
        }
    # Bits/dim are a bound only for dequantized integers.
    if bins and config.dequantization == "uniform":
        bound = float(importance_weighted(draws).mean())
        result["bits_per_dim"] = bits_per_dim(result["log_prob"], event_size, bins)
        result["importance_weighted_log_prob"] = bound
        result["importance_weighted_bits_per_dim"] = bits_per_dim(bound, event_size, bins)
    if conditional:
        result["conditional"] = conditional
    alone = marginals_alone(flow)
    if alone is not None:
        of_flow = per_example
        if labels:
            of_flow = of_all_classes
        of_marginals = log_probs(alone, values, **noise).mean(axis=0)
        result["marginals"] = _marginals(of_flow, of_marginals)
    return result


def _marginals(of_flow, of_marginals):
    """What the couplings add to independent coordinates, at the same noise."""
    gains = of_flow - of_marginals
    return {
        "log_prob": float(of_marginals.mean()),
        "log_prob_std_error": standard_error(of_marginals),
        "gain": float(gains.mean()),
        "gain_std_error": standard_error(gains),
    }


def _conditional(draws, labels, split):
    """What follows by Bayes from the draws of a conditional density, `[num_draws, N, 3]`."""
    marginal = draws[..., 1]
    is_right = draws[..., 2]
    most_frequent = np.argmax(labels.frequencies)
    return {
        "label": labels.name,
        "num_classes": len(labels.classes),
        "log_prob": float(marginal.mean()),
        "log_prob_std_error": standard_error(marginal.mean(axis=0)),
        "accuracy": float(is_right.mean()),
        "accuracy_std_error": standard_error(is_right.mean(axis=0)),
        "accuracy_of_most_frequent": float(np.mean(labels.numbers[split] == most_frequent)),
    }
