"""Flows with weights of size about 1, so that nothing in them is near the identity."""

import numpy as np
import tensorflow as tf

import nice_tf


def randomize(module, seed=0, deviation=0.5):
    """Overwrites every variable of a module with N(0, deviation^2) draws."""
    generator = np.random.default_rng(seed)
    for variable in module.variables:
        variable.assign(
            generator.normal(0.0, deviation, variable.shape).astype(variable.dtype.as_numpy_dtype)
        )
    return module


def random_flow(event_shape, seed=0, dtype=tf.float64, **kwargs):
    """A small flow of `build_flow` with random weights, mean and scales."""
    kwargs = {"hidden_units": (7, 6), "activation": "tanh", **kwargs}
    return randomize(nice_tf.build_flow(event_shape, dtype=dtype, **kwargs), seed)


def random_points(*shape, seed=1, dtype=np.float64):
    """Standard normal points."""
    return tf.constant(np.random.default_rng(seed).normal(size=shape).astype(dtype))
