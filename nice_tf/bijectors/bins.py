"""Distribution functions of single coordinates, fitted to their values: bins, their masses, and how
the density runs inside each.

Inside bin k, with t in [0, 1] the place in it, the distribution function is the rational quadratic

    F = F_k + mass_k * (t^2 + first_k t (1 - t)) / (1 + (first_k + last_k - 2) t (1 - t))

(Gregory & Delbourgo 1982), `first_k` and `last_k` being the density at its two ends as multiples of
its mean density. With both 1 the density is constant: a bar of a histogram.
"""

import dataclasses
import statistics
from collections.abc import Sequence

import numpy as np

from nice_tf.errors import UserError

# How many bins are tried for a coordinate, each with about the same number of examples.
_SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512)
_SIZE_OF_NORMAL = 32
_SMOOTHINGS = (0.01, 0.03, 0.1, 0.3, 1.0)  # examples added to each bin
_MIN_WIDTH = 1e-3  # of a bin of a continuous coordinate, in its deviations
_MIN_REFINED = 4  # examples in a bin of the refined ends
_HELD_OUT = 5  # every fifth example chooses between fits to the others
# Outside, the density falls off over the range of this share of the examples next to the end, or of
# so many.
_END = 0.01
_FEWEST_AT_END = 10


@dataclasses.dataclass(frozen=True)
class Bins:
    """A distribution function of one coordinate between its outer edges.

    Attributes:
      edges: ascending, `[m + 1]`.
      masses: of each bin, above 0, with a sum of 1, `[m]`.
      slopes: density at both ends of each bin, by its mean density, `[m, 2]`.
      tail_scales: over which distance the density falls to 1 / e below the first edge and above the
        last one, `[2]`.
    """

    edges: np.ndarray
    masses: np.ndarray
    slopes: np.ndarray
    tail_scales: np.ndarray

    def rounded_to(self, dtype: type[np.floating]) -> "Bins":
        """The same with edges of this precision.

        Bins that have no width in it, as those of values far from 0 that differ little, are joined
        to the next ones: no mass is lost.
        """
        edges = self.edges.astype(dtype).astype(np.float64)
        if np.all(np.diff(edges) > 0):
            return self
        kept = np.unique(edges)
        if len(kept) == 1:
            kept = np.array([kept[0], np.nextafter(kept[0].astype(dtype), dtype(np.inf))])
        place = np.searchsorted(kept, edges[:-1], side="right") - 1
        place = np.minimum(place, len(kept) - 2)
        masses = np.bincount(place, self.masses, minlength=len(kept) - 1)
        return Bins(kept, masses, np.ones([len(masses), 2]), self.tail_scales)

    def log_density(self, x: np.ndarray, tail_mass: float) -> np.ndarray:
        """Logarithm of the density with exponential tails, `[n]`.

        Args:
          x: `[n]`.
          tail_mass: below the first edge, and above the last one.
        """
        place = np.searchsorted(self.edges, x, side="right") - 1
        place = np.clip(place, 0, len(self.masses) - 1)
        widths = np.diff(self.edges)
        t = np.clip((x - self.edges[place]) / widths[place], 0, 1)
        first, last = self.slopes[place].T
        both = t * (1 - t)
        shape = (last * t**2 + 2 * both + first * (1 - t) ** 2) / (
            1 + (first + last - 2) * both
        ) ** 2
        inside = np.log((1 - 2 * tail_mass) * (self.masses / widths)[place] * shape)
        below = np.maximum(self.edges[0] - x, 0) / self.tail_scales[0]
        above = np.maximum(x - self.edges[-1], 0) / self.tail_scales[1]
        highest = np.where(below > 0, self.tail_scales[0], self.tail_scales[1])
        outside = np.log(tail_mass / highest) - below - above
        return np.where((below > 0) | (above > 0), outside, inside)


def fit_levels(counts: np.ndarray) -> np.ndarray:
    """Masses of the integer levels of each coordinate: counts, and a little for what was not seen.

    How much is added to each count is one number for all coordinates, the one by which each example
    is most likely under the others.

    Args:
      counts: of examples by coordinate and level, `[D, levels]`.

    Returns:
      `[D, levels]`, above 0, each row with a sum of 1.
    """
    num_examples = counts[0].sum()
    num_levels = counts.shape[1]
    scores = []
    for added in _SMOOTHINGS:
        left_out = counts * np.log(np.maximum(counts - 1, 0) + added)
        total = num_examples - 1 + added * num_levels
        scores.append(left_out.sum() - counts.sum() * np.log(total))
    added = _SMOOTHINGS[int(np.argmax(scores))]
    return (counts + added) / (num_examples + added * num_levels)


def fit_coordinate(
    x: np.ndarray,
    *,
    step: float,
    origin: float,
    span: tuple[float, float] | None,
    max_bins: int,
    tail_mass: float,
    spikes: Sequence[float] = (),
    spike_widths: Sequence[float] = (),
) -> Bins:
    """Bins for the values of one coordinate; how many is what makes a fifth of the values most
    likely under the others. With few values those of a normal distribution may be.

    Args:
      x: `[N]`, finite, of which two differ where the coordinate is continuous.
      step: distance of the values before they were dequantized; 0 where they are continuous.
      origin: an edge of the bins of width `step`.
      span: outer edges of a discrete coordinate; those of the values when not given.
      max_bins: at most so many.
      tail_mass: as for `Bins.log_density`.
      spikes: of a continuous coordinate, values that have a bin each.
      spike_widths: of these bins, one of each spike.
    """
    x = np.asarray(x, np.float64)
    if len(spikes):
        x = _on_spikes(x, np.asarray(spikes), np.asarray(spike_widths))
    is_held_out = np.arange(len(x)) % _HELD_OUT == _HELD_OUT - 1
    train = x[~is_held_out]
    held_out = x[is_held_out]
    make: _Continuous | _Stepped = _Continuous(x, np.asarray(spikes), np.asarray(spike_widths))
    if step:
        make = _Stepped(step, origin, span)
    if not len(held_out) or not make.varies(train):
        return make.fit(x, _SIZES[0], _SMOOTHINGS[-1])
    best = make.fit(x, _SIZES[0], _SMOOTHINGS[-1])
    best_score = -np.inf
    if make.has_width(train):  # else a normal distribution has none
        best = make.normal(x)
        best_score = make.normal(train).log_density(held_out, tail_mass).mean()
    for size in (*_SIZES, len(x)):
        for added in make.smoothings:
            fitted = make.fit(train, size, added)
            if len(fitted.masses) > max_bins:
                continue
            score = fitted.log_density(held_out, tail_mass).mean()
            if score <= best_score + 1e-4:
                continue
            refitted = make.fit(x, size, added)
            if len(refitted.masses) <= max_bins:
                best = refitted
                best_score = score
    return best


class _Continuous:
    """Fits smooth densities to values of a continuous coordinate."""

    smoothings: Sequence[float] = (0.5,)

    def __init__(self, x, spikes, spike_widths):
        self._min_width = _MIN_WIDTH * _spread_of(x)
        self._spikes = spikes
        self._spike_widths = spike_widths

    def varies(self, x):
        return self.has_width(x)

    def has_width(self, x):
        return np.min(x) < np.max(x)

    def normal(self, x):
        fixed = np.array([np.min(x), np.max(x)])
        edges = _spread(_normal_quantiles(x), fixed, self._min_width)
        masses = _normal_masses(x, edges)
        return _bins(x, edges, np.zeros(len(masses), bool), masses, self._min_width)

    def fit(self, x, size, added):
        values, counts = np.unique(x, return_counts=True)
        edges = values[_quantile_places(counts, size)]
        # What comes again and again gets a narrow bin around it.
        repeated = values[counts >= max(len(x) / size, 2)]
        repeated = np.union1d(repeated, self._spikes)
        half = np.full(len(repeated), self._min_width / 2)
        half[np.searchsorted(repeated, self._spikes)] = self._spike_widths / 2
        ends = np.array([values[0], values[-1]])
        ends = ends[~np.isin(ends, repeated)]
        fixed = np.unique(np.concatenate([ends, repeated - half, repeated + half]))
        edges = edges[~np.isin(edges, repeated)]  # which lie inside of their bins
        edges = _spread(edges, fixed, self._min_width)
        middles = (edges[:-1] + edges[1:]) / 2
        flat = np.zeros(len(middles), bool)
        for centre, reach in zip(repeated, half, strict=True):
            flat |= np.abs(middles - centre) < reach
        return _bins(x, edges, flat, _counted_masses(x, edges, added), self._min_width)


def _on_spikes(x, spikes, widths):
    """Values with those in the bin of a spike moved to it; rounding may have moved some out."""
    place = np.argmin(np.abs(x[:, np.newaxis] - spikes), axis=1)
    nearest = spikes[place]
    return np.where(np.abs(x - nearest) <= 0.51 * widths[place], nearest, x)


def width_of_spike(x: np.ndarray) -> float:
    """The width of the bin around a value that comes again and again.

    Args:
      x: values of a continuous coordinate, `[N]`, of which two differ.
    """
    # The quartiles of some values are others: no fit to some of them makes narrower bins. Where
    # about three in four are alike, that decides whether they lie on one value.
    return _MIN_WIDTH * max(_spread_of(x, share) for share in (0.22, 0.25, 0.28))


def _spread_of(x, share=0.25):
    """The deviation, or that of a normal distribution of the same quartiles where this is less: few
    values far away would make it as wide as they are far. Where both quartiles are one value that
    comes again and again, as a zero does, it is that of the other values.
    """
    low, high = np.quantile(x, [share, 1 - share])
    if low < high:
        return min(np.std(x), (high - low) / 1.349)
    others = x[x != low]
    if len(others) and np.min(others) < np.max(others):
        return _spread_of(others, share)
    return np.std(x)


class _Stepped:
    """Fits densities to values of a coordinate that lie on steps, dequantized."""

    smoothings: Sequence[float] = (0.03, 0.5)

    def __init__(self, step, origin, span):
        self._step = step
        self._origin = origin
        self._span = span

    def varies(self, x):
        return True

    def has_width(self, x):
        levels = self._levels(x)  # noise differs in the values of one step
        return np.min(levels) < np.max(levels)

    def normal(self, x):
        levels = self._levels(x)
        edges = np.rint(_normal_quantiles(levels))
        return self._with_edges(levels, edges, _normal_masses)

    def fit(self, x, size, added):
        levels = self._levels(x)
        values, counts = np.unique(levels, return_counts=True)
        starts = values - 0.5
        edges = starts[_quantile_places(counts, size)]
        # A frequent value gets a bin of its own, so that what lies between such values is empty.
        frequent = starts[counts >= len(x) / size]
        edges = np.concatenate([edges, frequent, frequent + 1])
        return self._with_edges(levels, edges, _counted_masses, added)

    def _levels(self, x):
        """The number of each value's step, at the middle of its bin."""
        return np.floor((x - self._origin) / self._step) + 0.5

    def _with_edges(self, levels, edges, masses_of, *arguments):
        low = levels.min() - 0.5
        high = levels.max() + 0.5
        if self._span:
            low, high = np.rint((np.array(self._span) - self._origin) / self._step)
        edges = np.unique(np.clip([*edges, low, high], low, high))
        masses = masses_of(levels, edges, *arguments)
        flat = np.diff(edges) <= 1
        return _bins(levels, edges, flat, masses, 1.0, scale=self._step, origin=self._origin)


def _counted_masses(x, edges, added):
    """The share of the values in each bin, with a little for those that were not seen."""
    counts, _ = np.histogram(np.clip(x, edges[0], edges[-1]), edges)
    return (counts + added) / (len(x) + added * len(counts))


def _normal_masses(x, edges):
    """Those of a normal distribution of the values' mean and deviation, between the outer edges,
    with as much for each bin as counts get at least: no value that was seen may be impossible.
    """
    normal = statistics.NormalDist(np.mean(x), np.std(x))
    masses = np.diff([normal.cdf(edge) for edge in edges])
    added = min(_Stepped.smoothings) / len(x)
    masses = masses / masses.sum() + added
    return masses / masses.sum()


def _normal_quantiles(x):
    """Quantiles of a normal distribution of the values' mean and deviation."""
    normal = statistics.NormalDist(np.mean(x), np.std(x))
    return np.array([normal.inv_cdf(share) for share in _shares(len(x), _SIZE_OF_NORMAL)])


def _quantile_places(counts, size):
    """Which of the sorted distinct values begin the bins of `_shares`."""
    total = counts.sum()
    cumulative = np.cumsum(counts)
    places = np.searchsorted(cumulative, _shares(total, size) * total, side="right")
    return np.unique(places)


def _shares(total, size):
    """Which shares of the examples lie below the edges of bins with a `size`-th of them each, and
    ever fewer at the two ends; ascending.
    """
    shares = np.arange(1, size) / size
    fewest = _MIN_REFINED / total
    ends = 0.5 ** np.arange(1, 60) / size
    ends = ends[ends >= fewest]
    return np.unique(np.concatenate([ends, shares, 1 - ends]))


def _spread(edges, fixed, min_width):
    """Edges, sorted, those left out that are nearer to one before, or to a fixed one, than a bin
    may be wide.
    """
    place = np.searchsorted(fixed, edges)
    after = fixed[np.minimum(place, len(fixed) - 1)] - edges
    before = edges - fixed[np.maximum(place - 1, 0)]
    is_inside = (place > 0) & (place < len(fixed))
    free = edges[is_inside & (after >= min_width) & (before >= min_width)]
    kept = []
    last = -np.inf
    for edge in np.sort(free):
        if edge - last >= min_width:
            kept.append(edge)
            last = edge
    joined = np.unique(np.concatenate([kept, fixed]))
    # Two fixed ones may be near each other, too: of two repeated values side by side.
    wide = np.concatenate([[True], np.diff(joined) >= 0.5 * min_width])
    wide[-1] = True
    return joined[wide]


def _bins(x, edges, flat, masses, min_width, *, scale=1.0, origin=0.0):
    """Bins with these edges, in units of `scale` from `origin`."""
    widths = np.diff(edges)
    end = min(max(_END, _FEWEST_AT_END / len(x)), 0.25)
    low, high = np.quantile(x, [end, 1 - end])
    tail_scales = np.maximum([low - edges[0], edges[-1] - high], min_width)
    return Bins(
        edges=origin + scale * edges,
        masses=masses,
        slopes=_slopes(masses / widths, widths, flat),
        tail_scales=scale * tail_scales,
    )


def _slopes(densities, widths, flat):
    """Densities at both ends of each bin, by its mean density, `[m, 2]`.

    Between two bins it is the weighted harmonic mean of theirs (Fritsch & Butland 1984), beside a
    flat one each has its own.
    """
    slopes = np.ones([len(widths), 2])
    left = 2 * widths[1:] + widths[:-1]
    right = widths[1:] + 2 * widths[:-1]
    between = (left + right) / (left / densities[:-1] + right / densities[1:])
    is_smooth = ~(flat[:-1] | flat[1:])
    slopes[:-1, 1] = np.where(is_smooth, between / densities[:-1], 1)
    slopes[1:, 0] = np.where(is_smooth, between / densities[1:], 1)
    return slopes


class CountedLevels:
    """Counts of integer levels by coordinate, part by part."""

    def __init__(self, event_size: int, levels: int):
        """Starts at 0.

        Args:
          event_size: D.
          levels: how many; x is on [0, 1].
        """
        self.counts = np.zeros([event_size, levels])
        self._first = levels * np.arange(event_size)  # place of each coordinate's first count

    def add(self, x: np.ndarray) -> None:
        """Counts some examples, `[n, D]`, on [0, 1]."""
        event_size, levels = self.counts.shape
        found = np.clip(np.floor(x * levels), 0, levels - 1).astype(np.int64)
        found += self._first
        counts = np.bincount(found.ravel(), minlength=event_size * levels)
        self.counts += counts.reshape(event_size, levels)


class ThinnedRows:
    """Some examples of many, at equal distances, part by part."""

    def __init__(self, max_rows: int):
        """Starts empty.

        Args:
          max_rows: how many are kept at most.
        """
        self._max_rows = max_rows
        self._every = 1
        self._seen = 0
        self._parts: list[np.ndarray] = []
        self._kept = 0

    def add(self, x: np.ndarray) -> None:
        """Takes every n-th of some examples, `[n, D]`; n is doubled when they become too many."""
        first = -self._seen % self._every
        self._seen += len(x)
        part = np.array(x[first :: self._every])
        self._parts.append(part)
        self._kept += len(part)
        if self._kept > self._max_rows:
            together = np.concatenate(self._parts)[::2]
            self._parts = [together]
            self._kept = len(together)
            self._every *= 2

    @property
    def rows(self) -> np.ndarray:
        """`[n, D]`.

        Raises:
          UserError: there are none.
        """
        if not self._kept:
            raise UserError("marginals need at least 2 examples, got 0")
        return np.concatenate(self._parts)
