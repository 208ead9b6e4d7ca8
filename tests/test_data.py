import gzip
import pathlib
import socket

import numpy as np
import pytest

import nice_tf
from nice_tf import data
from nice_tf.rows import Rows

INTEGERS = np.random.default_rng(0).integers(0, 256, [60, 3, 2], np.uint8)
FLOATS = np.random.default_rng(0).normal(size=[60, 5]).astype(np.float32)


def load(**settings):
    return data.load(nice_tf.Config(**{"batch_size": 4, **settings}))


def saved(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def rows(values):
    return {tuple(row) for row in values.reshape(len(values), -1).tolist()}


def test_digits():
    digits = load(dataset="digits")
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1247, 250, 300)
    assert digits.event_shape == [8, 8, 1] and digits.levels == 17 and digits.train.dtype == np.uint8
    assert {digits.train.min(), digits.train.max()} == {0, 16}
    np.testing.assert_array_equal(digits.test, load(dataset="digits", seed=5).test)
    assert rows(digits.test) != rows(load(dataset="digits", split_seed=1).test)
    assert len(load(dataset="digits", num_validation=100).validation) == 100


def test_single_array_is_split_without_overlap(tmp_path):
    np.save(tmp_path / "all.npy", INTEGERS)
    result = load(dataset=str(tmp_path / "all.npy"))
    assert (len(result.train), len(result.validation), len(result.test)) == (42, 8, 10)
    assert rows(result.train) | rows(result.validation) | rows(result.test) == rows(INTEGERS)
    assert result.levels == 256 and result.event_size == 6


def test_given_splits_are_kept_and_validation_comes_from_train(tmp_path):
    result = load(dataset=saved(tmp_path / "a.npz", train=FLOATS[:50], test=FLOATS[50:]), num_validation=5)
    np.testing.assert_array_equal(result.train, FLOATS[:45])
    np.testing.assert_array_equal(result.validation, FLOATS[45:50])
    np.testing.assert_array_equal(result.test, FLOATS[50:])
    assert result.levels is None
    three = {"train": FLOATS[:30], "validation": FLOATS[30:40], "test": FLOATS[40:]}
    result = load(dataset=saved(tmp_path / "b.npz", **three))
    np.testing.assert_array_equal(result.validation, three["validation"])


def test_floats_that_are_levels(tmp_path):
    result = load(dataset=saved(tmp_path / "a.npz", only=np.floor(INTEGERS / 100).astype(np.float64)), levels=3)
    assert result.levels == 3 and result.train.dtype == np.uint8 and result.train.max() == 2


def with_value(value):
    changed = FLOATS.copy()
    changed[7, 2] = value
    return changed


@pytest.mark.parametrize(
    ("arrays", "settings", "message"),
    [
        (
            {"a": with_value(np.nan)},
            {},
            r"1 values .* not finite, the first in example 7 \(counted from 0\): nan",
        ),
        ({"a": with_value(np.inf)}, {}, "not finite.*inf"),
        ({"a": INTEGERS}, {"levels": 100}, r"values from \d+ to 25\d: with levels 100 they must lie in 0..99"),
        ({"a": FLOATS}, {"levels": 4}, r"values from -\d.* they must lie in 0..3"),
        ({"a": np.abs(FLOATS)}, {"levels": 9}, "no integers, although levels is 9"),
        ({"a": INTEGERS.astype(np.int64)}, {}, "type int64: give the number of integer levels"),
        ({"a": FLOATS.astype(str)}, {}, "type <U32: integers or floating-point numbers are needed"),
        ({"a": FLOATS.astype(complex)}, {}, "type complex128"),
        ({"a": FLOATS[:, 0]}, {}, r"a of .* has shape \[60\]: \[examples, values...\] is needed"),
        ({"a": FLOATS[:, :1]}, {}, "at least 2 values, those of .* have 1"),
        ({"a": INTEGERS[:, :, :0]}, {}, "at least 2 values, those of .* have 0"),
        ({"a": FLOATS.astype(np.longdouble)}, {}, "type float128"),
        ({"a": FLOATS[:0]}, {}, "a of .* has 0 examples: at least 2"),
        ({"a": FLOATS[:5]}, {}, "has 5 examples: at least 6 are needed to split"),
        ({"train": FLOATS[:0], "test": FLOATS}, {}, "train of .* has 0 examples: at least 2"),
        ({"train": FLOATS, "test": FLOATS[:, :3]}, {}, r"test of .* shape \[3\], train of shape \[5\]"),
        ({"train": FLOATS, "valid": FLOATS}, {}, "holds the arrays train, valid; it must hold"),
        ({"a": FLOATS}, {"batch_size": 43}, "batch_size 43 is more than the 42 training examples"),
        ({"a": FLOATS}, {"num_validation": 50}, "50 training examples: 50 of them for validation leaves too few"),
    ],
)
def test_bad_arrays(tmp_path, arrays, settings, message):
    with pytest.raises(nice_tf.UserError, match=message):
        load(dataset=saved(tmp_path / "a.npz", **arrays), **settings)


def test_bad_files(tmp_path):
    with pytest.raises(nice_tf.UserError, match=r"nowhere\.npy: there is no such file"):
        load(dataset=str(tmp_path / "nowhere.npy"))
    (tmp_path / "text.npy").write_text("1,2,3")
    with pytest.raises(nice_tf.UserError, match="cannot be read as a NumPy file of numbers"):
        load(dataset=str(tmp_path / "text.npy"))
    (tmp_path / "cut.npz").write_bytes(pathlib.Path(saved(tmp_path / "whole.npz", a=FLOATS)).read_bytes()[:-30])
    with pytest.raises(nice_tf.UserError, match="cannot be read as a NumPy file of numbers"):
        load(dataset=str(tmp_path / "cut.npz"))
    np.save(tmp_path / "objects.npy", np.array([{}] * 10, object), allow_pickle=True)
    with pytest.raises(nice_tf.UserError, match="cannot be read as a NumPy file of numbers"):
        load(dataset=str(tmp_path / "objects.npy"))


def test_training_batches_are_a_function_of_the_step():
    train = np.arange(23, dtype=np.int32)[:, np.newaxis]

    def batches(first, last, seed=0):
        return [
            batch.numpy()[:, 0]
            for batch in data.training_batches(train, 5, seed=seed, first_step=first, last_step=last)
        ]

    whole = batches(0, 12)
    np.testing.assert_array_equal(batches(7, 12), whole[7:])
    for epoch in (whole[0:4], whole[4:8], whole[8:12]):
        assert len(set(np.concatenate(epoch))) == 20, "an epoch visits no example twice"
    assert not np.array_equal(whole[0:4], whole[4:8])
    assert not np.array_equal(whole, batches(0, 12, seed=1))
    assert set(np.concatenate(batches(0, 40))) == set(range(23)), "no example is dropped for ever"


def test_evaluation_batches_cover_everything_in_order():
    pairs = list(data.evaluation_batches(np.arange(23), 5))
    assert [set(numbers.numpy()) for numbers, _ in pairs] == [{0}, {1}, {2}, {3}, {4}]
    np.testing.assert_array_equal(np.concatenate([batch for _, batch in pairs]), np.arange(23))


def test_mnist_through_the_real_builder(tmp_path, mnist_files):
    by_label = {"dataset": "mnist", "data_dir": str(tmp_path), "condition_on": "label"}
    mnist = load(**by_label, manual_dir=str(mnist_files))
    assert (len(mnist.train), len(mnist.validation), len(mnist.test)) == (50_000, 10_000, 10_000)
    assert mnist.event_shape == [28, 28, 1] and mnist.levels == 256
    with gzip.open(mnist_files / "t10k-images-idx3-ubyte.gz") as file:
        original = np.frombuffer(file.read(), np.uint8, offset=16).reshape(10_000, 784)
    assert rows(mnist.test) == rows(original), "test is the original test set"
    again = load(**by_label, in_memory_mb=10)  # train is larger, test is not
    assert isinstance(again.train, Rows) and isinstance(again.validation, Rows) and isinstance(again.test, np.ndarray)
    assert again.description() == mnist.description()
    with gzip.open(mnist_files / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    labels = {image.tobytes(): label for image, label in zip(original, labels, strict=True)}
    assert mnist.labels.classes == tuple("0123456789")
    assert [labels[image.tobytes()] for image in mnist.test] == mnist.classes("test").tolist()
    with pytest.raises(nice_tf.UserError, match="condition_on image: mnist has the class labels label"):
        load(**{**by_label, "condition_on": "image"})


def test_mnist_without_network_says_what_would_help(tmp_path, monkeypatch):
    def no_network(*_):
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(nice_tf.UserError, match=r"no network.*--data_dir.*--manual_dir.*train-images-idx3-ubyte\.gz"):
        load(dataset="mnist", data_dir=str(tmp_path))
    with pytest.raises(nice_tf.UserError, match="there is no such folder"):
        load(dataset="mnist", data_dir=str(tmp_path), manual_dir=str(tmp_path / "nowhere"))
    with pytest.raises(nice_tf.UserError, match=r"lacks train-images-idx3-ubyte\.gz, .* of dataset 'mnist'"):
        load(dataset="mnist", data_dir=str(tmp_path), manual_dir=str(tmp_path))
    with pytest.raises(nice_tf.UserError, match=r"lacks cifar-10-binary\.tar\.gz of dataset 'cifar10'"):
        load(dataset="cifar10", data_dir=str(tmp_path), manual_dir=str(tmp_path))


def test_unknown_dataset(tmp_path):
    with pytest.raises(nice_tf.UserError, match="dataset 'mnits' is not known"):
        load(dataset="mnits", data_dir=str(tmp_path))
