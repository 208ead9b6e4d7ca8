"""The layers, as TFP bijectors whose `forward` is data to latent, and the functions m."""

from nice_tf.bijectors.conditioners import MLP as MLP
from nice_tf.bijectors.conditioners import FrozenMLP as FrozenMLP
from nice_tf.bijectors.coupling import AdditiveCoupling as AdditiveCoupling
from nice_tf.bijectors.diagonal import Center as Center
from nice_tf.bijectors.diagonal import DiagonalScaling as DiagonalScaling
from nice_tf.bijectors.diagonal import Standardize as Standardize
from nice_tf.bijectors.whitening import TriangularWhitening as TriangularWhitening
from nice_tf.bijectors.whitening import Whitening as Whitening
