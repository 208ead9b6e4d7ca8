"""Pictures; the only user of matplotlib."""

import abc
import dataclasses
import io
import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nice_tf.files import write_atomically

COLUMNS = 10  # of a grid of samples
_ROWS = 20  # at most, where a row shows a class
GAP = 128  # grey between pictures
_INK = "#010203"  # stands for the page's own text colour
COLORS = ("#3b82c4", "#d9822b", "#3d9970", "#b4568c")  # readable on white and on black
# What of a chart is drawn in ink, as matplotlib names it.
_INKED: tuple[Any, ...] = (
    "text.color",
    "axes.labelcolor",
    "axes.edgecolor",
    "xtick.color",
    "ytick.color",
    "grid.color",
)


def is_image(event_shape: list[int]) -> bool:
    """Whether examples of this shape are pictures: `[height, width]` or `[..., 1 or 3]`."""
    return len(event_shape) == 2 or (len(event_shape) == 3 and event_shape[-1] in (1, 3))


def image_grid(images: np.ndarray, *, levels: int | None, columns: int | None = None) -> np.ndarray:
    """Lays pictures out in a grid, by default as near to square as can be.

    Args:
      images: `[N, height, width]` or `[N, height, width, 1 or 3]`, in data units: integers v stand
        for 0..levels-1.
      levels: number of integer levels; `None` takes black and white from the smallest and largest
        value.
      columns: pictures in a row.

    Returns:
      `[rows * (height + 1) + 1, columns * (width + 1) + 1, 3]` in uint8, a mid-grey line between
      pictures.
    """
    # A flow that nearly diverged may draw NaN.
    images = np.nan_to_num(np.asarray(images, np.float64), nan=0.0)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if levels is None:
        low = images.min()
        high = images.max()
    else:
        low = 0
        high = levels - 1
    grey = np.rint(np.clip((images - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)
    grey = np.broadcast_to(grey, (*grey.shape[:3], 3))
    number, height, width, _ = grey.shape
    columns = columns or math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    grid = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, 3), GAP, np.uint8)
    for i, image in enumerate(grey):
        top = i // columns * (height + 1) + 1
        left = i % columns * (width + 1) + 1
        grid[top : top + height, left : left + width] = image
    return grid


def rows_of_classes(num_classes: int) -> np.ndarray:
    """Classes of the samples in a grid of `COLUMNS`: a row for each class, of the first twenty."""
    return np.repeat(np.arange(min(num_classes, _ROWS)), COLUMNS)


def side_by_side(grids: list[np.ndarray]) -> np.ndarray:
    """Pictures of one height `[H, W_i, 3]` in a row, a mid-grey gap between them."""
    gap = np.full((grids[0].shape[0], 6, 3), GAP, np.uint8)
    parts = [grids[0]]
    for grid in grids[1:]:
        parts += [gap, grid]
    return np.concatenate(parts, axis=1)


def png(grid: np.ndarray, *, min_width: int = 640) -> bytes:
    """A picture `[H, W, 3]` as PNG, about `min_width` wide: each pixel becomes a square."""
    from matplotlib import image

    zoom = max(1, round(min_width / grid.shape[1]))
    content = io.BytesIO()
    image.imsave(content, np.kron(grid, np.ones((zoom, zoom, 1), np.uint8)), format="png")
    return content.getvalue()


def write_png(path: pathlib.Path, grid: np.ndarray, *, min_width: int = 640) -> None:
    """Writes `png(grid)`, atomically."""
    write_atomically(path, png(grid, min_width=min_width))


class Drawing(abc.ABC):
    """What matplotlib draws, for a file or for a page."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 7, 3.6

    @abc.abstractmethod
    def draw_on(self, figure: Any, ink: str) -> None:
        """Draws all of it.

        Args:
          figure: of matplotlib, empty.
          ink: the colour of text and axes.
        """

    def png(self) -> bytes:
        """On white."""
        return self._drawn("png", "#202020", facecolor="white", dpi=120)

    def svg(self) -> str:
        """For a page: on nothing, with axes in its text colour, whichever theme it has."""
        # Without a fixed date the same chart would be another file each time.
        content = self._drawn("svg", _INK, transparent=True, metadata={"Date": None}, dpi=100)
        drawing = content.decode().replace(_INK, "currentColor")
        return drawing[drawing.index("<svg") :]

    def _drawn(self, kind, ink, **options):
        import matplotlib
        from matplotlib.figure import Figure

        style = dict.fromkeys(_INKED, ink)
        style["svg.hashsalt"] = "nice_tf"  # a drawn one would differ each time, too
        content = io.BytesIO()
        with matplotlib.rc_context(style):
            figure = Figure(figsize=self.size, layout="constrained")
            self.draw_on(figure, ink)
            figure.savefig(content, format=kind, **options)
        return content.getvalue()


@dataclasses.dataclass(frozen=True)
class Chart(Drawing):
    """Lines over a common horizontal axis.

    Attributes:
      lines: name to (horizontal values, vertical values).
      x_label: of the horizontal axis.
      y_label: of the vertical axis, with its unit.
      log_y: logarithmic vertical axis.
      marked_x: where to draw a vertical line, if anywhere.
    """

    lines: Mapping[str, tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]]
    x_label: str
    y_label: str
    log_y: bool = False
    marked_x: float | None = None

    def draw_on(self, figure: Any, ink: str) -> None:
        """One pair of axes."""
        axes = figure.add_subplot()
        for (name, (x, y)), color in zip(self.lines.items(), itertools.cycle(COLORS)):
            axes.plot(x, y, label=name, color=color, marker="." if len(x) < 3 else None)
        if self.marked_x is not None:
            axes.axvline(self.marked_x, color=ink, linestyle=":", linewidth=1)
        axes.set(xlabel=self.x_label, ylabel=self.y_label)
        if self.log_y:
            axes.set_yscale("log")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if len(self.lines) > 1:
            axes.legend(frameon=False)
