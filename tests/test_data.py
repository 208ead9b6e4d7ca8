import gzip
import io
import pathlib
import socket
import zipfile

import numpy as np
import pytest

import nice_tf
from nice_tf import memory
from nice_tf.data import arrays, dataset, paths, pictures
from nice_tf.data import batches as batches_lib
from nice_tf.data.rows import Rows
from nice_tf.scoring.inputs import ArrayInput

INTEGERS = np.random.default_rng(0).integers(0, 256, [60, 3, 2], np.uint8)
FLOATS = np.random.default_rng(0).normal(size=[60, 5]).astype(np.float32)


def load(**settings):
    return dataset.load(nice_tf.Config(**{"batch_size": 4, **settings}))


def saved(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def rows(values):
    return {tuple(row) for row in values.reshape(len(values), -1).tolist()}


def test_digits():
    digits = load(dataset="digits")
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1247, 250, 300)
    assert (
        digits.event_shape == [8, 8, 1] and digits.levels == 17 and digits.train.dtype == np.uint8
    )
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


def test_test_can_be_validation(tmp_path):
    np.save(tmp_path / "all.npy", INTEGERS)
    result = load(dataset=str(tmp_path / "all.npy"), test_rows="validation")
    assert (len(result.train), len(result.validation), result.num_held_out) == (50, 10, 0)
    assert rows(result.train) | rows(result.validation) == rows(INTEGERS)
    np.testing.assert_array_equal(result.test, result.validation)
    path = saved(tmp_path / "a.npz", train=FLOATS[:50], test=FLOATS[50:])
    with pytest.raises(nice_tf.UserError, match="test_rows validation is for one array"):
        load(dataset=path, test_rows="validation")


def weights_file(path, values):
    np.save(path, values)
    return str(path)


def test_weights_go_with_their_examples(tmp_path):
    np.save(tmp_path / "all.npy", FLOATS)
    weights = np.arange(1.0, 61.0)
    path = weights_file(tmp_path / "w.npy", weights)
    result = load(dataset=str(tmp_path / "all.npy"), weights=path)
    for name, values in (("train", result.train), ("test", result.test)):
        found = [int(np.flatnonzero((row == FLOATS).all(axis=1))[0]) for row in values]
        ratios = result.weights_of(name) / weights[found]
        np.testing.assert_allclose(ratios, ratios[0], rtol=1e-5)
    assert np.mean(result.weights_of("train")) == pytest.approx(1)
    other = weights_file(tmp_path / "other.npy", weights + 1)
    again = load(dataset=str(tmp_path / "all.npy"), weights=other)
    assert again.description()["sha256"] != result.description()["sha256"]
    short = weights_file(tmp_path / "short.npy", weights[:7])
    with pytest.raises(nice_tf.UserError, match=r"weights .*short.npy must be one for each of the"):
        load(dataset=str(tmp_path / "all.npy"), weights=short)
    path = saved(tmp_path / "a.npz", train=FLOATS[:50], test=FLOATS[50:])
    with pytest.raises(nice_tf.UserError, match="weights are for one array or table"):
        load(dataset=path, weights=other)


def test_given_splits_are_kept_and_validation_comes_from_train(tmp_path):
    result = load(
        dataset=saved(tmp_path / "a.npz", train=FLOATS[:50], test=FLOATS[50:]), num_validation=5
    )
    np.testing.assert_array_equal(result.train, FLOATS[:45])
    np.testing.assert_array_equal(result.validation, FLOATS[45:50])
    np.testing.assert_array_equal(result.test, FLOATS[50:])
    assert result.levels is None
    three = {"train": FLOATS[:30], "validation": FLOATS[30:40], "test": FLOATS[40:]}
    result = load(dataset=saved(tmp_path / "b.npz", **three))
    np.testing.assert_array_equal(result.validation, three["validation"])


def test_floats_that_are_levels(tmp_path):
    result = load(
        dataset=saved(tmp_path / "a.npz", only=np.floor(INTEGERS / 100).astype(np.float64)),
        levels=3,
    )
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
        (
            {"a": INTEGERS},
            {"levels": 100},
            r"values from \d+ to 25\d: with levels 100 they must lie in 0..99",
        ),
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
        (
            {"train": FLOATS, "test": FLOATS[:, :3]},
            {},
            r"test of .* shape \[3\], train of shape \[5\]",
        ),
        ({"train": FLOATS, "valid": FLOATS}, {}, "holds the arrays train, valid; it must hold"),
        ({"a": FLOATS}, {"batch_size": 43}, "batch_size 43 is more than the 42 training examples"),
        (
            {"a": FLOATS},
            {"num_validation": 50},
            "50 training examples: 50 of them for validation leaves too few",
        ),
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
    (tmp_path / "cut.npz").write_bytes(
        pathlib.Path(saved(tmp_path / "whole.npz", a=FLOATS)).read_bytes()[:-30]
    )
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
            for batch in batches_lib.training_batches(
                train, 5, seed=seed, first_step=first, last_step=last
            )
        ]

    whole = batches(0, 12)
    np.testing.assert_array_equal(batches(7, 12), whole[7:])
    for epoch in (whole[0:4], whole[4:8], whole[8:12]):
        assert len(set(np.concatenate(epoch))) == 20, "an epoch visits no example twice"
    assert not np.array_equal(whole[0:4], whole[4:8])
    assert not np.array_equal(whole, batches(0, 12, seed=1))
    assert set(np.concatenate(batches(0, 40))) == set(range(23)), "no example is dropped for ever"


def test_evaluation_batches_cover_everything_in_order():
    pairs = list(batches_lib.evaluation_batches(np.arange(23), 5))
    assert [set(numbers.numpy()) for numbers, _ in pairs] == [{0}, {1}, {2}, {3}, {4}]
    np.testing.assert_array_equal(np.concatenate([batch for _, batch in pairs]), np.arange(23))


def test_mnist_through_the_real_builder(mnist_prepared, mnist_files):
    by_label = {"dataset": "mnist", "data_dir": str(mnist_prepared), "condition_on": "label"}
    mnist = load(**by_label, manual_dir=str(mnist_files))
    assert (len(mnist.train), len(mnist.validation), len(mnist.test)) == (50_000, 10_000, 10_000)
    assert mnist.event_shape == [28, 28, 1] and mnist.levels == 256
    with gzip.open(mnist_files / "t10k-images-idx3-ubyte.gz") as file:
        original = np.frombuffer(file.read(), np.uint8, offset=16).reshape(10_000, 784)
    assert rows(mnist.test) == rows(original), "test is the original test set"
    again = load(**by_label, in_memory_mb=10)  # train is larger, test is not
    assert (
        isinstance(again.train, Rows)
        and isinstance(again.validation, Rows)
        and isinstance(again.test, np.ndarray)
    )
    assert again.description() == mnist.description()
    with gzip.open(mnist_files / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    labels = {image.tobytes(): label for image, label in zip(original, labels, strict=True)}
    assert mnist.labels.classes == tuple("0123456789")
    assert [labels[image.tobytes()] for image in mnist.test] == mnist.classes("test").tolist()
    with pytest.raises(
        nice_tf.UserError, match="condition_on image: mnist has the class labels label"
    ):
        load(**{**by_label, "condition_on": "image"})


def test_mnist_without_network_says_what_would_help(tmp_path, monkeypatch):
    def no_network(*_):
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(
        nice_tf.UserError,
        match=r"no network.*--data_dir.*--manual_dir.*train-images-idx3-ubyte\.gz",
    ):
        load(dataset="mnist", data_dir=str(tmp_path))
    with pytest.raises(nice_tf.UserError, match="there is no such folder"):
        load(dataset="mnist", data_dir=str(tmp_path), manual_dir=str(tmp_path / "nowhere"))
    with pytest.raises(
        nice_tf.UserError, match=r"lacks train-images-idx3-ubyte\.gz, .* of dataset 'mnist'"
    ):
        load(dataset="mnist", data_dir=str(tmp_path), manual_dir=str(tmp_path))
    with pytest.raises(
        nice_tf.UserError, match=r"lacks cifar-10-binary\.tar\.gz of dataset 'cifar10'"
    ):
        load(dataset="cifar10", data_dir=str(tmp_path), manual_dir=str(tmp_path))


def test_unknown_dataset(tmp_path):
    with pytest.raises(nice_tf.UserError, match="dataset 'mnits' is not known"):
        load(dataset="mnits", data_dir=str(tmp_path))


LABELS = np.random.default_rng(0).integers(0, 3, 60)


def test_arrays_with_the_names_of_keras(tmp_path):
    """Its mnist.npz: x_train, y_train, x_test, y_test."""
    arrays = {"x_train": INTEGERS, "y_train": LABELS, "x_test": INTEGERS[:9], "y_test": LABELS[:9]}
    path = saved(tmp_path / "mnist.npz", **arrays)
    found = load(dataset=path, num_validation=10)
    np.testing.assert_array_equal(found.train, INTEGERS[:50])
    np.testing.assert_array_equal(found.validation, INTEGERS[50:])
    np.testing.assert_array_equal(found.test, INTEGERS[:9])
    assert found.labels is None
    assert found.warnings == (
        "y_train, y_test hold labels and are left out: condition_on=y takes them",
    )
    for name in ("y", "label"):
        found = load(dataset=path, condition_on=name, num_validation=10)
        np.testing.assert_array_equal(found.classes("test"), LABELS[:9])
        assert found.labels.name == name and found.warnings == ()
    columns = {
        name: values[:, np.newaxis] if name[0] == "y" else values for name, values in arrays.items()
    }
    found = load(
        dataset=saved(tmp_path / "cifar.npz", **columns), condition_on="y", num_validation=10
    )
    np.testing.assert_array_equal(found.classes("test"), LABELS[:9])
    with pytest.raises(
        nice_tf.UserError, match=r"condition_on kind: .* holds the labels y_train, y_test, which"
    ):
        load(dataset=path, condition_on="kind")
    without = saved(tmp_path / "x.npz", x_train=INTEGERS, x_test=INTEGERS)
    assert load(dataset=without).warnings == ()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x": FLOATS, "label": LABELS > 1},
            "label holds labels, not examples: condition_on=label uses them",
        ),
        ({"x": FLOATS, "name": LABELS.astype(str)}, "condition_on=name uses them"),
        (
            {"train": FLOATS, "test": FLOATS[:9], "train_kind": LABELS, "test_kind": LABELS[:9]},
            "train_kind and test_kind hold labels, not examples: condition_on=kind uses them",
        ),
        (
            {"x": FLOATS, "weight": FLOATS[:, 0]},
            "holds the arrays weight, x; it must hold one array, or 'train'",
        ),
        ({"x": FLOATS, "other": LABELS[:7]}, "holds the arrays other, x; it must hold one array"),
        (
            {"train": FLOATS, "test": FLOATS, "more": LABELS},
            "holds the arrays more, test, train; it must hold",
        ),
        ({}, r"holds the arrays \(none\); it must hold"),
    ],
)
def test_the_rule_on_names_comes_before_the_values(tmp_path, arrays, message):
    with pytest.raises(nice_tf.UserError, match=message):
        load(dataset=saved(tmp_path / "a.npz", **arrays))


def test_suffixes_in_any_case_and_names_with_brackets(tmp_path):
    for name in ("a.NPY", "data[1].npy", "data[1].Npy"):
        (tmp_path / name).write_bytes(as_bytes(np.save, FLOATS))
        assert len(load(dataset=str(tmp_path / name)).test) == 10
    for name in ("a.Npz", "data[1].NPZ"):
        (tmp_path / name).write_bytes(as_bytes(np.savez, FLOATS))
        assert len(load(dataset=str(tmp_path / name)).test) == 10
    for name in ("nowhere.NPY", "nowhere[1].npz"):
        with pytest.raises(nice_tf.UserError, match="there is no such file"):
            load(dataset=str(tmp_path / name))


def test_a_search_through_half_a_disk_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "MAX_OTHERS", 30)
    for number in range(40):
        (tmp_path / "half" / str(number % 7)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "half" / str(number % 7) / f"{number}.txt").touch()
    (tmp_path / "half" / "round").symlink_to(tmp_path / "half")
    (tmp_path / "half" / "a.png").touch()
    with pytest.raises(
        nice_tf.UserError, match="half and the folders below it hold more than 30 files and folders"
    ):
        load(dataset=str(tmp_path / "half"))
    for number in range(99):  # of mostly pictures, any number is read
        (tmp_path / "half" / f"{number}.png").touch()
    found = filter(pictures.is_picture, pictures.files_below(str(tmp_path / "half")))
    assert len(list(found)) == 100


def as_bytes(save, *arguments, **keywords):
    content = io.BytesIO()
    save(content, *arguments, **keywords)
    return content.getvalue()


def with_header(header, values=b"\0" * 64, version=(1, 0)):
    """A `.npy` file with a header of one's own."""
    length = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + header.encode() + values


def header_of(shape, descr="'<f4'", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n"


DAMAGED = {
    "empty": (b"", "cannot be read as a NumPy file of numbers"),
    "other magic": (b"PK\x03\x04" + b"\0" * 60, "magic string is not correct"),
    "18 TiB": (
        with_header(header_of((2**40, 4))),
        r"header claims 17,592,186,044,416 bytes .* the file holds 64",
    ),
    "too many for an int": (
        with_header(header_of((10**30, 4))),
        "header claims 16,000,000.* the file holds 64",
    ),
    "negative": (
        with_header(header_of((-4, -4))),
        r"claims the shape \[-4, -4\]: at most 32 axes, none below 0",
    ),
    "many axes": (with_header(header_of((16, *[1] * 70))), "and 63 more axes: at most 32 axes"),
    "rows of nothing": (with_header(header_of((10**18, 0)), b""), "which holds nothing"),
    "values of nothing": (with_header(header_of((10**18, 4), "'<U0'"), b""), "it is of type <U0"),
    "longer": (with_header(header_of((4, 3))), "header claims 48 bytes .* the file holds 64"),
    "shorter": (with_header(header_of((4, 5))), "header claims 80 bytes .* the file holds 64"),
    "objects": (with_header(header_of((8, 1), "'|O'")), "it is of type object"),
    "records": (
        with_header(header_of((4, 4), "[('a', '<f4')]")),
        r"it is of type \[\('a', '<f4'\)\]",
    ),
    "no type": (with_header(header_of((4, 4), "'<f1000'")), "not a valid dtype"),
    "cut header": (with_header("{'descr': ("), "cannot be read as a NumPy file of numbers"),
    "brackets": (with_header("(" * 5000), "cannot be read as a NumPy file of numbers"),
    "text": (with_header('"""x\n\\'), "cannot be read as a NumPy file of numbers"),
    "fractional": (with_header(header_of((4.5, 4))), "shape is not valid"),
    "long header": (with_header(header_of((4, 4)) + " " * 20_000), "is large and may not be safe"),
    "format 3": (
        with_header(header_of((4, 4)), version=(3, 0)),
        "its format is 3.0, known are 1.0 and 2.0",
    ),
    "format 9": (with_header(header_of((4, 4)), version=(9, 9)), "its format is 9.9"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_arrays_end_in_one_line_before_memory_is_taken(tmp_path, name):
    """Alone, in memory and on disk, and in an archive; to train on, to score, as a mask."""
    content, message = DAMAGED[name]
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
    reads = [
        *(lambda file=file: load(dataset=str(tmp_path / file)) for file in ("a.npy", "a.npz")),
        lambda: load(
            dataset=str(tmp_path / "a.npy"), in_memory_mb=0, data_dir=str(tmp_path / "cache")
        ),
        lambda: Rows(tmp_path / "a.npy"),
        *(
            lambda file=file: list(ArrayInput(str(tmp_path / file), [4], None).blocks(9))
            for file in ("a.npy", "a.npz")
        ),
        lambda: arrays.read_array(tmp_path / "a.npy", "mask_file a.npy"),
    ]
    for read in reads:
        with pytest.raises(nice_tf.UserError, match=message) as refused:
            read()
        assert len(str(refused.value).splitlines()) == 1 and "a" in str(refused.value)


def test_headers_that_are_odd_but_whole_are_read(tmp_path):
    """By an old Python, of another version, or of no memory of its own."""
    values = np.arange(32, dtype=np.float32).reshape(8, 4)
    for name, content in {
        "long integers": with_header(
            "{'descr': '<f4', 'fortran_order': False, 'shape': (8L, 4L)}\n", values.tobytes()
        ),
        "format 2": with_header(header_of((8, 4)), values.tobytes(), (2, 0)),
        "fortran": with_header(header_of((8, 4), order="True"), values.tobytes("F")),
    }.items():
        (tmp_path / "a.npy").write_bytes(content)
        np.testing.assert_array_equal(arrays.read_array(tmp_path / "a.npy", name), values)
        np.testing.assert_array_equal(arrays.map_array(tmp_path / "a.npy", name), values)


def damaged_archives():
    whole = as_bytes(np.savez_compressed, a=FLOATS)
    place = whole.index(
        b"PK\x01\x02"
    )  # its directory, of which bytes 8 and 10 are the flags and the method
    encrypted = whole[: place + 8] + b"\x01" + whole[place + 9 :]
    method = whole[: place + 10] + b"\x63" + whole[place + 11 :]
    changed = bytearray(whole)
    changed[200] ^= 255
    text = io.BytesIO()
    with zipfile.ZipFile(text, "w") as archive:
        archive.writestr("readme.txt", "no array")
    return {
        "cut": whole[:-30],
        "encrypted": encrypted,
        "method": method,
        "changed": bytes(changed),
        "empty": b"",
        "a .npy": as_bytes(np.save, FLOATS),
        "text": text.getvalue(),
    }


@pytest.mark.parametrize(("name", "content"), damaged_archives().items())
def test_damaged_archives_end_in_one_line(tmp_path, name, content):
    (tmp_path / "a.npz").write_bytes(content)
    message = (
        "holds readme.txt, which is no array"
        if name == "text"
        else "cannot be read as a NumPy file of numbers"
    )
    for read in (
        lambda: load(dataset=str(tmp_path / "a.npz")),
        lambda: list(ArrayInput(str(tmp_path / "a.npz"), [5], None).blocks(9)),
    ):
        with pytest.raises(nice_tf.UserError, match=rf"a\.npz {message}") as refused:
            read()
        assert len(str(refused.value).splitlines()) == 1


def test_an_archive_larger_than_memory_is_not_unpacked(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.npz", train=FLOATS, test=FLOATS)
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    with pytest.raises(
        nice_tf.UserError, match=r"a\.npz has 2,656 bytes of values, of memory 1,000 bytes are free"
    ):
        load(dataset=path)


def test_unreadable_names(tmp_path):
    for name in (
        "",
        "a\nb",
        "[a-",
        "/dev/null",
        "/dev/null.npy",
        str(tmp_path / ("a" * 300 + ".npy")),
    ):
        with pytest.raises(nice_tf.UserError):
            load(dataset=name, data_dir=str(tmp_path))


def test_a_value_beyond_the_models_type_is_named(tmp_path):
    values = np.zeros([9, 3])
    values[7, 1] = 1e39
    np.save(tmp_path / "rows.npy", values)
    source = ArrayInput(str(tmp_path / "rows.npy"), [3], None, dtype=np.float32)
    with pytest.raises(
        nice_tf.UserError,
        match=r"rows\.npy has 1e\+39 in row 7 \(counted from 0\): the model is of",
    ):
        list(source.blocks(4))
    assert (
        len(list(ArrayInput(str(tmp_path / "rows.npy"), [3], None, dtype=np.float64).blocks(4)))
        == 3
    )


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_pictures_are_found_whatever_the_order_of_folders(tmp_path, monkeypatch, names):
    monkeypatch.setattr(paths, "MAX_OTHERS", 100)
    notes, found = (tmp_path / name for name in names)
    for folder in (notes, found):
        folder.mkdir()
    for number in range(120):
        (notes / f"{number}.txt").touch()
    for number in range(150):
        (found / f"{number}.png").touch()
    below = paths.files_below(str(tmp_path), pictures.is_picture)
    assert sum(map(pictures.is_picture, below)) == 150
    for number in range(120, 400):
        (notes / f"{number}.txt").touch()
    with pytest.raises(
        nice_tf.UserError, match=r"more than 100 files and folders beside \d+ of those"
    ):
        paths.files_below(str(tmp_path), pictures.is_picture)
