import io

import numpy as np
import pytest
from PIL import Image

from nice_tf import drawing


def test_grid_places_every_picture():
    images = np.arange(5)[:, np.newaxis, np.newaxis] * np.ones([5, 2, 3])
    grid = drawing.image_grid(images, levels=5)
    assert grid.shape == (2 * 3 + 1, 3 * 4 + 1, 3) and grid.dtype == np.uint8
    for i in range(5):
        top, left = 3 * (i // 3) + 1, 4 * (i % 3) + 1
        assert np.all(grid[top : top + 2, left : left + 3] == round(i * 255 / 4))
    assert np.all(grid[4:6, 9:12] == 128), "the empty place"


def test_grid_clips_and_keeps_colours():
    colours = np.array([[[[-3.0, 128.0, 999.0]]]])
    np.testing.assert_array_equal(drawing.image_grid(colours, levels=256)[1, 1], [0, 128, 255])
    continuous = drawing.image_grid(np.array([[[-1.0, 0.0, 3.0]]]), levels=None)
    np.testing.assert_array_equal(continuous[1, 1:4, 0], [0, 64, 255])
    lost = drawing.image_grid(np.array([[[np.nan, np.inf, 4.0]]]), levels=5)
    np.testing.assert_array_equal(lost[1, 1:4, 0], [0, 255, 255])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ([8, 8], True),
        ([8, 8, 1], True),
        ([8, 8, 3], True),
        ([8, 8, 4], False),
        ([8], False),
        ([2, 8, 8, 1], False),
    ],
)
def test_is_image(shape, expected):
    assert drawing.is_image(shape) is expected


def test_png_is_enlarged_and_written_whole(tmp_path):
    grid = np.random.default_rng(0).integers(0, 256, [5, 7, 3], np.uint8)
    drawing.write_png(tmp_path / "a.png", grid, min_width=21)
    picture = np.asarray(Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())))
    np.testing.assert_array_equal(picture[1::3, 1::3, :3], grid)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
