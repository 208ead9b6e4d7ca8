import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from bijector_laws import fresh
from flows import random_points

import nice_tf
from nice_tf.flows.logistic import Logistic
from nice_tf.flows.priors import make_prior

tfd = tfp.distributions


@pytest.mark.parametrize(
    ("kind", "reference"), [("logistic", scipy.stats.logistic), ("gaussian", scipy.stats.norm)]
)
def test_log_prob_against_scipy(kind, reference):
    z = np.array([[-3.0, 0.0, 0.5], [40.0, -700.0, 2.0]])
    prior = make_prior(kind, 3, dtype=tf.float64)
    np.testing.assert_allclose(prior.log_prob(z), reference.logpdf(z).sum(axis=-1), rtol=1e-12)
    assert prior.event_shape == [3] and not prior.trainable_variables


def test_the_logistic_is_tfps():
    """Its log-density is written down anew; values and slopes up to the second stay the same."""
    own = Logistic(tf.constant(0.3, tf.float64), tf.constant(1.7, tf.float64))
    reference = tfd.Logistic(own.loc, own.scale)
    x = tf.linspace(tf.constant(-300.0, tf.float64), 301.0, 1000)
    found = []
    for prior in (own, reference):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                log_prob = prior.log_prob(x)
            slope = inner.gradient(log_prob, x)
        found.append([log_prob, slope, outer.gradient(slope, x)])
    np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-14)
    assert type(own.copy(loc=tf.zeros([], tf.float64))) is Logistic


def test_trainable_scale_and_its_floor():
    prior = nice_tf.gaussian_prior(2, trainable_scale=True, min_scale=0.5, dtype=tf.float64)
    (log_scale,) = prior.trainable_variables
    log_scale.assign([np.log(3.0), np.log(0.1)])
    z = random_points(4, 2)
    expected = scipy.stats.norm.logpdf(z, scale=[3.0, 0.5]).sum(axis=-1)
    np.testing.assert_allclose(prior.log_prob(fresh(z)), expected, rtol=1e-12)


def test_finite_far_out_in_float32():
    z = tf.constant([[1e30, -1e30]])
    assert np.all(np.isfinite(nice_tf.logistic_prior(2).log_prob(z)))


def test_unknown_prior():
    with pytest.raises(
        nice_tf.UserError, match="one of logistic, gaussian, logistic_mixture, got 'laplace'"
    ):
        make_prior("laplace", 2)
