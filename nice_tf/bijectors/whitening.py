"""Linear layers that take the correlation out of the data before the couplings."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.parameters import Layer, check_event_size, check_examples
from nice_tf.errors import UserError, check_at_least, check_choice

KINDS = ("zca", "pca")
_ROWS_AT_ONCE = 4096


def covariance(x: np.ndarray) -> np.ndarray:
    """Covariance of examples `[N, D]` in float64, `[D, D]`, with no more than a few thousand rows
    in float64 at once.

    Raises:
      UserError: fewer than 2 examples.
    """
    if len(x) < 2:
        raise UserError(f"a covariance needs at least 2 examples, got {len(x)}")
    mean = np.mean(x, axis=0, dtype=np.float64)
    total = np.zeros([x.shape[1]] * 2)
    for start in range(0, len(x), _ROWS_AT_ONCE):
        rows = x[start : start + _ROWS_AT_ONCE] - mean
        total += rows.T @ rows
    return total / len(x)


def _spectrum(x, *, may_be_singular):
    """Eigenvalues, ascending, and eigenvectors of the covariance; refuses one of a rank below D."""
    eigenvalues, vectors = np.linalg.eigh(covariance(x))
    size = len(eigenvalues)
    # Below this an eigenvalue is rounding, of the sum over examples or of the values themselves,
    # not variance.
    rounding = 0.0
    if x.dtype.kind == "f":
        rounding = np.finfo(x.dtype).eps * np.max(np.abs(x))
    resolution = size * max(eigenvalues[-1] * np.finfo(np.float64).eps, rounding**2)
    rank = int(np.sum(eigenvalues > resolution))
    if rank < size and not may_be_singular:
        raise UserError(
            f"the covariance of {len(x)} examples has rank {rank}, below the {size} coordinates: "
            f"its density would be infinite. More than {size} examples are needed, no coordinate a "
            "sum of others; or whiten by zca with a whitening_epsilon above 0"
        )
    return eigenvalues, vectors


class _LinearLayer(Layer):
    """A layer that multiplies by a whole `matrix`."""

    @property
    def mixes_linearly(self) -> bool:
        """True."""
        return True

    def times_linear_part(self, matrix: tf.Tensor) -> tf.Tensor:
        """The layer's matrix times another, `[D, D]`."""
        return self.matrix @ matrix

    def deviations_before(self, sigma: tf.Tensor) -> tf.Tensor:
        """(sum_j W_jd^2 / sigma_j^2)^(-1/2), `[D]`."""
        scaled = self.matrix / sigma[:, tf.newaxis]
        return tf.math.rsqrt(tf.reduce_sum(tf.square(scaled), axis=0))


class Whitening(_LinearLayer):
    """Whitening by a fixed matrix, fitted to data and not trained (Dinh et al. 2014, section 5.1).

        forward:           y = W x
        inverse:           x = W^-1 y
        forward log-det:   -1/2 sum_d log max(lambda_d, epsilon)
        inverse log-det:   its negative

    With the covariance U diag(lambda) U^T of the data, ZCA takes W = U diag(lambda^-1/2) U^T, the
    whitening nearest to the identity, and PCA takes W = diag(lambda^-1/2) U^T. W is the identity
    until `fit`. The mean is not taken off: put `Center` before it.

    Examples:
      >>> import nice_tf
      >>> import numpy as np
      >>> x = np.random.default_rng(0).normal(size=[500, 2]) @ [[2.0, 1.0], [0.0, 1.0]]
      >>> layer = nice_tf.Whitening(2)
      >>> layer.fit(x)
      >>> bool(np.allclose(np.cov(layer.forward(x), rowvar=False), np.eye(2), atol=0.01))
      True
    """

    def __init__(
        self,
        event_size: int,
        *,
        kind: str = "zca",
        epsilon: float = 0.0,
        matrix: tf.Tensor | tf.Variable | None = None,
        inverse_matrix: tf.Tensor | tf.Variable | None = None,
        log_det: tf.Tensor | tf.Variable | None = None,
        dtype: tf.DType = tf.float32,
        validate_args: bool = False,
        name: str = "whitening",
    ):
        """Makes the layer and its untrained variables.

        Args:
          event_size: D, length of the last axis.
          kind: `"zca"` or `"pca"`.
          epsilon: floor of the eigenvalues lambda, in squared units of x; 0 for none.
          matrix: W, `[D, D]`, kept by reference; a new untrained variable, the identity, when not
            given.
          inverse_matrix: W^-1, `[D, D]`, as `matrix`. The three go together.
          log_det: log |det W|, a scalar, as `matrix`.
          dtype: of the new variables. The fit is made in float64 whatever it is.
          validate_args: as for every TFP bijector.
          name: as for every TFP bijector.

        Raises:
          UserError: `event_size` below 1, an unknown kind, a negative `epsilon`, only some of the
            three, or one of another shape.
        """
        arguments = dict(locals())
        check_choice("kind", kind, KINDS)
        check_at_least("epsilon", epsilon, 0)
        if len({value is None for value in (matrix, inverse_matrix, log_det)}) > 1:
            raise UserError(
                "matrix, inverse_matrix and log_det must be given together, or none of them"
            )
        check_event_size(event_size)
        identity = tf.eye(event_size, dtype=dtype)
        starts = {"matrix": identity, "inverse_matrix": identity, "log_det": tf.zeros([], dtype)}
        super().__init__(arguments, starts=starts)
        self._matrix = arguments["matrix"]
        self._inverse_matrix = arguments["inverse_matrix"]
        self._log_det = arguments["log_det"]
        self._kind = kind
        self._epsilon = epsilon

    @property
    def matrix(self) -> tf.Variable:
        """W, `[D, D]`."""
        return self._matrix

    def fit(self, x: np.ndarray) -> None:
        """Sets W from training examples.

        Args:
          x: `[N, D]`.

        Raises:
          UserError: examples of another size, or a covariance of rank below D, to rounding, where
            `epsilon` is 0.
        """
        x = check_examples(x, self._matrix.shape[0])
        eigenvalues, vectors = _spectrum(x, may_be_singular=self._epsilon > 0)
        scales = np.sqrt(np.maximum(eigenvalues, self._epsilon))
        last = np.eye(len(scales))
        if self._kind == "zca":
            last = vectors.T
        self._matrix.assign(last.T / scales @ vectors.T)
        self._inverse_matrix.assign(vectors * scales @ last)
        self._log_det.assign(-np.sum(np.log(scales)))

    def _forward(self, x):
        return _times(self._matrix, self._sized(x))

    def _inverse(self, y):
        return _times(self._inverse_matrix, self._sized(y))

    def _forward_log_det_jacobian(self, x):
        return tf.identity(self._log_det)


class TriangularWhitening(_LinearLayer):
    """Approximate whitening by a lower triangular matrix, trained with the flow (Dinh et al. 2014,
    section 5.1).

        forward:           y = L x + b
        inverse:           x = L^-1 (y - b)
        forward log-det:   sum_d log L_dd
        inverse log-det:   its negative

    One variable holds the D (D + 1) / 2 values of L row by row as `tfp.math.fill_triangular` packs
    them, with log L_dd on the diagonal, so that L stays invertible. L starts as the identity, or
    from `fit`.
    """

    def __init__(
        self,
        event_size: int,
        *,
        packed: tf.Tensor | tf.Variable | None = None,
        shift: tf.Tensor | tf.Variable | None = None,
        shrinkage: bool = False,
        dtype: tf.DType = tf.float32,
        validate_args: bool = False,
        name: str = "triangular_whitening",
    ):
        """Makes the layer.

        Args:
          event_size: D, length of the last axis.
          packed: L as said above, `[D (D + 1) / 2]`, kept by reference; a new variable of zeros
            when not given.
          shift: b, `[D]`, as `packed`.
          shrinkage: let `fit` draw the covariance towards a multiple of the identity, as much as
            suits the number of examples (Ledoit & Wolf 2004), so that few examples and coordinates
            that depend on others are no error. For coordinates of like deviations: put
            `Standardize` before it.
          dtype: of the new variables.
          validate_args: as for every TFP bijector.
          name: as for every TFP bijector.

        Raises:
          UserError: `event_size` below 1, or a `packed` or `shift` of another shape.
        """
        arguments = dict(locals())
        check_event_size(event_size)
        num_packed = event_size * (event_size + 1) // 2
        starts = {"packed": tf.zeros([num_packed], dtype), "shift": tf.zeros([event_size], dtype)}
        super().__init__(arguments, starts=starts, trainable=True)
        self._packed = arguments["packed"]
        self._shift = arguments["shift"]
        self._shrinkage = shrinkage

    @property
    def shrinkage(self) -> bool:
        """Whether `fit` shrinks the covariance."""
        return self._shrinkage

    @property
    def matrix(self) -> tf.Tensor:
        """L, `[D, D]`."""
        triangle = tfp.math.fill_triangular(self._packed)
        return tf.linalg.set_diag(triangle, tf.exp(tf.linalg.diag_part(triangle)))

    def fit(self, x: np.ndarray) -> None:
        """Starts L and b where they whiten training examples exactly; arguments and errors as for
        `Whitening.fit`.
        """
        triangle, shift = self._fitted_to(check_examples(x, self._shift.shape[0]))
        self._shift.assign(shift)
        np.fill_diagonal(triangle, np.log(np.diagonal(triangle)))
        self._packed.assign(tf.cast(tfp.math.fill_triangular_inverse(triangle), self._packed.dtype))

    def forward_of_fitted(self, x: tf.Tensor) -> tf.Tensor:
        """With shrinkage, what `cross_fitted` gives: else few examples would make the scales behind
        too narrow.
        """
        if not self._shrinkage:
            return self.forward(x)
        return tf.constant(self.cross_fitted(np.asarray(x)))

    def cross_fitted(self, x: np.ndarray) -> np.ndarray:
        """Training examples as new ones would look: each whitened by a fit to the others.

        What L was fitted to comes out of it with smaller deviations than new examples, the more so
        the fewer examples there are for a coordinate.

        Args:
          x: `[N, D]`, in ten parts, each of which the others are fitted for; N at least 3.

        Returns:
          y, `[N, D]`, in the dtype of L.

        Raises:
          UserError: as for `fit`, or fewer than 3 examples.
        """
        x = check_examples(x, self._shift.shape[0])
        if len(x) < 3:
            raise UserError(
                f"fitting to one part and whitening another needs at least 3 examples, got {len(x)}"
            )
        part = np.arange(len(x)) % 10
        y = np.empty(x.shape, self.dtype.as_numpy_dtype)
        for number in range(min(10, len(x))):
            triangle, shift = self._fitted_to(x[part != number])
            y[part == number] = x[part == number] @ triangle.T + shift
        return y

    def _fitted_to(self, x):
        """L and b in float64."""
        if self._shrinkage:
            from sklearn.covariance import (
                ledoit_wolf,
            )  # a second of start-up that no other layer needs

            shrunk, _ = ledoit_wolf(np.asarray(x, np.float64))
        else:
            eigenvalues, vectors = _spectrum(x, may_be_singular=False)
            shrunk = vectors * eigenvalues @ vectors.T
        triangle = np.tril(np.linalg.inv(np.linalg.cholesky(shrunk)))
        return triangle, -triangle @ np.mean(x, axis=0, dtype=np.float64)

    def _forward(self, x):
        return _times(self.matrix, self._sized(x)) + self._shift

    def _inverse(self, y):
        return _solve_triangular(self.matrix, self._sized(y) - self._shift)

    def _forward_log_det_jacobian(self, x):
        return tf.reduce_sum(tf.linalg.diag_part(tfp.math.fill_triangular(self._packed)))


def _times(matrix, x):
    """The matrix times each example of `[..., D]`, as one product (`tf.linalg.matvec` makes one for
    each example).
    """
    return tf.ensure_shape(tf.tensordot(x, matrix, [[-1], [1]]), x.shape)


def _solve_triangular(matrix, y):
    """L^-1 y for `[..., D]`: one solve with all examples as right-hand sides."""
    columns = tf.linalg.matrix_transpose(tf.reshape(y, [-1, matrix.shape[0]]))
    solved = tf.linalg.matrix_transpose(tf.linalg.triangular_solve(matrix, columns, lower=True))
    return tf.reshape(solved, tf.shape(y))
