"""Grids of a table's columns: the coarsest that all values lie on, integers or decimals."""

import math

import numpy as np

from nice_tf.data.schema import MAX_PLACES

_MAX_WHOLE = 2**53  # from here on float64 has not all integers
_FITS_NO_GRID = -1


class Grid:
    """The coarsest grid that all values of a column lie on, as far as they were seen."""

    def __init__(self, precision: float):
        """Starts without values.

        Args:
          precision: relative distance of the numbers that the column was stored with.
        """
        self._precision = precision
        self._first: float | None = None
        # For each number of decimal places: the greatest common divisor of all differences, or that
        # one fits no such grid.
        self._divisors = [0] * (MAX_PLACES + 1)

    def add(self, values: np.ndarray) -> None:
        """Looks at some values, `[n]` in float64 without missing ones."""
        if not len(values):
            return
        if self._first is None:
            self._first = float(values[0])
        # Eight roundings of what is stored, and never so many that any value would fit.
        tolerance = 4 * self._precision * np.maximum(1, np.abs(values))
        for places in range(MAX_PLACES + 1):
            if self._divisors[places] == _FITS_NO_GRID:
                continue
            whole = _whole(values, places, tolerance)
            if whole is not None:
                self._take(whole, places)
                return  # a grid of more places would be no coarser
            self._hand_on(places)

    def _take(self, whole, places):
        """Differences of values that fit: their divisor."""
        origin = np.rint(self._first * 10.0**places)
        differences = np.unique(whole - origin).astype(np.int64)
        divisor = int(np.gcd.reduce(differences))
        self._divisors[places] = math.gcd(self._divisors[places], divisor)

    def _hand_on(self, places):
        """What fitted a grid so far counts on the next finer one, once a value does not fit."""
        if places < MAX_PLACES:
            finer = 10 * self._divisors[places]
            self._divisors[places + 1] = math.gcd(self._divisors[places + 1], finer)
        self._divisors[places] = _FITS_NO_GRID

    @property
    def is_of_integers(self) -> bool:
        """Whether all values are whole numbers, of which two differ."""
        return self._divisors[0] > 0

    @property
    def places(self) -> int | None:
        """Number of decimals; None if the values lie on no grid."""
        for places, divisor in enumerate(self._divisors):
            if divisor > 0:
                return places
        return None

    def step(self, places: int) -> float:
        """Distance of the grid's values."""
        return float(self._divisors[places]) / 10.0**places


def _whole(values, places, tolerance):
    """Values times a power of ten as whole numbers, or None if one is none."""
    scale = 10.0**places
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite fits nowhere
        scaled = values * scale
        whole = np.rint(scaled)
        fits = np.abs(scaled - whole) <= np.minimum(tolerance * scale, 0.05)
    if np.max(np.abs(scaled)) < _MAX_WHOLE and np.all(fits):
        return whole
    return None
