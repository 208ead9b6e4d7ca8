"""A monotone map of each coordinate by itself, fitted to data: its distribution function, then the
quantile function of the prior's family.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from nice_tf.bijectors import bins, piecewise
from nice_tf.bijectors.parameters import (
    Layer,
    check_event_size,
    check_examples,
    kept_or_new,
)
from nice_tf.bijectors.piecewise import Tensors
from nice_tf.choices import FAMILIES
from nice_tf.errors import UserError, check_choice, check_count

_ROWS_AT_ONCE = 4096
_MAX_ROWS = 50_000  # whose values are sorted
_MAX_LEVELS = 1024  # that have a bin each
MAX_BINS = 256  # of a coordinate of other data, unless told


class QuantileTransform(Layer):
    """Takes each coordinate through its distribution function F_d and the prior's quantile function
    Q.

        forward:           z_d = Q(F_d(x_d))
        inverse:           x_d = F_d^-1(Q^-1(z_d))
        forward log-det:   sum_d log F_d'(x_d) - log Q^-1'(z_d)
        inverse log-det:   its negative

    F is fitted to training values and, unless `is_trained`, not trained. In front of the couplings
    it makes the flow start as the product of its coordinates' densities, whatever their shapes:
    spikes, combs, gaps. (The marginals of a copula; Laparra et al. 2011 and Meng et al. 2020, arXiv
    2003.01941, iterate such maps.)

    F is piecewise: linear in each bin of discrete coordinates, a monotone rational-quadratic spline
    over bins of like numbers of examples on continuous ones. How many bins is chosen by held-out
    likelihood. Outside the range seen z is linear in x: the density falls off as that of the prior
    does, and is above 0 everywhere. F and 1 - F are computed apart, so that both ends are accurate.

    The inverse is as accurate as the mass allows: where F is almost level, as in the empty
    stretches of a comb, many x have nearly one z, and in float32 x comes back to within such a
    stretch.

    Examples:
      >>> import nice_tf
      >>> import numpy as np
      >>> x = np.random.default_rng(0).exponential(size=[2000, 2]).astype("float32")
      >>> layer = nice_tf.QuantileTransform(2, family="normal")
      >>> layer.fit(x)
      >>> z = layer.forward(x).numpy()  # by now normal, each coordinate by itself
      >>> bool((abs(z.mean(axis=0)) < 0.1).all() and (abs(z.std(axis=0) - 1) < 0.1).all())
      True
    """

    def __init__(
        self,
        event_size: int,
        *,
        family: str = "logistic",
        levels: int = 0,
        steps: np.ndarray | Sequence[float] | None = None,
        origin: np.ndarray | Sequence[float] | float = 0.0,
        spikes: np.ndarray | None = None,
        spike_widths: np.ndarray | Sequence[float] | float = 0.0,
        tail_mass: float | None = None,
        max_bins: int = MAX_BINS,
        is_trained: bool = False,
        edges: tf.Tensor | tf.Variable | None = None,
        below: tf.Tensor | tf.Variable | None = None,
        above: tf.Tensor | tf.Variable | None = None,
        masses: tf.Tensor | tf.Variable | None = None,
        slopes: tf.Tensor | tf.Variable | None = None,
        tail_scales: tf.Tensor | tf.Variable | None = None,
        means: tf.Tensor | tf.Variable | None = None,
        deviations: tf.Tensor | tf.Variable | None = None,
        offsets: tf.Tensor | tf.Variable | None = None,
        dtype: tf.DType = tf.float32,
        validate_args: bool = False,
        name: str = "quantile_transform",
    ):
        """Makes the layer; `fit` it before use.

        Args:
          event_size: D, length of the last axis.
          family: whose quantile function follows, `"logistic"` or `"normal"`.
          levels: of integer data dequantized on [0, 1], one bin each; 0 for other data. Above 1,024
            they share bins.
          steps: distance of the values of each coordinate before they were dequantized, 0 where it
            is continuous, `[D]`; `None` for all continuous. Not with `levels`.
          origin: an edge of the bins of width `steps`, a number or `[D]`.
          spikes: of continuous coordinates the values that come again and again, `[D, S]`, NaN for
            those of a coordinate that has fewer; `None` for none. Each has a bin of its own, over
            which examples are spread. Others that come again are found in the examples.
          spike_widths: of these bins, a number, `[D]` or `[D, S]`.
          tail_mass: F below the lowest edge, and 1 - F above the highest one; `None` for
            1 / (N + 2) of N examples, about the share of new ones that lie there. Much less would
            put those far away from their neighbours in z. Shifts of the couplings change it.
          max_bins: of a coordinate, at most; with `levels` it is their number.
          is_trained: whether the masses of the bins are trained with the rest of the flow, from the
            fitted ones on. The noise of a bin is uniform; behind F it has the prior's shape, and
            a shift by m bends it. Where to put a bin so that this costs least is learned here.
          edges: of the bins, `[D, max_bins + 1]`, ascending; those not used repeat the last. This
            and the others kept by reference, new untrained variables when not given; all together.
          below: F at the edges, `[D, max_bins + 1]`.
          above: 1 - F at the edges, `[D, max_bins + 1]`.
          masses: of the bins, `[D, max_bins]`.
          slopes: density at both ends of each bin, by its mean, `[D, max_bins, 2]`.
          tail_scales: distance over which the density falls outside, `[D, 2]`.
          means: of the values, `[D]`.
          deviations: of the values, `[D]`.
          offsets: of the logarithms of the masses, before they are scaled to the same sum,
            `[D, max_bins]`; with `is_trained` alone. Kept by reference, a new trainable variable
            of zeros when not given.
          dtype: of the new variables. The fit is made in float64 whatever it is.
          validate_args: as for every TFP bijector.
          name: as for every TFP bijector.

        Raises:
          UserError: a value out of these bounds, only some of the fitted arrays, one of another
            shape, or one that is no distribution function.
        """
        arguments = dict(locals())
        check_event_size(event_size)
        check_choice("family", family, FAMILIES)
        check_count("levels", levels, 0)
        check_count("max_bins", max_bins, 2)
        if tail_mass is not None and not 0 < tail_mass < 0.5:
            raise UserError(f"tail_mass must be above 0 and below 0.5, got {tail_mass}")
        if levels and steps is not None:
            raise UserError(f"levels and steps do not go together, got levels {levels} and steps")
        self._levels = levels
        self._steps = _by_coordinate("steps", steps if steps is not None else 0.0, event_size)
        self._origin = _by_coordinate("origin", origin, event_size)
        if np.min(self._steps) < 0:
            raise UserError(f"steps must be at least 0, got {np.min(self._steps)}")
        self._spikes = _spikes_of(spikes, event_size)
        self._spike_widths = _widths_of(spike_widths, spikes, event_size)
        if 0 < levels <= _MAX_LEVELS:
            max_bins = levels
        starts = _unfitted(event_size, max_bins, dtype)
        given = {key: arguments[key] for key in starts}
        missing = sorted(key for key, value in given.items() if value is None)
        if missing and len(missing) < len(starts):
            raise UserError(
                f"{', '.join(starts)} must be given together, or none of them; without a value "
                f"{', '.join(missing)}"
            )
        if offsets is not None and not is_trained:
            raise UserError("offsets are for is_trained=True")
        if is_trained:
            start = tf.zeros([event_size, max_bins], dtype)
            arguments["offsets"] = kept_or_new(offsets, start, name="offsets")
        super().__init__(arguments, starts=starts, is_constant_jacobian=False)
        self._offsets = arguments["offsets"]
        self._family = piecewise.FAMILIES[family]
        self._tail_mass = tail_mass
        self._max_bins = max_bins
        self._fitted = {key: arguments[key] for key in starts}
        self._kept: Tensors | None = None  # what `frozen` makes once instead of in every call
        if not missing and tf.executing_eagerly() and not self._is_unfitted():
            self.check_fitted()

    @property
    def family(self) -> str:
        """Of which the quantile function is: `"logistic"` or `"normal"`."""
        return self.parameters["family"]

    @property
    def edges(self) -> tf.Tensor:
        """Of the bins, `[D, max_bins + 1]`."""
        return self._fitted["edges"]

    @property
    def means(self) -> tf.Tensor:
        """Of the values that it was fitted to, `[D]`."""
        return self._fitted["means"]

    @property
    def deviations(self) -> tf.Tensor:
        """Of the values that it was fitted to, `[D]`."""
        return self._fitted["deviations"]

    def deviations_before(self, sigma: tf.Tensor) -> tf.Tensor:
        """Sigma by the deviation of the family, times that of the values, `[D]`."""
        return sigma / self._family.deviation * self.deviations

    def fit(self, x: np.ndarray) -> None:
        """Fits F to training examples, dequantized where they are discrete.

        Args:
          x: `[N, D]`. Levels are all counted; of other data up to 50,000 examples at equal
            distances are looked at.

        Raises:
          UserError: as for `fit_parts`.
        """
        self.fit_parts([x])

    def fit_parts(self, parts: Iterable[np.ndarray]) -> None:
        """As `fit`, in one pass over examples that need not fit into memory together.

        Args:
          parts: examples, each `[n, D]`.

        Raises:
          UserError: examples of another size, values that are not finite or, with `levels`, outside
            of [0, 1], fewer than 2 examples, only equal ones, or a continuous coordinate that has
            one value in all of them.
        """
        event_size = len(self._steps)
        sums = np.zeros([3, event_size])  # of ones, values and squares, from the first example
        first = None
        collected: bins.CountedLevels | bins.ThinnedRows = bins.ThinnedRows(_MAX_ROWS)
        if 0 < self._levels <= _MAX_LEVELS:
            collected = bins.CountedLevels(event_size, self._levels)
        for part in parts:
            part = check_examples(part, event_size, first=int(sums[0, 0]))
            self._check_range(part)
            for rows in _parts(part):
                if first is None:
                    first = rows[0].astype(np.float64)
                collected.add(rows)
                away = rows - first
                sums += [np.full(event_size, len(rows)), away.sum(axis=0), (away**2).sum(axis=0)]
        if sums[0, 0] < 2:
            raise UserError(f"marginals need at least 2 examples, got {int(sums[0, 0])}")
        mean = sums[1] / sums[0]
        deviations = np.sqrt(np.maximum(sums[2] / sums[0] - mean**2, 0))
        if not np.any(deviations):
            raise UserError(
                f"marginals need examples that differ, all {int(sums[0, 0])} have the same values"
            )
        if isinstance(collected, bins.CountedLevels):
            found = self._of_levels(collected.counts)
            num_examples = sums[0, 0]
        else:
            found = self._of_rows(collected.rows)
            num_examples = len(collected.rows)
        self._assign(found, self._tail_mass_of(num_examples), first + mean, deviations)

    def _check_range(self, x):
        if not self._levels or not len(x):
            return
        for value in (np.min(x), np.max(x)):
            if not 0 <= value <= 1:
                raise UserError(
                    f"with levels {self._levels} x must be dequantized on [0, 1], got {value}"
                )

    def _tail_mass_of(self, num_examples):
        """What is given, or by the number of examples."""
        if self._tail_mass is not None:
            return self._tail_mass
        return 1 / (num_examples + 2)

    def _of_levels(self, counts):
        """One set of bins for each coordinate, from the counts of its levels."""
        edges = np.arange(self._levels + 1) / self._levels
        slopes = np.ones([self._levels, 2])
        tail_scales = np.full(2, 0.1 / self._levels)  # what leaves the range is rounded into it
        for masses in bins.fit_levels(counts):
            yield bins.Bins(edges, masses, slopes, tail_scales)

    def _of_rows(self, rows):
        steps = self._steps
        span = None
        if self._levels:
            steps = np.full(len(steps), 1 / self._levels)
            span = (0.0, 1.0)
        constant = np.flatnonzero((np.ptp(rows, axis=0) == 0) & (steps == 0))
        if constant.size:
            raise UserError(
                f"{constant.size} of {len(steps)} coordinates have the same value in all "
                f"{len(rows)} examples looked at (the first, counted from 0, is {constant[0]}): "
                "their density would be infinite. Leave them out of the data"
            )
        for d, x in enumerate(rows.T):
            yield bins.fit_coordinate(
                x,
                step=steps[d],
                origin=self._origin[d],
                span=span,
                max_bins=self._max_bins,
                tail_mass=self._tail_mass_of(len(rows)),
                spikes=self._spikes[d],
                spike_widths=self._spike_widths[d],
            )

    def _assign(
        self,
        found: Iterator[bins.Bins],
        tail_mass: float,
        means: np.ndarray,
        deviations: np.ndarray,
    ) -> None:
        """Sets the variables to bins of each coordinate."""
        shapes = {key: value.shape for key, value in self._fitted.items()}
        tables = {key: np.zeros(shape) for key, shape in shapes.items()}
        tables["means"] = means
        tables["deviations"] = deviations
        for d, fitted in enumerate(found):
            fitted = fitted.rounded_to(self.dtype.as_numpy_dtype)
            size = len(fitted.masses)
            masses = fitted.masses * (1 - 2 * tail_mass)
            tables["edges"][d] = fitted.edges[-1]
            tables["edges"][d, : size + 1] = fitted.edges
            below = tail_mass + np.cumsum([0, *masses])
            above = tail_mass + np.cumsum([0, *masses[::-1]])[::-1]
            tables["below"][d] = below[-1]
            tables["below"][d, : size + 1] = below
            tables["above"][d] = above[-1]
            tables["above"][d, : size + 1] = above
            tables["masses"][d, :size] = masses
            tables["slopes"][d] = 1
            tables["slopes"][d, :size] = fitted.slopes
            tables["tail_scales"][d] = fitted.tail_scales
        for key, value in tables.items():
            self._fitted[key].assign(value)
        if self._offsets is not None:
            self._offsets.assign(tf.zeros_like(self._offsets))

    def check_fitted(self) -> None:
        """Checks that the fitted arrays are distribution functions.

        Raises:
          UserError: before `fit`; values that are not finite, edges or F that do not ascend.
        """
        tables = self._tables()
        if self._offsets is not None:
            tables["offsets"] = tf.convert_to_tensor(self._offsets).numpy()
        if self._is_unfitted() or np.all(np.isnan(tables["edges"])):
            raise UserError(
                "marginals are fitted before use: call fit, or nice_tf.initialize_from_data for a "
                "whole flow"
            )
        for key, table in tables.items():
            if not np.all(np.isfinite(table)):
                wrong = table[~np.isfinite(table)][0]
                raise UserError(f"{key} of the marginals must be finite, got {wrong}")
        for key, sign in (("edges", 1), ("below", 1), ("above", -1)):
            rises = sign * np.diff(tables[key], axis=1)
            if np.min(rises) < 0:
                d, k = np.argwhere(rises < 0)[0]
                raise UserError(
                    f"{key} of the marginals must be sorted, got {tables[key][d, k]} before "
                    f"{tables[key][d, k + 1]} in coordinate {d}"
                )
        for key in ("masses", "slopes"):
            lowest = np.min(tables[key])
            if lowest < 0:
                raise UserError(f"{key} of the marginals must be at least 0, got {lowest}")
        lowest = np.min(tables["tail_scales"])
        if lowest <= 0:
            raise UserError(f"tail_scales of the marginals must be above 0, got {lowest}")

    def _tables(self):
        return {key: tf.convert_to_tensor(table).numpy() for key, table in self._fitted.items()}

    def _is_unfitted(self):
        return all(np.all(np.isnan(table)) for table in self._tables().values())

    def _trained_tables(self) -> Tensors:
        """The fitted arrays, with the masses and their sums as far as they are trained."""
        if self._offsets is None:
            return self._fitted
        masses = tf.convert_to_tensor(self._fitted["masses"])
        weights = masses * tf.exp(self._offsets)
        total = tf.reduce_sum(masses, axis=-1, keepdims=True)
        masses = weights * (total / tf.reduce_sum(weights, axis=-1, keepdims=True))
        # Sums by a product, which CPUs make faster than tf.cumsum, up to each edge and from it.
        upward = np.triu(np.ones([self._max_bins] * 2, masses.dtype.as_numpy_dtype))
        tail_mass = self._fitted["below"][:, :1]
        below = tf.concat([tail_mass, tail_mass + tf.matmul(masses, upward)], axis=-1)
        above = tf.concat([tail_mass + tf.matmul(masses, upward.T), tail_mass], axis=-1)
        return {**self._fitted, "below": below, "above": above, "masses": masses}

    def as_fitted(self) -> "QuantileTransform":
        """The map before its masses were trained; it shares the fitted arrays."""
        if self._offsets is None:
            return self
        return self.copy(is_trained=False, offsets=None)

    def frozen(self) -> "QuantileTransform":
        """The same map for answers alone: masses are not trained further, and what it makes of its
        arrays is made once.
        """
        found = self.copy(is_trained=False, offsets=None, **self._trained_tables())
        found._kept = piecewise.kept(piecewise.tables_of(found._fitted, self._family))
        return found

    def _check_used_after_fit(self):
        if not tf.executing_eagerly():
            return
        if bool(tf.reduce_all(tf.math.is_nan(self._fitted["deviations"]))):
            self.check_fitted()

    def _forward(self, x):
        return self._mapped(x)[0]

    def _forward_log_det_jacobian(self, x):
        return tf.reduce_sum(self._mapped(x)[1], axis=-1)

    def log_slopes(self, x: tf.Tensor) -> tf.Tensor:
        """Log dz_d / dx_d, `[..., D]`: the summands of the forward log-det."""
        return self._mapped(tf.convert_to_tensor(x, self.dtype))[1]

    def _mapped(self, x):
        """Z and log dz/dx of each coordinate, `[..., D]`."""
        self._check_used_after_fit()
        return piecewise.scores(self._sized(x), self._read_tables(), self._family)

    def _read_tables(self):
        if self._kept is not None:
            return self._kept
        return piecewise.tables_of(self._trained_tables(), self._family)

    def _inverse(self, z):
        self._check_used_after_fit()
        return piecewise.values(self._sized(z), self._read_tables(), self._family)

    def standardized_values(
        self, z: tf.Tensor, coordinates: np.ndarray, *, tables: Tensors | None = None
    ) -> tf.Tensor:
        """What m may see instead of z: x less its mean, in deviations.

        A coordinate of a table has its own deviation. All those of pictures share one, their root
        mean square, so that pixels that hardly vary stay small. With trained masses x is taken by
        the fitted ones, and so is nearly the value: each coupling would sum all masses again.

        Args:
          z: `[..., n]`, of some coordinates.
          coordinates: which, `[n]`.
          tables: of `tables_of_values`, where they are kept.
        """
        if tables is None:
            tables = self.tables_of_values(coordinates)
        self._check_used_after_fit()
        return (piecewise.values(z, tables, self._family) - tables["means"]) / tables["deviations"]

    def tables_of_values(self, coordinates: np.ndarray) -> Tensors:
        """What `standardized_values` makes of the fitted arrays of these coordinates, `[n]`."""
        tables = piecewise.tables_at(coordinates, self._fitted, self._family)
        if self._levels:
            tables["deviations"] = tf.sqrt(tf.reduce_mean(self._fitted["deviations"] ** 2))
        return tables

    def forward_of_fitted(self, x: tf.Tensor) -> tf.Tensor:
        """Part by part: what is made on the way is many times larger than x."""
        return tf.concat([self.forward(part) for part in _parts(x)], axis=0)


def _parts(x):
    """Some thousands of examples at once."""
    for start in range(0, len(x), _ROWS_AT_ONCE):
        yield x[start : start + _ROWS_AT_ONCE]


def _by_coordinate(name, value, event_size):
    """A number, or one for each coordinate, as `[D]`."""
    value = np.asarray(value, np.float64)
    if value.shape not in ((), (event_size,)):
        raise UserError(f"{name} must be a number or have shape [{event_size}], got {value.shape}")
    if not np.all(np.isfinite(value)):
        raise UserError(f"{name} must be finite, got {value[~np.isfinite(value)][0]}")
    return np.broadcast_to(value, [event_size])


def _spikes_of(spikes, event_size):
    """Those of each coordinate, a list of `[S_d]`."""
    if spikes is None:
        return [np.empty(0)] * event_size
    spikes = np.asarray(spikes, np.float64)
    if spikes.ndim != 2 or len(spikes) != event_size:
        raise UserError(f"spikes must have shape [{event_size}, S], got {list(spikes.shape)}")
    return [row[~np.isnan(row)] for row in spikes]


def _widths_of(widths, spikes, event_size):
    """Those of the bins of each coordinate's spikes, a list of `[S_d]`."""
    if np.min(widths, initial=0) < 0:
        raise UserError(f"spike_widths must be at least 0, got {np.min(widths)}")
    if np.ndim(widths) < 2:
        by_coordinate = _by_coordinate("spike_widths", widths, event_size)
        found = zip(by_coordinate, _spikes_of(spikes, event_size), strict=True)
        return [np.full(len(row), width) for width, row in found]
    widths = np.asarray(widths, np.float64)
    if widths.shape != np.shape(spikes):
        raise UserError(
            f"spike_widths must be a number or have shape [{event_size}] or that of spikes, got "
            f"{list(widths.shape)}"
        )
    if not np.all(np.isfinite(widths)):
        raise UserError(f"spike_widths must be finite, got {widths[~np.isfinite(widths)][0]}")
    is_there = ~np.isnan(np.asarray(spikes, np.float64))
    return [row[present] for row, present in zip(widths, is_there, strict=True)]


def _unfitted(event_size, max_bins, dtype):
    """What the variables start at: not a number, so that no use before `fit` passes for one."""
    shapes = {
        "edges": [event_size, max_bins + 1],
        "below": [event_size, max_bins + 1],
        "above": [event_size, max_bins + 1],
        "masses": [event_size, max_bins],
        "slopes": [event_size, max_bins, 2],
        "tail_scales": [event_size, 2],
        "means": [event_size],
        "deviations": [event_size],
    }
    return {key: tf.fill(shape, tf.constant(np.nan, dtype)) for key, shape in shapes.items()}
