"""TFP's classes as `isinstance` needs them.

`tfb.Chain(...)` makes an object of another class, from which `tfb.Chain` is derived, where a member
is no CompositeTensor, as the layers of this package are; so do these others.
"""

import tensorflow_probability as tfp

tfb = tfp.bijectors
tfd = tfp.distributions

Chain = tfb.Chain.__mro__[1]
Invert = tfb.Invert.__mro__[1]
Independent = tfd.Independent.__mro__[1]
MixtureSameFamily = tfd.MixtureSameFamily.__mro__[1]
Sample = tfd.Sample.__mro__[1]
TransformedDistribution = tfd.TransformedDistribution.__mro__[1]
