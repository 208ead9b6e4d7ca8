import numpy as np
import pytest

import nice_tf
from nice_tf.choices import MASKS
from nice_tf.flows.inpainting import check_mask, make_mask


def test_the_papers_masks_on_28x28():
    """As the released code writes them: rows, columns and places of the hidden pixels by number."""
    hidden = {name: ~make_mask(name, [28, 28, 1])[..., 0] for name in MASKS}
    assert len(hidden) == 10
    flat = {name: np.flatnonzero(mask) for name, mask in hidden.items()}
    np.testing.assert_array_equal(flat["top"], np.arange(392))
    np.testing.assert_array_equal(flat["bottom"], np.arange(392, 784))
    np.testing.assert_array_equal(flat["even"], np.arange(0, 784, 2))
    np.testing.assert_array_equal(flat["odd"], np.arange(1, 784, 2))
    np.testing.assert_array_equal(flat["middle_rows"], np.arange(196, 588))
    for name, columns in (
        ("left", range(14)),
        ("right", range(14, 28)),
        ("middle_columns", range(7, 21)),
    ):
        expected = np.zeros([28, 28], bool)
        expected[:, list(columns)] = True
        np.testing.assert_array_equal(hidden[name], expected)
    for name, share in (("random_75", 0.75), ("random_90", 0.9)):
        assert abs(hidden[name].mean() - share) < 4 * np.sqrt(share * (1 - share) / 784)
    assert not np.array_equal(
        make_mask("random_75", [28, 28], seed=1), make_mask("random_75", [28, 28], seed=2)
    )


def test_a_pixel_is_hidden_with_all_its_channels():
    mask = make_mask("random_75", [6, 5, 3])
    assert mask.shape == (6, 5, 3) and 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(mask, np.repeat(mask[..., :1], 3, axis=-1))


def test_own_masks():
    np.testing.assert_array_equal(check_mask(np.eye(3), [3, 3, 2])[..., 1], np.eye(3, dtype=bool))
    np.testing.assert_array_equal(check_mask([1, 0, 1, 1], [4]), [True, False, True, True])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_mask("x", [28, 28]), "mask must be one of top, bottom, .*got 'x'"),
        (lambda: make_mask("top", [10]), r"mask top is for pictures .*have shape \[10\]"),
        (
            lambda: check_mask(np.ones([3, 4]), [4, 3]),
            r"mask has shape \[3, 4\], the model's examples have \[4, 3\]",
        ),
        (
            lambda: check_mask(np.full([3, 4], 0.5), [3, 4]),
            r"must be 1 .observed. or 0 .* got 0\.5",
        ),
        (
            lambda: check_mask(np.full([3, 4], np.nan), [3, 4]),
            "must be 1 .observed. or 0 .* got nan",
        ),
        (lambda: check_mask(np.ones([3, 4]), [3, 4]), "the mask hides nothing"),
    ],
)
def test_bad_masks(call, message):
    with pytest.raises(nice_tf.UserError, match=message):
        call()
