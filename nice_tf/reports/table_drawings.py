"""Drawings of a table's rows beside those that its model draws."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nice_tf.drawing import COLORS, Drawing

_OF_DATA, _OF_SAMPLES = COLORS[:2]
_IN_A_ROW = 4
_MAX_LABELS = 8
_LONG = 10_000  # from here on numbers at an axis would run into each other
_MAX_LONG = 5
_LONGEST_LABEL = 14


@dataclasses.dataclass(frozen=True)
class Ticks:
    """Places of an axis that are named.

    Attributes:
      places: in the units of the axis, `[n]`.
      texts: as many.
    """

    places: Sequence[float]
    texts: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Panel:
    """The shares of one column's values.

    Attributes:
      name: of the column.
      edges: of the bins, `[K + 1]`.
      data: share of the data in each bin, `[K]`.
      samples: share of the samples, `[K]`.
      labels: of the bins, where each is a category; `None` for numbers.
      ticks: of dates, which are named; `None` for others.
    """

    name: str
    edges: np.ndarray
    data: np.ndarray
    samples: np.ndarray
    labels: Sequence[str] | None = None
    ticks: Ticks | None = None


@dataclasses.dataclass(frozen=True)
class Histograms(Drawing):
    """A panel per column: data filled, samples as a line over them.

    Attributes:
      panels: one per column.
    """

    panels: Sequence[Panel]

    @property
    def size(self) -> tuple[float, float]:
        """As high as the rows of panels need."""
        return 11, 0.4 + 1.9 * math.ceil(len(self.panels) / _IN_A_ROW)

    def draw_on(self, figure: Any, ink: str) -> None:
        """The panels in rows, with one legend."""
        rows = math.ceil(len(self.panels) / _IN_A_ROW)
        columns = min(_IN_A_ROW, len(self.panels))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, self.panels, strict=False):
            _draw_panel(axes, panel)
        for axes in grid.flat[len(self.panels) :]:
            axes.set_visible(False)
        handles, names = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=2, frameon=False)


def _draw_panel(axes, panel):
    edges = panel.edges
    axes.stairs(panel.data, edges, fill=True, color=_OF_DATA, alpha=0.45, label="data")
    axes.stairs(panel.samples, edges, color=_OF_SAMPLES, linewidth=1.4, label="samples")
    axes.set_title(_short(panel.name, 28), fontsize=9)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=7)
    if panel.labels is not None:
        places, labels = _some(panel.labels)
        axes.set_xticks(edges[0] + 0.5 + np.array(places), labels, rotation=40, ha="right")
    elif panel.ticks is not None:
        axes.set_xticks(panel.ticks.places, panel.ticks.texts)
    elif np.abs(edges).max() >= _LONG:
        axes.locator_params(axis="x", nbins=_MAX_LONG)


def _short(text, length):
    if len(text) <= length:
        return text
    return text[: length - 1] + "…"


@dataclasses.dataclass(frozen=True)
class Axis:
    """A column as an axis.

    Attributes:
      name: of the column.
      ends: of what is shown.
      labels: of 0, 1, 2, ... where these are categories; `None` for numbers.
      ticks: of dates, which are named; `None` for others.
    """

    name: str
    ends: tuple[float, float]
    labels: Sequence[str] | None = None
    ticks: Ticks | None = None


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two columns against each other.

    Attributes:
      x: the horizontal one.
      y: the vertical one.
      data: rows, `[n, 2]`.
      samples: as many samples, `[n, 2]`.
    """

    x: Axis
    y: Axis
    data: np.ndarray
    samples: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pairs(Drawing):
    """Pairs of columns, of each the data beside the samples.

    Attributes:
      pairs: what is drawn.
    """

    pairs: Sequence[Pair]

    @property
    def size(self) -> tuple[float, float]:
        """Two pairs in a row, two panels per pair."""
        return 11, 2.9 * math.ceil(len(self.pairs) / 2)

    def draw_on(self, figure: Any, ink: str) -> None:
        """Both panels of a pair have the same axes."""
        grid = figure.subplots(math.ceil(len(self.pairs) / 2), 4, squeeze=False)
        for axes in grid.flat[2 * len(self.pairs) :]:
            axes.set_visible(False)
        for k, pair in enumerate(self.pairs):
            left, right = grid.flat[2 * k : 2 * k + 2]
            _draw_points(left, pair, pair.data, "data", _OF_DATA)
            _draw_points(right, pair, pair.samples, "samples", _OF_SAMPLES)
            left.set_ylabel(_short(pair.y.name, 28), fontsize=8)
            right.tick_params(labelleft=False)


def _draw_points(axes, pair, points, title, color):
    # One picture in the page, not a thousand circles.
    axes.plot(*points.T, ".", color=color, markersize=2.5, alpha=0.5, rasterized=True)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(_short(pair.x.name, 28), fontsize=8)
    axes.set_xlim(*pair.x.ends)
    axes.set_ylim(*pair.y.ends)
    axes.tick_params(labelsize=7)
    if pair.x.labels is not None:
        places, labels = _some(pair.x.labels)
        axes.set_xticks(places, labels, rotation=40, ha="right")
    elif pair.x.ticks is not None:
        axes.set_xticks(pair.x.ticks.places, pair.x.ticks.texts, rotation=40, ha="right")
    if pair.y.labels is not None:
        axes.set_yticks(*_some(pair.y.labels))
    elif pair.y.ticks is not None:
        axes.set_yticks(pair.y.ticks.places, pair.y.ticks.texts)
    axes.spines[["top", "right"]].set_visible(False)


def _some(labels):
    """Places and texts of at most eight of the labels."""
    every = math.ceil(len(labels) / _MAX_LABELS)
    places = range(0, len(labels), every)
    return list(places), [_short(labels[place], _LONGEST_LABEL) for place in places]


@dataclasses.dataclass(frozen=True)
class Matrices(Drawing):
    """Correlations of all columns, of data and of samples.

    Attributes:
      names: of the columns.
      data: `[D, D]`, from -1 to 1.
      samples: `[D, D]`.
    """

    names: Sequence[str]
    data: np.ndarray
    samples: np.ndarray

    @property
    def size(self) -> tuple[float, float]:
        """Two squares."""
        return 11, 5.6

    def draw_on(self, figure: Any, ink: str) -> None:
        """Strength of colour is the size of a correlation, its hue the sign: in a dark theme, too,
        0 is the page itself.
        """
        for axes, title, matrix in zip(
            figure.subplots(1, 2), ("data", "samples"), (self.data, self.samples), strict=True
        ):
            axes.imshow(_tinted(matrix), interpolation="nearest")
            axes.set_title(title, fontsize=10)
            if len(self.names) <= 40:
                labels = [_short(name, 18) for name in self.names]
                places = range(len(labels))
                axes.set_xticks(places, labels, rotation=90, fontsize=7)
                axes.set_yticks(places, labels, fontsize=7)
            else:
                axes.set_xticks([])
                axes.set_yticks([])


def _tinted(matrix):
    """Colours `[D, D, 4]`: blue above 0, orange below, as opaque as the number is large."""
    colors = np.zeros([*matrix.shape, 4])
    for color, is_this in ((_OF_DATA, matrix >= 0), (_OF_SAMPLES, matrix < 0)):
        rgb = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        colors[is_this, :3] = rgb
    colors[..., 3] = np.abs(matrix)
    return colors
