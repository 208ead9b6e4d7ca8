"""Layers and prior as one distribution, and the layers of a distribution; its keywords."""

import functools
from collections.abc import Sequence

import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.errors import UserError
from nice_tf.flows import kinds
from nice_tf.flows.event_shapes import check_event_shape
from nice_tf.flows.priors import own_or_named

tfb = tfp.bijectors
tfd = tfp.distributions

# JointDistributionSequential takes a name that holds the class for none that was given: two flows
# of this name do not collide there.
DEFAULT_NAME = "nice_TransformedDistribution"

# TFP passes keywords on by name, and this is the name of every coupling.
_COUPLING = "additive_coupling"
_GIVEN = ("context", "dropout_seed")


def flow_from_layers(
    layers: Sequence[tfb.Bijector],
    prior: str | tfd.Distribution,
    event_shape: int | Sequence[int],
    *,
    name: str = DEFAULT_NAME,
) -> tfd.TransformedDistribution:
    """The density of layers and a prior of your own, with all that goes with one of `build_flow`.

        log p(x) = log p_Z(z) + sum of the log-dets of the layers,   z = layers(flattened x)

    Args:
      layers: bijectors in the order in which an example passes through them, `forward` being data
        to latent: those of this package, or any of TFP that take `[..., D]`.
      prior: a distribution of event shape `[D]`, or the name of one of unit scale, as for
        `build_flow`; then float32.
      event_shape: of one example, e.g. `[28, 28, 1]`; D is its product. A number stands for `[D]`.
      name: of the distribution.

    Returns:
      A `tfd.TransformedDistribution` of event shape `event_shape`.

    Raises:
      UserError: what is no bijector or no prior of this event shape; a layer of another dtype than
        the prior.

    Examples:
      >>> import nice_tf
      >>> couplings = [
      ...     nice_tf.AdditiveCoupling(nice_tf.MLP(1, 1, hidden_units=(8,)), num_passthrough=1),
      ...     nice_tf.DiagonalScaling(2),
      ... ]
      >>> flow = nice_tf.flow_from_layers(couplings, "logistic", [2])
      >>> flow.sample(3).shape
      TensorShape([3, 2])
    """
    event_shape, event_size = check_event_shape(event_shape)
    latent = own_or_named(prior, event_size)
    if isinstance(layers, tfb.Bijector):
        raise UserError(f"layers must be a list of bijectors, got the one bijector {layers.name}")
    for place, layer in enumerate(layers):
        if not isinstance(layer, tfb.Bijector):
            raise UserError(
                f"layers must be bijectors, the one at place {place} is a {type(layer).__name__}"
            )
        if layer.dtype not in (None, latent.dtype):
            raise UserError(
                f"layer {layer.name} is of {tf.as_dtype(layer.dtype).name}, the prior of "
                f"{latent.dtype.name}: both must be of one dtype"
            )
    chain = tfb.Chain(tuple(reversed(layers)))
    _check_sizes(chain, event_size)
    flatten = tfb.Reshape(event_shape_in=event_shape, event_shape_out=[event_size])
    return as_density(latent, [flatten, *layers], name)


def _check_sizes(chain, event_size):
    try:
        found = chain.forward_event_shape(tf.TensorShape([event_size]))
    except ValueError as error:
        raise UserError(
            f"the layers do not take a vector of {event_size} values: {error}"
        ) from error
    if not found.is_compatible_with([event_size]):
        raise UserError(
            f"the layers make {found} of a vector of {event_size} values, the prior has event "
            f"shape [{event_size}]"
        )


def as_density(
    latent: tfd.Distribution, layers: Sequence[tfb.Bijector], name: str
) -> tfd.TransformedDistribution:
    """The density of layers in the paper's direction, without checks.

    Args:
      latent: the prior.
      layers: data to latent.
      name: of the distribution.
    """
    # Layers stand in the paper's direction. tfb.Chain applies its last element first, and
    # TransformedDistribution wants latent -> data: this is the one place where order and direction
    # are turned round.
    decoder = tfb.Invert(tfb.Chain(tuple(reversed(layers))))
    return tfd.TransformedDistribution(
        latent, decoder, kwargs_split_fn=_keywords_by_part, name=name
    )


def _keywords_by_part(kwargs):
    """Keywords of a call of a flow: those of its prior, and those of its bijector by name."""
    rest = dict(kwargs)
    of_prior = rest.pop("distribution_kwargs", {})
    of_bijector = dict(rest.pop("bijector_kwargs", {}))
    given = {name: rest.pop(name) for name in _GIVEN if name in rest}
    if rest:
        raise UserError(
            f"a flow takes no keyword {', '.join(sorted(rest))}: context, dropout_seed, "
            "bijector_kwargs and distribution_kwargs are those it knows"
        )
    given = {name: value for name, value in given.items() if value is not None}
    if given:
        of_bijector[_COUPLING] = {**of_bijector.get(_COUPLING, {}), **given}
    return of_prior, of_bijector


def context_kwargs(
    context: tf.Tensor | None, *, dropout_seed: tf.Tensor | None = None
) -> dict[str, dict]:
    """What tells every m of a flow of `build_flow` its context, or to drop units.

        flow.log_prob(x, **context_kwargs(context))         log p(x | context)
        flow.sample(n, **context_kwargs(context))           draws from p(x | context)

    A flow of `build_flow` or `flow_from_layers` takes `context=` and `dropout_seed=` as they are,
    too: `flow.log_prob(x, context=context)`. A `tfd.TransformedDistribution` that you make yourself
    takes these keywords alone.

    Args:
      context: `[..., context_size]`, of any number type: one for each example or sample, or fewer
        that are broadcast to them. `None` where the flow has no `context_size`.
      dropout_seed: stateless seed, int32 `[2]`, by which every m drops units in this call; `None`
        for all units.

    Returns:
      Keyword arguments for every method of the flow that evaluates a density or samples; empty
      where nothing is given. The encoder takes what is in them: `encoder(flow).forward(x,
      **context_kwargs(context)["bijector_kwargs"])`.
    """
    given = {"context": context, "dropout_seed": dropout_seed}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        return {}
    return {"bijector_kwargs": {_COUPLING: given}}


def condition(flow: tfd.TransformedDistribution, context: tf.Tensor) -> tfd.TransformedDistribution:
    """A conditional flow that holds its context, p(x | context), as one distribution.

    It needs no keywords, so that it can stand in a `JointDistribution*`, where the context is drawn
    itself:

        tfd.JointDistributionNamed({
            "context": prior_of_contexts,
            "x": lambda context: nice_tf.condition(flow, context),
        })

    Args:
      flow: of `build_flow` with a `context_size`.
      context: `[..., context_size]`.

    Returns:
      A distribution over the same variables, whose batch shape is that of the contexts, `[...]`.
      `freeze` and `export_flow` take the flow itself, `nice_tf.sample` the flow and its context.
    """
    context = tf.convert_to_tensor(context)
    batch_shape = tf.shape(context)[:-1]
    if context.shape[:-1].is_fully_defined():
        batch_shape = context.shape[:-1].as_list()
    prior = flow.distribution
    if context.shape.rank != 1:
        prior = tfd.BatchBroadcast(prior, batch_shape)
    held = functools.partial(_held_context, context)
    return flow.copy(distribution=prior, kwargs_split_fn=held)


def _held_context(context, kwargs):
    return _keywords_by_part({"context": context, **kwargs})


def check_holds_no_context(flow: tfd.TransformedDistribution, instead: str) -> None:
    """Checks that a flow's layers are all there is to it, and not also a context of `condition`,
    which is lost where they are called by themselves.

    Args:
      flow: any; what is no flow passes.
      instead: what to do, for the message.

    Raises:
      UserError: it holds a context.
    """
    held = getattr(flow, "parameters", {}).get("kwargs_split_fn")
    if isinstance(held, functools.partial) and held.func is _held_context:
        raise UserError(
            f"flow {flow.name} holds a context of shape {held.args[0].shape}, given by condition: "
            f"{instead}"
        )


def encoder(flow: tfd.TransformedDistribution) -> tfb.Bijector:
    """The chain of all layers of a flow: `forward` maps x `[..., *event]` to z `[..., D]`.

    Args:
      flow: of `build_flow` or `flow_from_layers`, or a `tfd.TransformedDistribution` of your own,
        as `layers` says.

    Raises:
      UserError: what is given is no such flow; a layer, for example; or a flow of `condition`,
        which holds its context.
    """
    decoder = _decoder(flow)
    check_holds_no_context(
        flow,
        "take the encoder of the flow itself, whose forward and inverse take "
        "**nice_tf.context_kwargs(context)['bijector_kwargs']",
    )
    if isinstance(decoder, kinds.Invert) and isinstance(decoder.bijector, kinds.Chain):
        return decoder.bijector
    return tfb.Chain(tuple(reversed(layers(flow))))


def layers(flow: tfd.TransformedDistribution) -> tuple[tfb.Bijector, ...]:
    """The layers of a flow in the paper's direction, data to latent.

    Args:
      flow: of `build_flow` or `flow_from_layers`; or any `tfd.TransformedDistribution` over one
        tensor. Chains are taken apart, and what is inverted in the direction of TFP, latent to
        data, stands here as it is. A bijector of TFP in this direction becomes a `tfb.Invert`.

    Raises:
      UserError: what is given is no such flow; a layer, for example.
    """
    return tuple(_of_decoder(_decoder(flow)))


def _decoder(flow):
    decoder = getattr(flow, "bijector", None)
    if not isinstance(flow, tfd.Distribution) or decoder is None:
        raise UserError(f"a flow as build_flow makes it is needed, got {type(flow).__name__}")
    if not isinstance(flow.event_shape, tf.TensorShape):
        raise UserError(
            "a flow as build_flow makes it is needed, over one tensor: this one is over "
            f"{flow.event_shape}"
        )
    return decoder


def _of_decoder(bijector):
    """The layers, data to latent, of a bijector that maps latent to data."""
    if isinstance(bijector, kinds.Invert):
        return _of_encoder(bijector.bijector)
    if not isinstance(bijector, kinds.Chain):
        return [tfb.Invert(bijector)]
    found = []
    for part in bijector.bijectors:
        found += _of_decoder(part)
    return found


def _of_encoder(bijector):
    """The layers of a bijector that maps data to latent."""
    if isinstance(bijector, kinds.Invert):
        return _of_decoder(bijector.bijector)
    if not isinstance(bijector, kinds.Chain):
        return [bijector]
    found = []
    for part in reversed(bijector.bijectors):
        found += _of_encoder(part)
    return found
