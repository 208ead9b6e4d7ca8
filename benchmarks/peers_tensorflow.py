"""Contestants on TensorFlow; see `contest`."""

import functools
import itertools
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

import nice_tf
from nice_tf.data.batches import training_batches
from nice_tf.data.dataset import Data
from nice_tf.training.model import make_model

tfb, tfd = tfp.bijectors, tfp.distributions


def _check_size(variables, shape):
    size = sum(variable.shape.num_elements() for variable in variables)
    if size != shape.num_parameters:
        raise ValueError(f"{size} parameters instead of {shape.num_parameters}")


class _Flow:
    """Density and samples of a `tfd.Distribution` under `tf.function`."""

    def __init__(self, contestant, shape):
        self._contestant, self._shape = contestant, shape

    def log_prob(self, batch):
        """A call that scores a batch, ending with NumPy."""
        score = tf.function(self._flow.log_prob, jit_compile=self._contestant.compiled)
        x = tf.constant(
            np.random.default_rng(0).random([batch, self._shape.event_size], np.float32)
        )
        return lambda: score(x).numpy()[0]

    def sample(self, batch):
        """A call that draws a batch, ending with NumPy."""
        seeds = itertools.count()
        draw = tf.function(
            lambda seed: self._flow.sample(batch, seed=seed), jit_compile=self._contestant.compiled
        )
        return lambda: draw(tf.constant([0, next(seeds)])).numpy()[0, 0]


class NiceTf(_Flow):
    """This package, as `nice-tf train` runs it; a frozen flow answers."""

    def training_step(self, values, batch):
        """One call of the function that Keras' `fit` repeats, input pipeline and metrics with it."""
        config = nice_tf.Config(
            num_couplings=self._shape.couplings,
            hidden_units=(self._shape.hidden,) * self._shape.depth,
            precision=self._contestant.precision,
            batch_size=batch,
            jit_compile="true" if self._contestant.compiled else "false",
        )
        model = make_model(
            config, Data("random", train=values, validation=values, test=values, levels=256)
        )
        _check_size(model.flow.trainable_variables, self._shape)
        batches = iter(training_batches(values, batch, seed=0, first_step=0, last_step=2**40))
        step = model.make_train_function()
        return lambda: step(batches)["log_prob"]

    @functools.cached_property
    def _flow(self):
        flow = nice_tf.build_flow(
            [self._shape.event_size],
            num_couplings=self._shape.couplings,
            hidden_units=(self._shape.hidden,) * self._shape.depth,
            zero_last_layer=False,
            compute_dtype=tf.as_dtype(self._contestant.precision),
        )
        return nice_tf.freeze(flow, num_branches=1 if self._contestant.compiled else None)


class Tfp(_Flow):
    """`tfb.RealNVP` that only shifts, with networks of tf_keras and its Adam."""

    def training_step(self, values, batch):
        """One `tf.function` from 8-bit integers to new weights."""
        flow, data = self._flow, tf.constant(values)
        _check_size(self._variables, self._shape)
        optimizer = tf_keras.optimizers.Adam(1e-3, beta_1=0.9, beta_2=0.99, epsilon=1e-4)
        optimizer.build(self._variables)

        @tf.function(jit_compile=self._contestant.compiled)
        def step():
            rows = tf.random.uniform([batch], maxval=len(values), dtype=tf.int32)
            x = (
                tf.cast(tf.gather(data, rows), tf.float32)
                + tf.random.uniform([batch, values.shape[1]])
            ) / 256
            with tf.GradientTape() as tape:
                loss = -tf.reduce_mean(flow.log_prob(x))
            optimizer.apply_gradients(
                zip(tape.gradient(loss, self._variables), self._variables, strict=True)
            )
            return loss

        return step

    @functools.cached_property
    def _flow(self):
        shape = self._shape
        bfloat16 = self._contestant.precision == "bfloat16"
        policy = tf_keras.mixed_precision.Policy("mixed_bfloat16" if bfloat16 else "float32")
        log_scale = tf.Variable(tf.zeros([shape.event_size]))
        self._variables = [log_scale]

        def coupling():
            layers = [
                tf_keras.layers.Dense(shape.hidden, "relu", dtype=policy)
                for _ in range(shape.depth)
            ]
            network = tf_keras.Sequential(
                [*layers, tf_keras.layers.Dense(shape.half, dtype=policy)]
            )
            network.build([None, shape.half])
            self._variables += network.trainable_variables
            return tfb.RealNVP(
                num_masked=shape.half,
                shift_and_log_scale_fn=lambda x, depth, **_: (
                    tf.cast(network(x), tf.float32),
                    None,
                ),
            )

        bijectors = [tfb.Scale(log_scale=log_scale), coupling()]  # latent to data
        for _ in range(shape.couplings - 1):
            bijectors += [tfb.Permute(np.roll(np.arange(shape.event_size), shape.half)), coupling()]
        prior = tfd.Independent(
            tfd.Logistic(tf.zeros([shape.event_size]), 1.0), reinterpreted_batch_ndims=1
        )
        return tfd.TransformedDistribution(prior, tfb.Chain(bijectors[::-1]))


class Matmul:
    """The matrix products of a training step alone, weights already in the precision: the roof."""

    def __init__(self, contestant, shape):
        self._dtype, self._shape = tf.as_dtype(contestant.precision), shape

    def training_step(self, values, batch):
        """Forward, and for each weight the two products of the backward pass; none for the gradient
        of the data.
        """
        sizes = list(itertools.pairwise(self._shape.widths)) * self._shape.couplings
        kernels = [
            tf.Variable(tf.cast(tf.random.normal(size, stddev=size[0] ** -0.5), self._dtype))
            for size in sizes
        ]
        x = tf.Variable(tf.cast(tf.random.normal([batch, self._shape.half]), self._dtype))

        @tf.function
        def step():
            inputs = [x]
            for kernel in kernels:
                inputs.append(tf.matmul(inputs[-1], kernel))
            gradient, corners = inputs.pop(), []
            for layer, kernel in reversed(list(enumerate(kernels))):
                corners.append(tf.matmul(inputs[layer], gradient, transpose_a=True)[0, 0])
                if layer > 0:
                    gradient = tf.matmul(gradient, kernel, transpose_b=True)
            return tf.add_n(corners)  # something of each product, or TensorFlow would leave it out

        return step
