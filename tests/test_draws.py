"""Draws for the gaps of a table, and rows some of whose values are given, through the commands."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nice_tf
from nice_tf.apps import asked
from nice_tf.scoring import draws as draws_lib
from nice_tf.scoring import given
from nice_tf.scoring.draws import Drawer
from nice_tf.scoring.model import Model

NUMBER = 1200


def rows(number=NUMBER, seed=0):
    """Columns of which `mass` and `colour` follow `size`."""
    generator = np.random.default_rng(seed)
    size = generator.normal(size=number)
    is_red = generator.random(number) < 1 / (1 + np.exp(-4 * size))
    return {
        "size": size,
        "mass": np.round(2 * size + 0.5 * generator.normal(size=number), 1),
        "colour": np.where(is_red, "red", "blue"),
        "count": generator.poisson(3, number),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("draws")
    pq.write_table(pa.table(rows()), path / "rows.parquet")
    config = nice_tf.Config(
        dataset=str(path / "rows.parquet"),
        marginals="quantile",
        whitening="standardize_triangular",
        hidden_units=(16,),
        activation="tanh",
        epochs=12,
        batch_size=50,
        learning_rate=5e-3,
        num_draws=1,
        precision="float32",
        output_scale="one",
    )
    nice_tf.train_and_evaluate(config, path / "run")
    return path / "run"


@pytest.fixture(scope="module")
def drawn(run, tmp_path_factory):
    """New rows with gaps, and their draws, through the command's function."""
    path = tmp_path_factory.mktemp("gaps")
    columns = rows(60, seed=9)
    mass = pa.array(columns["mass"], mask=np.arange(60) % 2 == 0)
    colour = pa.array(columns["colour"], mask=np.arange(60) % 3 == 0)
    table = pa.table({**columns, "mass": mass, "colour": colour})
    pq.write_table(table, path / "gaps.parquet")
    said = nice_tf.fill_file(
        run, path / "gaps.parquet", path / "drawn.parquet", num_draws=40, seed=1
    )
    return table, pq.read_table(path / "drawn.parquet"), said


def test_each_row_comes_as_often_with_all_that_was_there(drawn):
    table, found, said = drawn
    assert found.column_names == ["row", "draw", *table.column_names]
    assert found.schema.field("colour").type == pa.string()
    np.testing.assert_array_equal(found["row"], np.repeat(np.arange(60), 40))
    np.testing.assert_array_equal(found["draw"], np.tile(np.arange(40), 60))
    assert found["mass"].null_count == found["colour"].null_count == 0
    for name in table.column_names:
        given_ones = table[name].is_valid().to_numpy()
        before = np.repeat(table[name].to_numpy(), 40)
        is_given = np.repeat(given_ones, 40)
        np.testing.assert_array_equal(found[name].to_numpy()[is_given], before[is_given])
    assert "acceptance 0." in said and "40 draws are worth" in said


def test_draws_spread_as_the_data_do_given_the_rest(drawn):
    """The most likely value has no spread at all."""
    table, found, _ = drawn
    mass = found["mass"].to_numpy().reshape(60, 40)
    hidden = np.flatnonzero(~table["mass"].is_valid().to_numpy())
    size = table["size"].to_numpy()
    spread = mass[hidden].std(axis=1).mean()
    assert 0.3 < spread < 0.8  # 0.5 by construction
    np.testing.assert_allclose(mass[hidden].mean(axis=1), 2 * size[hidden], atol=0.8)
    np.testing.assert_allclose(np.rint(10 * mass), 10 * mass, atol=1e-9)  # on its steps
    is_red = found["colour"].to_numpy().reshape(60, 40) == "red"
    hidden = ~table["colour"].is_valid().to_numpy()
    large = hidden & (size > 0.5)
    small = hidden & (size < -0.5)
    assert large.any() and small.any()
    assert is_red[large].mean() > is_red[small].mean() + 0.15


@pytest.fixture
def compiled_once(monkeypatch, run):
    """All draws of a test are of one compiled function, as those of one command are."""
    sampler = draws_lib.ConditionalSampler(nice_tf.load_flow(run), num_warmup=60)
    monkeypatch.setattr(draws_lib, "ConditionalSampler", lambda flow: sampler)


@pytest.mark.usefixtures("compiled_once")
def test_draws_are_those_of_their_seed(run):
    x = np.array([[1.0, np.nan, 0.0, 3.0]])
    model = Model.load(run)
    start = model.fill(x.astype(np.float32))

    first, again, other = (
        Drawer.load(run, 4, seed).draws_of(x, start, first=0).x for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_samples_have_the_values_that_are_given(run, run_here, tmp_path):
    output = tmp_path / "given.csv"
    command = ("-m", "nice_tf.apps.sample", f"--model={run}", f"--output={output}")
    finished = run_here(*command, "--num_samples=200", "--given=size=1.5,colour=red")
    assert finished.returncode == 0, finished.stderr
    lines = output.read_text().splitlines()
    assert lines[0] == "size,mass,colour,count" and len(lines) == 201
    cells = [line.split(",") for line in lines[1:]]
    assert all(cell[0] == "1.5" and cell[2] == "red" for cell in cells)
    mass = np.array([float(cell[1]) for cell in cells])
    assert abs(mass.mean() - 3) < 0.6 and 0.2 < mass.std() < 1.0
    assert all(cell[3].isdigit() for cell in cells)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (["size"], r"must be NAME=VALUE, by commas, got 'size'"),
        (["size="], "must be NAME=VALUE"),
        (["size=1", "size=2"], "has size twice"),
        (["length=1"], "no column length to give: .* size, mass, colour, count"),
        (["colour=green"], "colour=green: it must be one of"),
        (["size=long"], "size=long: it must be a number"),
        (["size=true"], "size=true: it must be a number"),
        (["size=inf"], "size=inf: it must be finite"),
        (["size=nan"], "size=nan: it must be"),
        (["size=1e9"], "size=1e9: it must be from .* the range of the table of the run"),
        (["count=2.5"], "count=2.5: its values lie on steps of 1 from 0"),
        (["mass=1.05"], "mass=1.05: its values lie on steps of 0.1 from"),
        (["size=1", "mass=2", "colour=red", "count=3"], "every column: there is nothing to draw"),
    ],
)
def test_what_cannot_be_given_is_named(run, text, message):
    schema = Model.load(run).schema
    with pytest.raises(nice_tf.UserError, match=message):
        given.known_values(schema, asked.parse_given(text))


def test_an_export_has_no_draws(run, tmp_path):
    version = nice_tf.export_saved_model(run, tmp_path / "export", inpaint_steps=1)
    with pytest.raises(
        nice_tf.UserError, match="given values, need the folder of a run, got the model"
    ):
        nice_tf.fill_file(version, tmp_path / "in.csv", tmp_path / "out.csv", num_draws=2)
    with pytest.raises(nice_tf.UserError, match="temperature is not for samples of given values"):
        nice_tf.sample_file(
            run, tmp_path / "o.csv", num_samples=2, temperature=0.5, given={"size": "1"}
        )
    with pytest.raises(nice_tf.UserError, match="seed must be at least 0 and below"):
        nice_tf.fill_file(run, tmp_path / "in.csv", tmp_path / "out.csv", num_draws=2, seed=2**31)
    with pytest.raises(nice_tf.UserError, match="draws must be at least 0, got -1"):
        nice_tf.fill_file(run, tmp_path / "in.csv", tmp_path / "out.csv", num_draws=-1)


@pytest.mark.usefixtures("compiled_once")
def test_an_interrupted_run_of_draws_goes_on_to_the_same_rows(run, tmp_path, monkeypatch):
    """In blocks of three rows; stopped in the third block. What is said is of all rows."""
    table = pa.table(rows(9, seed=4))
    mass = pa.array(table["mass"].to_numpy(), mask=np.arange(9) % 2 == 0)
    pq.write_table(table.set_column(1, "mass", mass), tmp_path / "in.parquet")
    monkeypatch.setattr(Drawer, "rows_at_once", 3)
    arguments = {"num_draws": 4, "seed": 2}
    said = nice_tf.fill_file(run, tmp_path / "in.parquet", tmp_path / "whole.parquet", **arguments)
    assert "median over 5 rows" in said
    draw = Drawer.__call__

    def stopped(self, block):
        if block.first == 6:
            raise KeyboardInterrupt
        return draw(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(Drawer, "__call__", stopped)
        with pytest.raises(KeyboardInterrupt):
            nice_tf.fill_file(run, tmp_path / "in.parquet", tmp_path / "two.parquet", **arguments)
    again = nice_tf.fill_file(run, tmp_path / "in.parquet", tmp_path / "two.parquet", **arguments)
    assert trust_in(again) == trust_in(said)
    whole = pq.read_table(tmp_path / "whole.parquet")
    assert len(whole) == 36
    assert pq.read_table(tmp_path / "two.parquet").equals(whole)


def trust_in(said):
    """What is said of the draws, without the name of the file and the speed."""
    return said.split(": ", 1)[1].rsplit(", ", 1)[0]


@pytest.mark.usefixtures("compiled_once")
def test_rows_of_given_values_come_in_blocks_that_go_on(run, tmp_path, monkeypatch):
    """Stopped in the third of four blocks of 64."""
    monkeypatch.setattr("nice_tf.scoring.draws._VALUES_AT_ONCE", 1)
    arguments = {"num_samples": 200, "given": {"size": "0.5"}, "seed": 3}
    said = nice_tf.sample_file(run, tmp_path / "whole.parquet", **arguments)
    draws_of = Drawer.draws_of

    def stopped(self, *args, first, **kwargs):
        if first == 128:
            raise KeyboardInterrupt
        return draws_of(self, *args, first=first, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Drawer, "draws_of", stopped)
        with pytest.raises(KeyboardInterrupt):
            nice_tf.sample_file(run, tmp_path / "two.parquet", **arguments)
    again = nice_tf.sample_file(run, tmp_path / "two.parquet", **arguments)
    whole = pq.read_table(tmp_path / "whole.parquet")
    assert pq.read_table(tmp_path / "two.parquet").equals(whole) and len(whole) == 200
    mass = whole["mass"].to_numpy()
    assert not np.array_equal(mass[:64], mass[64:128])
    assert again.split(": ", 1)[1] == said.split(": ", 1)[1]
    assert "200 draws are worth" in said and "median" not in said


def test_names_of_the_output_are_free(run, tmp_path):
    columns = {**rows(5, seed=2), "draw": np.arange(5)}
    columns["mass"] = pa.array(columns["mass"], mask=np.arange(5) == 2)
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    with pytest.raises(nice_tf.UserError, match="the input has columns draw, names that"):
        nice_tf.fill_file(run, tmp_path / "in.parquet", tmp_path / "o.parquet", num_draws=2)
    assert not (tmp_path / "o.parquet").exists()
