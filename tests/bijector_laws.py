"""The laws every bijector must keep, checked without TFP's cache and against automatic
differentiation.
"""

import numpy as np
import tensorflow as tf


def fresh(tensor):
    """A new tensor of the same value: TFP answers inverse(forward(x)) from memory when it meets the
    same one.
    """
    return tf.identity(tensor)


def jacobian(function, x):
    """Jacobian of a function of one flat event: [D] -> [D]."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape(
        persistent=True
    ) as tape:  # eager jacobians without vectorization ask for it
        tape.watch(x)
        y = function(x[tf.newaxis])[0]
    return tape.jacobian(y, x, experimental_use_pfor=False).numpy()


def check_laws(bijector, x, *, atol):
    """Round trips both ways and log-dets both ways; x is [N, D] in the bijector's dtype, never a
    fixed point.
    """
    y = bijector.forward(fresh(x))
    assert y.shape == x.shape and y.dtype == x.dtype
    assert np.max(np.abs(y - x)) > 0.1, "an identity proves nothing"
    np.testing.assert_allclose(bijector.inverse(fresh(y)), x, rtol=0, atol=atol)
    np.testing.assert_allclose(
        bijector.forward(fresh(bijector.inverse(fresh(y)))), y, rtol=0, atol=atol
    )
    for point, image in zip(x[:3], y[:3], strict=True):
        forward = np.linalg.slogdet(jacobian(bijector.forward, point))[1]
        inverse = np.linalg.slogdet(jacobian(bijector.inverse, image))[1]
        np.testing.assert_allclose(
            bijector.forward_log_det_jacobian(fresh(point), 1), forward, atol=100 * atol
        )
        np.testing.assert_allclose(
            bijector.inverse_log_det_jacobian(fresh(image), 1), inverse, atol=100 * atol
        )
        np.testing.assert_allclose(forward, -inverse, atol=100 * atol)
