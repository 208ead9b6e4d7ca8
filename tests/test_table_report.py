"""The report of a table: its figures are those of the data, of the samples and of the scores."""

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nice_tf
from nice_tf.data.dataset import rows_of_test
from nice_tf.data.schema import Column, Encoding
from nice_tf.data.tables.source import missing_cells
from nice_tf.evaluation import likelihood
from nice_tf.reports import dependence, page, table_columns, tables
from nice_tf.reports.table_scores import TableScores
from nice_tf.runs import finished
from nice_tf.scoring.model import Model

NUMBER = 900


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on a table of all kinds of columns; `mass` follows `size` closely, a tenth of
    `colour` is missing.
    """
    path = tmp_path_factory.mktemp("report")
    generator = np.random.default_rng(0)
    size = generator.gamma(3.0, 1.0, NUMBER)
    zeros = np.where(generator.random(NUMBER) < 0.4, 0.0, np.round(size, 2))
    days = generator.integers(0, 400, NUMBER)
    columns = {
        "size": size,
        "mass": size**2 + 0.05 * generator.normal(size=NUMBER),
        "rain": zeros,
        "count": generator.poisson(2.0, NUMBER),
        "colour": pa.array(
            generator.choice(["red", "green", "blue"], NUMBER, p=[0.6, 0.3, 0.1]),
            mask=np.arange(NUMBER) < 90,
        ),
        "is_old": pa.array(generator.random(NUMBER) < 0.2),
        "day": pa.array(days.astype("datetime64[D]")),
    }
    pq.write_table(pa.table(columns), path / "rows.parquet")
    config = nice_tf.Config(
        dataset=str(path / "rows.parquet"),
        marginals="quantile",
        whitening="triangular",
        hidden_units=(16,),
        epochs=3,
        batch_size=50,
        num_draws=3,
        precision="float32",
        output_scale="one",
        impute=True,
    )
    nice_tf.train_and_evaluate(config, path / "run")
    return path / "run"


@pytest.fixture(scope="module")
def report(run):
    return tables.TableReport(finished.load_finished_run(run))


@pytest.fixture(scope="module")
def scores(report):
    return TableScores(report.run)


def test_columns_are_described(report):
    lines = {line[0]: line[1:] for line in report.columns()}
    train = report.run.data.train
    assert list(lines) == ["size", "mass", "rain", "count", "colour", "is_old", "day"]
    kinds = [line[0] for line in lines.values()]
    assert kinds == ["number", "number", "number", "number", "category", "boolean", "date"]
    assert lines["colour"][1:6] == ["3 values", "", "", "10.0%", "red"]
    share = np.mean(train[:, 2] == 0)
    assert lines["rain"][1] == "0.01" and lines["rain"][4:7] == ["none", "0", f"{share:.1%}"]
    of_samples = np.mean(np.abs(report.samples[:, 2]) < 1e-6)
    assert lines["size"][5:] == lines["mass"][5:] == ["", "", ""]
    assert lines["rain"][7] == f"{of_samples:.1%}" and 0.2 < of_samples < 0.6
    assert lines["day"][2].startswith("1970-0") and lines["day"][3].startswith("1971-0")


def test_histograms_hold_all_rows_and_samples(report):
    drawn = report.histograms()
    panels = {panel.name: panel for panel in drawn.panels}
    for panel in panels.values():
        np.testing.assert_allclose([panel.data.sum(), panel.samples.sum()], 1)
    colours = panels["colour"]
    train = report.run.data.train
    place = colours.labels.index("red")
    assert colours.data[place] == np.mean(train[:, 4] == place)
    assert colours.samples[place] == np.mean(report.samples[:, 4] == place)
    assert list(panels["is_old"].labels) == ["false", "true"]
    assert panels["size"].labels is None and len(panels["size"].data) == 40


def test_bars_of_many_steps_hold_as_many_each():
    """67 ages in 40 bars of one width would be one or two in each, a comb."""
    ages = np.repeat(np.arange(18.0, 85.0), 4)
    drawn = table_columns.panel(Column("age", 1.0, 18.0, 84.0), ages, ages)
    inner = drawn.data[1:-1] * len(ages)
    np.testing.assert_allclose(inner, inner[0])
    assert 20 <= len(drawn.data) <= 40


def test_axes_of_dates_are_dates(report):
    days = {panel.name: panel for panel in report.histograms().panels}
    assert days["size"].ticks is None and days["colour"].ticks is None
    axis = report._axis(report.run.schema.names.index("day"))
    for ticks in (days["day"].ticks, axis.ticks):
        assert len(ticks.texts) == 3
        for place, text in zip(ticks.places, ticks.texts, strict=True):
            assert re.fullmatch("197[01]-[01][0-9]-[0-3][0-9]", text)
            distance = np.datetime64(text) - np.datetime64("1970-01-01")
            assert abs(distance.astype(int) - place) <= 1


@pytest.mark.parametrize(
    ("high", "pattern"),
    [
        (300 * 86_400, r"2020-\d\d-\d\d"),  # days apart
        (20_000, r"0\d:\d\d:\d\d"),  # on one day
        (86_400, r"2020-01-0[12] \d\d:\d\d:\d\d"),  # on two
    ],
)
def test_axes_of_times_show_what_differs(high, pattern):
    origin = int(np.datetime64("2020-01-01T03:00", "s").astype(int))
    encoding = Encoding(type="timestamp[s]", origin=origin, ticks=1)
    ticks = table_columns.date_ticks(
        Column("at", 1.0, 0.0, float(high), encoding), 0.0, float(high)
    )
    assert all(re.fullmatch(pattern, text) for text in ticks.texts), ticks.texts


def test_the_closest_pair_is_drawn_first(report):
    pairs = report.pairs().pairs
    assert {pairs[0].x.name, pairs[0].y.name} == {"size", "mass"}
    assert len(pairs) == 1  # of the others none depends on one that is not taken
    of_data, of_samples = report.correlations
    assert of_data[0, 1] > 0.98 and of_samples[0, 1] > 0.5
    np.testing.assert_allclose(np.diag(of_data), 1)


def test_information_is_that_of_any_columns_and_beyond_chance():
    generator = np.random.default_rng(0)
    normal = generator.normal(size=[5000, 2]) @ [[1, 0.8], [0, 0.6]]
    codes = generator.integers(0, 12, 5000)
    turned = np.random.default_rng(1).permutation(12)[codes]  # no order is left of it
    of_codes = codes % 3 + generator.normal(size=5000)
    rows = np.column_stack([normal, codes, turned, of_codes])
    found = dependence.information(rows, [False, False, True, True, False])
    assert np.array_equal(found, found.T) and not np.diag(found).any()
    # -log(1 - 0.64) / 2 is 0.51 nats, of which ten bins lose a part.
    assert 0.42 < found[0, 1] < 0.51
    assert 0.97 * np.log(12) < found[2, 3] < np.log(12)
    assert found[2, 4] == pytest.approx(found[3, 4])
    assert 0.15 < found[2, 4] < np.log(3)
    assert not found[:2, 2:].any()
    assert np.abs(dependence.rank_correlations(rows))[2:, 2:].min() < 0.2


@pytest.mark.parametrize("number", [1000, 5000])
@pytest.mark.parametrize("categories", [8, 30, 70])
def test_many_categories_tell_nothing_by_chance_and_much_by_dependence(number, categories):
    generator = np.random.default_rng(2)
    first = generator.integers(0, categories, number)
    second = generator.integers(0, categories, number)
    copied = np.where(generator.random(number) < 0.6, first, second)
    rows = np.column_stack([first, second, copied])
    found = dependence.information(rows, [True] * 3)
    assert found[0, 1] < 0.005
    assert found[0, 2] > 0.1


def test_simpler_densities_are_at_the_noise_of_the_evaluation(report, scores, run):
    """The marginals alone are in evaluation.json, too: the same but for their fit's last digits."""
    evaluation = nice_tf.runs.workdir.Workdir(run).finished_evaluation()
    found = {line[0]: float(line[1]) for line in scores.likelihoods()}
    assert abs(found["independent columns"] - evaluation["marginals"]["log_prob"]) < 0.2
    assert found["Gaussian copula on these columns"] > found["independent columns"] + 0.5
    noisy = scores._noisy(report.run.data.test, "test", 3)
    again = report.run.flow.log_prob(noisy[0].astype(np.float32)).numpy()
    settings = dataclasses.replace(report.run.config, num_draws=1)
    (expected,) = likelihood.log_probs(
        report.run.flow,
        report.run.data.test,
        levels=None,
        config=settings,
        split="test",
        steps=report.run.data.steps,
    )
    np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-3)


def test_calibration_and_reasons_are_those_that_score_gives(report, scores, run):
    model = Model.load(run)
    test = report.run.data.test
    expected = model.score(test)
    np.testing.assert_allclose(scores.tail_probabilities, expected["tail_probability"], atol=0.02)
    chart = scores.calibration()
    shares, found = chart.lines["test"]
    place = np.argmin(np.abs(shares - 0.5))
    assert found[place] == np.mean(scores.tail_probabilities <= shares[place])
    lines = scores.unusual()
    assert len(lines) == 10
    order = np.argsort(expected["log_prob"])
    assert abs(float(lines[0][1]) - expected["log_prob"][order[0]]) < 0.02
    costs = model.contributions(test[order[:1]])[0]
    name = report.run.schema.names[np.argmax(costs)]
    assert lines[0][2].startswith(f"{name} = ")
    assert f"({costs.max():.1f} nats)" in lines[0][2]
    for _, _, why in lines:
        _, *others = re.findall(r"\((-?[0-9.]+) nats\)", why)
        assert all(float(nats) >= 0.1 for nats in others), why


def test_unusual_rows_are_found_in_the_file_and_filled_cells_marked(report, scores, monkeypatch):
    table = pq.read_table(report.run.config.dataset)
    data = report.run.data
    numbers = rows_of_test(report.run.config, data)
    assert len(numbers) == len(data.test) == len(set(numbers.tolist()))
    np.testing.assert_array_equal(np.float32(table["size"])[numbers], data.test[:, 0])
    filled = missing_cells(report.run.config, "test", numbers)
    place = data.schema.names.index("colour")
    np.testing.assert_array_equal(filled[:, place], numbers < 90)
    assert filled.sum() == np.sum(numbers < 90) > 0
    monkeypatch.setattr("nice_tf.reports.table_scores._NUM_UNUSUAL", len(numbers))
    monkeypatch.setattr(TableScores, "_costs", lambda self, rows: 0 * rows + np.arange(7) % 5)
    for number, _, why in scores.unusual():
        assert ", filled (" in why or "filled" not in why
        assert ("colour = " in why) and (("filled" in why) == (int(number) < 90))


@pytest.mark.parametrize("name", ["train.csv", "validation-1.csv", "rows.csv"])
def test_missing_cells_of_a_single_file_are_found_whatever_its_name(tmp_path, name):
    lines = [f"{row},{row % 7}.5" for row in range(30)]
    lines[4] = ",1.5"
    lines[9] = "9,"
    (tmp_path / name).write_text("\n".join(["a,b", *lines]))
    config = nice_tf.Config(dataset=str(tmp_path / name), impute=True)
    numbers = np.array([9, 4, 5])
    found = missing_cells(config, "test", numbers)
    np.testing.assert_array_equal(found, [[False, True], [True, False], [False, False]])


def test_missing_cells_of_files_by_split_are_those_of_the_split(tmp_path):
    for name, gap in (("train.csv", 3), ("test.csv", 5)):
        lines = [f"{row},{row % 7}.5" for row in range(30)]
        lines[gap] = ",1.5"
        (tmp_path / name).write_text("\n".join(["a,b", *lines]))
    config = nice_tf.Config(dataset=str(tmp_path), impute=True)
    found = missing_cells(config, "test", np.array([3, 5]))
    np.testing.assert_array_equal(found[:, 0], [False, True])


def test_the_page_has_it_all_and_needs_no_network(run, tmp_path):
    path = page.write_report(finished.load_finished_run(run), run, tmp_path / "report.html")
    text = path.read_text()
    titles = re.findall("<h2>(.*?)</h2>", text)
    assert "nice-tf inpaint" not in text and "nice-tf export" in text
    assert titles[:8] == [
        "Likelihood",
        "Columns",
        "Learning curves",
        "Data and samples",
        "Pairs of columns",
        "Correlations",
        "Calibration",
        "The least likely rows",
    ]
    assert ("Gaussian copula" in text and "colour = " in text) or "size = " in text
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"|"http://www.w3.org[^"]*"', "", text)
    assert 'src="http' not in outside and "never of test" not in text
    assert len(text) < 3_000_000


def test_inpainting_of_a_table_names_the_command_that_fills_it(run, run_here):
    wrong = run_here("-m", "nice_tf.apps.inpaint", f"--workdir={run}")
    assert wrong.returncode == 1
    assert wrong.stderr.endswith("the examples have shape [7]: nice-tf impute fills tables\n")
