"""The parts of benchmarks that can be told without a long run: densities to be ahead of, and the list of real tables."""

import json
import pathlib

import numpy as np
import pytest

import nice_tf
from nice_tf.evaluation import simple_densities

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def densities(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import densities

    return densities


@pytest.fixture
def real_tables(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import real_tables

    return real_tables


def gaussian_rows(size, seed):
    mix = np.array([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [-1.0, 0.2, 3.0]])
    return np.random.default_rng(seed).normal(size=[size, 3]) @ mix.T + [5.0, 0.0, -100.0]


def gaussian_sample(densities, size=20_000):
    return densities.Sample(
        train=gaussian_rows(size, 0)[np.newaxis], validation=gaussian_rows(500, 1)
    )


def test_gaussian_copula_on_exact_marginals_is_the_gaussian(densities, monkeypatch):
    sample = gaussian_sample(densities)

    def exact(sample, family):
        assert family == "normal"
        mean = sample.rows.mean(axis=0)
        deviations = sample.rows.std(axis=0)

        def marginals(x):
            return (x - mean) / deviations, np.full(len(x), -np.log(deviations).sum())

        return marginals

    monkeypatch.setattr(simple_densities, "fit_marginals", exact)
    monkeypatch.setattr(simple_densities, "RIDGES", [1e-9])  # of z and of x it is not the same
    copula = densities.on_copula(densities.gaussian)(sample)
    plain = densities.gaussian(sample)
    x = gaussian_rows(50, 2)
    np.testing.assert_allclose(copula.log_prob(x), plain.log_prob(x), atol=1e-4)
    np.testing.assert_allclose(
        copula.validation, plain.log_prob(sample.validation).mean(), atol=1e-4
    )
    # Far out too: a density of z whose log-det were left out would be 2 nats off.
    assert abs(np.log(sample.rows.std(axis=0)).sum()) > 1


def test_gaussian_copula_on_fitted_marginals_is_near_the_gaussian(densities):
    sample = gaussian_sample(densities)
    copula = densities.on_copula(densities.gaussian)(sample)
    plain = densities.gaussian(sample)
    assert abs(copula.validation - plain.validation) < 0.05
    marginals = densities.independent_marginals(sample)
    correlation = np.corrcoef(sample.rows, rowvar=False)
    gain = -0.5 * np.linalg.slogdet(correlation)[1]
    assert abs(copula.validation - marginals.validation - gain) < 0.1 and gain > 0.8


def test_independent_marginals_are_histograms_of_discrete_columns(densities):
    generator = np.random.default_rng(0)
    values = generator.choice([3.0, 3.5, 7.0], p=[0.7, 0.2, 0.1], size=[4000, 2])
    noise = 0.5 * (generator.random([4000, 2]) - 0.5)
    sample = densities.Sample(
        train=(values + noise)[np.newaxis],
        validation=(values + noise)[:100],
        steps=np.full(2, 0.5),
        origin=np.full(2, 2.75),
    )
    log_prob = densities.independent_marginals(sample).log_prob
    shares = {value: np.mean(values == value, axis=0) for value in (3.0, 3.5, 7.0)}
    expected = np.log(shares[3.0][0] / 0.5) + np.log(shares[7.0][1] / 0.5)
    np.testing.assert_allclose(log_prob(np.array([[2.9, 7.2]])), expected, atol=0.02)


def test_mixture_takes_as_many_components_as_validation_says(densities):
    generator = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])

    def rows(size):
        return centres[generator.integers(4, size=size)] + generator.normal(size=[size, 2])

    sample = densities.Sample(train=rows(600).reshape(2, 300, 2), validation=rows(300))
    found = densities.gaussian_mixture(sample, floors=(1e-6,))
    assert found.chosen.startswith("components 4 floor")
    one = densities.gaussian_mixture(sample, sizes=(1,), floors=(1e-6,))
    np.testing.assert_allclose(one.validation, densities.gaussian(sample).validation, atol=0.01)
    assert found.validation > one.validation + 0.5
    wide = densities.gaussian_mixture(sample, sizes=(2, 4, 8), floors=(1e-6, 100.0))
    assert wide.chosen == "components 4 floor 1e-06" and wide.validation == found.validation


def test_densities_of_standardized_columns_are_densities_of_the_columns(densities, monkeypatch):
    monkeypatch.setattr(simple_densities, "RIDGES", [1e-9])
    sample = gaussian_sample(densities, size=2000)
    found = densities.standardized(densities.gaussian)(sample)
    x = gaussian_rows(50, 2)
    np.testing.assert_allclose(found.log_prob(x), densities.gaussian(sample).log_prob(x), atol=1e-4)


def test_tables_alternate_between_the_half_that_chooses_and_the_half_that_reports(real_tables):
    names = list(real_tables.TABLES)
    assert names == sorted(names) and len(names) >= 12
    halves = [real_tables.half(name) for name in names]
    assert halves[::2] == ["tune"] * len(halves[::2])
    assert halves[1::2] == ["report"] * len(halves[1::2])


def test_table_is_written_from_a_package_that_is_not_imported(real_tables, monkeypatch, tmp_path):
    package = tmp_path / "shipped"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError")
    (package / "data.csv").write_text("name,a,b\nx, 1,2000\ny,,3\nz,4,5000\n")
    monkeypatch.syspath_prepend(tmp_path)
    source = real_tables.Source("shipped", "data.csv", ("b", "a"), divide={"b": 1000})
    monkeypatch.setitem(real_tables.TABLES, "mine", source)
    real_tables.write("mine", tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text().split() == ["b,a", "2.0,1", "5.0,4"]
    gone = real_tables.Source("no_such_package", "data.csv")
    monkeypatch.setitem(real_tables.TABLES, "mine", gone)
    with pytest.raises(nice_tf.UserError, match="the package no_such_package is needed: pip"):
        real_tables.write("mine", tmp_path / "mine.csv")


def test_results_are_shown_beside_the_best_of_their_table(run_here, tmp_path):
    common = {"table": "abalone", "half": "tune", "columns": 7, "examples": [20, 4, 3]}
    results = [
        {**common, "method": "a", "log_prob": 2.0, "std_error": 0.58, "rows": [1.0, 2.0, 3.0]},
        {**common, "method": "b", "log_prob": 1.0, "std_error": 0.33, "rows": [0.5, 1.0, 1.5]},
    ]
    path = tmp_path / "found.json"
    path.write_text(json.dumps(results))
    shown = run_here("benchmarks/tables.py", "--show", f"--out={path}")
    assert shown.returncode == 0, shown.stderr
    assert "| abalone | tune | 3 | 7 | **2.00 +- 0.58** | 1.00 +- 0.33 |" in shown.stdout
    assert "| abalone | best | -1.00 +- 0.29 |" in shown.stdout, "paired: the rows move together"
    refused = run_here("benchmarks/tables.py", "--show", "--tables=nowhere", f"--out={path}")
    assert refused.returncode == 1 and "tables must be one of abalone" in refused.stderr


def test_baselines_of_digits_are_ahead_with_their_marginals(run_here):
    methods = "independent marginals,Gaussian copula"
    finished = run_here("benchmarks/baselines.py", "--num_draws=1", f"--methods={methods}")
    assert finished.returncode == 0, finished.stderr
    rows = finished.stdout.splitlines()[-2:]
    independent, copula = (float(row.split("|")[3]) for row in rows)
    assert 72 < independent < 76 and copula > independent + 10


@pytest.mark.parametrize("name", ["training", "sampling", "serving"])
def test_contestants_start_without_tensorflow(run_command, name):
    """Each one's process imports the benchmark, and PyTorch's optimizers crash beside TensorFlow."""
    script = f"import sys, {name}; print('tensorflow' in sys.modules)"
    started = run_command("-c", script, cwd=ROOT / "benchmarks")
    assert (started.stdout, started.stderr) == ("False\n", "")
