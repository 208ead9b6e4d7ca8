"""The flow that the settings of a run describe, and the memory that it takes."""

import itertools
import math
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf import memory
from nice_tf.bijectors.convolutions import count_convolution
from nice_tf.bijectors.coupling import coupling_splits
from nice_tf.bijectors.marginals import MAX_BINS
from nice_tf.config import Config
from nice_tf.data.labels import num_classes
from nice_tf.data.schema import Schema
from nice_tf.errors import UserError
from nice_tf.flows.flow import build_flow
from nice_tf.flows.mixtures import picture_patches
from nice_tf.flows.networks import grid_of

tfd = tfp.distributions

# On integer data without noise the likelihood is unbounded; this bound on 1/s keeps it finite.
MIN_INVERSE_SCALE_WITHOUT_NOISE = 1e-6


def make_flow(
    config: Config,
    event_shape: list[int],
    *,
    num_classes: int = 0,
    levels: int | None = None,
    schema: Schema | None = None,
    dropout: float = 0.0,
    compute_dtype: tf.DType | None = None,
) -> tfd.TransformedDistribution:
    """The flow that the settings describe; training adds its dropout and its precision.

    Args:
      config: the settings.
      event_shape: of one example.
      num_classes: C, the length of the context; 0 for p(x).
      levels: number of integer levels of the data; `None` for others.
      schema: of a table.
      dropout: as for `build_flow`.
      compute_dtype: as for `build_flow`.

    Raises:
      UserError: it is more than fits into memory; and as `build_flow` says.
    """
    if tf.executing_eagerly():  # in a graph variables have their shapes, and no values
        check_memory(config, event_shape, num_classes, copies=1)
    min_inverse_scale = 0.0
    if config.dequantization == "none":
        min_inverse_scale = MIN_INVERSE_SCALE_WITHOUT_NOISE
    init_range = None
    if config.kernel_init == "uniform":
        init_range = config.init_range
    steps = None
    origin: float | np.ndarray = 0.0
    bins_of_spikes: dict[str, Any] = {}
    if schema:
        steps = schema.steps
        origin, _ = schema.bounds
        if schema.spikes:
            widths = schema.spikes.widths
            bins_of_spikes = {"spikes": schema.spikes.values, "spike_widths": widths}
    return build_flow(
        event_shape,
        num_couplings=config.num_couplings,
        hidden_units=config.hidden_units,
        activation=config.activation,
        residual=config.residual,
        conditioner=config.conditioner,
        channels=config.channels,
        residual_blocks=config.residual_blocks,
        kernel_size=config.kernel_size,
        dropout=dropout,
        context_size=num_classes,
        partition=config.partition,
        mixing=config.mixing,
        prior=config.prior,
        prior_components=config.prior_components,
        prior_clusters=config.prior_clusters,
        prior_patch=config.prior_patch,
        marginals=config.marginals,
        levels=levels or 0,
        steps=steps,
        origin=origin,
        **bins_of_spikes,
        conditioner_input=config.conditioner_input,
        scaling=config.scaling,
        output_scale=config.output_scale,
        min_inverse_scale=min_inverse_scale,
        input_range=config.input_range,
        whitening=config.whitening,
        whitening_epsilon=config.whitening_epsilon,
        init_range=init_range,
        zero_last_layer=config.zero_last_layer,
        allow_incomplete_mixing=config.allow_incomplete_mixing,
        dtype=_dtype(config),
        compute_dtype=compute_dtype,
        seed=config.seed,
    )


def flow_of_description(config: Config, data: dict[str, Any]) -> tfd.TransformedDistribution:
    """The flow of a run, to be restored.

    Args:
      config: its settings.
      data: what its `config.json` says of the data.
    """
    schema = None
    if "schema" in data:
        schema = Schema.from_dict(data["schema"])
    return make_flow(
        config,
        data["event_shape"],
        num_classes=num_classes(data),
        levels=data["levels"],
        schema=schema,
    )


def _dtype(config):
    if config.precision == "float64":
        return tf.float64
    return tf.float32


def count_parameters(config: Config, event_shape: list[int], num_classes: int = 0) -> int:
    """How many numbers the flow of these settings trains, before it is made; without a
    whitening.
    """
    size = math.prod(event_shape)
    splits = coupling_splits(
        event_shape, config.num_couplings, partition=config.partition, mixing=config.mixing
    )
    number = size
    if config.prior == "logistic_mixture":
        # Locations and scales, and the weights of each cluster; patches share them.
        num_patches = _num_patches(config, event_shape)
        number += (2 + config.prior_clusters) * config.prior_components * size // num_patches
        if config.prior_clusters > 1:
            number += config.prior_clusters * num_patches
    if config.marginals == "trained":
        number += MAX_BINS * size  # data of fewer levels have as many bins as those
    for k, (split, widths) in enumerate(zip(splits, config.widths_by_coupling, strict=True)):
        grid = None
        if config.conditioner == "convolution":
            grid = grid_of(k, split, event_shape, config.kernel_size)
        if grid is not None:
            number += count_convolution(
                grid, config.channels, config.residual_blocks, config.kernel_size, num_classes
            )
            continue
        layer_sizes = (split.num_seen + num_classes, *widths, len(split.shifted))
        for fan_in, fan_out in itertools.pairwise(layer_sizes):
            number += (fan_in + 1) * fan_out
    return number


def _num_patches(config, event_shape):
    """How many patches of a picture have clusters for themselves."""
    if not config.prior_patch:
        return 1
    return int(np.max(picture_patches(event_shape, config.prior_patch))) + 1


# Measured: 200 examples of 784 values with 16 clusters of 8 components take 0.4 GB.
_COPIES_OF_LOGISTICS = 5


def check_memory(config: Config, event_shape: list[int], num_classes: int, *, copies: int) -> None:
    """Refuses what cannot fit: a process that takes too much memory is killed without a word.

    Args:
      config: the settings.
      event_shape: of one example.
      num_classes: C, the length of the context.
      copies: how many numbers are kept for each parameter: more in training.

    Raises:
      UserError: it is more than the memory that is free.
    """
    # A GPU has a memory of its own, and says itself when it is full.
    if tf.config.list_physical_devices("GPU"):
        return
    number = count_parameters(config, event_shape, num_classes)
    size = math.prod(event_shape)
    # Matrices of size x size.
    matrices = {"none": 0, "standardize": 0, "zca": 3}.get(config.whitening, copies)
    needed = (copies * number + matrices * size**2) * _dtype(config).size
    available = memory.available_memory()
    of_clusters = 0
    if config.prior_clusters > 1:
        # The densities by all logistics and in all clusters for each example, and their gradients.
        of_value = config.prior_clusters + config.prior_components
        of_batch = (config.batch_size or 1) * of_value * size
        of_clusters = _COPIES_OF_LOGISTICS * of_batch * _dtype(config).size
    if of_clusters > available:
        raise UserError(
            f"prior_clusters {config.prior_clusters} of {config.prior_components} prior_components "
            f"on {size:,} values, with batch_size {config.batch_size}, need "
            f"{of_clusters / 1e9:,.1f} GB of memory; {available / 1e9:,.1f} GB are free: give "
            "fewer, or a smaller batch_size"
        )
    if needed > available:
        raise UserError(
            f"hidden_units {config.flag_text('hidden_units')} in {config.num_couplings} couplings "
            f"with whitening {config.whitening} on {size:,} values make {number:,} parameters, "
            f"which need {needed / 1e9:,.1f} GB of memory; {available / 1e9:,.1f} GB are free: "
            "give fewer or narrower hidden_units, or smaller examples"
        )
