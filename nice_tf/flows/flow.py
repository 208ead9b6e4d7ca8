"""NICE as one distribution: `build_flow`, and its copies that are frozen, cut or sampled."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.conditioners import MLP, FrozenMLP
from nice_tf.bijectors.coupling import (
    AdditiveCoupling,
    check_mixing,
    coupling_splits,
    reorder,
)
from nice_tf.bijectors.diagonal import Center, DiagonalScaling, Standardize
from nice_tf.bijectors.marginals import QuantileTransform
from nice_tf.bijectors.views import View
from nice_tf.bijectors.whitening import TriangularWhitening, Whitening
from nice_tf.choices import (
    CONDITIONER_INPUTS,
    CONDITIONERS,
    INPUT_RANGES,
    MARGINALS,
    OUTPUT_SCALES,
    SCALINGS,
    WHITENINGS,
)
from nice_tf.errors import UserError, check_at_least, check_choice, check_count
from nice_tf.flows.density import (
    DEFAULT_NAME,
    as_density,
    check_holds_no_context,
    context_kwargs,
    encoder,
    layers,
)
from nice_tf.flows.event_shapes import check_event_shape
from nice_tf.flows.mixtures import MIN_COMPONENT_SCALE, picture_patches
from nice_tf.flows.networks import Networks
from nice_tf.flows.priors import check_dtype, is_location_scale, make_prior

tfb = tfp.bijectors
tfd = tfp.distributions

_COMPONENTS = 8  # of a mixture prior where not said otherwise
# Outside the range, at each end: of levels, which cannot lie there.
_TAIL_MASS_OF_LEVELS = 1e-9


def build_flow(
    event_shape: int | Sequence[int],
    *,
    num_couplings: int = 4,
    hidden_units: Sequence[int] | Sequence[Sequence[int]] = (1000,) * 5,
    activation: str = "relu",
    residual: bool = False,
    conditioner: str = "mlp",
    channels: int = 48,
    residual_blocks: int = 2,
    kernel_size: int = 3,
    dropout: float = 0.0,
    context_size: int = 0,
    partition: str = "interleaved",
    mixing: str = "swap",
    prior: str | tfd.Distribution = "logistic",
    prior_components: int = _COMPONENTS,
    prior_clusters: int = 1,
    prior_patch: int = 0,
    marginals: str = "none",
    levels: int = 0,
    steps: np.ndarray | Sequence[float] | None = None,
    origin: np.ndarray | Sequence[float] | float = 0.0,
    spikes: np.ndarray | None = None,
    spike_widths: np.ndarray | Sequence[float] | float = 0.0,
    conditioner_input: str = "mapped",
    scaling: str = "layer",
    output_scale: str = "deviation",
    input_range: str = "unit",
    whitening: str = "none",
    whitening_epsilon: float = 0.0,
    min_inverse_scale: float = 0.0,
    init_range: float | None = None,
    zero_last_layer: bool = True,
    allow_incomplete_mixing: bool = False,
    dtype: tf.DType = tf.float32,
    compute_dtype: tf.DType | None = None,
    seed: int = 0,
    name: str = DEFAULT_NAME,
) -> tfd.TransformedDistribution:
    """Builds the density p(x) of NICE (Dinh et al. 2014, section 3).

        log p(x) = sum_d log p_Z(z_d) + sum_d log s_d,   z = s * h(x)

    The encoder x -> z flattens the event, subtracts a fixed mean (zero until
    `initialize_from_data`), whitens if asked, applies the couplings, restores the order of the
    coordinates and scales: z_d is the latent partner of the d-th value of x (of whitened x).

    Args:
      event_shape: of one example, e.g. `[28, 28, 1]`; D is its product, at least 2. A number stands
        for `[D]`.
      num_couplings: K, at least 3 if every z is to depend on every x (2 when D = 2).
      hidden_units: widths of the hidden layers of each m; or K such sequences, one for each
        coupling.
      activation: of the hidden layers, one of `choices.ACTIVATIONS`.
      residual: as for `MLP`.
      conditioner: `"mlp"`, or for pictures `"convolution"`: a `ConvNet` in each coupling whose
        picture has room for its kernel, and an `MLP` of `hidden_units` in the coarser ones of a
        nested partition.
      channels: of `"convolution"`, as for `ConvNet`.
      residual_blocks: of `"convolution"`, `num_blocks` of `ConvNet`.
      kernel_size: of `"convolution"`, as for `ConvNet`.
      dropout: as for `MLP`; without effect but in a call with the `dropout_seed` of
        `context_kwargs`.
      context_size: C, above 0 for the conditional density p(x | context): every m also sees a
        context of that length, which every call then gives with `context_kwargs`. Mean, whitening
        and scales are those of all contexts.
      partition: how coordinates are halved, `"interleaved"`, `"halves"` or, for pictures,
        `"checkerboard"` and, of those in colour, `"checkerboard_channels"`; or as `"nested"` says
        in `coupling_splits`. The first half has one more when D is odd.
      mixing: between couplings, `"swap"` (the halves change roles), `"reverse"` or `"shuffle"`,
        as `coupling_splits` says.
      prior: `"logistic"`, `"gaussian"` (or `"normal"`), or `"logistic_mixture"`, a density of
        several logistics for each coordinate, whose weights, locations and scales are trained; or a
        `tfd.Distribution` of event shape `[D]` and of `dtype`. `initialize_from_data`, `inpaint`,
        `denoise` and `inverse_scales` need one with a `stddev`, `FlowServer` one with a `quantile`,
        for its samples.
      prior_components: of `"logistic_mixture"`, how many, at least 2.
      prior_clusters: of `"logistic_mixture"`, how many clusters, each with weights of its own for
        the logistics of each coordinate; 1 for independent coordinates.
      prior_patch: of several clusters of pictures, side of the square patches that have clusters
        each; 0 for one patch of all.
      scaling: `"layer"` for the paper's scaling layer, `"prior"` for the equivalent trainable
        scales in the prior, `"none"` for a volume-preserving flow. With `"logistic_mixture"` a
        layer could be left to the components' own scales and locations; but it starts each
        coordinate at its deviation in the data, where all components learn at a like pace.
        `"prior"` is refused there.
      output_scale: a factor on each output of m, not trained: with `"deviation"`, once
        `initialize_from_data` set it, the standard deviation of the coordinate that is shifted by
        it; `"one"` for none. Both can become the same densities; which is learned faster, and why,
        says `MLP`.
      input_range: `"symmetric"` takes x from [0, 1] to [-1, 1] first, `"unit"` leaves it. The
        density stays that of x.
      whitening: `"standardize"` for `Standardize`, `"zca"` for `Whitening`, both fixed,
        `"triangular"` for a trained `TriangularWhitening`, `"standardize_triangular"` for one after
        the other, with shrinkage, for tables, `"none"` for none; the identity until
        `initialize_from_data`.
      whitening_epsilon: of `"zca"`, floor of the eigenvalues, in squared units of x.
      min_inverse_scale: lower bound of 1 / s_d; needed only on discrete data without
        dequantization. With `"logistic_mixture"` it bounds 1 / s_d times the scale of each
        component, which is at least 0.001: 1 / s_d has a thousand times this bound.
      marginals: `"quantile"` puts a `QuantileTransform` in front of all other layers, instead of
        the mean, which is taken off otherwise; `initialize_from_data` fits it. `"trained"` trains
        the masses of its bins from there on.
      levels: of integer data dequantized on [0, 1], for the marginals; 0 for other data.
      steps: as for `QuantileTransform`, of the flattened event.
      origin: as for `QuantileTransform`.
      spikes: as for `QuantileTransform`, of the flattened event.
      spike_widths: as for `QuantileTransform`.
      conditioner_input: what each m sees: the passed coordinates as they are, `"mapped"` where
        there are marginals; or `"values"`, taken back through them, less their mean and in
        deviations.
      init_range: as for `MLP`.
      zero_last_layer: start every m at 0.
      allow_incomplete_mixing: build also a flow in which some z cannot depend on some x.
      dtype: of x, z and variables; float16, float32 or float64.
      compute_dtype: of the matrix products of m; `dtype` when not given.
      seed: of the initial weights and of `"shuffle"`.
      name: of the distribution.

    Returns:
      A `tfd.TransformedDistribution` of event shape `event_shape`, in float32 unless `dtype` says
      otherwise.

    Raises:
      UserError: a value that breaks one of these rules; the message names both.

    Examples:
      >>> import nice_tf
      >>> flow = nice_tf.build_flow([2], num_couplings=2, hidden_units=(16,))
      >>> flow.log_prob([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]).shape
      TensorShape([3])
      >>> flow.sample(5).shape
      TensorShape([5, 2])
    """
    event_shape, event_size = check_event_shape(event_shape)
    check_dtype("dtype", dtype)
    check_count("num_couplings", num_couplings, 1)
    check_choice("conditioner", conditioner, CONDITIONERS)
    check_choice("marginals", marginals, MARGINALS)
    check_choice("conditioner_input", conditioner_input, CONDITIONER_INPUTS)
    _check_marginals(marginals, conditioner_input, input_range, whitening)
    _check_prior(
        prior,
        prior_components=prior_components,
        prior_clusters=prior_clusters,
        prior_patch=prior_patch,
    )
    check_choice("scaling", scaling, SCALINGS)
    check_choice("output_scale", output_scale, OUTPUT_SCALES)
    check_choice("input_range", input_range, INPUT_RANGES)
    check_choice("whitening", whitening, WHITENINGS)
    check_at_least("whitening_epsilon", whitening_epsilon, 0)
    check_at_least("min_inverse_scale", min_inverse_scale, 0)
    widths = _widths_by_coupling(hidden_units, num_couplings)
    splits = coupling_splits(
        event_shape, num_couplings, partition=partition, mixing=mixing, seed=seed
    )
    if not allow_incomplete_mixing:
        check_mixing(splits, partition, mixing)

    front = None
    if marginals != "none":
        front = QuantileTransform(
            event_size,
            family=_family(prior),
            levels=levels,
            steps=steps,
            origin=origin,
            spikes=spikes,
            spike_widths=spike_widths,
            tail_mass=_TAIL_MASS_OF_LEVELS if levels else None,
            is_trained=marginals == "trained",
            dtype=dtype,
        )

    networks = Networks(
        event_shape=event_shape,
        conditioner=conditioner,
        widths=widths,
        residual=residual,
        channels=channels,
        residual_blocks=residual_blocks,
        kernel_size=kernel_size,
        shared={
            "activation": activation,
            "dropout": dropout,
            "context_size": context_size,
            "init_range": init_range,
            "zero_last_layer": zero_last_layer,
            "has_output_scale": output_scale == "deviation",
            "dtype": dtype,
            "compute_dtype": compute_dtype,
        },
        marginals=front if conditioner_input == "values" else None,
        seed=seed,
    )
    first = [front]
    if front is None:
        first = _range_layers(input_range, event_size, dtype)
    layers = [
        tfb.Reshape(event_shape_in=event_shape, event_shape_out=[event_size]),
        *first,
        *_whitening_layers(
            whitening, event_size, _in_units_of(input_range, whitening_epsilon), dtype
        ),
        *_coupling_layers(splits, networks),
    ]
    if scaling == "layer":
        max_log_scale = None
        narrowest = 1.0
        if isinstance(prior, str) and prior == "logistic_mixture":
            narrowest = MIN_COMPONENT_SCALE
        if min_inverse_scale:
            max_log_scale = -np.log(min_inverse_scale / narrowest)
        layers.append(DiagonalScaling(event_size, max_log_scale=max_log_scale, dtype=dtype))
    groups = None
    if prior_patch:
        groups = picture_patches(event_shape, prior_patch)
    latent = make_prior(
        prior,
        event_size,
        trainable_scale=scaling == "prior",
        min_scale=min_inverse_scale,
        num_components=prior_components,
        num_clusters=prior_clusters,
        groups=groups,
        dtype=dtype,
        seed=seed,
    )
    return as_density(latent, layers, name)


def _family(prior):
    """Whose quantiles the marginals give: where the prior is not known, those of the logistic."""
    if isinstance(prior, str):
        return {"gaussian": "normal", "normal": "normal"}.get(prior, "logistic")
    if is_location_scale(prior, tfd.Normal):
        return "normal"
    return "logistic"


def _check_marginals(marginals, conditioner_input, input_range, whitening):
    """What goes together with marginals."""
    if marginals == "none" and conditioner_input == "values":
        raise UserError(
            "conditioner_input 'values' is for marginals: without them m sees values anyway"
        )
    if marginals != "none" and input_range != "unit":
        raise UserError(
            f"marginals {marginals!r} take x on any range: leave input_range at 'unit', got "
            f"{input_range!r}"
        )
    if marginals != "none" and conditioner_input == "values" and whitening != "none":
        raise UserError(
            f"whitening {whitening!r} mixes the coordinates, which then are no values: "
            "conditioner_input must be 'mapped' with it, got 'values'"
        )


def _check_prior(prior, *, prior_components, prior_clusters, prior_patch):
    """What belongs to the mixture alone."""
    check_count("prior_patch", prior_patch, 0)
    if prior_patch and prior_clusters == 1:
        raise UserError(
            f"prior_patch is for several prior_clusters, got {prior_patch} with prior_clusters 1: "
            "give prior_patch 0"
        )
    if prior == "logistic_mixture":
        return
    for name, value, usual in (
        ("prior_components", prior_components, _COMPONENTS),
        ("prior_clusters", prior_clusters, 1),
    ):
        if value != usual:
            raise UserError(
                f"{name} is for prior logistic_mixture, got {value} with prior {prior}: give "
                f"{name} {usual}"
            )


def _range_layers(input_range, event_size, dtype):
    """The centre; with the symmetric range 2 x - 1. `initialize_from_data` finds a better one."""
    center = Center(event_size, dtype=dtype)
    if input_range == "unit":
        return [center]
    center.loc.assign(tf.fill([event_size], tf.constant(0.5, dtype)))
    return [center, tfb.Scale(tf.constant(2.0, dtype))]


def _in_units_of(input_range, variance):
    """A variance in squared units of x in those of the range that the first layers put x on."""
    if input_range == "unit":
        return variance
    return 4 * variance


def _whitening_layers(whitening, event_size, epsilon, dtype):
    if whitening == "none":
        return []
    if whitening == "standardize":
        return [Standardize(event_size, dtype=dtype)]
    if whitening == "zca":
        return [Whitening(event_size, epsilon=epsilon, dtype=dtype)]
    if whitening == "triangular":
        return [TriangularWhitening(event_size, dtype=dtype)]
    return [
        Standardize(event_size, dtype=dtype),
        TriangularWhitening(event_size, shrinkage=True, dtype=dtype),
    ]


def _coupling_layers(splits, networks):
    """Each coupling behind the permutation that it reads the coordinates in; the last one puts them
    in order again.

    Args:
      splits: of `coupling_splits`.
      networks: makes the m of each.

    Returns:
      A list of bijectors.
    """
    in_order = np.arange(len(splits[0].order))
    layers = []
    order = in_order
    for k, split in enumerate(splits):
        layers += reorder(order, split.order)
        layers.append(
            AdditiveCoupling(
                networks.make(k, split),
                num_passthrough=split.num_passthrough,
                passthrough=split.passthrough,
            )
        )
        order = split.order
    return layers + reorder(order, in_order)


def _widths_by_coupling(hidden_units: Any, num_couplings: int) -> Sequence[Sequence[int]]:
    try:
        parts = list(hidden_units)
        shared = [operator.index(part) for part in parts if np.ndim(part) == 0]
        own = [[operator.index(width) for width in part] for part in parts if np.ndim(part)]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"hidden_units must be whole numbers, or for each coupling such a sequence, got "
            f"{hidden_units}"
        ) from error
    if not own:
        return [shared] * num_couplings
    if shared:
        raise UserError(
            f"hidden_units must be integers, or sequences of them, not both, got {hidden_units}"
        )
    if len(own) != num_couplings:
        raise UserError(
            f"hidden_units has {len(own)} sequences, num_couplings is {num_couplings}: give one "
            "for each"
        )
    return own


def freeze(
    flow: tfd.TransformedDistribution, *, num_branches: int | None = None
) -> tfd.TransformedDistribution:
    """The same density, faster and without training: a `FrozenMLP` instead of every `MLP` that is
    not residual, and marginals whose tables are made once.

    Args:
      flow: as `build_flow` made it. Its networks and marginals are copied; the other layers and the
        prior are shared.
      num_branches: as for `FrozenMLP`.

    Returns:
      A flow of the same layers, which takes no `dropout_seed`; a conditional one takes its
      `context_kwargs`.

    Raises:
      UserError: a flow of `condition`, which holds its context.
    """
    check_holds_no_context(flow, "freeze the flow first, condition(freeze(flow), context)")

    def frozen(layer):
        if isinstance(layer, QuantileTransform):
            return layer.frozen()
        if not isinstance(layer, AdditiveCoupling):
            return layer
        conditioner = _frozen_conditioner(layer.conditioner, num_branches)
        if conditioner is layer.conditioner:
            return layer
        return AdditiveCoupling(
            conditioner,
            num_passthrough=layer.num_passthrough,
            passthrough=layer.passthrough,
            validate_args=layer.validate_args,
            name=layer.name,
        )

    frozen_layers = [frozen(layer) for layer in layers(flow)]
    return as_density(flow.distribution, frozen_layers, flow.name)


def _frozen_conditioner(conditioner, num_branches):
    if isinstance(conditioner, View):
        return conditioner.frozen(_frozen_conditioner(conditioner.conditioner, num_branches))
    if type(conditioner) is not MLP or conditioner.residual:  # a subclass may compute otherwise
        return conditioner
    return FrozenMLP(conditioner, num_branches=num_branches)


def sample(
    flow: tfd.TransformedDistribution,
    num_samples: int,
    *,
    seed: tf.Tensor,
    temperature: float = 1.0,
    context: tf.Tensor | None = None,
) -> tf.Tensor:
    """Draws x = f^-1(temperature * z), z from the prior.

    Args:
      flow: as `build_flow` made it.
      num_samples: how many.
      seed: stateless seed, int32 `[2]`.
      temperature: above 0; 1 samples the model itself, less stays nearer to the mode.
      context: of a conditional flow, `[context_size]` for all samples or `[num_samples,
        context_size]`.

    Returns:
      x, `[num_samples, *event_shape]`, in density units, unclipped.

    Raises:
      UserError: a temperature of 0 or below; a flow of `condition`, which holds its context.
    """
    if not temperature > 0:
        raise UserError(f"temperature must be above 0, got {temperature}")
    check_holds_no_context(
        flow, "give the flow itself and context=, or call the sample method of this one"
    )
    z = temperature * flow.distribution.sample(num_samples, seed=seed)
    return encoder(flow).inverse(z, **context_kwargs(context).get("bijector_kwargs", {}))
