"""The logistic distribution, exact far out in LiteRT, too."""

import tensorflow as tf
import tensorflow_probability as tfp


class Logistic(tfp.distributions.Logistic):
    """`tfd.Logistic`, whose log-density has no exponential of a large number.

    TFP's is -z - 2 softplus(-z). LiteRT has no softplus: its converter writes log(1 + exp(-z)),
    which is infinite in float32 for z below -88. An unusual example would get the lowest number.
    """

    def _log_prob(self, x):
        z = (x - self.loc) / self.scale
        distance = tf.abs(z)
        return -distance - 2 * tf.math.log1p(tf.exp(-distance)) - tf.math.log(self.scale)
