"""What a server is made of, looked at before its signatures are."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.data.schema import Schema
from nice_tf.errors import UserError, cause_of, check_count
from nice_tf.flows.analysis import conditional_scales
from nice_tf.flows.density import check_holds_no_context, context_kwargs, layers
from nice_tf.flows.marginals import has_marginals
from nice_tf.flows.priors import check_quantile
from nice_tf.serving.classes import Classes

tfd = tfp.distributions


def check_flow(flow: tfd.TransformedDistribution) -> None:
    """Checks that a flow can be served: its shapes, its precision, its prior.

    Raises:
      UserError: it is no flow over one tensor of a known shape, holds a context, has a batch shape,
        is neither of float32 nor of float64, computes its networks in less, or its prior has no
        deviation, by which `inpaint` steps, or no quantile, of which `sample` draws.
    """
    check_holds_no_context(flow, "what is served is the flow itself, with classes for its context")
    layers(flow)
    if not flow.event_shape.is_fully_defined():
        raise UserError(f"a flow over a known event shape is served, got {flow.event_shape}")
    if flow.batch_shape != []:
        raise UserError(f"one flow is served, of batch shape []: this one has {flow.batch_shape}")
    if flow.dtype not in (tf.float32, tf.float64):
        raise UserError(f"a flow of float32 or float64 is served, got {flow.dtype.name}")
    for module in flow.submodules:
        used = getattr(module, "compute_dtype", None)
        if isinstance(used, tf.DType) and used.size < flow.dtype.size:
            raise UserError(
                f"network {module.name} computes in {used.name}, the flow is of "
                f"{flow.dtype.name}: what is served is in full precision, as evaluations are; "
                "build the flow without compute_dtype and copy the variables over"
            )
    check_quantile(flow.distribution)
    conditional_scales(flow)  # refuses a prior without a deviation


def check_weights(flow: tfd.TransformedDistribution, what: str) -> None:
    """Checks that all variables are finite.

    Args:
      flow: the flow.
      what: it is, for the message: `"workdir runs/x: the weights of epoch 3"`.

    Raises:
      UserError: some are not.
    """
    for variable in flow.variables:
        if not np.all(np.isfinite(variable.numpy())):
            raise UserError(f"{what} are not finite, the run diverged")


def check_units(
    flow: tfd.TransformedDistribution, levels: int | None, schema: Schema | None
) -> None:
    """Checks that levels and columns are those of examples of a flow.

    Raises:
      UserError: they are not.
    """
    if levels is not None:
        check_count("levels", levels, 2)
    if schema is None:
        return
    if levels is not None:
        raise UserError(
            f"levels must be None with a schema, whose columns have steps, got {levels}"
        )
    if flow.event_shape != [len(schema.columns)]:
        raise UserError(
            f"schema has {len(schema.columns)} columns, the flow is of event shape "
            f"{flow.event_shape}"
        )


def check_answers(flow: tfd.TransformedDistribution, classes: Classes | None) -> None:
    """Asks a flow once.

    Raises:
      UserError: no classes for a flow with a context, another number of them, or classes for a flow
        without one; a layer with one way alone, or a density of another shape than one number for
        an example.
    """
    context = None
    if classes:
        classes.check()
        context = tf.eye(len(classes.names), dtype=flow.dtype)[:1]
    kwargs = context_kwargs(context)
    x = tf.zeros([1, *flow.event_shape], flow.dtype)
    try:
        found = _asked(flow, x, classes, kwargs)
        z = tf.zeros([1, *flow.distribution.event_shape], flow.dtype)
        flow.bijector.forward(z, **kwargs.get("bijector_kwargs", {}))
    except NotImplementedError as error:
        raise UserError(
            f"flow {flow.name} cannot be served: densities and samples take both ways through each "
            f"layer ({cause_of(error)})"
        ) from error
    if found.shape != [1]:
        raise UserError(
            f"the flow gives log_prob of shape {found.shape} for one example, [1] is needed"
        )


def _asked(flow, x, classes, kwargs):
    """The density of x, given the first class if there are classes."""
    try:
        return flow.log_prob(x, **kwargs)
    except UserError as error:
        rule = str(error).split(":")[0]
        if "context" not in rule:
            raise
        given = "none"
        if classes:
            given = f"{len(classes.names)} ({classes.shown})"
        raise UserError(
            "classes must be as many as the context of the flow has values, and left out for a flow "
            f"without one, got {given}: {rule}"
        ) from error


def check_has_ranks(flow: tfd.TransformedDistribution, schema: Schema | None) -> None:
    """Checks that a flow can be asked for the ranks of rows.

    Raises:
      UserError: it is not of a table, or has no marginals.
    """
    if schema is None or not has_marginals(flow):
        raise UserError(
            "validation_rank_log_probs are for tables, with a schema, whose flow has marginals in "
            "front: leave them out"
        )


def sorted_log_probs(values: np.ndarray | None, name: str) -> np.ndarray:
    """Log-likelihoods of validation, ascending, as tail probabilities are counted.

    Args:
      values: the log-likelihoods.
      name: of the argument, for the message.

    Raises:
      UserError: none, another shape than `[N]`, or values that are not finite.
    """
    if values is None:
        raise UserError(f"{name} are needed, [N]: tail probabilities are shares of them")
    values = np.asarray(values)
    if values.ndim != 1 or not len(values) or values.dtype.kind not in "iuf":
        raise UserError(
            f"{name} must be numbers of shape [N], at least one, got "
            f"{list(values.shape)} of {values.dtype}"
        )
    num_bad = int(np.sum(~np.isfinite(values)))
    if num_bad:
        raise UserError(
            f"{num_bad} of {len(values)} {name} are not finite: the flow gives no density there"
        )
    return np.sort(values)
