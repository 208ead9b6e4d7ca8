"""Runs with `condition_on`: labels from their source to the density of each class, and what follows
by Bayes.
"""

import csv
import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from flows import random_flow, random_points, randomize
from matplotlib import image as plt_image

import nice_tf
from nice_tf import drawing
from nice_tf.apps import terminal
from nice_tf.data import batches as batches_lib
from nice_tf.data import dataset, labels
from nice_tf.data.rows import Rows
from nice_tf.data.schema import csv_bytes
from nice_tf.data.units import to_density_units
from nice_tf.evaluation import calibration, ledger, likelihood, metrics
from nice_tf.reports import noise_experiment, page
from nice_tf.runs import checkpoints, finished
from nice_tf.runs.workdir import Workdir
from nice_tf.scoring import files, scorer
from nice_tf.scoring.blocks import Block
from nice_tf.seeds import stateless_seed
from nice_tf.training import model as model_lib
from nice_tf.training import run as run_lib

SMALL = {
    "num_couplings": 3,
    "hidden_units": (16,),
    "epochs": 3,
    "batch_size": 30,
    "num_draws": 3,
    "epsilon": 1e-8,
    "learning_rate": 0.01,
    "precision": "float32",
    "condition_on": "label",
}
GENERATOR = np.random.default_rng(0)
WORDS = np.array(["crow", "auk", "bee"])
NUMBERS = GENERATOR.choice(3, 240, p=(0.5, 0.3, 0.2))
CENTRES = np.array([[3.0, 0, 0, 1], [0, 3, 0, 1], [0, 0, 3, 1]])
POINTS = (CENTRES[NUMBERS] + GENERATOR.normal(0, 0.3, [240, 4])).astype(np.float32)


def settings(**changes):
    return nice_tf.Config(**{**SMALL, **changes})


def saved(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def written(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(csv_bytes(columns))
    return str(path)


def columns_of(points):
    return {name: points[:, k] for k, name in enumerate("abcd")}


def class_seen(points):
    """The class of a point, from its values alone."""
    return WORDS[np.argmax(np.asarray(points)[:, :3], axis=1)]


def assert_together(found):
    assert {len(getattr(found, split)) for split in found.labels.numbers} != {len(POINTS)}
    for split, numbers in found.labels.numbers.items():
        np.testing.assert_array_equal(
            found.labels.names(numbers), class_seen(getattr(found, split)[:])
        )


# From the source to batches


def test_labels_of_arrays_stay_with_their_examples(tmp_path):
    found = dataset.load(
        settings(dataset=saved(tmp_path / "a.npz", x=POINTS, label=WORDS[NUMBERS]))
    )
    assert found.labels.classes == ("auk", "bee", "crow") and found.num_classes == 3
    assert_together(found)
    parts = {
        "train": POINTS[:150],
        "test": POINTS[150:],
        "train_kind": NUMBERS[:150],
        "test_kind": NUMBERS[150:],
    }
    path = saved(tmp_path / "b.npz", **parts)
    found = dataset.load(settings(dataset=path, condition_on="kind", num_validation=20))
    assert found.labels.classes == ("0", "1", "2") and len(found.validation) == 20
    for split, numbers in (
        ("train", NUMBERS[:130]),
        ("validation", NUMBERS[130:150]),
        ("test", NUMBERS[150:]),
    ):
        np.testing.assert_array_equal(found.classes(split), numbers)
    with_validation = {**parts, "validation": POINTS[:9], "validation_kind": NUMBERS[:9]}
    found = dataset.load(
        settings(dataset=saved(tmp_path / "c.npz", **with_validation), condition_on="kind")
    )
    np.testing.assert_array_equal(found.classes("validation"), NUMBERS[:9])


@pytest.mark.parametrize("on_disk", [False, True])
def test_labels_of_a_table_stay_with_their_rows(tmp_path, on_disk):
    cut = {"in_memory_mb": 0, "data_dir": str(tmp_path / "cache")} if on_disk else {}
    path = written(tmp_path / "a.csv", bird=WORDS[NUMBERS], **columns_of(POINTS))
    found = dataset.load(settings(dataset=path, condition_on="bird", **cut))
    assert isinstance(found.train, Rows) == on_disk
    assert found.schema.names == ["a", "b", "c", "d"] and found.schema.ignored == ()
    assert_together(found)
    values, classes = next(
        iter(
            batches_lib.training_batches(
                found.train, 30, seed=0, first_step=3, last_step=4, classes=found.classes("train")
            )
        )
    )
    np.testing.assert_array_equal(found.labels.names(classes), class_seen(values))


@pytest.mark.parametrize("kind", ["csv", "ints", "booleans", "categories"])
def test_columns_of_classes_of_several_types(tmp_path, kind):
    columns = {
        "csv": NUMBERS + 9,  # 9, 10, 11: in the order of numbers, not of text
        "ints": pa.array(NUMBERS + 9, pa.int16()),
        "booleans": pa.array(NUMBERS == 0),
        "categories": pa.array(WORDS[NUMBERS]).dictionary_encode(),
    }
    if kind == "csv":
        path = written(tmp_path / "a.csv", y=columns[kind], **columns_of(POINTS))
    else:
        path = str(tmp_path / "a.parquet")
        pa.parquet.write_table(pa.table({"y": columns[kind], **columns_of(POINTS)}), path)
    found = dataset.load(settings(dataset=path, condition_on="y"))
    expected = {"booleans": ("false", "true"), "categories": ("auk", "bee", "crow")}.get(
        kind, ("9", "10", "11")
    )
    assert found.labels.classes == expected and found.schema.names == ["a", "b", "c", "d"]
    names = {"booleans": np.where(NUMBERS == 0, "true", "false"), "categories": WORDS[NUMBERS]}.get(
        kind, NUMBERS + 9
    )
    whole = np.concatenate(
        [found.labels.names(found.classes(split)) for split in ("train", "validation", "test")]
    )
    rows = np.concatenate([found.train, found.validation, found.test])
    place = {tuple(row): str(name) for row, name in zip(POINTS, names, strict=True)}
    assert [place[tuple(row)] for row in rows] == whole.tolist()
    assert (
        "y" in dataset.load(settings(dataset=path, condition_on="")).schema.names
        or kind == "categories"
    )


def test_labels_of_files_by_split(tmp_path):
    for split, rows in (("train", slice(0, 200)), ("test", slice(200, None))):
        written(
            tmp_path / "set" / f"{split}.csv", bird=WORDS[NUMBERS[rows]], **columns_of(POINTS[rows])
        )
    found = dataset.load(settings(dataset=str(tmp_path / "set"), condition_on="bird"))
    np.testing.assert_array_equal(found.labels.names(found.classes("test")), WORDS[NUMBERS[200:]])
    assert_together(found)


def test_digits_and_what_config_json_keeps():
    config = settings(dataset="digits", batch_size=100)
    found, plain = dataset.load(config), dataset.load(dataclasses.replace(config, condition_on=""))
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(found, split), getattr(plain, split))
    described = found.description()
    counts = np.bincount(found.classes("train")).tolist()
    assert described["labels"] == {"name": "label", "classes": list("0123456789"), "counts": counts}
    assert "labels" not in plain.description() and plain.num_classes == 0
    others = {**found.labels.numbers, "train": np.roll(found.labels.numbers["train"], 1)}
    changed = dataclasses.replace(found, labels=dataclasses.replace(found.labels, numbers=others))
    assert len({one.description()["sha256"] for one in (found, plain, changed)}) == 3
    # A zero has a dark middle, unlike a one.
    middle = found.test[:, 3:5, 3:5].mean(axis=(1, 2, 3))
    digits = found.labels.names(found.classes("test"))
    assert middle[digits == "0"].mean() < 2 < 10 < middle[digits == "1"].mean()


def test_batches_are_those_without_labels_and_resume_at_any_step(tmp_path):
    values, classes = (
        np.arange(23, dtype=np.int32)[:, np.newaxis],
        np.arange(23, dtype=np.int32) % 4,
    )

    def batches(first, classes=None):
        return list(
            batches_lib.training_batches(
                values, 5, seed=0, first_step=first, last_step=12, classes=classes
            )
        )

    pairs = batches(0, classes)
    np.testing.assert_array_equal([pair[0] for pair in pairs], batches(0))
    for x, y in pairs:
        np.testing.assert_array_equal(y, x[:, 0] % 4)
    for resumed, pair in zip(batches(7, classes), pairs[7:], strict=True):
        np.testing.assert_array_equal(resumed[1], pair[1])
    numbered = (
        batches_lib.evaluation_batches(values, 5),
        batches_lib.evaluation_batches(values, 5, classes),
    )
    for (number, plain), (same_number, (x, y)) in zip(*numbered, strict=True):
        np.testing.assert_array_equal(number, same_number)
        np.testing.assert_array_equal(plain, x)
        np.testing.assert_array_equal(y, x[:, 0] % 4)


def with_value(values, place, value):
    result = values.copy()
    result[place] = value
    return result


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": POINTS}, r"condition_on label: .* holds the arrays x, but none of labels label"),
        ({"label": NUMBERS}, "holds the arrays label, but none of labels label"),
        (
            {"train": POINTS, "test": POINTS, "train_label": NUMBERS},
            "holds the arrays test, train, train_label, but none of labels test_label",
        ),
        (
            {"train": POINTS, "test": POINTS, "label": NUMBERS},
            "but none of labels test_label, train_label",
        ),
        (
            {"x": POINTS, "label": NUMBERS[1:]},
            r"labels of x of .* have shape \[239\]: one for each of the 240",
        ),
        ({"x": POINTS, "label": NUMBERS[:, np.newaxis]}, r"have shape \[240, 1\]: one for each"),
        (
            {"x": POINTS, "label": NUMBERS / 2},
            "have type float64: text or whole numbers are needed",
        ),
        (
            {"x": POINTS, "label": np.zeros(240, int)},
            "all 167 training examples are of the class 0: at least 2",
        ),
        (
            {"x": POINTS, "label": np.arange(240)},
            "167 classes in 167 training examples: at most 1000 .* half as many",
        ),
        (
            {"x": POINTS, "label": with_value(WORDS[NUMBERS], 7, "")},
            r"1 labels of x of .* are missing, the first in example 7 \(counted from 0\)",
        ),
        (
            {
                "train": POINTS,
                "test": POINTS,
                "train_label": NUMBERS,
                "test_label": with_value(NUMBERS, 3, 5),
            },
            "test has examples of 5, of which train has none",
        ),
        (
            {
                "train": POINTS,
                "test": POINTS,
                "train_label": np.sort(NUMBERS) // 2 * 2,
                "test_label": NUMBERS // 2,
            },
            "test has examples of 1, of which train has none",
        ),
        (
            {
                "train": POINTS,
                "test": POINTS,
                "train_label": np.arange(240) // 100,
                "test_label": NUMBERS % 2,
            },
            "validation has examples of 2, of which train has none: leave them out, or split "
            "otherwise",
        ),
    ],
)
def test_bad_labels_of_arrays(tmp_path, arrays, message):
    with pytest.raises(nice_tf.UserError, match=message):
        dataset.load(settings(dataset=saved(tmp_path / "a.npz", **arrays)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"condition_on": "fish"},
            "condition_on fish: .* has no such column, only bird, word, half, a, b, c, d",
        ),
        (
            {"condition_on": "half"},
            "condition_on half: the column .* is of type double, text or whole numbers",
        ),
        (
            {"condition_on": "bird", "columns": "a,b,bird"},
            "columns has bird, which condition_on takes out",
        ),
        (
            {"condition_on": "number"},
            r"1 labels of the table of .* are missing, the first in example 4",
        ),
        (
            {"condition_on": "word"},
            r"2 labels of the table of .* are missing, the first in example 0",
        ),
    ],
)
def test_bad_labels_of_tables(tmp_path, changes, message):
    columns = {
        "bird": WORDS[NUMBERS],
        "word": WORDS[NUMBERS],
        "half": NUMBERS / 2,
        **columns_of(POINTS),
    }
    if changes["condition_on"] == "word":
        columns["word"] = with_value(WORDS[NUMBERS], [0, 9], "")
    if changes["condition_on"] == "number":
        columns["number"] = with_value(NUMBERS.astype(object), 4, "NA")
    with pytest.raises(nice_tf.UserError, match=message):
        dataset.load(settings(dataset=written(tmp_path / "a.csv", **columns), **changes))


def test_sources_without_labels(tmp_path):
    np.save(tmp_path / "a.npy", POINTS)
    with pytest.raises(
        nice_tf.UserError, match=r"condition_on label: .*a\.npy has no labels; digits, sets of"
    ):
        dataset.load(settings(dataset=str(tmp_path / "a.npy")))
    with pytest.raises(nice_tf.UserError, match="condition_on target: digits have label alone"):
        dataset.load(settings(dataset="digits", condition_on="target"))


# Training


def test_a_step_is_on_the_density_of_each_example_given_its_class():
    config = settings(dataset="digits", dropout=0.5, learning_rate=1e-30)
    found = dataset.load(config)
    model = model_lib.make_model(config, found)
    randomize(model.flow, deviation=0.3)
    x, y = tf.constant(found.train[:30]), tf.constant(found.classes("train")[:30])
    model.evaluate(
        batches_lib.evaluation_batches(found.test[:30], 30, found.classes("test")[:30]), verbose=0
    )

    def log_prob(purpose, classes, *counters, dropout_seed=None):
        noisy = model.density_units(x, purpose, *counters)
        context = found.labels.one_hot(classes)
        return (
            model.flow.log_prob(noisy, **nice_tf.context_kwargs(context, dropout_seed=dropout_seed))
            .numpy()
            .mean()
        )

    model.reset_metrics()
    validated = float(model.test_step((tf.fill([30], 2), (x, y)))["log_prob"])
    np.testing.assert_allclose(validated, log_prob("validation_noise", y, 0, 2, 0), rtol=1e-5)
    assert abs(validated - log_prob("validation_noise", np.roll(y, 1), 0, 2, 0)) > 0.01
    model.reset_metrics()
    trained = float(model.train_step((x, y))["log_prob"])
    seed = stateless_seed(0, "dropout", 0, 0)
    np.testing.assert_allclose(
        trained, log_prob("train_noise", y, 0, 0, dropout_seed=seed), rtol=1e-5
    )
    assert abs(trained - log_prob("train_noise", y, 0, 0)) > 0.01


def test_start_takes_the_classes_of_the_data():
    config = settings(
        dataset="digits", zero_last_layer=False, prior="gaussian", dequantization="none"
    )
    found = dataset.load(config)
    model = model_lib.make_model(config, found)
    x = model.density_units(found.train, "initialization")

    def deviation(classes):
        kwargs = nice_tf.context_kwargs(found.labels.one_hot(classes))["bijector_kwargs"]
        return tf.math.reduce_std(nice_tf.encoder(model.flow).forward(x, **kwargs), axis=0).numpy()

    own, others = deviation(found.classes("train")), deviation(np.roll(found.classes("train"), 1))
    varies = own > 0.99
    assert varies.sum() > 50
    np.testing.assert_allclose(own[varies], 1, rtol=1e-3)
    assert np.abs(others[varies] - 1).max() > 0.01


def weights(flow):
    return np.concatenate([variable.numpy().ravel() for variable in flow.variables])


@pytest.fixture(scope="module")
def table_run(tmp_path_factory):
    """A finished run on a table with a column of classes that its other columns tell."""
    folder = tmp_path_factory.mktemp("table")
    path = written(folder / "a.csv", bird=WORDS[NUMBERS], **columns_of(POINTS))
    config = settings(
        dataset=path, condition_on="bird", epochs=25, whitening="standardize", dropout=0.05
    )
    return config, Workdir(folder / "run"), nice_tf.train_and_evaluate(config, folder / "run")


def test_an_interrupted_run_continues_to_the_same_result(table_run, tmp_path, monkeypatch):
    config, run, result = table_run

    class Stop(run_lib.SamplePictures):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 11:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_lib, "SamplePictures", Stop)
        with pytest.raises(KeyboardInterrupt):
            nice_tf.train_and_evaluate(config, tmp_path)
    assert checkpoints.newest(Workdir(tmp_path).last).endswith("epoch-11")
    again = nice_tf.train_and_evaluate(config, tmp_path)
    np.testing.assert_allclose(
        weights(nice_tf.load_flow(tmp_path)), weights(nice_tf.load_flow(run.path)), atol=1e-4
    )
    assert again["epoch"] == result["epoch"]
    np.testing.assert_allclose(again["log_prob"], result["log_prob"], atol=1e-3)
    with pytest.raises(nice_tf.UserError, match="condition_on: '', where the run has 'bird'"):
        nice_tf.train_and_evaluate(dataclasses.replace(config, condition_on=""), tmp_path)


def test_a_table_by_its_column_of_classes(table_run):
    config, run, result = table_run
    given, found = result["conditional"], dataset.load(config)
    assert given["label"] == "bird" and given["num_classes"] == 3 and given["accuracy"] > 0.9
    assert given["accuracy_of_most_frequent"] == np.mean(
        found.labels.names(found.classes("test")) == "crow"
    )
    # Normal clusters of deviation 0.3: no density does better on the average, and without its class
    # each costs log 1/p.
    best = -4 * (0.5 * np.log(2 * np.pi * np.e) + np.log(0.3))
    assert best - 1.5 < result["log_prob"] < best + 4 * result["log_prob_std_error"]
    shares = found.labels.frequencies
    surprise = -np.mean(np.log(shares[found.classes("test")]))
    np.testing.assert_allclose(result["log_prob"] - given["log_prob"], surprise, atol=0.2)
    with (run.path / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["a", "b", "c", "d", "bird"] and len(rows) == 100
    drawn = np.array([row.pop("bird") for row in rows])
    points = np.array([list(map(float, row.values())) for row in rows])
    assert np.mean(class_seen(points) == drawn) > 0.9
    for name, share in zip(found.labels.classes, shares, strict=True):
        assert abs(np.mean(drawn == name) - share) < 4 * np.sqrt(share * (1 - share) / 100)


def test_loaded_flow_is_of_the_classes_in_config_json(table_run):
    config, run, result = table_run
    classes = json.loads(run.config.read_text())["data"]["labels"]["classes"]
    test = dataset.load(config)
    contexts = np.eye(len(classes))[[classes.index(name) for name in class_seen(test.test)]]
    found = nice_tf.load_flow(run.path).log_prob(test.test, **nice_tf.context_kwargs(contexts))
    np.testing.assert_allclose(np.mean(found), result["log_prob"], rtol=1e-5)
    np.testing.assert_allclose(
        metrics.standard_error(found), result["log_prob_std_error"], rtol=1e-4
    )


def test_pictures_of_samples_have_a_row_for_each_class(tmp_path, capsys):
    """Pictures of one bright pixel, which is their class."""
    bright = np.eye(3, 4, dtype=np.uint8)[NUMBERS].reshape(240, 2, 2) * 250
    images = bright + GENERATOR.integers(0, 6, bright.shape).astype(np.uint8)
    path = saved(tmp_path / "a.npz", x=images[..., np.newaxis], label=WORDS[NUMBERS])
    config = settings(dataset=path, epochs=15, sample_every_epochs=15, temperature=0.3, num_draws=1)
    result = nice_tf.train_and_evaluate(config, tmp_path / "run", on_start=terminal.print_start)
    assert result["conditional"]["accuracy"] > 0.9 and result["bits_per_dim"] > 0
    printed = capsys.readouterr()
    assert "classes    3 of label, with examples of train: auk (" in printed.out
    assert "sample_weight" not in printed.err, "Keras takes classes for no weights"
    run = Workdir(tmp_path / "run")
    for path in (
        run.samples / "epoch-0015.png",
        run.path / "samples.png",
        run.path / "samples_denoised.png",
    ):
        grid = plt_image.imread(path)[..., 0]
        zoom = grid.shape[1] // 31
        grid = grid[zoom // 2 :: zoom, zoom // 2 :: zoom]
        assert grid.shape == (10, 31)
        cells = (
            grid[1:]
            .reshape(3, 3, 31)[:, :2, 1:]
            .reshape(3, 2, 10, 3)[..., :2]
            .transpose(0, 2, 1, 3)
        )
        seen = WORDS[np.argmax(cells.reshape(3, 10, 4)[..., :3], axis=-1)]
        assert np.mean(seen == np.array([["auk"], ["bee"], ["crow"]])) > 0.9, path


def test_samples_of_other_arrays_state_their_classes(tmp_path):
    path = saved(tmp_path / "a.npz", x=POINTS, label=WORDS[NUMBERS])
    nice_tf.train_and_evaluate(
        settings(dataset=path, epochs=20, whitening="standardize"), tmp_path / "run"
    )
    samples, names = (
        np.load(tmp_path / "run" / f"{name}.npy") for name in ("samples", "samples_label")
    )
    assert samples.shape == (100, 4) and np.mean(class_seen(samples) == names) > 0.9


def test_classes_are_drawn_as_frequent_as_in_train():
    given = labels.Labels(
        "kind", ("a", "b", "c"), {"train": np.repeat(np.arange(3, dtype=np.int32), [7, 2, 1])}
    )
    shares = np.bincount(given.draw(10_000, seed=0)) / 10_000
    np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.02)


def test_many_classes_are_drawn_in_part():
    numbers = {
        split: np.arange(60, dtype=np.int32) // 2 for split in ("train", "validation", "test")
    }
    many = labels.number_classes("label", numbers)
    assert (
        len(many.classes) == 30
        and drawing.rows_of_classes(30).tolist() == np.repeat(np.arange(20), 10).tolist()
    )
    assert many.describe().endswith("19 (2) and 10 more") and "9 (2), 10 (2)" in many.describe()


# Evaluation


@pytest.mark.parametrize("levels", [None, 5])
def test_evaluation_by_bayes_is_what_hand_and_numpy_compute(levels):
    flow = random_flow([2, 2], context_size=3, num_couplings=3)
    classes = np.array([0, 2, 1, 2, 2, 0, 1], np.int32)
    values = (
        random_points(7, 2, 2).numpy()
        if levels is None
        else GENERATOR.integers(0, 5, [7, 2, 2]).astype(np.uint8)
    )
    numbers = {"train": np.array([0, 0, 0, 1, 1, 1, 1, 1, 2, 2], np.int32), "test": classes}
    given = labels.Labels("kind", ("a", "b", "c"), numbers)
    config = nice_tf.Config(batch_size=3, num_draws=2)
    result = likelihood.evaluate(
        flow, values, levels=levels, config=config, split="test", dataset="d", epoch=1, labels=given
    )
    draws = 1 if levels is None else 2
    own, marginal, is_right = np.empty([3, draws, 7])
    for draw in range(draws):
        for number, rows in enumerate((slice(0, 3), slice(3, 6), slice(6, 7))):
            seed = stateless_seed(0, "test_noise", draw, number)
            x = to_density_units(values[rows], levels, "uniform", seed, dtype=flow.dtype)
            each = np.stack(
                [flow.log_prob(x, **nice_tf.context_kwargs(one)).numpy() for one in np.eye(3)],
                axis=-1,
            )
            joint = np.exp(each) * [0.3, 0.5, 0.2]
            own[draw, rows] = each[np.arange(len(each)), classes[rows]]
            marginal[draw, rows] = np.log(joint.sum(axis=-1))
            is_right[draw, rows] = np.argmax(joint, axis=-1) == classes[rows]
    np.testing.assert_allclose(result["log_prob"], own.mean(), rtol=1e-9)
    np.testing.assert_allclose(
        result["log_prob_std_error"], metrics.standard_error(own.mean(axis=0)), rtol=1e-9
    )
    expected = {
        "label": "kind",
        "num_classes": 3,
        "log_prob": marginal.mean(),
        "log_prob_std_error": metrics.standard_error(marginal.mean(axis=0)),
        "accuracy": is_right.mean(),
        "accuracy_std_error": metrics.standard_error(is_right.mean(axis=0)),
        "accuracy_of_most_frequent": 2 / 7,
    }
    assert list(result["conditional"]) == list(expected)
    for name, value in expected.items():
        if name != "label":
            np.testing.assert_allclose(result["conditional"][name], value, rtol=1e-9, err_msg=name)
    assert 0 < is_right.mean() < 1 and np.ptp(own - marginal) > 0.1
    text = ledger.as_text(result)
    assert (
        f"kind given x        {100 * is_right.mean():10.2f} +- " in text
        and "% right, by Bayes; 3 classes" in text
    )
    assert "nats per example, given kind, density of x" in text and "summed over p(kind)" in text
    usual, _ = calibration.calibration(
        flow,
        values,
        levels=levels,
        config=config,
        labels=dataclasses.replace(given, numbers={**numbers, "validation": classes}),
    )
    assert usual.shape == (7,) and np.all(np.diff(usual) > 0)
    if levels is None:
        np.testing.assert_allclose(usual, np.sort(own[0]), rtol=1e-9)


# What has no context to give


def scored(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_scores_are_given_the_class_of_each_row(table_run, tmp_path):
    config, run, _ = table_run
    table = written(tmp_path / "rows.csv", bird=WORDS[NUMBERS][:20], **columns_of(POINTS[:20]))
    files.score_file(run.path, table, str(tmp_path / "out.csv"), keep=["bird"])
    rows = scored(tmp_path / "out.csv")
    classes = dataset.load(config).labels.classes
    contexts = np.eye(3)[[classes.index(row["bird"]) for row in rows]]
    expected = nice_tf.load_flow(run.path).log_prob(POINTS[:20], context=contexts)
    np.testing.assert_allclose([float(row["log_prob"]) for row in rows], expected, rtol=1e-4)
    wrong = written(
        tmp_path / "wrong.csv", bird=np.roll(WORDS, 1)[NUMBERS][:20], **columns_of(POINTS[:20])
    )
    files.score_file(run.path, wrong, str(tmp_path / "other.csv"), top=1)
    others = [float(row["log_prob"]) for row in scored(tmp_path / "other.csv")]
    assert (
        np.mean(others) < np.mean(expected) - 10
        and "top_1_nats" in scored(tmp_path / "other.csv")[0]
    )
    gaps = {**columns_of(POINTS[:20]), "a": [""] * 20}
    gappy = written(tmp_path / "gaps.csv", bird=WORDS[NUMBERS][:20], **gaps)
    files.fill_file(run.path, gappy, str(tmp_path / "filled.csv"))
    filled = [float(row["a"]) for row in scored(tmp_path / "filled.csv")]
    np.testing.assert_allclose(filled, CENTRES[NUMBERS][:20, 0], atol=1.0)


def test_samples_have_their_class_beside_them(table_run, tmp_path):
    _, run, _ = table_run
    version = nice_tf.export_saved_model(run.path, tmp_path / "export", inpaint_steps=2)
    for model in (run.path, version):
        path = tmp_path / f"{model.name}.csv"
        files.sample_file(model, str(path), num_samples=300, seed=1)
        rows = scored(path)
        points = np.array([[float(row[name]) for name in "abcd"] for row in rows])
        drawn = np.array([row["bird"] for row in rows])
        assert np.mean(class_seen(points) == drawn) > 0.9
        assert abs(np.mean(drawn == "crow") - np.mean(NUMBERS == 0)) < 0.1
        files.sample_file(model, str(path), num_samples=20, label="auk", overwrite=True)
        assert {row["bird"] for row in scored(path)} == {"auk"}


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda run, folder: files.score_file(
                run, written(folder / "a.csv", **columns_of(POINTS[:3])), str(folder / "out.csv")
            ),
            "has no column bird, the class that the model is given, only a, b, c, d",
        ),
        (
            lambda run, folder: files.score_file(
                run,
                written(folder / "a.csv", bird=["auk", "cow", ""], **columns_of(POINTS[:3])),
                str(folder / "out.csv"),
            ),
            "bird 'cow' in row 1 .* is no class of the model, which has auk, bee, crow",
        ),
        (
            lambda run, folder: files.fill_file(
                run,
                written(folder / "a.csv", bird=["auk"] * 3, **columns_of(POINTS[:3])),
                str(folder / "out.csv"),
                num_draws=2,
            ),
            r"draws are of p\(x\), the model .* is of p\(x \| bird\)",
        ),
        (
            lambda run, folder: files.sample_file(
                run, str(folder / "out.csv"), num_samples=3, label="cow"
            ),
            "bird 'cow' .* is no class of the model",
        ),
        (
            lambda run, folder: files.sample_file(
                run, str(folder / "out.csv"), num_samples=3, label="auk", given={"a": "1"}
            ),
            "given and label do not go together",
        ),
        (lambda run, folder: nice_tf.Model.load(run).score(POINTS[:3]), "give the label of each"),
        (
            lambda run, folder: nice_tf.Model.load(run).score(POINTS[:3], label=["auk"]),
            r"one for each of 3 rows, got shape \[1\]",
        ),
    ],
)
def test_what_lacks_a_class_is_refused_by_name(table_run, tmp_path, ask, message):
    with pytest.raises(nice_tf.UserError, match=message):
        ask(str(table_run[1].path), tmp_path)
    assert not (tmp_path / "out.csv").exists()


def test_an_unknown_class_is_named_by_its_row_of_the_file(monkeypatch):
    classes = {"name": "bird", "classes": ["auk", "bee"], "counts": [1, 1]}
    model = nice_tf.Model("m", {"event_shape": [4], "levels": None, "labels": classes}, {})
    birds = np.array(["auk"] * 100)
    birds[70] = "cow"
    values = POINTS[:100].copy()
    values[65:71, 0] = np.nan
    monkeypatch.setattr(scorer, "VALUES_A_CALL", 4 * 4 * 16)  # 16 rows to be filled
    expected = r"bird 'cow' in row 1070 \(counted from 0\)"
    with pytest.raises(nice_tf.UserError, match=expected):
        scorer.fill_gaps(model, values, first=1000, labels=birds)
    for impute in (True, False):
        block = Block(1000, POINTS[:100], labels=birds)
        with pytest.raises(nice_tf.UserError, match=expected):
            scorer.Scorer(model, impute=impute)(block)


def test_report_of_a_conditional_run(table_run, tmp_path):
    found = finished.load_finished_run(table_run[1].path)
    page.write_report(found, table_run[1].path, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "The density is given bird: 3 of bird" in text and "bird given x" in text
    assert "Pairs of columns" not in text


def test_the_noise_experiment_refuses_before_it_trains(tmp_path):
    with pytest.raises(nice_tf.UserError, match="noise_experiment has condition_on label"):
        noise_experiment.noise_experiment(settings(dataset="digits"), tmp_path)
    assert not list(tmp_path.iterdir())
