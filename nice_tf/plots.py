"""Pictures; the only user of matplotlib."""

import io
import math
import pathlib

import numpy as np

from nice_tf.workdir import write_atomically


def is_image(event_shape: list[int]) -> bool:
    """Whether examples of this shape are pictures: `[height, width]`, or with 1 or 3 channels behind."""
    return len(event_shape) == 2 or (len(event_shape) == 3 and event_shape[-1] in (1, 3))


def image_grid(images: np.ndarray, *, levels: int | None) -> np.ndarray:
    """Lays pictures out in a grid as near to square as can be.

    Args:
      images: `[N, height, width]` or `[N, height, width, 1 or 3]`, in data units: integers v stand for 0..levels-1.
      levels: number of integer levels; `None` takes black and white from the smallest and largest value.

    Returns:
      `[rows * (height + 1) + 1, columns * (width + 1) + 1, 3]` in uint8, a mid-grey line between pictures.
    """
    images = np.asarray(images, np.float64)
    images = images[..., np.newaxis] if images.ndim == 3 else images
    low, high = (images.min(), images.max()) if levels is None else (0, levels - 1)
    grey = np.rint(np.clip((images - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)
    grey = np.broadcast_to(grey, (*grey.shape[:3], 3))
    number, height, width, _ = grey.shape
    columns = math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    grid = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, 3), 128, np.uint8)
    for i, image in enumerate(grey):
        top, left = i // columns * (height + 1) + 1, i % columns * (width + 1) + 1
        grid[top : top + height, left : left + width] = image
    return grid


def write_png(path: pathlib.Path, grid: np.ndarray, *, min_width: int = 640) -> None:
    """Writes a picture `[H, W, 3]`, atomically; each pixel becomes a square so that it is about `min_width` wide."""
    from matplotlib import image

    zoom = max(1, round(min_width / grid.shape[1]))
    content = io.BytesIO()
    image.imsave(content, np.kron(grid, np.ones((zoom, zoom, 1), np.uint8)), format="png")
    write_atomically(path, content.getvalue())
