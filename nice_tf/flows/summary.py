"""What a flow is made of, to read, and how many numbers it has."""

import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.coupling import AdditiveCoupling
from nice_tf.errors import UserError
from nice_tf.flows.density import layers

tfd = tfp.distributions


def num_parameters(flow: tfd.Distribution) -> int:
    """How many numbers a flow trains: of four couplings of 5 x 1000 on 784 values 19,158,352.

    Raises:
      UserError: what is given is no distribution.

    Examples:
      >>> import nice_tf
      >>> nice_tf.num_parameters(nice_tf.build_flow([2], num_couplings=2, hidden_units=(16,)))
      100
    """
    if not isinstance(flow, tfd.Distribution):
        raise UserError(f"a distribution is needed, got {type(flow).__name__}")
    return _count(flow.trainable_variables)


def summary(flow: tfd.TransformedDistribution) -> str:
    """A table of the layers in the paper's direction, data to latent, and the prior, as text.

    A line has the name of a layer, its class, how many numbers it trains and how many it keeps
    fixed, and what a coupling does. A variable that several layers share counts in the first.

    Args:
      flow: of `build_flow` or `flow_from_layers`, or as `layers` takes it.

    Raises:
      UserError: what is given is no flow.
    """
    found = layers(flow)
    rows = [("layer", "class", "trained", "fixed", "")]
    counted: set[int] = set()
    for part in (*found, flow.distribution):
        rows.append(
            (part.name, type(part).__name__.lstrip("_"), *_new(part, counted), _about(part))
        )
    num_trained = num_parameters(flow)
    num_fixed = _count(flow.variables) - num_trained
    rows.append(("all", "", f"{num_trained:,}", f"{num_fixed:,}", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [f"{flow.name}: x {list(flow.event_shape)} of {flow.dtype.name}"]
    for name, kind, trained, fixed, about in rows:
        line = f"  {name:<{widths[0]}}  {kind:<{widths[1]}}"
        line += f"  {trained:>{widths[2]}}  {fixed:>{widths[3]}}  {about}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _new(part, counted):
    """How many numbers a part trains and keeps fixed that no part before it had."""
    variables = [variable for variable in part.variables if id(variable) not in counted]
    counted.update(id(variable) for variable in variables)
    trained = [variable for variable in variables if variable.trainable]
    num_trained = _count(trained)
    return f"{num_trained:,}", f"{_count(variables) - num_trained:,}"


def _about(part):
    if not isinstance(part, AdditiveCoupling):
        return ""
    return f"passes the {part.passthrough} {part.num_passthrough} and shifts the rest"


def _count(variables: tuple[tf.Variable, ...] | list[tf.Variable]) -> int:
    return sum(variable.shape.num_elements() for variable in variables)
