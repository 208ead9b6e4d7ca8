import numpy as np
import pytest
import tensorflow as tf

import nice_tf
from nice_tf.data.units import bin_centres, to_data_units, to_density_units
from nice_tf.training.augmentation import shift_images

SEED = tf.constant([1, 2])


def test_dequantization_fills_each_bin_evenly_with_fresh_noise():
    values = np.tile(np.arange(4, dtype=np.uint8), (1000, 50, 1))
    x = nice_tf.dequantize(values, 4, SEED).numpy()
    noise = x * 4 - values
    assert noise.min() >= 0 and noise.max() < 1
    # Uniform to within five standard errors in mean and variance.
    np.testing.assert_allclose(noise.mean(), 0.5, atol=5 * np.sqrt(1 / 12 / noise.size))
    np.testing.assert_allclose(noise.var(), 1 / 12, atol=5 * np.sqrt(1 / 180 / noise.size))
    # A draw of its own for each example and each coordinate: no two rows, no two columns agree.
    flat = noise.reshape(len(noise), -1)
    assert len(np.unique(flat, axis=0)) == len(flat)
    correlation = np.corrcoef(flat[:, :20], rowvar=False) - np.eye(20)
    assert np.abs(correlation).max() < 0.2


def test_dequantization_is_a_function_of_the_seed():
    values = np.zeros([3, 5], np.uint8)
    first = nice_tf.dequantize(values, 256, SEED)
    np.testing.assert_array_equal(first, nice_tf.dequantize(values, 256, SEED))
    assert not np.any(first == nice_tf.dequantize(values, 256, tf.constant([1, 3])))


def test_units_and_back():
    values = np.array([[0, 7, 16]])
    np.testing.assert_allclose(bin_centres(values, 17), (values + 0.5) / 17, rtol=1e-6)
    np.testing.assert_allclose(to_data_units(bin_centres(values, 17), 17), values, atol=1e-5)
    np.testing.assert_array_equal(
        to_density_units(values, 17, "none", SEED), bin_centres(values, 17)
    )
    np.testing.assert_array_equal(
        to_density_units(values, 17, "uniform", SEED), nice_tf.dequantize(values, 17, SEED)
    )
    continuous = np.array([[-1.5, 3.0]], np.float32)
    np.testing.assert_array_equal(to_density_units(continuous, None, "uniform", SEED), continuous)
    np.testing.assert_array_equal(to_data_units(tf.constant(continuous), None), continuous)
    assert to_density_units(values, 17, "uniform", SEED, dtype=tf.float64).dtype == tf.float64


def test_unknown_dequantization():
    with pytest.raises(nice_tf.UserError, match="one of uniform, none, got 'gaussian'"):
        to_density_units(np.zeros([1, 2]), 256, "gaussian", SEED)


def test_shifted_pictures_move_whole_and_each_on_its_own():
    pictures = np.random.default_rng(0).integers(1, 256, [900, 5, 4, 2], np.uint8)
    shifted = shift_images(tf.constant(pictures), 1, SEED).numpy()
    assert shifted.dtype == np.uint8
    padded = np.pad(pictures, [(0, 0), (1, 1), (1, 1), (0, 0)])
    moves = np.zeros([3, 3], int)
    for picture, found in zip(padded, shifted, strict=True):
        is_equal = [
            [np.array_equal(picture[i : i + 5, j : j + 4], found) for j in range(3)]
            for i in range(3)
        ]
        assert np.sum(is_equal) == 1
        moves += is_equal
    assert np.all(moves > 60), "each of the nine moves for about 100 of 900 pictures"
    np.testing.assert_array_equal(shift_images(tf.constant(pictures), 0, SEED), pictures)
    np.testing.assert_array_equal(
        shift_images(tf.constant(pictures), tf.constant(0), SEED), pictures
    )
